//! Following the configuration: asked for at start, when nudged, after a reconnect, and now and then.
//!
//! The last good one is on disk and runs from the start, broker or not (G7). Each revision is answered with a report:
//! it runs, or why not (G8). What is refused or unreadable changes nothing here.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use protocol::{
    AgentId, Facts, Origin, VERSION,
    config::{ConfigRequest, ConfigStatus},
    subject,
};
use service_kit::{
    Backoff, Context,
    files::DataFolder,
    report,
    request::{RequestError, TIMEOUT, request},
};
use tokio::{sync::watch, time::Instant};

use super::{judge::Judge, local::Local};
use crate::{
    core::{
        check::{Plan, WireConfig, WireReply, cut},
        trust::Accepted,
    },
    metrics::Metrics,
    outbound::{
        probe::{command, own_facts::HostFacts},
        resolver::Resolver,
    },
    store::{self, config::Saved},
};

/// After a nudge each agent waits a moment of its own within this, so that a change of all hosts is no stampede.
const SPREAD: Duration = Duration::from_millis(300);
const RETRY_FIRST: Duration = Duration::from_millis(500);

pub struct Follower {
    pub ctx: Context,
    pub agent: AgentId,
    pub folder: Arc<Mutex<DataFolder>>,
    pub resolver: Resolver,
    /// What the host accepted up to now.
    pub accepted: Accepted,
    /// What the host itself says; changed by a reload.
    pub local: watch::Receiver<Local>,
    pub poll: Duration,
    /// A number of this agent's own, to spread it from others.
    pub seed: u64,
    pub metrics: Metrics,
}

/// What the follower knows while it runs.
struct State {
    follower: Follower,
    plan: watch::Sender<Arc<Plan>>,
    /// The configuration of `plan` as it came, to be judged and written again.
    saved: Option<Saved>,
    facts: HostFacts,
    /// Programs that give facts are to be run again now.
    facts_anew: bool,
    /// What is wrong on this host, besides the checks.
    host_problems: Vec<String>,
    /// Facts that the server has, as far as we know.
    facts_sent: Option<Facts>,
    status_due: bool,
    backoff: Backoff,
    last_failure: String,
    /// Tells this process from another one with the same id.
    instance: String,
}

impl Follower {
    /// Run what was saved last, and follow changes as a task of the service.
    pub async fn start(self, mut link: watch::Receiver<u64>) -> watch::Receiver<Arc<Plan>> {
        let (plan, receiver) = watch::channel(Arc::default());
        let tasks = self.ctx.tasks.clone();
        let poll = self.poll.mul_f64(0.8 + 0.4 * fraction(self.seed)).max(Duration::from_millis(100));
        let spread = SPREAD.mul_f64(fraction(self.seed));
        let mut state = State {
            backoff: Backoff::new(RETRY_FIRST, poll.max(RETRY_FIRST)),
            follower: self,
            plan,
            saved: None,
            facts: HostFacts::default(),
            facts_anew: false,
            host_problems: Vec::new(),
            facts_sent: None,
            status_due: true,
            last_failure: String::new(),
            instance: format!("{:016x}", rand::random::<u64>()),
        };
        state.load().await;
        tasks.clone().spawn("configuration", async move {
            let token = tasks.token();
            let ctx = &state.follower.ctx;
            let mut local = state.follower.local.clone();
            let mut nudges = ctx.nats.subscribe(subject::config_changed(&state.follower.agent)).await?;
            let mut next = Instant::now();
            loop {
                tokio::select! {
                    () = token.cancelled() => return Ok(()),
                    changed = link.changed() => {
                        changed?;
                        state.facts_sent = None;
                        state.status_due = true;
                        state.backoff.reset();
                    }
                    // Whoever reloads may be gone; then nothing is reloaded.
                    Ok(()) = local.changed() => state.reload().await,
                    nudge = nudges.next() => {
                        anyhow::ensure!(nudge.is_some(), "the subscription to changes ended");
                        tokio::time::sleep(spread).await;
                        // Any number of nudges is answered by asking once.
                        while let Some(Some(_)) = nudges.next().now_or_never() {}
                    }
                    () = tokio::time::sleep_until(next) => {}
                }
                state.keep_folder().await;
                if *link.borrow_and_update() == 0 {
                    next = Instant::now() + poll;
                    continue;
                }
                let asked = tokio::select! {
                    asked = state.ask() => asked,
                    () = token.cancelled() => return Ok(()),
                };
                next = Instant::now()
                    + match asked {
                        Ok(()) => {
                            store::identity::confirm(&state.path());
                            state.backoff.reset();
                            state.last_failure.clear();
                            poll
                        }
                        Err(reason) => {
                            state.failed(reason);
                            state.backoff.next_delay()
                        }
                    };
            }
        });
        receiver
    }
}

