//! Running the checks: the schedule says when, the prober how, and the result goes to the spool.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;
use protocol::{AgentId, CheckName, CheckResult, ErrorCode, run::RunEvent};
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch},
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{
        check::{At, Check, Plan, phase_seed},
        guard::{Pauses, overrun},
        output::Finding,
        schedule::Schedule,
    },
    metrics::Metrics,
    outbound::{
        live::{Live, Order},
        probe::{Prober, Ran},
    },
    store::results::Results,
};

/// Milliseconds since 1970 as they were at the start, and from then on by a clock that does not jump.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall_ms: u64,
    started: Instant,
}

impl Clock {
    #[must_use]
    pub fn start() -> Self {
        Self { wall_ms: service_kit::now_ms(), started: Instant::now() }
    }

    #[must_use]
    pub fn now(&self) -> u64 {
        self.wall_ms.saturating_add(protocol::duration::millis(self.started.elapsed()))
    }
}

/// What runs the checks, until it is told to stop.
pub struct Checks {
    agent: AgentId,
    clock: Clock,
    results: Results,
    metrics: Metrics,
    permits: Arc<Semaphore>,
    prober: Prober,
    plan: Arc<Plan>,
    schedule: Schedule,
    runs: JoinSet<()>,
    names: HashMap<Id, CheckName>,
    cancels: BTreeMap<CheckName, CancellationToken>,
    pauses: Arc<Mutex<Pauses>>,
    pulse: (mpsc::Sender<oneshot::Sender<()>>, mpsc::Receiver<oneshot::Sender<()>>),
    /// Runs that were asked for and wait for one of the same check to end.
    waiting: Vec<Order>,
}

/// What others need of the running checks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    /// One for each check that may run.
    pub permits: Arc<Semaphore>,
    pulse: mpsc::Sender<oneshot::Sender<()>>,
}

impl Handle {
    /// Resolves when the schedule has gone round once more; `false` when it will not again.
    pub async fn turned(&self) -> bool {
        let (answer, turned) = oneshot::channel();
        self.pulse.send(answer).await.is_ok() && turned.await.is_ok()
    }
}

impl Checks {
    #[must_use]
    pub fn new(agent: AgentId, clock: Clock, results: Results, metrics: Metrics, concurrency: usize) -> Self {
        Self {
            agent,
            clock,
            results,
            metrics,
            permits: Arc::new(Semaphore::new(concurrency)),
            prober: Prober::default(),
            plan: Arc::default(),
            schedule: Schedule::default(),
            runs: JoinSet::new(),
            names: HashMap::new(),
            cancels: BTreeMap::new(),
            pauses: Arc::new(Mutex::new(Pauses::new(0))),
            pulse: mpsc::channel(1),
            waiting: Vec::new(),
        }
    }

