//! The alerter killed, the broker forgetful: nothing is forgotten, nothing is told under another name.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use protocol::{alert::Alert, stream};
use testkit::{Program, WebhookSink, eventually, webhook::Received};

use crate::fixture::{Bed, LIMIT, LOOPBACK, documents, received, result, states, webhook_id};

/// All transitions in stream ALERTS.
async fn transitions(bed: &Bed) -> Vec<Alert> {
    let jetstream = async_nats::jetstream::new(bed.client.clone());
    let stream = jetstream.get_stream(stream::ALERTS.name).await.unwrap();
    let count = usize::try_from(stream.cached_info().state.messages).unwrap();
    let consumer = stream
        .create_consumer(async_nats::jetstream::consumer::pull::OrderedConfig::default())
        .await
        .unwrap();
    let messages = consumer.messages().await.unwrap().take(count).collect::<Vec<_>>().await;
    messages.into_iter().map(|message| serde_json::from_slice(&message.unwrap().payload).unwrap()).collect()
}

/// How often each id came, in the order of its first.
fn counted(received: &[Received]) -> (Vec<String>, BTreeMap<String, usize>) {
    let (mut order, mut counts) = (Vec::new(), BTreeMap::new());
    for id in received.iter().map(webhook_id) {
        if *counts.entry(id.clone()).and_modify(|count| *count += 1).or_insert(1) == 1 {
            order.push(id);
        }
    }
    (order, counts)
}

/// Wait until `count` different notifications came.
async fn told(sink: &WebhookSink, count: usize) -> Vec<Received> {
    eventually(&format!("{count} notifications"), Duration::from_secs(60), || async {
        let all = sink.received();
        let different = counted(&all).0.len();
        if different >= count { Ok(all) } else { Err(format!("{different}")) }
    })
    .await
}

/// Wait until `count` requests came.
async fn some(sink: &WebhookSink, count: u64) {
    eventually("some are told", LIMIT, || async {
        let came = sink.received().len() as u64;
        if came >= count { Ok(()) } else { Err(came) }
    })
    .await;
}

#[tokio::test]
async fn g5_a_restart_forgets_and_repeats_nothing() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    for round in 0..5 {
        let alerter = bed.alerter().await;
        bed.publish(&result(round * 2 + 1, 95.0)).await;
        received(&sink, usize::try_from(round).unwrap() * 2 + 1).await;
        bed.settled().await;
        alerter.stop().await;
        // While nobody looks.
        bed.publish(&result(round * 2 + 2, 5.0)).await;
    }
    let alerter = bed.alerter().await;
    let all = received(&sink, 10).await;
    bed.settled().await;
    alerter.stop().await;
    assert_eq!(states(&all), ["firing", "resolved"].repeat(5));
    let (order, _) = counted(&sink.received());
    assert_eq!((order.len(), sink.received().len()), (10, 10));
}

#[tokio::test]
async fn g5_tasks_cut_off_anywhere_forget_nothing() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    for round in 0..8 {
        let alerter = bed.alerter_with(&[]).await;
        bed.publish(&result(round * 2 + 1, 95.0)).await;
        bed.publish(&result(round * 2 + 2, 5.0)).await;
        // Cut off while starting, while telling, or after.
        some(&sink, round).await;
        alerter.drop_tasks().await;
    }
    let _alerter = bed.alerter().await;
    let all = told(&sink, 16).await;
    let (order, counts) = counted(&all);
    assert_eq!(order.len(), 16);
    assert!(counts.values().all(|count| *count <= 8), "{counts:?}");
    in_order(&order);
}

/// Every end after its firing.
fn in_order(ids: &[String]) {
    for pair in ids.iter().filter(|id| id.contains(":resolved:")) {
        let firing = pair.replace(":resolved:", ":firing:");
        let (end, begin) = (ids.iter().position(|id| id == pair), ids.iter().position(|id| *id == firing));
        assert!(begin < end && begin.is_some(), "{pair} before its firing: {ids:?}");
    }
}