impl State {
    async fn load(&mut self) {
        let loaded = store::config::load(&self.path()).map_err(|error| error.to_string());
        let plan = match loaded {
            Ok(Some(saved)) => {
                self.saved = Some(saved.clone());
                self.read(&saved).await.map(Some)
            }
            Ok(None) => Ok(None),
            Err(reason) => Err(reason),
        };
        match plan {
            Ok(Some(plan)) => {
                tracing::info!(
                    revision = plan.revision,
                    checks = plan.checks.len(),
                    "running the last configuration"
                );
                self.plan.send_replace(Arc::new(plan));
            }
            Ok(None) => tracing::info!("no configuration yet: waiting for the config-service"),
            Err(reason) => {
                self.follower.metrics.config_failures.inc();
                tracing::error!(
                    reason,
                    "the saved configuration cannot be used: waiting for the config-service"
                );
            }
        }
    }

    fn path(&self) -> PathBuf {
        folder(&self.follower.folder).path().to_owned()
    }

    /// What was removed under the running agent is written again: a start without a broker needs it.
    async fn keep_folder(&self) {
        let data = Arc::clone(&self.follower.folder);
        let kept = tokio::task::spawn_blocking(move || {
            let mut data = folder(&data);
            if data.put_back()? {
                tracing::warn!(folder = %data.path().display(), "the state folder was removed, and is made again");
                store::life::save(data.path(), &command::life())?;
            }
            anyhow::Ok(store::config::is_there(data.path()))
        });
        let kept = kept.await.map_err(anyhow::Error::from).flatten();
        let kept = match (kept, self.saved.clone()) {
            (Ok(false), Some(saved)) => {
                let (path, accepted) = (self.path(), self.follower.accepted.clone());
                let saved = tokio::task::spawn_blocking(move || {
                    store::config::save(&path, &saved)?;
                    store::trust::save(&path, &accepted)
                });
                let saved = saved.await;
                saved.map_err(anyhow::Error::from).and_then(|saved| Ok(saved?))
            }
            (kept, _) => kept.map(drop),
        };
        if let Err(error) = kept {
            tracing::error!(error = format!("{error:#}"), "the state folder is not as it has to be");
        }
    }

    /// The configuration as far as this host believes it and its policy lets it run.
    async fn read(&mut self, saved: &Saved) -> Result<Plan, String> {
        let follower = &mut self.follower;
        let Local { trust, labels, policy, .. } = follower.local.borrow().clone();
        let now_ms = service_kit::now_ms();
        let judge = Judge { trust: &trust, resolver: &follower.resolver, agent: &follower.agent };
        let plan = judge.plan(saved, labels, &mut follower.accepted, now_ms).await?;
        Ok(plan.under(&policy))
    }

    /// The host's labels, policy or facts may be others now.
    async fn reload(&mut self) {
        self.facts_anew = true;
        self.status_due = true;
        let plan = match self.saved.clone() {
            Some(saved) => self.read(&saved).await.ok(),
            None => None,
        };
        if let Some(plan) = plan.filter(|plan| *plan != **self.plan.borrow()) {
            tracing::info!(
                problem = plan.problem(),
                "the checks changed with this host's policy, keys or labels"
            );
            self.plan.send_replace(Arc::new(plan));
        }
    }