    /// Pause checks that went over their limits so many times in a row; 0: never, which is the default.
    #[must_use]
    pub fn pause_after(mut self, overruns: u32) -> Self {
        self.pauses = Arc::new(Mutex::new(Pauses::new(overruns)));
        self
    }

    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { permits: Arc::clone(&self.permits), pulse: self.pulse.0.clone() }
    }

    /// Built-in checks that remember do so in `folder`.
    #[must_use]
    pub fn remembering_in(self, folder: PathBuf) -> Self {
        Self { prober: Prober::remembering_in(folder), ..self }
    }

    /// Run the checks of `plan`, and those that are asked for, until `stop`; then end what is under way, without results.
    ///
    /// # Errors
    /// Never; the signature is that of a task.
    pub async fn run(
        mut self,
        mut plan: watch::Receiver<Arc<Plan>>,
        mut orders: mpsc::Receiver<Order>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let first = plan.borrow_and_update().clone();
        self.follow(first);
        while !stop.is_cancelled() {
            for due in
                [self.schedule.due(self.clock.now()), self.schedule.due_by_clock(service_kit::now_ms())]
            {
                self.metrics.checks_skipped.inc_by(due.skipped);
                for name in due.run {
                    self.start(&name, None);
                }
            }
            let wake = self.schedule.next_wake().map(|at| at.saturating_sub(self.clock.now()));
            let by_clock = self.schedule.wait_by_clock(service_kit::now_ms());
            let wake = wake.into_iter().chain(by_clock).min().unwrap_or(3_600_000);
            let wake = Duration::from_millis(wake);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wake) => {}
                Some(asked) = self.pulse.1.recv() => drop(asked.send(())),
                Some(ended) = self.runs.join_next_with_id() => self.ended(ended),
                Some(order) = orders.recv() => self.ordered(order),
                changed = plan.changed() => match changed {
                    Ok(()) => {
                        let next = plan.borrow_and_update().clone();
                        self.follow(next);
                    }
                    // Whoever gives the plan has stopped, and so will we.
                    Err(_) => stop.cancelled().await,
                },
            }
        }
        self.cancels.values().for_each(CancellationToken::cancel);
        while self.runs.join_next().await.is_some() {}
        Ok(())
    }

    /// Checks that did not change keep their place in the schedule.
    fn follow(&mut self, plan: Arc<Plan>) {
        let now = self.clock.now();
        for name in self.plan.checks.keys().filter(|name| !plan.checks.contains_key(*name)) {
            self.schedule.remove(name);
            self.cancels.get(name).inspect(|cancel| cancel.cancel());
            pauses(&self.pauses).forget(name);
        }
        for (name, check) in &plan.checks {
            if self.plan.checks.get(name) != Some(check) {
                pauses(&self.pauses).forget(name);
                self.cancels.get(name).inspect(|cancel| cancel.cancel());
                let seed = phase_seed(&self.agent, name);
                match &check.at {
                    Some(At { cron, timezone }) => self.schedule.add_cron(
                        service_kit::now_ms(),
                        name.clone(),
                        cron.clone(),
                        zone(timezone.as_deref()),
                        (check.every_ms, seed),
                    ),
                    None => self.schedule.add(now, name.clone(), check.every_ms, seed),
                }
            }
        }
        self.plan = plan;
    }

    /// Run a check beside the schedule. It counts as its run: one that is due meanwhile is left out.
    fn ordered(&mut self, order: Order) {
        if order.live.is_closed() {
            return;
        }
        let name = order.check.clone();
        if !self.plan.checks.contains_key(&name) {
            let reason = format!("{} has no check {name}: see `dogwatch hosts`", self.agent);
            order.live.refuse(ErrorCode::NotFound, reason);
        } else if self.schedule.claim(&name) {
            self.start(&name, Some(order.live));
        } else if order.waits {
            self.waiting.push(order);
        } else {
            let reason = format!("{name} is running already: ask again when it has ended, or wait for it");
            order.live.refuse(ErrorCode::Conflict, reason);
        }
    }

    fn start(&mut self, name: &CheckName, live: Option<Live>) {
        let Some(check) = self.plan.checks.get(name).cloned() else {
            self.schedule.finished(name);
            return;
        };
        let cancel = CancellationToken::new();
        let skipped = self.schedule.take_skipped(name);
        let run = Run {
            agent: self.agent.clone(),
            revision: self.plan.revision,
            check,
            skipped,
            cancel: cancel.clone(),
            permits: Arc::clone(&self.permits),
            prober: self.prober.watched(live.clone()),
            results: self.results.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock,
            pauses: Arc::clone(&self.pauses),
            live,
        };
        let id = self.runs.spawn(run.run()).id();
        self.names.insert(id, name.clone());
        self.cancels.insert(name.clone(), cancel);
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a check failed inside the agent");
                error.id()
            }
        };
        if let Some(name) = self.names.remove(&id) {
            self.schedule.finished(&name);
            self.cancels.remove(&name);
            // Few, since only so many requests are worked on at once.
            for order in std::mem::take(&mut self.waiting) {
                self.ordered(order);
            }
        }
    }
}

