//! From the spool to the broker, and ingest's watermark back to the spool (G1, G7).
//!
//! Decisions are in [`crate::core::delivery`]; here is the one loop that carries them out. Results are published in
//! order with several acknowledgements awaited at once; nothing is read from the spool before there is room for it.

use std::time::Duration;

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use protocol::{
    AgentId, CheckResult, VERSION,
    stored::{Stored, StoredRequest},
    subject,
};
use service_kit::{
    Backoff, Context, now_ms,
    publish::{PublishError, publish},
    report,
    request::{RequestError, request},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    core::delivery::{Delivery, Send},
    metrics::Metrics,
    outbound::checks::Clock,
    store::results::{Kept, Results},
};

/// Results awaiting the broker's acknowledgement at most.
const WINDOW: usize = 256;
/// Bytes of them at most, but for one more read.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// A result that is older when it is first sent is history (G6).
const FRESH_MS: u64 = 60_000;
/// Results that come within this time are synced and sent together.
const GATHER: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_secs(1);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// An ingest that answers nonsense does not make one epoch after the other.
const EPOCH_MIN_MS: u64 = 600_000;
/// How long to go on sending when the agent stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub struct Sender {
    pub ctx: Context,
    pub agent: AgentId,
    pub clock: Clock,
    pub results: Results,
    pub metrics: Metrics,
}

/// What the loop waits for.
enum Event {
    Published { epoch: u64, seq: u64, size: usize, error: Option<PublishError> },
    PublishedUnnumbered { result: Box<CheckResult>, error: Option<PublishError> },
    Answered { epoch: u64, answer: Result<Stored, RequestError> },
}

struct State {
    sender: Sender,
    delivery: Delivery,
    bytes_in_flight: usize,
    epoch: u64,
    /// When an epoch was begun because of what ingest answered.
    epoch_begun: Option<u64>,
    under_way: FuturesUnordered<BoxFuture<'static, Event>>,
    backoff: Backoff,
    unnumbered_in_flight: bool,
    /// Each failure is logged once until something succeeds.
    failing: bool,
}

impl Sender {
    /// Send until `quiet` (nothing more will be added), and then for a short time what is left. The spool is synced
    /// at the end.
    ///
    /// # Errors
    /// When the connection's own tasks are gone.
    pub async fn run(self, mut link: watch::Receiver<u64>, quiet: CancellationToken) -> anyhow::Result<()> {
        let mut watermarks = self.ctx.nats.subscribe(subject::stored(&self.agent)).await?;
        let (epoch, next) = self.results.spool(|spool| (spool.epoch(), spool.oldest())).await;
        let mut state = State {
            delivery: Delivery::new(next?, WINDOW),
            bytes_in_flight: 0,
            epoch,
            epoch_begun: None,
            under_way: FuturesUnordered::new(),
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(10)),
            unnumbered_in_flight: false,
            failing: false,
            sender: self,
        };
        if *link.borrow_and_update() > 0 {
            state.delivery.connected(state.now());
        }
        let mut tick = tokio::time::interval(TICK);
        let mut deadline: Option<Instant> = None;
        loop {
            state.ask_if_due().await;
            let idle = state.fill().await;
            if let Some(deadline) = deadline
                && ((idle && state.under_way.is_empty()) || Instant::now() >= deadline)
            {
                break;
            }
            let results = state.sender.results.clone();
            tokio::select! {
                Some(event) = state.under_way.next() => state.handle(event).await,
                () = results.added() => tokio::time::sleep(GATHER).await,
                changed = link.changed() => {
                    changed?;
                    let connected = *link.borrow_and_update() > 0;
                    let now = state.now();
                    if connected { state.delivery.connected(now) } else { state.delivery.disconnected() }
                }
                message = watermarks.next() => {
                    let Some(message) = message else { anyhow::bail!("the subscription to watermarks ended") };
                    match protocol::decode(&message.payload, protocol::limits::RESULT) {
                        Ok(stored) => { state.stored(&stored).await; }
                        Err(error) => tracing::warn!(%error, "a watermark cannot be read"),
                    }
                }
                _ = tick.tick() => state.tend().await,
                () = quiet.cancelled(), if deadline.is_none() => deadline = Some(Instant::now() + LAST_WORDS),
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
        }
        let left = state.sender.results.spool(|spool| spool.sync().map(|()| spool.bytes())).await?;
        tracing::debug!(bytes = left, "the spool is synced");
        Ok(())
    }
}

