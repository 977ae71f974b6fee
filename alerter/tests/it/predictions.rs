//! Rules over predictions, in an alerter beside a broker and an ingest that follows a script.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::StreamExt;
use protocol::{
    CheckResult, Reply,
    attend::{Why, WhyQuery},
    document::{Document, Rule},
    predict::{Forecast, PredictQuery, Prediction, Step, TimeTo},
    subject,
};
use service_kit::now_ms;
use testkit::{Program, WebhookSink, eventually};

use crate::fixture::{Bed, LIMIT, LOOPBACK, received, receiver, result, rule};

/// Values of six days.
const COUNT: u64 = 432;
const STEP: u64 = 20 * 60_000;

fn documents(when: &str, sink: &WebhookSink) -> Vec<Document> {
    vec![Document::Rule(Rule { when: when.to_owned(), ..rule("odd") }), receiver("ops", &sink.url())]
}

/// A wave of a day, every twenty minutes, ending at `now`.
fn wave(seq: u64, now: u64) -> CheckResult {
    let value = 50.0 + (20.0 * (std::f64::consts::TAU * seq as f64 / 72.0).sin()).round();
    CheckResult { at_ms: now - (COUNT - seq) * STEP, ..result(seq, value) }
}

/// An ingest that answers every question about what comes with `prediction`, and counts them.
async fn ingest(bed: &Bed, prediction: Prediction) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let mut asked = bed.client.subscribe(subject::QUERY_PREDICT).await.unwrap();
    service_kit::respond::barrier(&bed.client).await.unwrap();
    let (client, count) = (bed.client.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let answers = tokio::spawn(async move {
        while let Some(request) = asked.next().await {
            let query: PredictQuery = serde_json::from_slice(&request.payload).unwrap();
            assert_eq!(query.check.as_str(), "disk");
            counted.fetch_add(1, Ordering::SeqCst);
            let body = protocol::encode(&Reply::Ok(prediction.clone())).unwrap();
            client.publish(request.reply.unwrap(), body.into()).await.unwrap();
        }
    });
    (count, answers)
}

/// Restarted by force over and over, in the middle of learning: the detector is the one that learned everything, since
/// it calls nothing of what it has seen unusual, and the first new value.
#[tokio::test]
async fn detectors_survive_kill_9_and_learn_on() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents("anomaly() > 0.5", &sink)).await;
    let (url, data, now) = (bed.nats.url(), bed.data.path().to_str().unwrap().to_owned(), now_ms());
    // News is old after a second, so that nothing but its mark says what is to be learned again.
    let start = |save: &str, freshness: &str| {
        let args = ["--nats-url", &url, "--data", &data, "--log", "warn", "--freshness", freshness];
        Program::start(
            "dogwatch-alerter",
            &[&args[..], &LOOPBACK, &["--detectors-save-every", save]].concat(),
        )
    };
    for (round, seqs) in (1..=COUNT).collect::<Vec<_>>().chunks(108).enumerate() {
        // Saved all the time, and never.
        let mut program = start(if round % 2 == 0 { "1s" } else { "1h" }, "1s");
        for seq in seqs {
            bed.publish(&wave(*seq, now)).await;
        }
        bed.settled().await;
        program.kill();
    }
    let mut program = start("1h", "1s");
    bed.publish(&result(COUNT + 1, 50.0)).await;
    bed.settled().await;
    program.signal(15);
    assert!(program.ended(LIMIT).await.success());
    let mut program = start("1h", "5m");
    assert_eq!(sink.received().len(), 0, "nothing was new: {:?}", sink.received());
    bed.publish(&result(COUNT + 2, 200.0)).await;
    let told = received(&sink, 1).await;
    let summary = told[0].body["summary"].as_str().unwrap();
    // It counts every value that it learned, over all restarts.
    assert!(summary.contains("200.0000 is above all 433 values before"), "{summary}");
    program.signal(15);
    assert!(program.ended(LIMIT).await.success());
}

