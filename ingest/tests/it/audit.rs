//! What became of each agent's results, as an operator is told.

use protocol::{
    query::{Loss, LossList, LossQuery},
    stored::{Stored, StoredRequest},
    subject,
};
use testkit::{NatsServer, eventually};

use crate::fixture::*;

/// Wait until the newest epoch of an agent is as it should be.
async fn audited(client: &async_nats::Client, name: &str, what: &str, fits: impl Fn(&Loss) -> bool) -> Loss {
    let question = LossQuery { agent: Some(agent(name)), after: None };
    eventually(what, LIMIT, || async {
        let list: LossList =
            ask(client, subject::QUERY_LOSS, &question).await.map_err(|error| error.to_string())?;
        let newest = list.agents.into_iter().next().ok_or("no account")?;
        if fits(&newest) { Ok(newest) } else { Err(format!("{newest:?}")) }
    })
    .await
}

#[tokio::test]
async fn g1_a_gap_is_told_filled_late_and_counted_as_lost_when_it_is_gone() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    let began = service_kit::now_ms();
    for seq in [1, 2, 6, 7, 10] {
        publish(&client, "web-01", "disk", seq, 1).await;
    }
    let seen = audited(&client, "web-01", "two gaps", |loss| loss.gaps.len() == 2).await;
    let ranges: Vec<_> = seen.gaps.iter().map(|gap| (gap.first, gap.last, gap.missing, gap.lost)).collect();
    assert_eq!(ranges, [(3, 5, 3, 0), (8, 9, 2, 0)]);
    assert!(seen.gaps.iter().all(|gap| gap.seen_ms >= began && gap.filled == 0));
    assert_eq!((seen.expected, seen.stored, seen.missing, seen.lost, seen.late), (10, 5, 5, 0, 0));
    assert_eq!(running.metric("dogwatch_ingest_results_missing "), "dogwatch_ingest_results_missing 5");

    publish(&client, "web-01", "disk", 4, 1).await;
    let filled = audited(&client, "web-01", "one came late", |loss| loss.late == 1).await;
    assert_eq!((filled.gaps[0].filled, filled.gaps[0].missing, filled.missing), (1, 2, 4));
    assert!(filled.gaps[0].filled_ms >= filled.gaps[0].seen_ms);

    let question = StoredRequest { v: 1, epoch: EPOCH, oldest: 9 };
    let stored: Stored = ask(&client, "dogwatch.v1.stored.get.web-01", &question).await.unwrap();
    assert_eq!((stored.seq, stored.lost), (8, 3));
    publish(&client, "web-01", "disk", 9, 1).await;
    let gone = |loss: &Loss| loss.stored == 7;
    let told = audited(&client, "web-01", "the rest is gone", gone).await;
    let ends: Vec<_> = told.gaps.iter().map(|gap| (gap.filled, gap.missing, gap.lost)).collect();
    assert_eq!(ends, [(1, 0, 2), (1, 0, 1)]);
    assert!(told.gaps[0].gone_ms >= told.gaps[0].seen_ms);
    assert_eq!((told.expected, told.stored, told.missing, told.lost, told.late), (10, 7, 0, 3, 2));
    assert_eq!((running.count("results_late"), running.count("results_lost")), (2, 3));
    running.stop().await;

    let running = Running::start(&server, data.path()).await;
    assert_eq!(audited(&client, "web-01", "it survives a restart", |_| true).await, told);
    running.stop().await;
}

#[tokio::test]
async fn g1_an_agent_that_begins_anew_has_lost_nothing() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    for seq in 1..=5 {
        publish(&client, "web-01", "disk", seq, 1).await;
    }
    stored_up_to(&client, "web-01", 5).await;
    for seq in 1..=3 {
        let anew = json("web-01", "disk", seq, 2).replace(&EPOCH.to_string(), &(EPOCH + 9).to_string());
        publish_json(&client, "web-01", "disk", anew).await;
    }
    let newest = audited(&client, "web-01", "the new epoch is there", |loss| loss.stored == 3).await;
    assert_eq!((newest.epoch, newest.expected, newest.duplicates), (EPOCH + 9, 3, 0));
    let all = losses(&client).await;
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|loss| loss.lost == 0 && loss.missing == 0 && loss.gaps.is_empty()), "{all:?}");
    running.stop().await;
}

#[tokio::test]
async fn g10_the_audit_of_a_fleet_comes_in_pages() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    const AGENTS: usize = 1_200;
    for n in 0..AGENTS {
        let subject = format!("dogwatch.v1.result.h-{n}.disk");
        client.publish(subject, json(&format!("h-{n}"), "disk", 1, 1).into()).await.unwrap();
    }
    eventually("all are stored", LIMIT, || async {
        let count = running.count("results_stored");
        (count == AGENTS as u64).then_some(()).ok_or(count)
    })
    .await;
    let (mut names, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let question = LossQuery { agent: None, after };
        let list: LossList = ask(&client, subject::QUERY_LOSS, &question).await.unwrap();
        names.extend(list.agents.into_iter().map(|loss| loss.agent));
        pages += 1;
        match list.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert!(pages > 1);
    assert_eq!(names.len(), AGENTS);
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order");
    running.stop().await;
}
