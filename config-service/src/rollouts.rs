//! Rollouts under way: what their hosts report and measure, and the steps that follow from it.
//!
//! Every replica watches. Whoever decides first appends the step to stream CONFIG; the others find the rollout moved
//! and do nothing.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures_util::StreamExt;
use prometheus_client::metrics::counter::Counter;
use protocol::{
    AgentId, CheckName, CheckResult, ErrorCode, ErrorReply, limits,
    log::LogChange,
    rollout::{
        Canary, Rollout, RolloutChange, RolloutList, RolloutOrder, RolloutQuery, RolloutState, RolloutStatus,
        place,
    },
    stream, subject,
};
use service_kit::{Context, now_ms, report, respond, streams};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    changes::{Changes, Snapshot},
    core::{
        model::Model,
        rollout::{self, Evidence, Line},
    },
};

/// How often the hosts are looked at, and whether there is a rollout.
const LOOK: Duration = Duration::from_secs(1);
/// How old the list of hosts may be that the change concerns.
const LINE_AGE: Duration = Duration::from_secs(30);
/// Results are read from so long before the rollout on, so that what was unknown before is known.
const BEFORE_MS: u64 = 15 * 60_000;
/// And from no earlier than so long ago, after a restart.
const BACK_MS: u64 = 3_600_000;
/// Checks up to which the broker selects their results; of more all results are read.
const FILTERS: usize = 100;
/// Until what failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Hosts looked at without letting go of the model.
const HOSTS_AT_ONCE: usize = 256;

/// # Errors
/// `conflict` while a rollout is open: what it would go back to must stay what it is.
pub(crate) fn none_open(snapshot: &Snapshot) -> Result<(), ErrorReply> {
    let Some((open, _)) = &snapshot.rollout else { return Ok(()) };
    let (revision, state) = (open.revision, open.state.as_str());
    let message = format!(
        "the rollout {revision} is {state}: wait for its end, or end it with `dogwatch rollout promote {revision}` or `dogwatch rollout abort {revision}`; `dogwatch apply --replace` puts a change in its place"
    );
    Err(ErrorReply::new(ErrorCode::Conflict, message))
}

/// The end of the open rollout, which another change takes the place of, and the state below it: what the other change
/// is planned on. `None`: none is open.
///
/// # Errors
/// `conflict` where it cannot be ended.
pub(crate) fn replaced(
    snapshot: &Snapshot,
    (actor, message): (&str, &str),
) -> Result<Option<(Vec<LogChange>, Snapshot)>, ErrorReply> {
    let Some((open, before)) = &snapshot.rollout else { return Ok(None) };
    let next = snapshot.next();
    let why = if message.is_empty() { String::new() } else { format!(" ({message})") };
    let why = format!("revision {next} takes its place{why}");
    let ended = rollout::order(open, RolloutOrder::Abort, (actor, &why), now_ms())?;
    let ending = rollout::log(ended, next, &snapshot.documents, before);
    let below = Snapshot {
        documents: Arc::clone(&before.documents),
        signed: Arc::clone(&before.signed),
        keys: Arc::clone(&snapshot.keys),
        sign_ins: Arc::clone(&snapshot.sign_ins),
        history: snapshot.history.clone(),
        rollout: None,
    };
    Ok(Some((ending, below)))
}

/// The first stage of a rollout to these hosts.
pub(crate) fn begin(
    canary: Canary,
    who: (&str, &str),
    revision: u64,
    concerned: &[AgentId],
) -> Option<Rollout> {
    rollout::start(canary, who, revision, &line(revision, concerned), now_ms())
}

fn line(revision: u64, concerned: &[AgentId]) -> Line {
    Line::new(concerned.iter().map(|agent| place(revision, agent)).collect())
}

