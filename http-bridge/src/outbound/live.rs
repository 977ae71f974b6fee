//! Results as they are published, each reader with a subscription and a bounded tail of its own.

use std::sync::{Arc, Mutex, atomic::Ordering};

use async_nats::Client;
use futures_util::StreamExt;
use prometheus_client::metrics::counter::Counter;
use protocol::{AgentId, CheckName, CheckResult, ErrorCode, ErrorReply, Status, limits, subject};
use service_kit::{Context, report};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::{Ask, lock};
use crate::core::tail::{Bounds, Next, Tail};

/// What waits for one reader at most.
const BOUNDS: Bounds = Bounds { items: 1_000, bytes: 4 * 1024 * 1024 };

/// Which results a reader wants.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) agent: Option<AgentId>,
    pub(crate) check: Option<CheckName>,
    /// None: all.
    pub(crate) statuses: Vec<Status>,
}

/// Everybody who reads.
pub(crate) struct LiveTails {
    places: Arc<Semaphore>,
    dropped: Counter,
}

impl LiveTails {
    pub(crate) fn new(ctx: &Context, readers: usize) -> Self {
        let dropped = Counter::default();
        ctx.metrics.register(ctx.name, |registry| {
            let help = "Results that readers of the live tail were too slow for";
            registry.register("live_results_dropped", help, dropped.clone());
        });
        Self { places: Arc::new(Semaphore::new(readers.min(Semaphore::MAX_PERMITS))), dropped }
    }

    /// # Errors
    /// `overloaded` when there are as many readers as may be, `unavailable` without a broker.
    pub(crate) async fn follow(&self, ask: &Ask, filter: Filter) -> Result<Live, ErrorReply> {
        let full =
            || ErrorReply::new(ErrorCode::Unavailable, "too many readers of live results: try again later");
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| full())?;
        ask.connected()?;
        let subject = subject::results(filter.agent.as_ref(), filter.check.as_ref());
        let unavailable = |reason| ErrorReply::new(ErrorCode::Unavailable, reason);
        let mut results = ask.0.subscribe(subject).await.map_err(|error| unavailable(report(&error)))?;
        let known = service_kit::respond::barrier(&ask.0).await;
        known.map_err(|error| unavailable(report(error.as_ref())))?;
        let (client, connects) = (ask.0.clone(), connects(&ask.0));
        let shared = Arc::new(Shared { tail: Mutex::new(Tail::new(BOUNDS)), more: Notify::new() });
        let (sender, dropped) = (Arc::clone(&shared), self.dropped.clone());
        // Reads as fast as the broker sends, whatever the reader does.
        let pump = tokio::spawn(async move {
            while let Some(message) = results.next().await {
                // How much an outage swallowed nobody knows: the end of the stream says that something may be missing.
                if self::connects(&client) != connects {
                    break;
                }
                if let Some(line) = line(&message.payload, &filter.statuses) {
                    let bytes = line.len();
                    dropped.inc_by(lock(&sender.tail).push(line, bytes));
                    sender.more.notify_one();
                }
            }
        });
        Ok(Live { shared, pump: AbortOnDropHandle::new(pump), _place: place })
    }
}

/// How often the client has connected.
fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

/// The result in one line, when it is one that is wanted.
fn line(body: &[u8], statuses: &[Status]) -> Option<String> {
    // What cannot be understood is in stream REJECTED.
    let result: CheckResult = protocol::decode(body, limits::RESULT).ok()?;
    let wanted = statuses.is_empty() || statuses.contains(&result.status);
    if wanted { String::from_utf8(protocol::encode(&result).ok()?).ok() } else { None }
}

struct Shared {
    tail: Mutex<Tail<String>>,
    more: Notify,
}

/// One reader. Dropping it ends its subscription.
pub(crate) struct Live {
    shared: Arc<Shared>,
    pump: AbortOnDropHandle<()>,
    _place: OwnedSemaphorePermit,
}

impl Live {
    /// The next result as a line of JSON; `None` when the subscription ended.
    pub(crate) async fn next(&mut self) -> Option<Next<String>> {
        loop {
            if let Some(next) = lock(&self.shared.tail).pop() {
                return Some(next);
            }
            tokio::select! {
                () = self.shared.more.notified() => {}
                _ = &mut self.pump => return lock(&self.shared.tail).pop(),
            }
        }
    }
}
