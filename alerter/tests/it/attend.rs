//! Silences, acknowledgements, why; and kill -9 in each of their states.

use protocol::{
    ErrorReply,
    alert::Alert,
    attend::{
        AcknowledgeRequest, SilenceExpire, SilenceInfo, SilenceList, SilencePut, SilenceQuery, Why, WhyQuery,
    },
    document::{Document, Rule},
    operate::Silence,
    subject, timestamp,
};
use serde::{Serialize, de::DeserializeOwned};
use service_kit::now_ms;
use testkit::{Program, WebhookSink, eventually};

use crate::fixture::{Bed, LIMIT, LOOPBACK, documents, received, receiver, result, rule, states, webhook_id};

async fn ask<R: DeserializeOwned>(
    bed: &Bed,
    subject: &str,
    question: &impl Serialize,
) -> Result<R, ErrorReply> {
    service_kit::request::request(&bed.client, subject, question, LIMIT).await.map_err(Into::into)
}

fn silence(name: &str, for_ms: u64) -> SilencePut {
    let ends = timestamp::format(now_ms() + for_ms);
    let silence: Silence = serde_json::from_value(
        serde_json::json!({"name": name, "rules": ["full"], "ends": ends, "comment": "work"}),
    )
    .unwrap();
    SilencePut { silence }
}

#[tokio::test]
async fn a_silence_by_hand_mutes_until_it_expires_and_why_says_so() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let alerter = bed.alerter().await;
    let made: SilenceInfo =
        ask(&bed, subject::ALERTER_SILENCE_PUT, &silence("work", 3_600_000)).await.unwrap();
    assert!(made.active && !made.document);
    bed.publish(&result(1, 95.0)).await;
    bed.settled().await;
    let alert = bed.alerts(false).await.remove(0);
    assert_eq!(alert.muted.as_deref(), Some("silence work (work)"));
    // It stays in force over a restart.
    alerter.stop().await;
    let alerter = bed.alerter().await;
    let list: SilenceList = ask(&bed, subject::ALERTER_SILENCE_LIST, &SilenceQuery {}).await.unwrap();
    assert_eq!(list.silences.len(), 1);
    assert_eq!(sink.received().len(), 0);
    let name = SilenceExpire { name: "work".parse().unwrap() };
    let ended: SilenceInfo = ask(&bed, subject::ALERTER_SILENCE_EXPIRE, &name).await.unwrap();
    assert!(!ended.active);
    let told = received(&sink, 1).await;
    assert_eq!((states(&told), told[0].body["id"].as_str()), (vec!["firing"], Some(alert.id.as_str())));
    bed.publish(&result(2, 5.0)).await;
    let told = received(&sink, 2).await;
    assert_eq!(states(&told), ["firing", "resolved"]);
    let delivered = || async {
        let why: Why =
            ask(&bed, subject::ALERTER_WHY, &WhyQuery { id: alert.id[..8].to_owned() }).await.unwrap();
        let states: Vec<&str> = why.notifications.iter().map(|told| told.state.as_str()).collect();
        if states == ["delivered", "delivered"] { Ok(why) } else { Err(format!("{states:?}")) }
    };
    let why = eventually("both are delivered", LIMIT, delivered).await;
    let journal: Vec<&str> = why.journal.iter().map(|entry| entry.text.as_str()).collect();
    assert_eq!(journal.len(), 3, "{journal:?}");
    assert!(
        journal[0].starts_with("firing, and nobody is told: silence work (work): disk on web-01"),
        "{journal:?}"
    );
    assert_eq!(journal[1], "told now: what muted it is over");
    assert!(journal[2].starts_with("resolved: disk on web-01"), "{journal:?}");
    // The stream of transitions has each once.
    let jetstream = async_nats::jetstream::new(bed.client.clone());
    let stream = jetstream.get_stream("ALERTS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 2);
    alerter.stop().await;
}