impl State {
    fn now(&self) -> u64 {
        self.sender.clock.now()
    }

    /// Publish what there is room for. `true` when nothing more is to be published now.
    async fn fill(&mut self) -> bool {
        let (next, room) = self.delivery.wants(self.now());
        if room == 0 || self.bytes_in_flight > WINDOW_BYTES {
            // Sync nevertheless: while the broker is away, a power cut shall cost little.
            if let Err(error) = self.sender.results.spool(crate::store::spool::Spool::sync).await {
                self.trouble("the spool cannot be synced", &report(&error));
            }
            return self.under_way.is_empty();
        }
        match self.sender.results.read(next, room).await {
            Ok(kept) => {
                let idle = kept.is_empty();
                for Kept { seq, result } in kept {
                    if let Some(send) = self.delivery.send(seq) {
                        self.publish(send, result);
                    }
                }
                if idle {
                    self.publish_unnumbered().await;
                }
                idle
            }
            Err(error) => {
                self.sender.metrics.spool_errors.inc();
                self.trouble("the spool cannot be read", &report(&error));
                let delay = protocol::duration::millis(self.backoff.next_delay());
                self.delivery.fail(self.now(), next, delay);
                // Those in memory do not need the disk.
                self.publish_unnumbered().await;
                true
            }
        }
    }

    fn publish(&mut self, Send { seq, again }: Send, mut result: CheckResult) {
        result.replayed = again || now_ms().saturating_sub(result.at_ms) > FRESH_MS;
        if again {
            self.sender.metrics.resent.inc();
        }
        let (size, sent) = self.sent(&result);
        let epoch = self.epoch;
        self.bytes_in_flight += size;
        self.under_way
            .push(Box::pin(async move { Event::Published { epoch, seq, size, error: sent.await.err() } }));
    }

    /// Those that the disk did not take go one by one: there are few, and they are given back when it fails.
    async fn publish_unnumbered(&mut self) {
        if self.unnumbered_in_flight {
            return;
        }
        for mut result in self.sender.results.take_unnumbered(1).await {
            result.replayed = now_ms().saturating_sub(result.at_ms) > FRESH_MS;
            let (_, sent) = self.sent(&result);
            let result = Box::new(result);
            self.unnumbered_in_flight = true;
            self.under_way.push(Box::pin(async move {
                Event::PublishedUnnumbered { result, error: sent.await.err() }
            }));
        }
    }

    /// Size of the message, and the sending of it.
    fn sent(
        &self,
        result: &CheckResult,
    ) -> (usize, impl Future<Output = Result<(), PublishError>> + 'static + use<>) {
        let jetstream = self.sender.ctx.jetstream();
        let subject = subject::result(&self.sender.agent, &result.check);
        let (id, body) = (result.message_id(), protocol::encode(result));
        let size = body.as_ref().map_or(0, Vec::len);
        let sent = async move {
            let body = body.map_err(|error| PublishError::Refused {
                subject: subject.clone(),
                reason: error.to_string(),
            })?;
            publish(&jetstream, subject, &id, async_nats::HeaderMap::new(), body.into()).await.map(drop)
        };
        (size, sent)
    }

    async fn handle(&mut self, event: Event) {
        if let Event::Published { size, .. } = &event {
            self.bytes_in_flight = self.bytes_in_flight.saturating_sub(*size);
        }
        match event {
            // The number means another result now.
            Event::Published { epoch, .. } if epoch != self.epoch => {}
            Event::Published { seq, error: None, .. } => {
                let now = self.now();
                self.delivery.confirm(now, seq);
                self.succeeded();
            }
            Event::Published { seq, error: Some(error), .. } => {
                let delay = self.publish_failed(&error);
                self.delivery.fail(self.now(), seq, delay);
            }
            Event::PublishedUnnumbered { error: None, .. } => {
                self.unnumbered_in_flight = false;
                self.succeeded();
            }
            Event::PublishedUnnumbered { result, error: Some(error) } => {
                self.unnumbered_in_flight = false;
                let delay = self.publish_failed(&error);
                let (next, _) = self.delivery.wants(self.now());
                self.delivery.fail(self.now(), next, delay);
                self.sender.results.put_back(*result).await;
            }
            Event::Answered { epoch, answer } => self.answered(epoch, answer).await,
        }
    }

