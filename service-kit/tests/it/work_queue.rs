use std::{sync::Arc, time::Duration};

use protocol::stream;
use service_kit::{
    Delivery, Verdict,
    consume::{self, ConsumerSpec},
    publish::publish,
    streams,
};
use testkit::{NatsServer, eventually};
use tokio::sync::mpsc;

use crate::{SOON, context};

#[tokio::test]
async fn g2_what_a_killed_process_had_in_hand_is_offered_again_at_once() {
    let server = NatsServer::start().await;
    let spec = ConsumerSpec {
        stream: stream::NOTIFY,
        name: "test",
        // Longer than the test waits.
        ack_wait: Duration::from_secs(600),
        max_ack_pending: 1_000,
        ack_all: false,
    };
    let killed = context(&server).await;
    streams::ensure_stream(&killed.jetstream(), &stream::NOTIFY).await.unwrap();
    let subject = "dogwatch.v1.notify.ops".to_owned();
    publish(&killed.jetstream(), subject, "1", Default::default(), "x".into()).await.unwrap();
    let (told, mut had) = mpsc::unbounded_channel();
    let hold = move |delivery: Arc<Delivery>| {
        told.send(delivery.sequence).unwrap();
        std::future::pending::<Verdict>()
    };
    consume::each(&killed, spec.clone(), 4, hold).await.unwrap();
    tokio::time::timeout(SOON, had.recv()).await.unwrap().unwrap();
    killed.tasks.finish(Duration::ZERO).await.unwrap_err();

    let ctx = context(&server).await;
    consume::each(&ctx, spec, 4, |_| async { Verdict::Done }).await.unwrap();
    eventually("the queue is empty", SOON, || async {
        let stream = ctx.jetstream().get_stream("NOTIFY").await.map_err(|error| error.to_string())?;
        match stream.cached_info().state.messages {
            0 => Ok(()),
            left => Err(format!("{left} left")),
        }
    })
    .await;
}
