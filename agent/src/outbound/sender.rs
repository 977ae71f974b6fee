//! From the spool to the broker, and ingest's watermark back to the spool (G1, G7).
//!
//! Decisions are in [`crate::core::delivery`]; here is the one loop that carries them out. Results are published in
//! order with many acknowledgements awaited at once; nothing is read from the spool before there is room for it.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, future::BoxFuture};
use protocol::{
    AgentId, CheckName, CheckResult, VERSION,
    stored::{Stored, StoredRequest},
    subject,
};
use service_kit::{
    Backoff, Context, now_ms, report,
    request::{RequestError, request},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{
        delivery::{Delivery, Lane, Send},
        pace::Pace,
        spooled::Message,
    },
    metrics::Metrics,
    outbound::{
        checks::Clock,
        publisher::{Failure, Outcome, Publisher, What},
    },
    settings::SpoolUntil,
    store::results::{Kept, Results},
};

/// Results awaiting the broker's acknowledgement at most.
const WINDOW: usize = 2_048;
/// Bytes of them at most, but for one more read.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// Results read at once.
const READ: usize = 512;
/// A result that is older when it is first sent is history (G6).
const FRESH_MS: u64 = 60_000;
/// Results that come within this time are synced and sent together.
const GATHER: Duration = Duration::from_millis(50);
/// How often to look whether something is due, while something is under way.
const TICK: Duration = Duration::from_secs(1);
/// And while nothing is: only age ends results then. Each look wakes the host.
const REST: Duration = Duration::from_secs(20);
/// How often the watermark is kept for the next start, at most.
const SAVE_EVERY: Duration = Duration::from_secs(60);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// An ingest that answers nonsense does not make one epoch after the other.
const EPOCH_MIN_MS: u64 = 600_000;
/// How long to go on sending when the agent stops.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What stands for an output that the broker did not take.
const CUT: &str = "[cut: the broker takes no larger result]";

pub struct Sender {
    pub ctx: Context,
    pub agent: AgentId,
    pub clock: Clock,
    pub results: Results,
    pub metrics: Metrics,
    pub until: SpoolUntil,
    /// Results a second of a backlog.
    pub replay_rate: u32,
}

struct Answer {
    /// The epoch that was asked about.
    epoch: u64,
    answer: Result<Stored, RequestError>,
}

struct State {
    sender: Sender,
    publisher: Publisher,
    delivery: Delivery,
    pace: Pace,
    /// A backlog waits for its pace.
    paced: bool,
    /// Numbers that were sent without output and metrics.
    cut: BTreeSet<u64>,
    epoch: u64,
    /// When an epoch was begun because of what ingest answered.
    epoch_begun: Option<u64>,
    asking: Option<BoxFuture<'static, Answer>>,
    backoff: Backoff,
    unnumbered_in_flight: bool,
    /// When it was last looked what is due, and the watermark kept.
    tended: Instant,
    saved: Option<Instant>,
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
        let (epoch, oldest) = self.results.spool(|spool| (spool.epoch(), spool.oldest())).await;
        let mut state = State {
            publisher: Publisher::open(self.ctx.nats.clone()).await?,
            delivery: Delivery::new(oldest?, WINDOW),
            pace: Pace::new(self.replay_rate.into()),
            paced: false,
            cut: BTreeSet::new(),
            epoch,
            epoch_begun: None,
            asking: None,
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(10)),
            unnumbered_in_flight: false,
            tended: Instant::now(),
            saved: None,
            failing: false,
            sender: self,
        };
        if *link.borrow_and_update() > 0 {
            state.delivery.connected(state.now());
        }
        let mut deadline: Option<Instant> = None;
        loop {
            state.ask_if_due().await;
            let idle = state.fill().await;
            if let Some(deadline) = deadline
                && ((idle && state.asking.is_none() && state.publisher.is_idle())
                    || Instant::now() >= deadline)
            {
                break;
            }
            let results = state.sender.results.clone();
            let next_look = state.next_look();
            let next_part = Duration::from_millis(state.pace.wait().max(1));
            tokio::select! {
                outcomes = state.publisher.outcomes() => state.published(outcomes?).await,
                answer = pending_answer(&mut state.asking) => {
                    state.asking = None;
                    state.answered(answer).await;
                }
                () = results.added() => {
                    if !state.delivery.has_backlog() {
                        tokio::time::sleep(GATHER).await;
                    }
                }
                () = tokio::time::sleep(next_part), if state.paced => {}
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
                () = tokio::time::sleep_until(next_look) => state.tend().await,
                () = quiet.cancelled(), if deadline.is_none() => deadline = Some(Instant::now() + LAST_WORDS),
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
        }
        state.save().await;
        let left = state.sender.results.spool(|spool| spool.sync().map(|()| spool.bytes())).await?;
        tracing::debug!(bytes = left, "the spool is synced");
        Ok(())
    }
}

