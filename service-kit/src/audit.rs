//! Telling the audit log, from wherever something happens: who, from where, what, and what came of it.
//!
//! Nothing waits for it. What repeats is counted and told once in a while, so that a flood of refused sign-ins from one
//! address is a few entries; what is too much for that is counted and dropped.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_nats::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use protocol::{
    VERSION,
    audit::{AuditEvent, AuditOutcome},
    subject,
};
use tokio::sync::mpsc;

use crate::{Backoff, Context, now_ms, publish, report};

/// Entries that wait to be taken in, and entries that wait for the broker.
const WAITING: usize = 1_024;
/// Different entries that are watched for repeats.
const WATCHED: usize = 2_048;
/// Repeats of one within this time are one entry.
const REPEATS: Duration = Duration::from_secs(60);
/// The same for what is all right: a key that is used all day.
const REPEATS_DONE: Duration = Duration::from_secs(3_600);
/// Entries a second, at most, in the long run; and at once.
const RATE: (u32, u32) = (20, 400);
/// Longest text of an entry, in characters.
const TEXT: usize = 500;

/// Handle on the audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    sender: mpsc::Sender<Told>,
    dropped: Counter,
}

struct Told {
    event: AuditEvent,
    /// Whether it is to be watched for repeats.
    repeats: bool,
}

impl Audit {
    /// Take in entries as a task of the service until it stops. Stream AUDIT belongs to the config-service; until it
    /// is there entries wait.
    #[must_use]
    pub fn start(ctx: &Context) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Told>(WAITING);
        let dropped = Counter::default();
        ctx.metrics.register(ctx.name, |registry| {
            let help = "Entries of the audit log that were too many, or that the broker did not take";
            registry.register("audit_dropped", help, dropped.clone());
        });
        let (ctx, token, lost) = (ctx.clone(), ctx.tasks.token(), dropped.clone());
        let tasks = ctx.tasks.clone();
        tasks.spawn("audit log", async move {
            let (mut repeats, mut outbox) = (Repeats::default(), Outbox::new(&ctx, lost.clone()));
            loop {
                tokio::select! {
                    told = receiver.recv() => {
                        let Some(Told { event, repeats: watched }) = told else { break };
                        let now = Instant::now();
                        match if watched { repeats.add(event, now) } else { repeats.pass(event, now) } {
                            Added::Tell(event) => outbox.push(event),
                            Added::Counted => {}
                            Added::TooMany => drop(lost.inc()),
                        }
                    }
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = token.cancelled() => break,
                }
                for event in repeats.due(Instant::now()) {
                    outbox.push(event);
                }
                outbox.send().await;
            }
            // What was told before the stop, and the counts so far.
            while let Ok(Told { event, .. }) = receiver.try_recv() {
                outbox.push(event);
            }
            for event in repeats.rest() {
                outbox.push(event);
            }
            outbox.last().await;
            Ok(())
        });
        Self { sender, dropped }
    }

    /// Something that may come again and again: a refusal, a key in use.
    pub fn tell(&self, actor: &str, from: Option<&str>, what: &str, outcome: AuditOutcome, detail: &str) {
        self.send(event(actor, from, what, outcome, detail), true);
    }

    /// Something that each time is of its own, such as an action.
    pub fn tell_each(
        &self,
        actor: &str,
        from: Option<&str>,
        what: &str,
        outcome: AuditOutcome,
        detail: &str,
    ) {
        self.send(event(actor, from, what, outcome, detail), false);
    }

    fn send(&self, event: AuditEvent, repeats: bool) {
        if self.sender.try_send(Told { event, repeats }).is_err() {
            self.dropped.inc();
        }
    }
}