    /// What to report as the error of a configuration: what of it does not run, and what is wrong on the host.
    fn problem(&self, plan: &Plan) -> Option<String> {
        let local = self.follower.local.borrow().problem.clone();
        let all = plan.problem().into_iter().chain(local).chain(facts_problem(&self.host_problems));
        Some(all.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
    }

    async fn look(&mut self) -> Facts {
        let folder = self.follower.local.borrow().facts_dir.clone();
        let (facts, problems) = self.facts.look(&folder, std::mem::take(&mut self.facts_anew)).await;
        if problems != self.host_problems {
            problems.iter().for_each(|problem| tracing::warn!(problem, "facts left out"));
            self.host_problems = problems;
            self.status_due = true;
        }
        facts
    }

    /// Ask once. The error is for the log.
    async fn ask(&mut self) -> Result<(), String> {
        let facts = self.look().await;
        let new_facts = (self.facts_sent.as_ref() != Some(&facts)).then(|| facts.clone());
        let known = self.plan.borrow().clone();
        let question = ConfigRequest {
            v: VERSION,
            facts: new_facts,
            labels: self.follower.local.borrow().labels.clone(),
            etag: self.saved.as_ref().map(|_| known.etag.clone()),
            agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            origin: Origin::Agent,
            poll_ms: Some(protocol::duration::millis(self.follower.poll)),
            instance: Some(self.instance.clone()),
            signed: self.follower.local.borrow().trust.is_on(),
        };
        let subject = subject::config_get(&self.follower.agent);
        let reply = match request::<_, WireReply>(&self.follower.ctx.nats, &subject, &question, TIMEOUT).await
        {
            Ok(reply) => reply,
            Err(error) => {
                let reason = report(&error);
                if matches!(error, RequestError::Malformed { .. }) {
                    self.status(known.revision, Some(reason.clone())).await;
                }
                return Err(reason);
            }
        };
        match reply {
            WireReply::Unchanged { revision } => {
                self.facts_sent = Some(facts.clone());
                if revision != known.revision
                    && let Some(Saved { wire, .. }) = self.saved.clone()
                {
                    return self.apply(Saved { wire: WireConfig { revision, ..wire }, facts }).await;
                }
                if self.status_due && self.saved.is_some() {
                    self.status(known.revision, self.problem(&known)).await;
                }
                Ok(())
            }
            WireReply::Full { config } => {
                self.facts_sent = Some(facts.clone());
                self.apply(Saved { wire: config, facts }).await
            }
            WireReply::Refused { reason } => Err(format!("the config-service refuses this agent: {reason}")),
        }
    }

    async fn apply(&mut self, new: Saved) -> Result<(), String> {
        let revision = new.wire.revision;
        let before = self.follower.accepted.clone();
        let plan = match self.read(&new).await {
            Ok(plan) => plan,
            Err(reason) => {
                self.status(revision, Some(reason.clone())).await;
                return Err(format!("revision {revision} cannot be applied: {reason}"));
            }
        };
        let problem = self.problem(&plan);
        if let Some(problem) = plan.problem() {
            self.follower.metrics.config_failures.inc();
            tracing::warn!(revision, problem, "some checks cannot run");
        }
        tracing::info!(revision, checks = plan.checks.len(), "configuration applied");
        let (folder, accepted) = (self.path(), self.follower.accepted.clone());
        self.saved = Some(new.clone());
        let saved = tokio::task::spawn_blocking(move || {
            // In this order: what is saved is judged again at the next start, and must not be too old for that.
            store::config::save(&folder, &new)?;
            if accepted == before { Ok(()) } else { store::trust::save(&folder, &accepted) }
        })
        .await;
        // What runs is what was written: after a crash nothing older is accepted.
        self.plan.send_replace(Arc::new(plan));
        if let Err(error) = saved.map_err(std::io::Error::other).flatten() {
            tracing::error!(%error, "the configuration runs but cannot be saved: a restart would begin with an older one");
        }
        self.status(revision, problem).await;
        Ok(())
    }

    async fn status(&mut self, revision: u64, error: Option<String>) {
        let agent = self.follower.agent.clone();
        let subject = subject::config_status(&agent);
        let status = ConfigStatus { v: VERSION, agent, revision, error };
        let Ok(body) = protocol::encode(&status) else { return };
        match self.follower.ctx.nats.publish(subject, body.into()).await {
            Ok(()) => self.status_due = false,
            Err(error) => {
                tracing::warn!(error = report(&error), "the state of the configuration was not reported")
            }
        }
    }

    fn failed(&mut self, reason: String) {
        self.follower.metrics.config_failures.inc();
        self.status_due = true;
        if reason == self.last_failure {
            tracing::debug!(reason, "still no new configuration");
        } else {
            let revision = self.plan.borrow().revision;
            tracing::warn!(reason, revision, "no new configuration; going on with what there is");
            self.last_failure = reason;
        }
    }
}

fn folder(folder: &Mutex<DataFolder>) -> MutexGuard<'_, DataFolder> {
    folder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One text for what is wrong with the facts folder.
fn facts_problem(problems: &[String]) -> Option<String> {
    const SHOWN: usize = 3;
    let shown: Vec<_> = problems.iter().take(SHOWN).map(|problem| cut(problem, 200)).collect();
    let more = if problems.len() > SHOWN { " and more" } else { "" };
    (!shown.is_empty()).then(|| format!("facts left out: {}{more}", shown.join("; ")))
}

/// A seed as a number in 0..1.
fn fraction(seed: u64) -> f64 {
    f64::from(u16::try_from(seed % 1_000).unwrap_or_default()) / 1_000.0
}