async fn pending_answer(asking: &mut Option<BoxFuture<'static, Answer>>) -> Answer {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

impl State {
    fn now(&self) -> u64 {
        self.sender.clock.now()
    }

    /// Publish what there is room for. `true` when nothing more is to be published now.
    async fn fill(&mut self) -> bool {
        let end = self.sender.results.next_seq();
        self.delivery.grown(end);
        if self.sender.results.take_lost() {
            self.delivery.lost(self.now());
        }
        self.paced = false;
        let (mut idle, mut open) = (true, false);
        for lane in [Lane::Live, Lane::Order] {
            let now = self.now();
            let (next, mut room) = self.delivery.wants(lane, now);
            let backlog = lane == Lane::Order && self.delivery.has_backlog();
            if backlog && room > 0 {
                let allowed = self.pace.allows(now);
                self.paced = allowed < room;
                room = room.min(allowed);
            }
            open |= room > 0;
            if room == 0 || next >= end || self.publisher.bytes() > WINDOW_BYTES {
                continue;
            }
            match self.sender.results.read(next, room.min(READ)).await {
                Ok(kept) => {
                    idle = false;
                    if kept.is_empty() {
                        self.delivery.skip_to(lane, end);
                    }
                    let mut sent = 0;
                    for kept in kept {
                        let Some(Send { again, .. }) = self.delivery.send(lane, kept.seq) else { continue };
                        let late = again || backlog || self.is_old(&kept);
                        sent += 1;
                        if again {
                            self.sender.metrics.resent.inc();
                        }
                        if !self.publish(kept.seq, &kept.spooled.check, kept.message(late)).await {
                            break;
                        }
                    }
                    if backlog {
                        self.pace.took(sent);
                    }
                }
                Err(error) => {
                    self.sender.metrics.spool_errors.inc();
                    self.trouble("the spool cannot be read", &report(&error));
                    let delay = protocol::duration::millis(self.backoff.next_delay());
                    self.delivery.fail(self.now(), next, delay);
                }
            }
        }
        if idle && open {
            // Those in memory do not need the disk.
            self.publish_unnumbered().await;
        }
        // While the broker is away, a power cut shall cost little.
        if self.sender.results.is_unsynced()
            && let Err(error) = self.sender.results.spool(crate::store::spool::Spool::sync).await
        {
            self.trouble("the spool cannot be synced", &report(&error));
        }
        idle && !self.paced
    }

    /// Whether a result is history when it is sent for the first time. The agent's own clock does not notice a suspended
    /// host, and the host's clock may have been set: what is old by either is old, and so is what comes from the future.
    fn is_old(&self, kept: &Kept) -> bool {
        self.now().abs_diff(kept.kept_ms) > FRESH_MS || now_ms().saturating_sub(kept.spooled.at_ms) > FRESH_MS
    }

    /// `false` when no more should be sent now.
    async fn publish(&mut self, seq: u64, check: &CheckName, message: Message) -> bool {
        let what = What::Numbered { epoch: self.epoch, seq };
        match self.hand_over(what, check, message).await {
            Ok(()) => true,
            Err(outcome) => {
                self.published(vec![outcome]).await;
                false
            }
        }
    }

    /// Those that the disk did not take go one by one: there are few, and they are given back when it fails.
    async fn publish_unnumbered(&mut self) {
        if self.unnumbered_in_flight {
            return;
        }
        for mut result in self.sender.results.take_unnumbered(1).await {
            result.replayed = now_ms().saturating_sub(result.at_ms) > FRESH_MS;
            self.unnumbered_in_flight = true;
            let (check, message) = (result.check.clone(), Message::of(&result));
            let what = What::Unnumbered(Box::new(result));
            let handed_over = match message {
                Ok(message) => self.hand_over(what, &check, message).await,
                Err(error) => Err((what, Err(Failure::TooLarge(error.to_string())))),
            };
            if let Err(outcome) = handed_over {
                self.published(vec![outcome]).await;
            }
        }
    }

    async fn hand_over(&mut self, what: What, check: &CheckName, message: Message) -> Result<(), Outcome> {
        let subject = subject::result(&self.sender.agent, check);
        self.publisher.publish(what, subject, message).await
    }

    async fn published(&mut self, outcomes: Vec<Outcome>) {
        let now = self.now();
        // One failure for all that failed at once.
        let mut delay = None;
        for (what, outcome) in outcomes {
            match (what, outcome) {
                // The number means another result now.
                (What::Numbered { epoch, .. }, _) if epoch != self.epoch => {}
                (What::Numbered { seq, .. }, Ok(())) => {
                    self.delivery.confirm(now, seq);
                    self.succeeded();
                }
                (What::Numbered { seq, .. }, Err(Failure::TooLarge(reason))) => {
                    Box::pin(self.too_large(seq, &reason)).await;
                }
                (What::Numbered { seq, .. }, Err(error)) => {
                    self.sender.metrics.publish_failures.inc();
                    let delay = *delay.get_or_insert_with(|| self.publish_failed(&error));
                    self.delivery.fail(now, seq, delay);
                }
                (What::Unnumbered(_), Ok(())) => {
                    self.unnumbered_in_flight = false;
                    self.succeeded();
                }
                (What::Unnumbered(result), Err(Failure::TooLarge(reason))) => {
                    self.unnumbered_in_flight = false;
                    self.trouble("a result is too large for the broker", &reason);
                    if is_cut(&result) {
                        self.sender.results.drop_unnumbered().await;
                    } else {
                        self.sender.metrics.results_cut.inc();
                        self.sender.results.put_back(cut(*result)).await;
                    }
                }
                (What::Unnumbered(result), Err(error)) => {
                    self.sender.metrics.publish_failures.inc();
                    self.unnumbered_in_flight = false;
                    let delay = *delay.get_or_insert_with(|| self.publish_failed(&error));
                    let (next, _) = self.delivery.wants(Lane::Order, now);
                    self.delivery.fail(now, next, delay);
                    self.sender.results.put_back(*result).await;
                }
            }
        }
        if self.sender.until == SpoolUntil::Acknowledged {
            let seq = self.delivery.acknowledged();
            // Never above what was numbered.
            let _let_go = self.sender.results.stored(now, seq).await;
        }
    }

    /// A result that the broker will never take blocks none behind it: it goes without output and metrics, and if even
    /// that is too much it is given up, and missing in ingest's account.
    async fn too_large(&mut self, seq: u64, reason: &str) {
        self.trouble("a result is too large for the broker", reason);
        let found = if self.cut.insert(seq) { self.sender.results.read(seq, 1).await.ok() } else { None };
        while self.cut.len() > WINDOW {
            self.cut.pop_first();
        }
        if let Some(kept) = found.and_then(|kept| kept.into_iter().next())
            && kept.seq == seq
            && let Ok(result) = kept.result()
            && let Ok(message) = Message::of(&cut(CheckResult { replayed: self.is_old(&kept), ..result }))
        {
            self.sender.metrics.results_cut.inc();
            self.publish(seq, &kept.spooled.check, message).await;
            return;
        }
        self.sender.results.spool(move |spool| spool.give_up(seq)).await;
        self.delivery.confirm(self.now(), seq);
    }

    fn succeeded(&mut self) {
        self.sender.metrics.published.inc();
        self.backoff.reset();
        if std::mem::take(&mut self.failing) {
            tracing::info!("results are sent again");
        }
    }

    /// The delay before the next try, in milliseconds.
    fn publish_failed(&mut self, error: &Failure) -> u64 {
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
        self.asking = Some(Box::pin(async move {
            let question = StoredRequest { v: VERSION, epoch, oldest };
            Answer { epoch, answer: request(&client, &subject, &question, ASK_TIMEOUT).await }
        }));
    }

    async fn answered(&mut self, Answer { epoch, answer }: Answer) {
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
        if self.sender.results.stored(now, seq).await.is_ok() {
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

    fn next_look(&self) -> Instant {
        let results = &self.sender.results;
        let rests = !self.paced
            && self.asking.is_none()
            && self.publisher.is_idle()
            && self.delivery.is_at_rest(results.next_seq())
            && !results.is_unsynced()
            && !results.may_hold_unnumbered();
        self.tended + if rests { REST } else { TICK }
    }

    async fn tend(&mut self) {
        self.tended = Instant::now();
        self.sender.results.expire(self.now()).await;
        if self.saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY) && self.save().await {
            self.saved = Some(self.tended);
        }
    }

    /// `false` when it did not move since, or could not be kept.
    async fn save(&mut self) -> bool {
        let saved = self.sender.results.spool(crate::store::spool::Spool::save_watermark).await;
        saved.unwrap_or_else(|error| {
            tracing::debug!(error = report(&error), "the watermark is not kept for the next start");
            false
        })
    }
}

/// What is left of a result that was too large: its status and its value.
fn cut(result: CheckResult) -> CheckResult {
    CheckResult { output: CUT.to_owned(), metrics: Vec::new(), ..result }
}

fn is_cut(result: &CheckResult) -> bool {
    result.output == CUT
}