#[tokio::test]
async fn g5_killed_again_and_again_each_transition_is_told_under_one_id() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let (url, data) = (bed.nats.url(), bed.data.path().to_str().unwrap().to_owned());
    let start = || {
        Program::start(
            "dogwatch-alerter",
            &[&["--nats-url", &url, "--data", &data, "--log", "warn"], &LOOPBACK[..]].concat(),
        )
    };
    const ROUNDS: u64 = 12;
    for round in 0..ROUNDS {
        let mut program = start();
        for pair in 0..5 {
            let seq = (round * 5 + pair) * 2;
            bed.publish(&result(seq + 1, 95.0)).await;
            bed.publish(&result(seq + 2, 5.0)).await;
        }
        // Killed while starting, while telling, or after.
        some(&sink, round * 9).await;
        program.kill();
    }
    let mut program = start();
    let expected = usize::try_from(ROUNDS * 10).unwrap();
    let all = told(&sink, expected).await;
    bed.settled().await;
    program.signal(15);
    assert!(program.ended(LIMIT).await.success());
    let (order, counts) = counted(&all);
    assert_eq!(order.len(), expected);
    in_order(&order);
    // An attempt under way when it was killed may be repeated, under its id.
    let repeats: usize = counts.values().map(|count| count - 1).sum();
    assert!(repeats <= usize::try_from(ROUNDS).unwrap() * 16, "{repeats} repeats: {counts:?}");
    let mut transitions: Vec<String> = transitions(&bed).await.iter().map(Alert::message_id).collect();
    transitions.sort();
    let mut told: Vec<String> = order.iter().map(|id| id.trim_end_matches(":ops").to_owned()).collect();
    told.sort();
    assert_eq!(transitions, told);
}

#[tokio::test]
async fn g5_a_broker_that_forgot_everything_costs_no_notification() {
    let sink = WebhookSink::start().await;
    sink.answer(&[500]);
    let mut bed = Bed::new(documents(&sink)).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    received(&sink, 1).await;
    alerter.drop_tasks().await;
    bed.nats.wipe();
    bed.nats.restart().await;
    bed.client = bed.nats.client().await;
    bed.start_config().await;
    let _alerter = bed.alerter().await;
    let all = received(&sink, 2).await;
    assert_eq!(webhook_id(&all[0]), webhook_id(&all[1]));
    // The alert itself is not forgotten either.
    bed.publish(&result(2, 5.0)).await;
    let all = received(&sink, 3).await;
    assert_eq!(states(&all), ["firing", "firing", "resolved"]);
}

#[tokio::test]
async fn a_broker_away_for_a_while_is_waited_for() {
    let sink = WebhookSink::start().await;
    let mut bed = Bed::new(documents(&sink)).await;
    let _alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    received(&sink, 1).await;
    bed.nats.kill();
    bed.nats.restart().await;
    bed.client = bed.nats.client().await;
    bed.publish(&result(2, 5.0)).await;
    let all = received(&sink, 2).await;
    assert_eq!(states(&all), ["firing", "resolved"]);
}

#[tokio::test]
async fn a_disk_that_was_full_is_used_again_and_nothing_is_lost() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let (url, data) = (bed.nats.url(), bed.data.path().to_str().unwrap().to_owned());
    // A limit on the size of files fails its writes as a full disk does, once the signal for it is ignored.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(testkit::program::path("dogwatch-alerter"));
    command.args(["--nats-url", &url, "--data", &data]).args(LOOPBACK);
    let mut program = Program::spawn("dogwatch-alerter", command);
    let pid = Pid::from_raw(i32::try_from(program.pid()).unwrap());
    let limit_files = |current| {
        prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    };
    bed.publish(&result(1, 95.0)).await;
    received(&sink, 1).await;
    bed.settled().await;
    limit_files(Some(1));
    bed.publish(&result(2, 5.0)).await;
    program.wait_for("check that the disk has room", LIMIT).await;
    assert_eq!(sink.received().len(), 1);
    limit_files(None);
    let all = received(&sink, 2).await;
    assert_eq!(states(&all), ["firing", "resolved"]);
    program.signal(15);
    assert!(program.ended(LIMIT).await.success());
}