/// The zone of that name, by the host's own rules where it has them; without a name the host's zone.
#[must_use]
pub fn zone(name: Option<&str>) -> TimeZone {
    match name {
        None => TimeZone::system(),
        // The name was checked against the zones that are built in, which are the last to be asked here.
        Some(name) => jiff::tz::db().get(name).unwrap_or(TimeZone::UTC),
    }
}

/// One run of one check.
struct Run {
    agent: AgentId,
    revision: u64,
    check: Arc<Check>,
    /// Runs left out before this one.
    skipped: u64,
    cancel: CancellationToken,
    permits: Arc<Semaphore>,
    prober: Prober,
    results: Results,
    metrics: Metrics,
    clock: Clock,
    pauses: Arc<Mutex<Pauses>>,
    /// Who asked for it, and listens.
    live: Option<Live>,
}

fn pauses(pauses: &Mutex<Pauses>) -> std::sync::MutexGuard<'_, Pauses> {
    pauses.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    /// Run the check, or say why it is paused. After too many runs over a limit it is paused from now on.
    async fn guarded(&self, place: &mut Option<SemaphorePermit<'_>>) -> Option<Ran> {
        let (now, name) = (self.clock.now(), &self.check.name);
        let paused = pauses(&self.pauses).paused(now, name).cloned();
        if let Some(pause) = paused {
            self.metrics.checks_left_out_paused.inc();
            return Some(Ran {
                finding: Finding::unknown(pause.reason),
                timed_out: false,
                usage: None,
                keep: None,
            });
        }
        let mut ran = self.prober.run_in(&self.check, &self.cancel, place).await?;
        let now = self.clock.now();
        let mut pauses = pauses(&self.pauses);
        let overrun = overrun(ran.timed_out, ran.finding.signal, ran.finding.exit_code);
        if let Some(pause) = pauses.ended(now, name, overrun) {
            tracing::warn!(check = %name, "{}", pause.reason);
            ran.finding.output = format!("{}; the last run: {}", pause.reason, ran.finding.output);
        }
        self.metrics.checks_paused.set(pauses.count(now) as u64);
        Some(ran)
    }

    async fn run(self) {
        if let Some(live) = &self.live {
            let (revision, timeout_ms) = (self.revision, self.check.timeout_ms);
            live.event(RunEvent::Started { revision, timeout_ms }).await;
        }
        let mut place = tokio::select! {
            place = self.permits.acquire() => place.ok(),
            () = self.cancel.cancelled() => return,
        };
        let (at_ms, started) = (service_kit::now_ms(), Instant::now());
        let Some(mut ran) = self.guarded(&mut place).await else {
            return;
        };
        drop(place);
        if ran.timed_out {
            self.metrics.checks_timed_out.inc();
        }
        self.metrics.results.inc();
        let (skipped, keep) = (self.skipped, ran.keep.take());
        let result = CheckResult {
            skipped,
            ..result(self.agent, self.revision, &self.check, at_ms, started.elapsed(), ran)
        };
        let result = self.results.add(self.clock.now(), result).await;
        if let Some(keep) = keep
            && let Err(error) = keep.keep().await
        {
            tracing::warn!("{error}");
        }
        if let Some(live) = self.live {
            live.ended(result).await;
        }
    }
}

/// What a run found, as it is sent: `at_ms` is when it began.
#[must_use]
pub fn result(
    agent: AgentId,
    revision: u64,
    check: &Check,
    at_ms: u64,
    duration: Duration,
    Ran { finding, usage, .. }: Ran,
) -> CheckResult {
    let Finding { status, value, unit, metrics, output, exit_code, signal } = finding;
    CheckResult {
        value,
        unit,
        metrics,
        output,
        exit_code,
        signal,
        usage,
        duration_ms: protocol::duration::millis(duration),
        revision,
        ..CheckResult::new(agent, check.name.clone(), at_ms, status)
    }
}
