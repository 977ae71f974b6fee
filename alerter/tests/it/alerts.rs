//! Results in, alerts and webhooks out.

use std::time::{Duration, Instant};

use protocol::{
    CheckResult,
    alert::AlertState,
    document::{Document, Rule},
};
use service_kit::now_ms;
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

#[tokio::test]
async fn a_pending_alert_is_shown_and_told_to_nobody() {
    let sink = WebhookSink::start().await;
    let slow = Rule { hold: Duration::from_secs(3600), ..rule("full") };
    let bed = Bed::new(vec![Document::Rule(slow), receiver("ops", &sink.url())]).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    bed.settled().await;
    assert_eq!(bed.alerts(false).await[0].state, AlertState::Pending);
    bed.publish(&result(2, 5.0)).await;
    bed.settled().await;
    assert_eq!(bed.alerts(true).await, []);
    assert_eq!(alerter.metric("transitions_total"), 2);
    alerter.stop().await;
    assert_eq!(sink.received().len(), 0);
}

#[tokio::test]
async fn g6_results_that_are_history_page_nobody() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let alerter = bed.alerter().await;
    bed.publish(&CheckResult { replayed: true, ..result(1, 95.0) }).await;
    bed.publish(&CheckResult { at_ms: now_ms() - 10 * 60_000, ..result(2, 95.0) }).await;
    bed.settled().await;
    assert_eq!(alerter.metric("results_late_total"), 2);
    bed.publish(&result(4, 95.0)).await;
    received(&sink, 1).await;
    // One that overtook another says nothing new.
    bed.publish(&result(3, 5.0)).await;
    bed.settled().await;
    assert_eq!(bed.alerts(false).await.len(), 1);
    alerter.stop().await;
    assert_eq!(sink.received().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_understood_is_kept_with_its_reason_and_blocks_nothing() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let _alerter = bed.alerter().await;
    let jetstream = async_nats::jetstream::new(bed.client.clone());
    let lie = protocol::encode(&CheckResult { agent: "db-01".parse().unwrap(), ..result(1, 99.0) }).unwrap();
    for body in [b"not json".to_vec(), b"{\"v\":1}".to_vec(), lie, vec![b' '; 300_000]] {
        jetstream.publish("dogwatch.v1.result.web-01.disk", body.into()).await.unwrap().await.unwrap();
    }
    bed.publish(&result(1, 95.0)).await;
    received(&sink, 1).await;
    bed.settled().await;
    let reasons: Vec<String> = bed.rejected().await.into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    for expected in ["expected ident", "missing field `agent`", "result of db-01/disk", "300000 bytes"] {
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{expected}: {reasons:?}");
    }
}

#[tokio::test]
async fn a_rule_follows_its_document_and_its_alerts_end_with_it() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(vec![receiver("ops", &sink.url())]).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    bed.settled().await;
    bed.apply(documents(&sink)).await;
    eventually("the rule is in force", LIMIT, || async {
        if alerter.metric("rules") == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    bed.publish(&result(2, 95.0)).await;
    received(&sink, 1).await;
    bed.apply(vec![receiver("ops", &sink.url())]).await;
    let told = received(&sink, 2).await;
    assert_eq!(states(&told), ["firing", "resolved"]);
    let summary = "disk on web-01 is not watched by full any more: the rule was removed";
    assert_eq!(told[1].body["summary"], summary);
}

#[tokio::test]
async fn a_rule_without_an_answer_says_so_and_silences_no_other() {
    let sink = WebhookSink::start().await;
    let failing = Rule { when: "facts.nothing > 1".into(), ..rule("failing") };
    let broken = Rule { when: "value >".into(), ..rule("broken") };
    let mut all = documents(&sink);
    all.extend([Document::Rule(failing), Document::Rule(broken)]);
    let bed = Bed::new(all).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    let told = received(&sink, 2).await;
    let mut rules: Vec<&str> = told.iter().map(|one| one.body["rule"].as_str().unwrap()).collect();
    rules.sort_unstable();
    assert_eq!(rules, ["failing", "full"]);
    let failing = told.iter().find(|one| one.body["rule"] == "failing").unwrap();
    assert!(failing.body["summary"].as_str().unwrap().contains("cannot be judged"), "{}", failing.body);
    let figures = ["rules", "rules_broken", "rules_failing"].map(|name| alerter.metric(name));
    assert_eq!(figures, [2, 1, 1]);
}

#[tokio::test]
async fn a_host_that_is_new_is_asked_for_before_it_is_judged() {
    let sink = WebhookSink::start().await;
    let web = Rule { hosts: Some("labels.role == \"web\"".into()), ..rule("full") };
    let bed = Bed::new(vec![Document::Rule(web), receiver("ops", &sink.url())]).await;
    let _alerter = bed.alerter().await;
    bed.config.lock().unwrap().hosts.push(host("web-02"));
    bed.publish(&CheckResult { agent: "web-02".parse().unwrap(), ..result(1, 95.0) }).await;
    let told = received(&sink, 1).await;
    assert_eq!(told[0].body["agent"], "web-02");
}

#[tokio::test]
async fn hosts_are_read_page_by_page() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let names = ["web-01", "web-02", "web-03"];
    bed.config.lock().unwrap().hosts = names.map(host).into();
    let _alerter = bed.alerter().await;
    let pages: Vec<String> = bed.config.lock().unwrap().pages.iter().map(ToString::to_string).collect();
    assert_eq!(pages, names[..2]);
}

#[tokio::test]
async fn without_config_service_results_wait_and_readiness_says_so() {
    let sink = WebhookSink::start().await;
    let mut bed = Bed::without_config(documents(&sink)).await;
    let alerter = bed.alerter_with(&[]).await;
    bed.publish(&result(1, 95.0)).await;
    let problems = alerter.ctx.ready.problems();
    assert!(problems.iter().any(|problem| problem.contains("waiting for config-service")), "{problems:?}");
    bed.start_config().await;
    received(&sink, 1).await;
    alerter.ready().await;
}

#[tokio::test]
async fn from_result_to_webhook_nothing_waits_for_a_timer() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let _alerter = bed.alerter().await;
    let mut times = Vec::new();
    for seq in 1..=20 {
        let began = Instant::now();
        bed.publish(&result(seq, if seq % 2 == 1 { 95.0 } else { 5.0 })).await;
        let count = usize::try_from(seq).unwrap();
        while sink.received().len() < count {
            assert!(began.elapsed() < LIMIT, "no webhook for result {seq}");
            tokio::task::yield_now().await;
        }
        times.push(began.elapsed());
    }
    times.sort();
    assert!(times[10] < Duration::from_millis(250), "{times:?}");
    println!("publish to webhook: median {:?}, worst {:?}", times[10], times[19]);
}