    fn succeeded(&mut self) {
        self.sender.metrics.published.inc();
        self.backoff.reset();
        if std::mem::take(&mut self.failing) {
            tracing::info!("results are sent again");
        }
    }

    /// The delay before the next try, in milliseconds.
    fn publish_failed(&mut self, error: &PublishError) -> u64 {
        self.sender.metrics.publish_failures.inc();
        self.trouble("results are kept in the spool for now", &report(error));
        protocol::duration::millis(self.backoff.next_delay())
    }

    fn trouble(&mut self, what: &'static str, reason: &str) {
        if std::mem::replace(&mut self.failing, true) {
            tracing::debug!(reason, "{what}");
        } else {
            tracing::warn!(reason, "{what}");
        }
    }

    async fn ask_if_due(&mut self) {
        if !self.delivery.should_ask(self.now()) {
            return;
        }
        let (epoch, oldest) = self.sender.results.spool(|spool| (spool.epoch(), spool.oldest())).await;
        let oldest = match oldest {
            Ok(oldest) => oldest,
            Err(error) => {
                self.trouble("the spool cannot be read", &report(&error));
                self.delivery.ask();
                self.delivery.answered(self.now(), None);
                return;
            }
        };
        self.delivery.ask();
        let (client, subject) = (self.sender.ctx.nats.clone(), subject::stored_get(&self.sender.agent));
        self.under_way.push(Box::pin(async move {
            let question = StoredRequest { v: VERSION, epoch, oldest };
            let answer = request(&client, &subject, &question, ASK_TIMEOUT).await;
            Event::Answered { epoch, answer }
        }));
    }

    async fn answered(&mut self, epoch: u64, answer: Result<Stored, RequestError>) {
        let watermark = match answer {
            // An answer about another epoch says nothing of this one.
            Ok(stored) if stored.epoch == epoch && epoch == self.epoch => {
                if !self.stored(&stored).await {
                    return;
                }
                Some(stored.seq)
            }
            Ok(stored) => {
                tracing::warn!(asked = epoch, answered = stored.epoch, "ingest answered for another epoch");
                None
            }
            Err(error) => {
                tracing::debug!(error = report(&error), "ingest does not say what it has stored");
                None
            }
        };
        let resend = self.delivery.answered(self.now(), watermark);
        if resend > 0 {
            tracing::info!(results = resend, "ingest does not have all that was sent: sending again");
        }
    }

    /// Let go what ingest has stored. `false` when a new epoch began.
    async fn stored(&mut self, stored: &Stored) -> bool {
        if stored.epoch != self.epoch || stored.agent != self.sender.agent {
            return true;
        }
        let (seq, now) = (stored.seq, self.now());
        if self.sender.results.spool(move |spool| spool.stored(now, seq)).await.is_ok() {
            self.delivery.stored(now, seq);
            return true;
        }
        if self.epoch_begun.is_some_and(|begun| now.saturating_sub(begun) < EPOCH_MIN_MS) {
            self.delivery.answered(now, None);
            return false;
        }
        tracing::warn!(
            seq,
            "ingest has stored results that this agent never numbered: its state was set back, so a new sequence begins"
        );
        let begun =
            self.sender.results.spool(move |spool| spool.new_epoch(now).map(|()| spool.epoch())).await;
        match begun {
            Ok(epoch) => {
                self.epoch = epoch;
                self.epoch_begun = Some(now);
                self.delivery = Delivery::new(1, WINDOW);
                self.delivery.connected(now);
            }
            Err(error) => {
                self.trouble("a new sequence cannot begin", &report(&error));
                self.delivery.answered(now, None);
            }
        }
        false
    }

    async fn tend(&mut self) {
        let now = self.now();
        self.sender.results.expire(now).await;
    }
}
