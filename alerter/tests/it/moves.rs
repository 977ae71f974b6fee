//! What the alerter remembers moves to another one; and hosts that leave are no news.

use futures_util::StreamExt;
use protocol::{
    AgentId, Reply,
    decommission::DecommissionedList,
    subject,
    transfer::{TransferEnd, TransferEnded},
};
use service_kit::{request, transfer};
use testkit::{WebhookSink, eventually};

use crate::fixture::{Bed, LIMIT, documents, received, result, states};

async fn bring(bed: &Bed, bytes: &[u8], look: bool) -> Result<u64, request::RequestError> {
    let mut bytes = bytes;
    let transfer = transfer::bring(&bed.client, subject::ALERTER_RESTORE, &mut bytes).await.unwrap();
    let end = subject::transfer_end(subject::ALERTER_RESTORE, transfer.replica());
    let ended: TransferEnded =
        request::request(&bed.client, &end, &TransferEnd { transfer, look }, LIMIT).await?;
    Ok(ended.entries)
}

#[tokio::test]
async fn g5_an_alert_that_moves_is_not_told_twice_and_its_end_is_told() {
    let (old_sink, sink) = (WebhookSink::start().await, WebhookSink::start().await);
    let old = Bed::new(documents(&old_sink)).await;
    let alerter = old.alerter().await;
    old.publish(&result(1, 95.0)).await;
    received(&old_sink, 1).await;
    // Delivered, and known to be: the account of it moves too.
    eventually("settled", LIMIT, || async {
        if alerter.metric("notifications_delivered_total") == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    let mut bytes = Vec::new();
    transfer::fetch(&old.client, subject::ALERTER_BACKUP, &mut bytes).await.unwrap();
    alerter.stop().await;

    let new = Bed::new(documents(&sink)).await;
    let alerter = new.alerter().await;
    assert!(bring(&new, b"{\"part\":\"key_used\",\"id\":\"x\",\"at_ms\":1}\n", false).await.is_err());
    let entries = bring(&new, &bytes, true).await.unwrap();
    assert!(entries >= 2, "{entries}");
    assert_eq!(new.alerts(false).await, [], "only looked at");
    assert_eq!(bring(&new, &bytes, false).await.unwrap(), entries);
    let active = new.alerts(false).await;
    assert_eq!((active.len(), active[0].agent.as_str()), (1, "web-01"));
    new.publish(&result(2, 96.0)).await;
    new.settled().await;
    new.publish(&result(3, 12.0)).await;
    let told = received(&sink, 1).await;
    assert_eq!(states(&told), ["resolved"]);
    assert_eq!(told[0].body["id"], active[0].id.as_str());
    new.settled().await;
    alerter.stop().await;
    assert_eq!(sink.received().len(), 1);
    // It is on disk: the next start has the same.
    let alerter = new.alerter().await;
    assert_eq!(new.alerts(true).await.len(), 1);
    alerter.stop().await;
}

#[tokio::test]
async fn what_was_brought_before_a_kill_is_put_in_place_by_the_next_start() {
    let sink = WebhookSink::start().await;
    let old = Bed::new(documents(&sink)).await;
    let alerter = old.alerter().await;
    old.publish(&result(1, 95.0)).await;
    received(&sink, 1).await;
    let mut bytes = Vec::new();
    transfer::fetch(&old.client, subject::ALERTER_BACKUP, &mut bytes).await.unwrap();
    alerter.stop().await;
    let new = Bed::new(documents(&sink)).await;
    // As it stands after a kill between the order and its end.
    std::fs::write(new.data.path().join("restore"), &bytes).unwrap();
    let alerter = new.alerter().await;
    assert_eq!(new.alerts(false).await.len(), 1);
    assert!(!new.data.path().join("restore").exists());
    alerter.stop().await;
}

#[tokio::test]
async fn the_alerts_of_a_decommissioned_host_end_and_nothing_of_it_is_judged() {
    let sink = WebhookSink::start().await;
    let bed = Bed::new(documents(&sink)).await;
    let mut asked = bed.client.subscribe(subject::ADMIN_HOST_DECOMMISSIONED).await.unwrap();
    let gone = std::sync::Arc::new(std::sync::Mutex::new(Vec::<AgentId>::new()));
    let (client, told) = (bed.client.clone(), gone.clone());
    let answers = tokio::spawn(async move {
        while let Some(question) = asked.next().await {
            let list = DecommissionedList { agents: told.lock().unwrap().clone() };
            let body = protocol::encode(&Reply::Ok(list)).unwrap();
            client.publish(question.reply.unwrap(), body.into()).await.unwrap();
        }
    });
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    received(&sink, 1).await;
    gone.lock().unwrap().push(AgentId::new("web-01").unwrap());
    bed.apply(documents(&sink)).await;
    let told = received(&sink, 2).await;
    assert_eq!(states(&told), ["firing", "resolved"]);
    // What was under way when it left.
    bed.publish(&result(2, 99.0)).await;
    bed.settled().await;
    assert_eq!(bed.alerts(false).await, []);
    alerter.stop().await;
    answers.abort();
}
