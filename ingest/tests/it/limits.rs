//! What ingest does not take: wrong times, too many series.

use async_nats::jetstream;
use protocol::{
    query::{ClockList, ClockQuery, LossList, LossQuery, ResultQuery},
    stream::{REJECTED, rejected_header},
    subject,
};
use service_kit::now_ms;
use testkit::{NatsServer, eventually};

use crate::fixture::*;

const HOUR: u64 = 3_600_000;

/// The messages of REJECTED with their reasons, once there are so many.
async fn rejected(
    client: &async_nats::Client,
    count: u64,
) -> Vec<(String, jetstream::message::StreamMessage)> {
    let jetstream = service_kit::publish::jetstream(client);
    let stream = eventually("they are kept in REJECTED", LIMIT, || async {
        let mut stream = jetstream.get_stream(REJECTED.name).await.map_err(|error| error.to_string())?;
        let held = stream.info().await.map_err(|error| error.to_string())?.state.messages;
        if held == count { Ok(stream) } else { Err(held.to_string()) }
    })
    .await;
    let mut kept = Vec::new();
    for sequence in 1..=count {
        let message = stream.get_raw_message(sequence).await.unwrap();
        kept.push((message.headers.get(rejected_header::REASON).unwrap().to_string(), message));
    }
    kept
}

#[tokio::test]
async fn g1_results_of_impossible_times_are_kept_aside_and_not_lost() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start_set(&server, data.path(), &["--max-late", "1day"]).await;
    let now = now_ms();
    let times = [now, now + 2 * HOUR, u64::MAX, now - 23 * HOUR, now - 25 * HOUR, now + HOUR / 2];
    for (seq, at_ms) in (1..).zip(times) {
        publish(&client, "web-01", "disk", seq, at_ms).await;
    }
    stored_up_to(&client, "web-01", 6).await;
    let kept = rejected(&client, 3).await;
    let reasons: Vec<&str> = kept.iter().map(|(reason, _)| reason.as_str()).collect();
    assert!(
        reasons.iter().any(|reason| reason.contains("late, more than the 1day of --max-late")),
        "{reasons:?}"
    );
    let ahead = "ahead of the broker's, more than the 1h of --max-ahead: set the host's clock";
    assert_eq!(reasons.iter().filter(|reason| reason.contains(ahead)).count(), 2, "{reasons:?}");
    assert!(
        kept.iter().any(|(_, message)| message.payload == json("web-01", "disk", 2, times[1]).as_bytes())
    );
    let loss = &losses(&client).await[0];
    assert_eq!((loss.stored, loss.lost, loss.missing, loss.expected), (3, 0, 0, 6));
    assert_eq!((loss.rejected["ahead"], loss.rejected["late"]), (2, 1));
    let line = running.metric("dogwatch_ingest_results_rejected_total{reason=\"ahead\"}");
    assert!(line.ends_with(" 2"), "{line}");
    let mut stored: Vec<u64> =
        results(&client, ResultQuery::default()).await.into_iter().map(|result| result.seq).collect();
    stored.sort_unstable();
    assert_eq!(stored, [1, 4, 6]);
    running.stop().await;
}

#[tokio::test]
async fn a_host_whose_clock_is_wrong_is_told() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    for seq in 1..=5 {
        publish(&client, "right", "load", seq, now_ms()).await;
        publish(&client, "ahead", "load", seq, now_ms() + 5 * 60_000).await;
        publish(&client, "far", "load", seq, now_ms() + 50 * HOUR).await;
        publish(&client, "behind", "load", seq, now_ms() - 5 * 60_000).await;
        let late = json("replays", "load", seq, now_ms() - HOUR).replace("\"unknown\"", "\"replayed\"");
        publish_json(&client, "replays", "load", late).await;
    }
    for name in ["right", "ahead", "far", "behind", "replays"] {
        stored_up_to(&client, name, 5).await;
    }
    let list: ClockList = ask(&client, subject::QUERY_CLOCKS, &ClockQuery::default()).await.unwrap();
    let near = |ms: i64, expected: i64| (ms - expected).abs() < 60_000;
    let found: Vec<_> =
        list.clocks.iter().map(|clock| (clock.agent.as_str(), clock.ahead_ms, clock.wrong)).collect();
    assert_eq!(found.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), ["ahead", "behind", "far", "right"]);
    assert!(near(found[0].1, 300_000) && found[0].2, "{found:?}");
    assert!(near(found[1].1, -300_000) && found[1].2, "{found:?}");
    assert!(near(found[2].1, 50 * 3_600_000) && found[2].2, "what is rejected is measured too: {found:?}");
    assert!(near(found[3].1, 0), "{found:?}");
    let wrong = running.metric("dogwatch_ingest_clocks_wrong ");
    assert!(wrong.ends_with(" 3") || found[3].2, "{wrong} {found:?}");
    running.stop().await;
}

/// A result with a thousand metrics whose names are new.
fn flood(seq: u64) -> String {
    let metrics: Vec<String> =
        (0..1_000).map(|n| format!(r#"{{"name":"{}","value":1}}"#, seq * 1_000 + n)).collect();
    json("flood", "ports", seq, seq)
        .replace("\"unknown\":true", &format!("\"metrics\":[{}]", metrics.join(",")))
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_a_million_series_of_one_agent_are_refused_and_harm_nobody() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    const MESSAGES: u64 = 1_000;
    for seq in 1..=MESSAGES {
        client.publish("dogwatch.v1.result.flood.ports", flood(seq).into()).await.unwrap();
        publish(&client, "web-01", "disk", seq, seq).await;
    }
    stored_up_to(&client, "web-01", MESSAGES).await;
    stored_up_to(&client, "flood", MESSAGES).await;
    // Nine times a thousand and the check's own value fit below 10,000.
    let of = |name: &str| {
        let (client, question) = (client.clone(), LossQuery { agent: Some(agent(name)), after: None });
        async move { ask::<_, LossList>(&client, subject::QUERY_LOSS, &question).await.unwrap().agents.remove(0) }
    };
    let loss = of("flood").await;
    assert_eq!((loss.stored, loss.rejected["series"], loss.lost), (9, MESSAGES - 9, 0));
    let web = of("web-01").await;
    assert_eq!((web.stored, web.rejected.len(), web.expected), (MESSAGES, 0, MESSAGES));
    // The series that it has go on, those of other checks too as far as there is room.
    publish_json(&client, "flood", "ports", flood(3).replace("\"seq\":3,", "\"seq\":1001,")).await;
    publish(&client, "flood", "disk", 1_002, 1).await;
    stored_up_to(&client, "flood", 1_002).await;
    assert_eq!(of("flood").await.stored, 11);
    let kept = rejected(&client, MESSAGES - 9).await;
    let expected = "it brings 1000 new series to the 9001 of flood, 10000 are allowed";
    assert!(kept.iter().all(|(reason, _)| reason.starts_with(expected)), "{}", kept[0].0);
    running.stop().await;
}
