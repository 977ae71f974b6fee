//! The spool under what goes wrong: full disks, long outages, clocks that were set, results that nobody takes.

use std::{io::Write as _, path::Path, process::Command, time::Duration};

use agent::store::spool::{Limits, Spool};
use protocol::{CheckName, CheckResult, Status, work::OutputFormat};
use testkit::NatsServer;

use crate::rig::{Agent, Config, Ingest, LIMIT, check, gapless, id, of};

const HOUR: u64 = 3_600_000;

fn result(n: u64, at_ms: u64) -> CheckResult {
    CheckResult {
        output: n.to_string(),
        exit_code: Some(0),
        duration_ms: 1,
        revision: 1,
        ..CheckResult::new(id(), CheckName::new("old").unwrap(), at_ms, Status::Ok)
    }
}

/// A spool as an outage leaves it, with results of these times.
fn spooled(state: &Path, opened_ms: u64, times: impl Iterator<Item = u64>) -> Spool {
    let limits = Limits { max_bytes: 1 << 28, max_age: Duration::from_secs(7 * 86_400) };
    let (mut spool, _) = Spool::open(&state.join("spool"), limits, opened_ms).unwrap();
    for (n, at_ms) in times.enumerate() {
        spool.append(at_ms, 0, &protocol::encode(&result(n as u64 + 1, at_ms)).unwrap()).unwrap();
    }
    spool.sync().unwrap();
    spool
}

#[tokio::test]
async fn g7_a_backlog_goes_out_in_order_at_its_pace_and_news_goes_past_it() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let _config = Config::start(server.client().await, vec![check("live", 500, "echo 1")]).await;
    let state = tempfile::tempdir().unwrap();
    let count = 3_000;
    let then = service_kit::now_ms() - 2 * HOUR;
    drop(spooled(state.path(), then, (0..count).map(|n| then + n)));
    let agent = Agent::start(&server.url(), state.path(), &["--replay-rate", "400"]).await;
    let early = ingest.wait("news", |results| of(results, "live").len() >= 4).await;
    let old = of(&early, "old").len() as u64;
    assert!(old < count, "news waited for all of the backlog");
    let results = ingest.wait("all of it", |results| of(results, "old").len() as u64 == count).await;
    assert!(of(&results, "old").iter().all(|result| result.replayed), "history is marked");
    assert!(of(&results, "old").iter().map(|result| result.seq).eq(1..=count), "in order, once");
    assert!(of(&results, "live").iter().any(|result| !result.replayed), "news is news");
    testkit::eventually("the two lanes join", LIMIT, async || {
        let results = ingest.results().await;
        let (all, seqs) = (results.len() as u64, results.iter().map(|result| result.seq).max().unwrap());
        if all >= seqs { Ok(gapless(&results)) } else { Err(format!("{all} of {seqs}")) }
    })
    .await;
    assert_eq!(agent.metric("resent_total"), 0);
    agent.stop().await;
}

#[test]
fn g7_a_day_without_a_broker_loses_nothing_and_eight_days_lose_one_which_is_counted() {
    let state = tempfile::tempdir().unwrap();
    let day = 24 * HOUR;
    let minutes = |days: u64| (0..days * 1_440).map(|n| 1_795_000_000_000 + n * 60_000);
    let mut spool = spooled(state.path(), 1_795_000_000_000, minutes(1));
    spool.expire(1_795_000_000_000 + day);
    assert_eq!((spool.take_dropped(), spool.oldest().unwrap(), spool.next_seq()), (0, 1, 1_441));
    // Segments go whole, once the newest result in them is too old; these are of one.
    spool.expire(1_795_000_000_000 + 8 * day);
    assert_eq!((spool.take_dropped(), spool.oldest().unwrap()), (1_440, 1_441));
}

/// What is in the spool is of an hour ahead of the clock: it was set back.
#[tokio::test]
async fn g1_a_clock_that_was_set_back_an_hour_loses_and_repeats_nothing() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let _config = Config::start(server.client().await, vec![check("live", 300, "echo 1")]).await;
    let state = tempfile::tempdir().unwrap();
    let ahead = service_kit::now_ms() + HOUR;
    let epoch = spooled(state.path(), ahead, (0..50).map(|n| ahead + n)).epoch();
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    let results = ingest.wait("news and history", |results| of(results, "live").len() > 4).await;
    assert_eq!(gapless(&results), results.len() as u64, "nothing lost, nothing twice");
    assert_eq!((of(&results, "old").len(), agent.metric("spool_dropped_total")), (50, 0));
    assert!(of(&results, "old").iter().all(|result| result.replayed), "from before, whatever its clock said");
    assert!(of(&results, "live").iter().all(|result| !result.replayed && result.at_ms < ahead));
    assert!(results.iter().all(|result| result.epoch == epoch));
    agent.stop().await;
}

#[tokio::test]
async fn g1_after_a_restart_what_ingest_has_is_not_sent_again_though_ingest_cannot_be_asked() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let _config = Config::start(server.client().await, vec![check("often", 200, "echo 1")]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    let results = ingest.wait("results", |results| results.len() >= 6).await;
    ingest.publish_watermark(results[0].epoch, 5).await;
    let expected = format!("{{\"epoch\":{},\"seq\":5}}", results[0].epoch);
    testkit::eventually("it is kept", LIMIT, async || {
        let saved = std::fs::read_to_string(state.path().join("spool/stored")).unwrap_or_default();
        if saved == expected { Ok(()) } else { Err(saved) }
    })
    .await;
    agent.stop().await;

    // Another broker, which knows no message ids, and nobody who answers for ingest.
    let other = NatsServer::start().await;
    let silent = Ingest::silent(other.client().await).await;
    let agent = Agent::start(&other.url(), state.path(), &[]).await;
    let results = silent.wait("the rest", |results| results.len() >= 5).await;
    assert_eq!(results.iter().map(|result| result.seq).min(), Some(6));
    agent.stop().await;
}

