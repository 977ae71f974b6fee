use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use protocol::stream;
use service_kit::{
    Context, Verdict,
    consume::{self, AsyncBatchHandler, BatchLimits, ConsumerSpec, Delivery, Rejected},
    nats::NatsSettings,
    publish, streams,
};
use testkit::{NatsServer, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{SOON, context, context_at, counter, settings};

const LIMITS: BatchLimits = BatchLimits { messages: 100, bytes: 1 << 20 };

fn spec() -> ConsumerSpec {
    ConsumerSpec {
        stream: stream::RESULTS,
        name: "test",
        ack_wait: Duration::from_secs(2),
        max_ack_pending: 1_000,
        ack_all: false,
    }
}

/// Publish results `first..=last`, each with its number as body.
async fn send(ctx: &Context, numbers: std::ops::RangeInclusive<u64>) {
    let jetstream = ctx.jetstream();
    streams::ensure_stream(&jetstream, &stream::RESULTS).await.unwrap();
    for number in numbers {
        let body = Bytes::from(number.to_string());
        let subject = "dogwatch.v1.result.a.b".to_owned();
        publish::publish(&jetstream, subject, &number.to_string(), Default::default(), body).await.unwrap();
    }
}

fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap()
}

/// Keeps what it got; fails as often as it is told; rejects 13.
#[derive(Clone, Default)]
struct Keep {
    kept: Arc<Mutex<Vec<u64>>>,
    failures: Arc<AtomicU64>,
}

impl AsyncBatchHandler for Keep {
    async fn handle(&mut self, batch: &[Delivery]) -> anyhow::Result<Rejected> {
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            anyhow::bail!("disk full, on purpose");
        }
        let mut rejected = Rejected::new();
        for (index, delivery) in batch.iter().enumerate() {
            match number(delivery) {
                13 => drop(rejected.insert(index, "unlucky\nnumber".to_owned())),
                good => self.kept.lock().unwrap().push(good),
            }
        }
        Ok(rejected)
    }
}

impl Keep {
    async fn has(&self, expected: &[u64]) {
        eventually("all messages are handled", SOON, || async {
            let mut kept = self.kept.lock().unwrap().clone();
            kept.sort_unstable();
            kept.dedup();
            if kept == expected { Ok(()) } else { Err(format!("{} of {}", kept.len(), expected.len())) }
        })
        .await;
    }
}

async fn unsettled(ctx: &Context) -> u64 {
    let stream = ctx.jetstream().get_stream("RESULTS").await.unwrap();
    let info = stream.consumer_info("test").await.unwrap();
    info.num_pending + info.num_ack_pending as u64
}

#[tokio::test]
async fn g2_a_batch_that_fails_comes_again_and_is_then_acknowledged() {
    let server = NatsServer::start().await;
    let ctx = context(&server).await;
    send(&ctx, 1..=10).await;
    let keep = Keep { failures: Arc::new(2.into()), ..Keep::default() };
    consume::batches(&ctx, spec(), LIMITS, keep.clone()).await.unwrap();
    keep.has(&(1..=10).collect::<Vec<_>>()).await;
    assert!(counter(&ctx, "messages_retried_total") > 0);
    ctx.tasks.finish(SOON).await.unwrap();
    assert_eq!(unsettled(&ctx).await, 0);
}

/// A crash leaves messages that were delivered and not acknowledged. The next run must get them before newer ones:
/// its acknowledgement covers all that stands before.
#[tokio::test]
async fn g1_what_a_crash_left_under_way_is_handled_before_newer_messages() {
    let server = NatsServer::start().await;
    let ctx = context(&server).await;
    send(&ctx, 1..=10).await;
    let crashed = Keep { failures: Arc::new(u64::MAX.into()), ..Keep::default() };
    consume::batches(&ctx, spec(), LIMITS, crashed).await.unwrap();
    eventually("all are under way", SOON, || async {
        let stream = ctx.jetstream().get_stream("RESULTS").await?;
        let pending = stream.consumer_info("test").await?.num_ack_pending;
        if pending == 10 { Ok(()) } else { Err(async_nats::Error::from(format!("{pending}"))) }
    })
    .await;
    ctx.tasks.finish(SOON).await.unwrap();

    let ctx = context(&server).await;
    send(&ctx, 11..=12).await;
    let keep = Keep::default();
    // Longer than the test waits: the broker alone would not offer them in time.
    let spec = ConsumerSpec { ack_wait: SOON * 10, ..spec() };
    consume::batches(&ctx, spec, LIMITS, keep.clone()).await.unwrap();
    keep.has(&(1..=12).collect::<Vec<_>>()).await;
    let kept = keep.kept.lock().unwrap().clone();
    assert!(kept.is_sorted(), "{kept:?}");
    ctx.tasks.finish(SOON).await.unwrap();
    assert_eq!(unsettled(&ctx).await, 0);
}