#[tokio::test]
async fn a_time_to_a_limit_fires_explains_itself_and_outlives_ingest() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents("time_to(\"> 95\") < 24", &sink)).await;
    let alerter = bed.alerter_with(&["--forecast-every", "1s", "--forecast-max-age", "1h"]).await;
    alerter.ready().await;
    bed.publish(&result(1, 50.0)).await;
    // Nobody answers yet: nothing fires, and that is counted.
    eventually("a question that nobody answers", LIMIT, || async {
        match alerter.metric("forecasts_failed_total") {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(bed.alerts(false).await, []);
    let why = "at 50, moves by 9 a day; noise 0.1, 300 values";
    let time_to = TimeTo {
        limit: "> 95".parse().unwrap(),
        hours: Some(5.0),
        earliest: Some(4.0),
        latest: Some(6.0),
        unknown: false,
        why: why.to_owned(),
    };
    let (count, answers) = ingest(&bed, Prediction { time_to: Some(time_to), ..Prediction::default() }).await;
    eventually("asked again and again", LIMIT, || async {
        match count.load(Ordering::SeqCst) {
            few @ 0..3 => Err(few),
            _ => Ok(()),
        }
    })
    .await;
    answers.abort();
    bed.publish(&result(2, 51.0)).await;
    let told = received(&sink, 1).await;
    let summary = told[0].body["summary"].as_str().unwrap();
    assert!(summary.contains("time_to(\"> 95\") is in 5.0 h: at 50, moves by 9 a day"), "{summary}");
    let query = WhyQuery { id: told[0].body["id"].as_str().unwrap().to_owned() };
    let why: Why =
        service_kit::request::request(&bed.client, subject::ALERTER_WHY, &query, LIMIT).await.unwrap();
    assert_eq!(why.predictions[0].call, "time_to(\"> 95\")");
    assert!(why.predictions[0].value.is_some_and(|hours| (4.9..=5.0).contains(&hours)), "{why:?}");
    assert!(why.journal.iter().any(|entry| entry.text.contains("moves by 9 a day")), "{why:?}");
    // Ingest is away: the last answer counts.
    bed.publish(&result(3, 52.0)).await;
    bed.settled().await;
    assert_eq!(bed.alerts(false).await.len(), 1);
    alerter.stop().await;
}

#[tokio::test]
async fn a_forecast_that_is_too_old_is_none() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents("forecast_high(\"4h\") > 95", &sink)).await;
    let args = ["--forecast-every", "1s", "--forecast-max-age", "1s"];
    let alerter = bed.alerter_with(&args).await;
    alerter.ready().await;
    let step = Step { at_ms: 1, value: 80.0, lower: 60.0, upper: 99.0 };
    let forecast = Forecast { steps: vec![step], why: "from the last 3 values".to_owned() };
    let (_, answers) = ingest(&bed, Prediction { forecast: Some(forecast), ..Prediction::default() }).await;
    let mut seq = 0;
    let told = eventually("the forecast fires", LIMIT, || {
        seq += 1;
        let result = result(seq, 50.0);
        let (bed, sink) = (&bed, &sink);
        async move {
            bed.publish(&result).await;
            sink.received().first().cloned().ok_or("nothing")
        }
    })
    .await;
    let summary = told.body["summary"].as_str().unwrap();
    assert!(summary.contains("forecast_high(\"4h\") is 99.0000: between 60.0000 and 99.0000"), "{summary}");
    answers.abort();
    let query = WhyQuery { id: told.body["id"].as_str().unwrap().to_owned() };
    eventually("the answer is too old", LIMIT, || async {
        let why: Why =
            service_kit::request::request(&bed.client, subject::ALERTER_WHY, &query, LIMIT).await.unwrap();
        let one = &why.predictions[0];
        if one.value.is_none() && one.why.contains("too old") { Ok(()) } else { Err(one.why.clone()) }
    })
    .await;
    // That nobody knows ends nothing.
    bed.publish(&result(1_000_000, 50.0)).await;
    bed.settled().await;
    assert_eq!(bed.alerts(false).await.len(), 1);
    alerter.stop().await;
}
