use std::{sync::Arc, time::Duration};

use protocol::stream;
use service_kit::{
    Context, Delivery, Metrics, Readiness, Tasks, Verdict,
    consume::{self, AsyncBatchHandler, BatchLimits, ConsumerSpec, Rejected},
    publish::publish,
    streams::ensure_stream,
};
use testkit::{NatsServer, eventually};
use tokio::sync::mpsc;

const LIMIT: Duration = Duration::from_secs(20);

/// Tells what it is handed, and settles it or keeps it in hand for ever.
struct Handler {
    told: mpsc::UnboundedSender<u64>,
    settles: bool,
}

impl AsyncBatchHandler for Handler {
    async fn handle(&mut self, batch: &[Delivery]) -> anyhow::Result<Rejected> {
        for delivery in batch {
            self.told.send(delivery.sequence).unwrap();
        }
        if !self.settles {
            std::future::pending::<()>().await;
        }
        Ok(Rejected::new())
    }
}

async fn context(nats: &NatsServer) -> Context {
    Context {
        name: "test",
        nats: nats.client().await,
        tasks: Tasks::new(),
        ready: Readiness::default(),
        metrics: Metrics::default(),
    }
}

fn spec(stream: stream::StreamSpec) -> ConsumerSpec {
    // No test waits so long: what comes again does not wait for it.
    let ack_wait = Duration::from_secs(600);
    ConsumerSpec { stream, name: "test", ack_wait, max_ack_pending: 1_000, ack_all: true }
}

async fn send(ctx: &Context, subject: &str, ids: std::ops::Range<u32>) {
    for id in ids {
        let id = id.to_string();
        publish(&ctx.jetstream(), subject.to_owned(), &id, Default::default(), "x".into()).await.unwrap();
    }
}

async fn take(told: &mut mpsc::UnboundedReceiver<u64>, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(tokio::time::timeout(LIMIT, told.recv()).await.expect("in time").unwrap());
    }
    all
}

#[tokio::test]
async fn g2_what_a_killed_process_had_in_hand_comes_again_before_anything_newer() {
    let nats = NatsServer::start().await;
    let limits = BatchLimits { messages: 2, bytes: 1024 * 1024 };
    let first = context(&nats).await;
    ensure_stream(&first.jetstream(), &stream::RESULTS).await.unwrap();
    send(&first, "dogwatch.v1.result.a.b", 0..4).await;
    let (told, mut had) = mpsc::unbounded_channel();
    consume::batches(&first, spec(stream::RESULTS), limits, Handler { told, settles: false }).await.unwrap();
    take(&mut had, 1).await;
    let _cut_off = first.tasks.finish(Duration::ZERO).await;

    let second = context(&nats).await;
    send(&second, "dogwatch.v1.result.a.b", 4..8).await;
    let (told, mut had) = mpsc::unbounded_channel();
    consume::batches(&second, spec(stream::RESULTS), limits, Handler { told, settles: true }).await.unwrap();
    assert_eq!(take(&mut had, 8).await, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn g2_a_work_queue_offers_again_at_once_what_a_killed_process_had_in_hand() {
    let nats = NatsServer::start().await;
    let first = context(&nats).await;
    ensure_stream(&first.jetstream(), &stream::NOTIFY).await.unwrap();
    send(&first, "dogwatch.v1.notify.ops", 0..1).await;
    let (told, mut had) = mpsc::unbounded_channel();
    let told = Arc::new(told);
    let hold = move |delivery: Arc<Delivery>| {
        told.send(delivery.sequence).unwrap();
        std::future::pending::<Verdict>()
    };
    consume::each(&first, spec(stream::NOTIFY), 4, hold).await.unwrap();
    take(&mut had, 1).await;
    let _cut_off = first.tasks.finish(Duration::ZERO).await;

    let second = context(&nats).await;
    consume::each(&second, spec(stream::NOTIFY), 4, |_| async { Verdict::Done }).await.unwrap();
    let jetstream = second.jetstream();
    eventually("the queue is empty", LIMIT, || async {
        let stream = jetstream.get_stream("NOTIFY").await.map_err(|error| error.to_string())?;
        match stream.cached_info().state.messages {
            0 => Ok(()),
            left => Err(format!("{left} left")),
        }
    })
    .await;
}