/// Watch rollouts until the service stops, and answer for them.
///
/// # Errors
/// When a subscription cannot be made.
pub(crate) async fn serve(
    ctx: &Context,
    model: Arc<RwLock<Model>>,
    changes: Arc<Changes>,
) -> anyhow::Result<()> {
    let metrics = Metrics::new(ctx);
    let watch = Watch { ctx: ctx.clone(), model, changes, seen: Arc::default(), metrics };
    let limits = respond::Limits::default();
    let this = watch.clone();
    respond::respond(ctx, subject::ADMIN_ROLLOUT_LIST, limits, move |_, query| {
        std::future::ready(this.list(&query))
    })
    .await?;
    let this = watch.clone();
    respond::respond(ctx, subject::ADMIN_ROLLOUT_CHANGE, limits, move |_, change| {
        let this = this.clone();
        async move { this.order(change).await }
    })
    .await?;
    let token = ctx.tasks.token();
    ctx.tasks.spawn("rollouts", async move {
        loop {
            if let Some(open) = watch.open() {
                tokio::select! {
                    followed = watch.follow(open.revision) => if let Err(reason) = followed {
                        tracing::warn!(reason, rollout = open.revision, "the rollout cannot be watched now: trying again");
                        tokio::select! {
                            () = tokio::time::sleep(AGAIN) => {}
                            () = token.cancelled() => return Ok(()),
                        }
                    },
                    () = token.cancelled() => return Ok(()),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = token.cancelled() => return Ok(()),
            }
        }
    });
    Ok(())
}

#[derive(Clone, Default)]
struct Metrics {
    advanced: Counter,
    rolled_back: Counter,
}

impl Metrics {
    fn new(ctx: &Context) -> Self {
        let metrics = Self::default();
        ctx.metrics.register(ctx.name, |registry| {
            registry.register(
                "rollout_stages",
                "Stages that this replica let rollouts reach",
                metrics.advanced.clone(),
            );
            registry.register(
                "rollouts_rolled_back",
                "Rollouts that this replica rolled back by itself",
                metrics.rolled_back.clone(),
            );
        });
        metrics
    }
}

/// What is known of the hosts of the open rollout.
#[derive(Default)]
struct Seen {
    rollout: u64,
    concerned: Vec<AgentId>,
    evidence: Evidence,
}

#[derive(Clone)]
struct Watch {
    ctx: Context,
    model: Arc<RwLock<Model>>,
    changes: Arc<Changes>,
    seen: Arc<Mutex<Seen>>,
    metrics: Metrics,
}

impl Watch {
    fn open(&self) -> Option<Rollout> {
        self.read(|model| model.open_rollout().map(|(rollout, _)| rollout))
    }

    /// Watch one rollout until it is over.
    async fn follow(&self, revision: u64) -> Result<(), String> {
        *self.seen() = Seen { rollout: revision, ..Seen::default() };
        let mut checks: BTreeSet<CheckName> = BTreeSet::new();
        let mut results = None;
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut line_at: Option<(u64, Instant)> = None;
        // Before the results so far were read nothing goes on: what failed may be among them.
        let mut caught_up = false;
        loop {
            let Some(open) = self.open().filter(|open| open.revision == revision) else { return Ok(()) };
            if results.is_none() {
                checks = self.read(Model::changed_checks);
                let (stream, waiting) = self.results(&open, &checks).await?;
                (results, caught_up) = (Some(stream), waiting == 0);
            }
            let next = match results.as_mut() {
                Some(results) => results.next(),
                None => continue,
            };
            tokio::select! {
                message = next => {
                    let message = message.ok_or("the results ended")?.map_err(|error| report(&error))?;
                    caught_up |= message.info().is_ok_and(|info| info.pending == 0);
                    self.result(&open, &checks, &message);
                }
                _ = ticks.tick() => {
                    let step = (open.reached.len() as u64, Instant::now());
                    let fresh = line_at.is_some_and(|(stage, at)| stage == step.0 && at.elapsed() < LINE_AGE);
                    if !fresh {
                        self.look_for_concerned().await?;
                        line_at = Some(step);
                    }
                    self.step(open, caught_up).await?;
                }
            }
        }
    }

    /// Results of the changed checks, from before the rollout on, and how many of them wait already.
    async fn results(
        &self,
        open: &Rollout,
        checks: &BTreeSet<CheckName>,
    ) -> Result<(pull::Ordered, u64), String> {
        let jetstream = self.ctx.jetstream();
        let stream = streams::ensure_stream(&jetstream, &stream::RESULTS).await.map_err(|e| report(&e))?;
        let filter_subjects = match checks.len() {
            1..=FILTERS => checks.iter().map(|check| subject::results(None, Some(check))).collect(),
            _ => vec![subject::RESULT_ALL.to_owned()],
        };
        let from_ms =
            open.started_ms.saturating_sub(BEFORE_MS).max(now_ms().saturating_sub(BACK_MS)).min(now_ms());
        let since = i64::try_from(from_ms / 1000).unwrap_or(i64::MAX);
        let start_time = time::OffsetDateTime::from_unix_timestamp(since).map_err(|e| e.to_string())?;
        let config = pull::OrderedConfig {
            filter_subjects,
            deliver_policy: DeliverPolicy::ByStartTime { start_time },
            ..pull::OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| report(&error))?;
        let waiting = consumer.cached_info().num_pending;
        Ok((consumer.messages().await.map_err(|error| report(&error))?, waiting))
    }

    /// What is no result, ingest keeps in REJECTED.
    fn result(&self, open: &Rollout, checks: &BTreeSet<CheckName>, message: &async_nats::jetstream::Message) {
        let Some((agent, check)) = subject::result_parts(&message.subject) else { return };
        let Ok(result) = protocol::decode::<CheckResult>(&message.payload, limits::RESULT) else { return };
        let known = || self.read(|model| model.record(&agent).is_some());
        if result.agent == agent && result.check == check && checks.contains(&check) && known() {
            self.seen().evidence.result(open, &result);
        }
    }

    async fn look_for_concerned(&self) -> Result<(), String> {
        let this = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let agents = this.read(Model::agents);
            let portions = agents.chunks(HOSTS_AT_ONCE);
            portions.flat_map(|agents| this.read(|model| model.concerned(agents))).collect()
        });
        self.seen().concerned = looked.await.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Look at the hosts, and take the step that follows.
    async fn step(&self, open: Rollout, caught_up: bool) -> Result<(), String> {
        let next = {
            let mut seen = self.seen();
            let Seen { concerned, evidence, .. } = &mut *seen;
            let fare = self.read(|model| model.fare(concerned));
            (evidence.reached, evidence.applied) = (fare.reached, fare.applied);
            fare.failed.iter().for_each(|(agent, reason)| evidence.failed(agent, None, reason));
            rollout::decide(&open, evidence, &line(open.revision, concerned), now_ms())
        };
        let Some(next) = next.filter(|next| caught_up || next.state == RolloutState::RolledBack) else {
            return Ok(());
        };
        let (revision, state, reason) = (next.revision, next.state, next.reason.clone());
        let hosts = next.reached.last().map_or(0, |stage| stage.hosts);
        let message = match state {
            RolloutState::Running => format!("rollout {revision}: on to {hosts} hosts"),
            _ if reason.is_empty() => format!("rollout {revision}: {}", state.as_str()),
            _ => format!("rollout {revision}: {}: {reason}", state.as_str()),
        };
        let plan = move |snapshot: &Snapshot| match &snapshot.rollout {
            Some((now, before)) if *now == open => {
                Ok((rollout::log(next.clone(), snapshot.next(), &snapshot.documents, before), true))
            }
            // Somebody else was first.
            _ => Ok((Vec::new(), false)),
        };
        let made = self.changes.make(rollout::ACTOR.to_owned(), message, plan).await;
        if made.map_err(|error| error.message)?.1 {
            match state {
                RolloutState::RolledBack => {
                    self.metrics.rolled_back.inc();
                    tracing::warn!(rollout = revision, reason, "a rollout was rolled back");
                }
                _ => {
                    self.metrics.advanced.inc();
                    tracing::info!(rollout = revision, state = state.as_str(), hosts, "a rollout went on");
                }
            }
        }
        Ok(())
    }

    fn list(&self, query: &RolloutQuery) -> Result<RolloutList, ErrorReply> {
        if !self.changes.known() {
            let message = "stream CONFIG was not read yet: ask again in a moment";
            return Err(ErrorReply::new(ErrorCode::Unavailable, message));
        }
        let wanted = |rollout: &&Rollout| query.revision.is_none_or(|revision| rollout.revision == revision);
        let all: Vec<Rollout> = self.read(|model| model.rollouts().filter(wanted).cloned().collect());
        if let (Some(revision), true) = (query.revision, all.is_empty()) {
            return Err(unknown(revision));
        }
        Ok(RolloutList { rollouts: all.into_iter().map(|rollout| self.status(rollout)).collect() })
    }

    fn status(&self, rollout: Rollout) -> RolloutStatus {
        let seen = self.seen();
        let known = rollout.state.is_open() && seen.rollout == rollout.revision;
        RolloutStatus {
            applied: known.then_some(seen.evidence.applied),
            failures: if known { seen.evidence.failures() } else { Vec::new() },
            rollout,
        }
    }

    async fn order(&self, change: RolloutChange) -> Result<Rollout, ErrorReply> {
        let RolloutChange { revision, order, actor, message } = change;
        let words = format!("rollout {revision}: {order:?}").to_lowercase();
        let words = if message.is_empty() { words } else { format!("{words}: {message}") };
        let model = Arc::clone(&self.model);
        let who = (actor.clone(), message);
        let plan = move |snapshot: &Snapshot| {
            let rollout = {
                let model = model.read().unwrap_or_else(PoisonError::into_inner);
                let found = model.rollouts().find(|rollout| rollout.revision == revision);
                found.cloned().ok_or_else(|| unknown(revision))?
            };
            let next = rollout::order(&rollout, order, (&who.0, &who.1), now_ms())?;
            let Some((_, before)) = snapshot.rollout.as_ref().filter(|(open, _)| *open == rollout) else {
                return Err(ErrorReply::new(ErrorCode::Conflict, "the rollout moved meanwhile: try again"));
            };
            let changes = rollout::log(next.clone(), snapshot.next(), &snapshot.documents, before);
            Ok((changes, next))
        };
        Ok(self.changes.make(actor, words, plan).await?.1)
    }

    fn read<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&self.model.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(revision: u64) -> ErrorReply {
    let message = format!("there is no rollout {revision}: see `dogwatch rollout list`");
    ErrorReply::new(ErrorCode::NotFound, message)
}
