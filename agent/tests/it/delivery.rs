//! Results on their way: outages, crashes, a broker that forgets, and a broker with permissions.

use std::time::Duration;

use protocol::{CheckResult, subject};
use testkit::{NatsServer, Program};

use crate::rig::{Agent, Config, Ingest, LIMIT, check, gapless, id};

/// In the stream's order, each number for the first time comes after all smaller ones.
fn in_order(results: &[CheckResult]) -> bool {
    let mut highest = 0;
    results.iter().all(|result| {
        let fits = result.seq <= highest + 1;
        highest = highest.max(result.seq);
        fits
    })
}

#[tokio::test]
async fn g7_g1_without_a_broker_checks_run_and_their_results_follow_in_order() {
    let mut server = NatsServer::start().await;
    let state = tempfile::tempdir().unwrap();
    let ingest = Ingest::start(server.client().await).await;
    let config = Config::start(server.client().await, vec![check("often", 100, "echo 1")]).await;
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    config.reported("it runs", |status| status.error.is_none()).await;
    ingest.wait("first results", |results| results.len() > 2).await;
    agent.stop().await;
    let before = gapless(&ingest.results().await);

    server.kill();
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    testkit::eventually("checks run from the last good configuration", LIMIT, async || {
        let results = agent.metric("results_total");
        if results > 10 { Ok(()) } else { Err(results) }
    })
    .await;
    server.restart().await;
    let results = ingest.wait("the outage's results", |results| results.len() as u64 > before + 12).await;
    assert!(gapless(&results) > before + 10);
    assert!(in_order(&results), "{results:#?}");
    let epochs: std::collections::BTreeSet<u64> = results.iter().map(|result| result.epoch).collect();
    assert_eq!(epochs.len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn g1_a_killed_agent_goes_on_without_gap_or_repeated_number() {
    let server = NatsServer::start().await;
    let state = tempfile::tempdir().unwrap();
    let ingest = Ingest::start(server.client().await).await;
    let _config = Config::start(server.client().await, vec![check("often", 100, "echo $$")]).await;
    let (url, folder) = (server.url(), state.path().to_str().unwrap());
    let args = ["--agent-id", "web-01", "--nats-url", &url, "--state", folder];
    for round in 1..=3 {
        let mut agent = Program::start("dogwatch-agent", &args);
        ingest.wait("results", |results| results.len() >= round * 8).await;
        agent.kill();
    }
    let agent = Program::start("dogwatch-agent", &args);
    let results = ingest.wait("results after all", |results| results.len() >= 32).await;
    gapless(&results);
    // The same number is always the same result.
    let mut by_seq = std::collections::BTreeMap::new();
    for result in results {
        let first = by_seq.entry((result.epoch, result.seq)).or_insert_with(|| result.clone());
        assert_eq!((first.at_ms, &first.output), (result.at_ms, &result.output));
    }
    agent.signal(15);
    let mut agent = agent;
    assert!(agent.ended(LIMIT).await.success());
}

#[tokio::test]
async fn g1_what_ingest_stored_leaves_the_spool() {
    let mut server = NatsServer::start().await;
    let state = tempfile::tempdir().unwrap();
    let ingest = Ingest::start(server.client().await).await;
    // Large results, so that the spool tidies up at once.
    let mut large = check("large", 150, "head -c 60000 /dev/zero | tr '\\0' x");
    large.output.format = protocol::work::OutputFormat::Text;
    let _config = Config::start(server.client().await, vec![large]).await;
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    let results = ingest.wait("results", |results| results.len() >= 4).await;
    assert!(agent.metric("spool_bytes") > 100_000);
    let epoch = results[0].epoch;
    // A watermark of another epoch says nothing.
    ingest.publish_watermark(epoch + 1, 3).await;
    ingest.publish_watermark(epoch, 2).await;
    testkit::eventually("everything that is stored is gone", LIMIT, async || {
        let last = ingest.results().await.last().map_or(0, |result| result.seq);
        ingest.publish_watermark(epoch, last).await;
        let bytes = agent.metric("spool_bytes");
        if bytes < 70_000 { Ok(()) } else { Err(bytes) }
    })
    .await;
    server.restart().await;
    testkit::eventually("ingest is asked with what is left", LIMIT, async || {
        let asked = ingest.asked.lock().unwrap().last().cloned().unwrap();
        if asked.oldest > 2 && asked.epoch == epoch { Ok(()) } else { Err(format!("{asked:?}")) }
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn g1_g6_a_wiped_broker_gets_again_what_ingest_lacks() {
    let mut server = NatsServer::start().await;
    let state = tempfile::tempdir().unwrap();
    let ingest = Ingest::start(server.client().await).await;
    let _config = Config::start(server.client().await, vec![check("often", 200, "echo 1")]).await;
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    let before = ingest.wait("results", |results| results.len() >= 5).await;
    ingest.publish_watermark(before[0].epoch, 2).await;
    testkit::eventually("the watermark came", LIMIT, async || {
        let confirmed = agent.metric("published_total");
        if confirmed >= 5 { Ok(()) } else { Err(confirmed) }
    })
    .await;
    server.wipe();
    server.restart().await;
    ingest.make_stream().await;
    let after = ingest
        .wait("everything above the watermark", |results| {
            (3..=8).all(|seq| results.iter().any(|r| r.seq == seq))
        })
        .await;
    assert!(after.iter().all(|result| result.seq > 2));
    for old in before.iter().filter(|old| old.seq > 2) {
        let again = after.iter().find(|result| result.seq == old.seq).unwrap();
        assert!(again.replayed, "{again:?}");
        assert_eq!((again.at_ms, again.message_id()), (old.at_ms, old.message_id()));
    }
    assert!(after.iter().any(|result| !result.replayed), "new results are news");
    agent.stop().await;
}

#[tokio::test]
async fn g1_a_state_that_was_set_back_begins_a_new_sequence() {
    let server = NatsServer::start().await;
    let state = tempfile::tempdir().unwrap();
    let ingest = Ingest::start(server.client().await).await;
    *ingest.watermark.lock().unwrap() = 1_000;
    let _config = Config::start(server.client().await, vec![check("often", 200, "echo 1")]).await;
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    testkit::eventually("ingest is asked about a new epoch", LIMIT, async || {
        let asked = ingest.asked.lock().unwrap().clone();
        let begun = asked.iter().any(|request| request.epoch > asked[0].epoch);
        if begun { Ok(()) } else { Err(format!("{asked:?}")) }
    })
    .await;
    let results = ingest.wait("results", |results| results.len() > 3).await;
    let epochs: std::collections::BTreeSet<u64> = results.iter().map(|result| result.epoch).collect();
    assert_eq!(epochs.len(), 1, "an ingest that answers nonsense does not make one epoch after the other");
    assert_eq!(gapless(&results), results.len() as u64);
    agent.stop().await;
}

#[tokio::test]
async fn without_ingest_results_are_published_once() {
    let server = NatsServer::start().await;
    let state = tempfile::tempdir().unwrap();
    let ingest = Ingest::start(server.client().await).await;
    let _config = Config::start(server.client().await, vec![check("often", 100, "echo 1")]).await;
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    let results = ingest.wait("results", |results| results.len() >= 30).await;
    assert_eq!(gapless(&results), results.len() as u64);
    assert!(in_order(&results));
    assert_eq!(agent.metric("resent_total"), 0);
    agent.stop().await;
}

#[tokio::test]
async fn g4_the_agent_needs_no_more_than_its_own_subjects() {
    let list =
        |subjects: Vec<String>| subjects.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
    let block = format!(
        "authorization {{ users: [\n {{user: services, password: s}}\n {{user: agent, password: \"a-secret\", \
         permissions: {{publish: {{allow: [{}]}}, subscribe: {{allow: [{}]}}}}}}\n] }}",
        list(subject::agent_publishes(&id())),
        list(subject::agent_subscribes(&id())),
    );
    let server = NatsServer::start_with(&block).await;
    let options = async_nats::ConnectOptions::with_user_and_password("services".into(), "s".into());
    let services = options.connect(server.url()).await.unwrap();
    let ingest = Ingest::start(services.clone()).await;
    let config = Config::start(services, vec![check("often", 200, "echo 1")]).await;
    let state = tempfile::tempdir().unwrap();
    let password = state.path().join("password");
    std::fs::write(&password, "a-secret\n").unwrap();
    let user = ["--nats-user", "agent", "--nats-password-file", password.to_str().unwrap()];
    let agent = Agent::start(&server.url(), &state.path().join("agent"), &user).await;
    let results = ingest.wait("results", |results| results.len() >= 3).await;
    ingest.publish_watermark(results[0].epoch, 3).await;
    config.apply(2, vec![check("other", 200, "echo 1")]).await;
    ingest.wait("a nudge came through", |results| results.iter().any(|r| r.check.as_str() == "other")).await;
    assert!(!ingest.asked.lock().unwrap().is_empty());
    assert_eq!(agent.metric("nats_errors_total"), 0, "nothing was forbidden");
    agent.stop().await;
}

#[tokio::test]
async fn a_broker_without_the_stream_is_waited_for() {
    let server = NatsServer::start().await;
    let state = tempfile::tempdir().unwrap();
    let _config = Config::start(server.client().await, vec![check("often", 200, "echo 1")]).await;
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    testkit::eventually("the broker has no stream", Duration::from_secs(20), async || {
        let failures = agent.metric("publish_failures_total");
        if failures > 2 { Ok(()) } else { Err(failures) }
    })
    .await;
    let ingest = Ingest::start(server.client().await).await;
    let results = ingest.wait("everything comes", |results| results.len() > 5).await;
    gapless(&results);
    agent.stop().await;
}

#[tokio::test]
async fn g10_results_flow_while_the_disk_takes_nothing() {
    let server = NatsServer::start().await;
    let state = tempfile::tempdir().unwrap();
    let ingest = Ingest::start(server.client().await).await;
    let _config = Config::start(server.client().await, vec![check("often", 100, "echo 1")]).await;
    // So small that each result begins a segment, which fails while the folder is away.
    let agent = Agent::start(&server.url(), state.path(), &["--spool-max-bytes", "3000"]).await;
    ingest.wait("numbered results", |results| results.len() > 2).await;
    let spool = state.path().join("spool");
    std::fs::rename(&spool, state.path().join("away")).unwrap();
    ingest
        .wait("results without a number", |results| {
            results.iter().filter(|result| result.seq == 0 && result.id.is_some()).count() > 3
        })
        .await;
    std::fs::rename(state.path().join("away"), &spool).unwrap();
    let last = ingest.results().await.iter().map(|result| result.seq).max().unwrap();
    ingest.wait("numbered results again", |results| results.iter().any(|result| result.seq > last + 2)).await;
    assert!(agent.metric("spool_errors_total") > 0);
    agent.stop().await;
}