/// A connection that a test can make swallow what the broker sends, and then break.
struct Proxy {
    port: u16,
    swallows: Arc<AtomicBool>,
    links: Arc<Mutex<tokio::task::JoinSet<()>>>,
}

impl Proxy {
    async fn start(server: &NatsServer) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), server.port());
        let (swallows, links) =
            (Arc::<AtomicBool>::default(), Arc::<Mutex<tokio::task::JoinSet<()>>>::default());
        let (swallowing, spawned) = (Arc::clone(&swallows), Arc::clone(&links));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let swallowing = Arc::clone(&swallowing);
                spawned.lock().unwrap().spawn(async move {
                    let broker = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    let ((mut from_client, mut to_client), (mut from_broker, mut to_broker)) =
                        (client.into_split(), broker.into_split());
                    let down = async {
                        let mut buffer = vec![0; 4096];
                        while let Ok(size) = from_broker.read(&mut buffer).await {
                            let lost = swallowing.load(Ordering::SeqCst);
                            if size == 0 || (!lost && to_client.write_all(&buffer[..size]).await.is_err()) {
                                break;
                            }
                        }
                    };
                    let _ended = tokio::join!(down, tokio::io::copy(&mut from_client, &mut to_broker));
                });
            }
        });
        Self { port, swallows, links }
    }

    fn cut(&self) {
        self.links.lock().unwrap().abort_all();
        self.swallows.store(false, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_what_a_broken_connection_swallowed_is_not_acknowledged() {
    let server = NatsServer::start().await;
    const LAST: u64 = 20_000;
    let direct = context(&server).await;
    let jetstream = direct.jetstream();
    let stream = streams::ensure_stream(&jetstream, &stream::RESULTS).await.unwrap();
    for number in 1..=LAST {
        let subject = "dogwatch.v1.result.a.b".to_owned();
        drop(jetstream.publish(subject, Bytes::from(number.to_string())).await.unwrap());
    }
    eventually("all are in the stream", SOON, || {
        let mut stream = stream.clone();
        async move {
            let held = stream.info().await.unwrap().state.messages;
            if held == LAST { Ok(()) } else { Err(held) }
        }
    })
    .await;
    let proxy = Proxy::start(&server).await;
    let nats_url = format!("nats://127.0.0.1:{}", proxy.port);
    let ctx = context_at(&NatsSettings { nats_url, ..settings(&server) }).await;
    let keep = Keep::default();
    // Nothing is offered again by time alone.
    let spec = ConsumerSpec { ack_wait: SOON * 10, ..spec() };
    consume::batches(&ctx, spec, LIMITS, keep.clone()).await.unwrap();
    for part in 1..=4 {
        eventually("some more are handled", SOON, || async {
            let kept = keep.kept.lock().unwrap().len() as u64;
            if kept >= part * LAST / 8 { Ok(()) } else { Err(kept) }
        })
        .await;
        proxy.swallows.store(true, Ordering::SeqCst);
        let delivered = || async {
            let info = stream.consumer_info("test").await.map_err(|error| error.to_string())?;
            let last = keep.kept.lock().unwrap().iter().max().copied().unwrap_or(0);
            let delivered = info.delivered.stream_sequence;
            if delivered > last { Ok(()) } else { Err(format!("{delivered} {last}")) }
        };
        eventually("some are swallowed", SOON, delivered).await;
        proxy.cut();
    }
    keep.has(&(1..=LAST).filter(|number| *number != 13).collect::<Vec<_>>()).await;
    ctx.tasks.finish(SOON).await.unwrap();
}

#[tokio::test]
async fn poison_is_kept_whole_with_its_reason_and_blocks_nothing() {
    let server = NatsServer::start().await;
    let ctx = context(&server).await;
    send(&ctx, 12..=14).await;
    let keep = Keep::default();
    consume::batches(&ctx, spec(), LIMITS, keep.clone()).await.unwrap();
    keep.has(&[12, 14]).await;
    let rejected = eventually("the dead letter", SOON, || async {
        let stream = ctx.jetstream().get_stream("REJECTED").await?;
        stream
            .get_last_raw_message_by_subject("dogwatch.v1.rejected.test")
            .await
            .map_err(async_nats::Error::from)
    })
    .await;
    assert_eq!(rejected.payload, "13");
    assert_eq!(rejected.headers.get("Dogwatch-Reason").unwrap().as_str(), "unlucky number");
    assert_eq!(rejected.headers.get("Dogwatch-Subject").unwrap().as_str(), "dogwatch.v1.result.a.b");
    ctx.tasks.finish(SOON).await.unwrap();
    assert_eq!(unsettled(&ctx).await, 0);
    assert_eq!(counter(&ctx, "messages_rejected_total"), 1);
}

#[tokio::test]
async fn consuming_goes_on_after_the_broker_was_killed_and_after_it_forgot_everything() {
    let mut server = NatsServer::start().await;
    let ctx = context(&server).await;
    let keep = Keep::default();
    consume::batches(&ctx, spec(), LIMITS, keep.clone()).await.unwrap();
    send(&ctx, 1..=3).await;
    keep.has(&[1, 2, 3]).await;

    server.restart().await;
    eventually("the stream takes messages again", SOON, || async {
        streams::ensure_stream(&ctx.jetstream(), &stream::RESULTS).await.map(drop)
    })
    .await;
    send(&ctx, 4..=5).await;
    keep.has(&[1, 2, 3, 4, 5]).await;

    server.wipe();
    server.restart().await;
    eventually("the consumer makes its stream anew", SOON, || async {
        ctx.jetstream().get_stream("RESULTS").await.map(drop)
    })
    .await;
    send(&ctx, 6..=7).await;
    keep.has(&[1, 2, 3, 4, 5, 6, 7]).await;
    ctx.tasks.finish(SOON).await.unwrap();
}

#[tokio::test]
async fn each_message_gets_its_own_verdict() {
    let server = NatsServer::start().await;
    let ctx = context(&server).await;
    send(&ctx, 1..=20).await;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&attempts);
    consume::each(&ctx, spec(), 4, move |delivery| {
        log.lock().unwrap().push((number(&delivery), delivery.attempt));
        async move {
            match (number(&delivery), delivery.attempt) {
                (3, 1) => Verdict::Retry { after: Duration::from_millis(50) },
                (13, _) => Verdict::Reject { reason: "unlucky".to_owned() },
                _ => Verdict::Done,
            }
        }
    })
    .await
    .unwrap();
    eventually("all are settled", SOON, || async {
        match unsettled(&ctx).await {
            0 => Ok(()),
            n => Err(format!("{n} unsettled")),
        }
    })
    .await;
    let attempts = attempts.lock().unwrap().clone();
    assert!(attempts.contains(&(3, 2)), "{attempts:?}");
    assert_eq!(attempts.len(), 21, "{attempts:?}");
    ctx.tasks.finish(SOON).await.unwrap();
    assert_eq!((counter(&ctx, "messages_rejected_total"), counter(&ctx, "messages_retried_total")), (1, 1));
}

#[tokio::test]
async fn a_stop_settles_what_is_in_hand() {
    let server = NatsServer::start().await;
    let ctx = context(&server).await;
    send(&ctx, 1..=1).await;
    let (started, mut seen) = tokio::sync::mpsc::unbounded_channel();
    consume::each(&ctx, spec(), 1, move |_| {
        let started = started.clone();
        async move {
            started.send(()).ok();
            tokio::task::yield_now().await;
            Verdict::Done
        }
    })
    .await
    .unwrap();
    seen.recv().await.unwrap();
    ctx.tasks.finish(SOON).await.unwrap();
    eventually("it is settled", SOON, || async {
        if unsettled(&ctx).await == 0 { Ok(()) } else { Err("unsettled") }
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_somebody_else_is_refused() {
    let server = NatsServer::start().await;
    let ctx = context(&server).await;
    let foreign = async_nats::jetstream::stream::Config {
        name: "RESULTS".into(),
        subjects: vec!["shop.orders".into()],
        ..Default::default()
    };
    ctx.jetstream().create_stream(foreign).await.unwrap();
    let error = streams::ensure_stream(&ctx.jetstream(), &stream::RESULTS).await.unwrap_err().to_string();
    assert!(error.contains("has subjects shop.orders where dogwatch.v1.result.*.* is needed"), "{error}");
}

#[tokio::test]
async fn a_repeat_inside_the_window_is_stored_once() {
    let server = NatsServer::start().await;
    let ctx = context(&server).await;
    send(&ctx, 1..=1).await;
    send(&ctx, 1..=2).await;
    let stream = ctx.jetstream().get_stream("RESULTS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 2);
    let mut names = ctx.jetstream().stream_names();
    assert_eq!(names.next().await.unwrap().unwrap(), "RESULTS");
}
