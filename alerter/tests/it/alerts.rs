//! Results in, alerts and webhooks out.

use std::time::Instant;

use protocol::{AgentId, alert::AlertState, document::Document};
use testkit::{WebhookSink, eventually};

use crate::fixture::{Bed, LIMIT, documents, host, received, receiver, result, rule, states, webhook_id};

#[tokio::test]
async fn g5_an_alert_fires_and_resolves_and_each_is_told_once() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 50.0)).await;
    bed.publish(&result(2, 93.5)).await;
    bed.publish(&result(3, 94.0)).await;
    let told = received(&sink, 1).await;
    assert_eq!(told[0].body["summary"], "disk on web-01 is 93.5 %: full (value > 90)");
    assert_eq!(told[0].body["receiver"], "ops");
    assert_eq!(told[0].body["labels"]["role"], "web");
    assert_eq!(told[0].headers["content-type"], "application/json");
    assert!(told[0].headers["webhook-timestamp"].to_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    let active = bed.alerts(false).await;
    assert_eq!((active.len(), active[0].state), (1, AlertState::Firing));
    bed.publish(&result(4, 42.0)).await;
    bed.publish(&result(5, 41.0)).await;
    let told = received(&sink, 2).await;
    assert_eq!(states(&told), ["firing", "resolved"]);
    assert_eq!(told[0].body["id"], told[1].body["id"]);
    assert_ne!(webhook_id(&told[0]), webhook_id(&told[1]));
    assert_eq!(bed.alerts(false).await, []);
    let ended = bed.alerts(true).await;
    assert_eq!((ended.len(), ended[0].state), (1, AlertState::Resolved));
    bed.settled().await;
    alerter.stop().await;
    assert_eq!(sink.received().len(), 2);
    // The stream of transitions says the same.
    let jetstream = async_nats::jetstream::new(bed.client.clone());
    let stream = jetstream.get_stream("ALERTS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 2);
}