fn event(actor: &str, from: Option<&str>, what: &str, outcome: AuditOutcome, detail: &str) -> AuditEvent {
    let short = |text: &str| -> String {
        text.chars().take(TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
    };
    AuditEvent {
        v: VERSION,
        at_ms: now_ms(),
        actor: short(actor),
        from: from.map(short),
        what: short(what),
        outcome,
        detail: short(detail),
        count: 1,
        since_ms: None,
    }
}

/// What is watched for repeats. Pure.
#[derive(Default)]
struct Repeats {
    watched: HashMap<(String, Option<String>, String, AuditOutcome), Watched>,
    /// Entries that may be told now, as a bucket that fills up; `None` before the first.
    bucket: Option<(f64, Instant)>,
}

struct Watched {
    until: Instant,
    /// The newest, with how many came since the last one that was told.
    repeats: Option<AuditEvent>,
}

enum Added {
    Tell(AuditEvent),
    Counted,
    TooMany,
}

impl Repeats {
    /// The first of its kind is told at once; those after it are counted.
    fn add(&mut self, event: AuditEvent, now: Instant) -> Added {
        let key = (event.actor.clone(), event.from.clone(), event.what.clone(), event.outcome);
        if let Some(watched) = self.watched.get_mut(&key) {
            let (count, since) = watched.repeats.take().map_or((0, event.at_ms), |repeats| {
                (repeats.count, repeats.since_ms.unwrap_or(repeats.at_ms))
            });
            watched.repeats = Some(AuditEvent { count: count + 1, since_ms: Some(since), ..event });
            return Added::Counted;
        }
        // Refusals have room of their own, whatever else is going on.
        let all_right = event.outcome == AuditOutcome::Done;
        if self.watched.len() >= if all_right { WATCHED / 2 } else { WATCHED } {
            return Added::TooMany;
        }
        match self.pass(event, now) {
            Added::Tell(event) => {
                let life = if event.outcome == AuditOutcome::Done { REPEATS_DONE } else { REPEATS };
                self.watched.insert(key, Watched { until: now + life, repeats: None });
                Added::Tell(event)
            }
            other => other,
        }
    }

    /// Told if there are not too many.
    fn pass(&mut self, event: AuditEvent, now: Instant) -> Added {
        let (rate, most) = (f64::from(RATE.0), f64::from(RATE.1));
        let (left, at) = self.bucket.unwrap_or((most, now));
        let left = (left + now.saturating_duration_since(at).as_secs_f64() * rate).min(most);
        if left < 1.0 {
            self.bucket = Some((left, now));
            return Added::TooMany;
        }
        self.bucket = Some((left - 1.0, now));
        Added::Tell(event)
    }

    /// Counts whose time is over. What did not come again is forgotten.
    fn due(&mut self, now: Instant) -> Vec<AuditEvent> {
        let mut due = Vec::new();
        self.watched.retain(|_, watched| {
            if watched.until > now {
                return true;
            }
            let Some(event) = watched.repeats.take() else { return false };
            watched.until = now + if event.outcome == AuditOutcome::Done { REPEATS_DONE } else { REPEATS };
            due.push(event);
            true
        });
        due
    }

    fn rest(&mut self) -> Vec<AuditEvent> {
        self.watched.drain().filter_map(|(_, watched)| watched.repeats).collect()
    }
}

/// Entries on their way to stream AUDIT, in order.
struct Outbox {
    ctx: Context,
    waiting: std::collections::VecDeque<(String, AuditEvent)>,
    run: String,
    number: u64,
    backoff: Backoff,
    not_before: Instant,
    lost: Counter,
}

impl Outbox {
    fn new(ctx: &Context, lost: Counter) -> Self {
        Self {
            ctx: ctx.clone(),
            waiting: std::collections::VecDeque::new(),
            run: format!("{}:{:x}", ctx.name, rand::random::<u128>()),
            number: 0,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            not_before: Instant::now(),
            lost,
        }
    }

    fn push(&mut self, event: AuditEvent) {
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
            self.lost.inc();
        }
        self.number += 1;
        self.waiting.push_back((format!("{}:{}", self.run, self.number), event));
    }

    async fn send(&mut self) {
        if Instant::now() < self.not_before {
            return;
        }
        while let Some((id, event)) = self.waiting.front() {
            let Ok(body) = protocol::encode(event) else {
                self.waiting.pop_front();
                self.lost.inc();
                continue;
            };
            let subject = subject::audit(self.ctx.name);
            let sent =
                publish::publish(&self.ctx.jetstream(), subject, id, HeaderMap::new(), body.into()).await;
            match sent {
                Ok(_) => {
                    self.waiting.pop_front();
                    self.backoff.reset();
                }
                Err(error) => {
                    tracing::debug!(error = report(&error), "the audit log waits for the broker");
                    self.not_before = Instant::now() + self.backoff.next_delay();
                    return;
                }
            }
        }
    }

    /// One more try, and not for long: the service stops.
    async fn last(mut self) {
        self.not_before = Instant::now();
        let sent = tokio::time::timeout(Duration::from_secs(2), self.send()).await;
        if sent.is_err() || !self.waiting.is_empty() {
            tracing::warn!(entries = self.waiting.len(), "entries of the audit log were lost with this stop");
            self.lost.inc_by(self.waiting.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(from: &str) -> AuditEvent {
        event("agent x", Some(from), "sign in", AuditOutcome::Refused, "no\nway")
    }

    #[test]
    fn g10_a_flood_of_one_kind_is_one_entry_and_a_count() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert!(matches!(repeats.add(refused("a"), start), Added::Tell(event) if event.detail == "no way"));
        for _ in 0..10_000 {
            assert!(matches!(repeats.add(refused("a"), start), Added::Counted));
        }
        assert!(repeats.due(start + REPEATS / 2).is_empty());
        let told = repeats.due(start + REPEATS);
        assert_eq!((told.len(), told[0].count, told[0].since_ms.is_some()), (1, 10_000, true));
        assert!(repeats.due(start + REPEATS * 2).is_empty() && repeats.watched.is_empty());
    }

    #[test]
    fn g10_a_flood_of_many_kinds_is_bounded() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        let told = (0..100_000)
            .filter(|n| matches!(repeats.add(refused(&n.to_string()), now), Added::Tell(_)))
            .count();
        assert_eq!(told, 400);
        let later = now + Duration::from_secs(1);
        let told =
            (0..1_000).filter(|n| matches!(repeats.pass(refused(&n.to_string()), later), Added::Tell(_)));
        assert_eq!(told.count(), 20);
    }
}