#[tokio::test]
async fn an_acknowledgement_is_kept_and_wrong_requests_are_refused_with_a_reason() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    received(&sink, 1).await;
    let id = bed.alerts(false).await.remove(0).id;
    let request = |id: &str, for_ms| AcknowledgeRequest {
        id: id.to_owned(),
        for_ms,
        note: "on it".to_owned(),
        actor: "key 1".to_owned(),
    };
    let alert: Alert = ask(&bed, subject::ALERTER_ACKNOWLEDGE, &request(&id, 60_000)).await.unwrap();
    assert_eq!(alert.acknowledged.unwrap().by, "key 1");
    alerter.stop().await;
    let _alerter = bed.alerter().await;
    assert_eq!(bed.alerts(false).await[0].acknowledged.as_ref().unwrap().note, "on it");
    let alert: Alert = ask(&bed, subject::ALERTER_ACKNOWLEDGE, &request(&id, 0)).await.unwrap();
    assert_eq!(alert.acknowledged, None);
    for (wrong, expected) in [
        (request("", 1), "there is no one alert"),
        (request("zz", 1), "\"zz\""),
        (request(&id, u64::MAX), "30days"),
    ] {
        let error = ask::<Alert>(&bed, subject::ALERTER_ACKNOWLEDGE, &wrong).await.unwrap_err();
        assert!(error.message.contains(expected), "{error:?}");
    }
    let everything: Silence =
        serde_json::from_value(serde_json::json!({"name": "all", "ends": "2030-01-01T00:00:00Z"})).unwrap();
    let endless: Silence =
        serde_json::from_value(serde_json::json!({"name": "ever", "rules": ["full"]})).unwrap();
    let broken: Silence = serde_json::from_value(
        serde_json::json!({"name": "bad", "hosts": "agnt == 1", "ends": "2030-01-01T00:00:00Z"}),
    )
    .unwrap();
    for (silence, expected) in
        [(everything, "names hosts, checks or rules"), (endless, "\"ends\""), (broken, "agnt")]
    {
        let error = ask::<SilenceInfo>(&bed, subject::ALERTER_SILENCE_PUT, &SilencePut { silence })
            .await
            .unwrap_err();
        assert!(error.message.contains(expected), "{error:?}");
    }
}

#[tokio::test]
async fn windows_survive_a_restart() {
    let sink = WebhookSink::start().await;
    let often = Rule { when: "count(\"10m\") >= 4 && min(\"10m\") > 90".into(), ..rule("often") };
    let bed = Bed::new(vec![Document::Rule(often), receiver("ops", &sink.url())]).await;
    let alerter = bed.alerter().await;
    for seq in 1..=3 {
        // Two results of one millisecond count as one.
        bed.publish(&protocol::CheckResult { at_ms: now_ms() - 60_000 + seq * 1_000, ..result(seq, 95.0) })
            .await;
    }
    bed.settled().await;
    alerter.stop().await;
    let _alerter = bed.alerter().await;
    bed.publish(&result(4, 95.0)).await;
    let told = received(&sink, 1).await;
    assert_eq!(told[0].body["rule"], "often");
}

/// Pending by attempts, muted, told late: killed in each of them.
#[tokio::test]
async fn g5_killed_in_every_state_nothing_is_forgotten_and_nobody_is_told_twice() {
    let sink = WebhookSink::start().await;
    let thrice = Rule { attempts: 3, ..rule("thrice") };
    let after = Rule { depends_on: vec!["thrice".parse().unwrap()], ..rule("after") };
    let bed =
        Bed::new(vec![Document::Rule(thrice), Document::Rule(after), receiver("ops", &sink.url())]).await;
    let (url, data) = (bed.nats.url(), bed.data.path().to_str().unwrap().to_owned());
    let start = || {
        Program::start(
            "dogwatch-alerter",
            &[&["--nats-url", &url, "--data", &data, "--log", "warn"], &LOOPBACK[..]].concat(),
        )
    };
    const ROUNDS: u64 = 4;
    for round in 0..ROUNDS {
        // `after` fires at once and is told; `thrice` is pending, twice over a kill, then fires.
        for step in 1..=4 {
            let mut program = start();
            bed.publish(&result(round * 4 + step, if step == 4 { 5.0 } else { 95.0 })).await;
            bed.settled().await;
            program.kill();
        }
    }
    let mut program = start();
    let expected = usize::try_from(ROUNDS * 4).unwrap();
    eventually("everything is told", LIMIT, || async {
        let mut ids: Vec<String> = sink.received().iter().map(webhook_id).collect();
        ids.sort();
        ids.dedup();
        if ids.len() >= expected { Ok(()) } else { Err(ids.len()) }
    })
    .await;
    // It says nothing new; that it is judged shows that the program is up.
    bed.publish(&result(ROUNDS * 4 + 1, 5.0)).await;
    bed.settled().await;
    program.signal(15);
    assert!(program.ended(LIMIT).await.success());
    let all = sink.received();
    let mut told: Vec<(String, String)> = all
        .iter()
        .map(|one| {
            (
                webhook_id(one),
                format!("{} {}", one.body["rule"].as_str().unwrap(), one.body["state"].as_str().unwrap()),
            )
        })
        .collect();
    // A kill between the receiver's answer and the account repeats that attempt, under its id.
    assert!(told.len() <= expected + 16, "{} requests for {expected} notifications", told.len());
    told.sort();
    told.dedup();
    assert_eq!(told.len(), expected);
    for what in ["thrice firing", "thrice resolved", "after firing", "after resolved"] {
        assert_eq!(told.iter().filter(|(_, found)| found == what).count() as u64, ROUNDS, "{what}");
    }
}
