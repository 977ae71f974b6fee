//! Receivers that fail, hang, vanish and come back.

use std::time::Duration;

use protocol::document::Document;
use testkit::{WebhookSink, eventually, free_address};

use crate::fixture::{Bed, LIMIT, documents, received, receiver, result, rule, states, webhook_id};

#[tokio::test]
async fn g5_a_failed_attempt_is_repeated_with_the_same_id() {
    let sink = WebhookSink::start().await;
    sink.answer(&[500, 503]);
    let bed = Bed::new(documents(&sink)).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    let told = received(&sink, 3).await;
    let ids: Vec<String> = told.iter().map(webhook_id).collect();
    assert_eq!([&ids[1], &ids[2]], [&ids[0], &ids[0]]);
    eventually("it is delivered", LIMIT, || async {
        if alerter.metric("notifications_delivered_total") == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert_eq!(alerter.metric("attempts_failed_total"), 2);
}

#[tokio::test]
async fn g5_the_end_is_told_after_the_firing() {
    let sink = WebhookSink::start().await;
    sink.answer(&[500, 500]);
    let bed = Bed::new(documents(&sink)).await;
    let _alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    received(&sink, 1).await;
    bed.publish(&result(2, 5.0)).await;
    let told = received(&sink, 4).await;
    assert_eq!(states(&told), ["firing", "firing", "firing", "resolved"]);
}

#[tokio::test]
async fn g5_a_receiver_that_starts_late_is_told() {
    let address = free_address();
    let documents = vec![Document::Rule(rule("full")), receiver("ops", &format!("http://{address}/"))];
    let bed = Bed::new(documents).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    eventually("an attempt fails", LIMIT, || async {
        if alerter.metric("attempts_failed_total") > 0 { Ok(()) } else { Err("not yet") }
    })
    .await;
    let sink = WebhookSink::start_at(address).await;
    received(&sink, 1).await;
}

#[tokio::test]
async fn g5_what_is_given_up_is_kept_with_its_reason() {
    let sink = WebhookSink::start().await;
    sink.answer(&[404]);
    let alone = protocol::document::Rule { notify: vec!["nobody".parse().unwrap()], ..rule("alone") };
    let mut all = documents(&sink);
    all.push(Document::Rule(alone));
    let bed = Bed::new(all).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    let rejected = eventually("both are given up", LIMIT, || async {
        let rejected = bed.rejected().await;
        if rejected.len() == 2 { Ok(rejected) } else { Err(format!("{rejected:?}")) }
    })
    .await;
    for expected in ["receiver ops given up: the receiver answered 404", "there is no receiver of that name"]
    {
        assert!(rejected.iter().any(|(_, reason)| reason.contains(expected)), "{expected}: {rejected:?}");
    }
    assert!(rejected.iter().all(|(body, _)| body.contains("\"firing\"")));
    assert_eq!(alerter.metric("notifications_given_up_total"), 2);
    // The end of what was given up is told all the same.
    bed.publish(&result(2, 5.0)).await;
    let told = received(&sink, 2).await;
    assert_eq!(states(&told), ["firing", "resolved"]);
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_other() {
    let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = WebhookSink::start().await;
    let mut all = vec![
        receiver("hangs", &format!("http://{}/s3cret", hangs.local_addr().unwrap())),
        receiver("ops", &sink.url()),
    ];
    for number in 0..20 {
        let notify = vec!["hangs".parse().unwrap()];
        all.push(Document::Rule(protocol::document::Rule { notify, ..rule(&format!("slow{number}")) }));
    }
    all.push(Document::Rule(rule("full")));
    let bed = Bed::new(all).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    eventually("the other is told at once", Duration::from_secs(4), || async {
        if sink.received().len() == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    // Nor the end of the service.
    alerter.ctx.tasks.finish(Duration::from_secs(7)).await.unwrap();
}

#[tokio::test]
async fn a_storm_of_alerts_is_told_whole_and_once() {
    const HOSTS: usize = 1_000;
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let alerter = bed.alerter().await;
    let jetstream = async_nats::jetstream::new(bed.client.clone());
    let began = std::time::Instant::now();
    for number in 0..HOSTS {
        let agent: protocol::AgentId = format!("host-{number}").parse().unwrap();
        let result = protocol::CheckResult { agent, ..result(1, 95.0) };
        let subject = protocol::subject::result(&result.agent, &result.check);
        jetstream.publish(subject, protocol::encode(&result).unwrap().into()).await.unwrap();
    }
    let told = eventually("all are told", Duration::from_secs(60), || async {
        let all = sink.received();
        if all.len() >= HOSTS { Ok(all) } else { Err(all.len()) }
    })
    .await;
    println!("{HOSTS} alerts told in {:?}", began.elapsed());
    let ids: std::collections::BTreeSet<String> = told.iter().map(webhook_id).collect();
    assert_eq!((told.len(), ids.len()), (HOSTS, HOSTS));
    assert_eq!(alerter.metric("alerts_firing"), HOSTS as u64);
    assert_eq!(bed.alerts(false).await.len(), HOSTS);
    alerter.stop().await;
    assert_eq!(sink.received().len(), HOSTS);
}