#[tokio::test]
async fn by_setting_the_brokers_acknowledgement_lets_results_go() {
    let server = NatsServer::start().await;
    let silent = Ingest::silent(server.client().await).await;
    let mut large = check("large", 150, "head -c 60000 /dev/zero | tr '\\0' x");
    large.output.format = OutputFormat::Text;
    let _config = Config::start(server.client().await, vec![large]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = Agent::start(&server.url(), state.path(), &["--spool-until", "acknowledged"]).await;
    silent.wait("results", |results| results.len() >= 6).await;
    testkit::eventually("the spool holds the last ones at most", LIMIT, async || {
        let bytes = agent.metric("spool_bytes");
        if bytes < 130_000 { Ok(()) } else { Err(bytes) }
    })
    .await;
    let results = silent.wait("more", |results| results.len() >= 12).await;
    assert_eq!(gapless(&results), results.len() as u64);
    agent.stop().await;
}

#[tokio::test]
async fn g10_a_result_that_the_broker_takes_not_is_cut_and_blocks_none_behind_it() {
    // Too large for a message, and too large for the stream.
    for (block, stream_limit) in [("max_payload: 20000", None), ("", Some(20_000))] {
        let server = NatsServer::start_with(block).await;
        let ingest = Ingest::start(server.client().await).await;
        if let Some(limit) = stream_limit {
            let jetstream = async_nats::jetstream::new(server.client().await);
            let mut stream = jetstream.get_stream(protocol::stream::RESULTS.name).await.unwrap();
            let mut config = stream.info().await.unwrap().config.clone();
            config.max_message_size = limit;
            jetstream.update_stream(config).await.unwrap();
        }
        let mut large = check("large", 500, "head -c 60000 /dev/zero | tr '\\0' x");
        large.output.format = OutputFormat::Text;
        let _config = Config::start(server.client().await, vec![large, check("small", 100, "echo 1")]).await;
        let state = tempfile::tempdir().unwrap();
        let agent = Agent::start(&server.url(), state.path(), &[]).await;
        let results = ingest
            .wait("both", |results| of(results, "large").len() > 2 && of(results, "small").len() > 10)
            .await;
        let cut = of(&results, "large");
        assert!(cut.iter().all(|result| result.output.starts_with("[cut: ")), "{:?}", cut[0]);
        assert!(cut.iter().all(|result| result.status == Status::Ok && !result.replayed));
        assert!(agent.metric("results_cut_total") > 2);
        testkit::eventually("no number is missing", LIMIT, async || {
            let seqs: std::collections::BTreeSet<u64> =
                ingest.results().await.iter().map(|result| result.seq).collect();
            if seqs.iter().copied().take(20).eq(1..=20) { Ok(()) } else { Err(format!("{seqs:?}")) }
        })
        .await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn g1_what_the_spools_limit_dropped_is_told_to_ingest() {
    let mut server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let mut large = check("large", 100, "head -c 20000 /dev/zero | tr '\\0' x");
    large.output.format = OutputFormat::Text;
    let _config = Config::start(server.client().await, vec![large]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = Agent::start(&server.url(), state.path(), &["--spool-max-bytes", "100000"]).await;
    ingest.wait("a result", |results| !results.is_empty()).await;
    server.kill();
    testkit::eventually("the limit is reached", LIMIT, async || {
        let dropped = agent.metric("spool_dropped_total");
        if dropped > 5 { Ok(()) } else { Err(dropped) }
    })
    .await;
    server.restart().await;
    testkit::eventually("ingest is told", LIMIT, async || {
        let asked = ingest.asked.lock().unwrap().last().cloned().unwrap();
        if asked.oldest > 5 { Ok(()) } else { Err(format!("{asked:?}")) }
    })
    .await;
    agent.stop().await;
}

/// A disk of its own; root alone can mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(folder.path());
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        let said =
            "NOT TESTED: a full disk under the spool. Only root can mount the small disk that it takes\n";
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn g1_g10_a_full_disk_costs_nothing_that_is_not_counted() {
    let Some(disk) = SmallDisk::mount() else { return };
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let mut large = check("large", 150, "head -c 6000 /dev/zero | tr '\\0' x");
    large.output.format = OutputFormat::Text;
    let _config = Config::start(server.client().await, vec![large]).await;
    let state = disk.0.path().join("agent");
    let agent = Agent::start(&server.url(), &state, &[]).await;
    ingest.wait("numbered results", |results| results.len() > 2).await;
    let filler = disk.0.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
    let unnumbered = |results: &[CheckResult]| {
        results.iter().filter(|result| result.seq == 0 && result.id.is_some()).count()
    };
    ingest.wait("results from memory", |results| unnumbered(results) > 5).await;
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let last = ingest.results().await.iter().map(|result| result.seq).max().unwrap();
    let results =
        ingest.wait("numbered again", |results| results.iter().any(|result| result.seq > last + 3)).await;
    let mut numbered = results.clone();
    numbered.retain(|result| result.seq > 0);
    assert_eq!(gapless(&numbered), numbered.len() as u64, "nothing lost, nothing twice");
    let ids: std::collections::BTreeSet<_> = results.iter().map(CheckResult::message_id).collect();
    assert_eq!(ids.len(), results.len());
    assert_eq!(agent.metric("overflow_dropped_total"), 0);
    agent.stop().await;
}
