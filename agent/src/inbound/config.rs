//! Following the configuration: asked for at start, when nudged, after a reconnect, and now and then.
//!
//! The last good one is on disk and runs from the start, broker or not (G7). Each revision is answered with a report:
//! it runs, or why not (G8). What is refused or unreadable changes nothing here.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use protocol::{
    AgentId, Facts, Labels, Origin, VERSION,
    config::{ConfigRequest, ConfigStatus},
    subject,
};
use service_kit::{
    Backoff, Context, report,
    request::{RequestError, TIMEOUT, request},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    core::check::{Plan, WireConfig, WireReply},
    metrics::Metrics,
    outbound::probe,
    store,
};

/// After a nudge each agent waits a moment of its own within this, so that a change of all hosts is no stampede.
const SPREAD: Duration = Duration::from_millis(300);
const RETRY_FIRST: Duration = Duration::from_millis(500);

pub struct Follower {
    pub ctx: Context,
    pub agent: AgentId,
    pub folder: PathBuf,
    pub labels: Labels,
    pub poll: Duration,
    /// A number of this agent's own, to spread it from others.
    pub seed: u64,
    pub metrics: Metrics,
}

/// What the follower knows while it runs.
struct State {
    follower: Follower,
    plan: watch::Sender<Arc<Plan>>,
    /// The configuration of `plan` as it came, to be written again under a new revision.
    wire: Option<WireConfig>,
    /// Facts that the server has, as far as we know.
    facts_sent: Option<Facts>,
    status_due: bool,
    backoff: Backoff,
    last_failure: String,
}

impl Follower {
    /// Run what was saved last, and follow changes as a task of the service.
    pub fn start(self, mut link: watch::Receiver<u64>) -> watch::Receiver<Arc<Plan>> {
        let (plan, receiver) = watch::channel(Arc::default());
        let tasks = self.ctx.tasks.clone();
        let poll = self.poll.mul_f64(0.8 + 0.4 * fraction(self.seed)).max(Duration::from_millis(100));
        let spread = SPREAD.mul_f64(fraction(self.seed));
        let mut state = State {
            backoff: Backoff::new(RETRY_FIRST, poll.max(RETRY_FIRST)),
            follower: self,
            plan,
            wire: None,
            facts_sent: None,
            status_due: true,
            last_failure: String::new(),
        };
        state.load();
        tasks.clone().spawn("configuration", async move {
            let token = tasks.token();
            let ctx = &state.follower.ctx;
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
                    nudge = nudges.next() => {
                        anyhow::ensure!(nudge.is_some(), "the subscription to changes ended");
                        tokio::time::sleep(spread).await;
                        // Any number of nudges is answered by asking once.
                        while let Some(Some(_)) = nudges.next().now_or_never() {}
                    }
                    () = tokio::time::sleep_until(next) => {}
                }
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
    fn load(&mut self) {
        let loaded = store::config::load(&self.follower.folder).map_err(|error| error.to_string());
        let plan = loaded.and_then(|wire| {
            self.wire = wire;
            self.wire.as_ref().map(Plan::read).transpose()
        });
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

    /// Ask once. The error is for the log.
    async fn ask(&mut self) -> Result<(), String> {
        let facts = tokio::task::spawn_blocking(probe::facts::detect).await.unwrap_or_default();
        let new_facts = (self.facts_sent.as_ref() != Some(&facts)).then(|| facts.clone());
        let known = self.plan.borrow().clone();
        let question = ConfigRequest {
            v: VERSION,
            facts: new_facts,
            labels: self.follower.labels.clone(),
            etag: self.wire.as_ref().map(|_| known.etag.clone()),
            agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            origin: Origin::Agent,
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
                self.facts_sent = Some(facts);
                if revision != known.revision
                    && let Some(wire) = self.wire.clone()
                {
                    return self.apply(WireConfig { revision, ..wire }).await;
                }
                if self.status_due && self.wire.is_some() {
                    self.status(known.revision, known.problem()).await;
                }
                Ok(())
            }
            WireReply::Full { config } => {
                self.facts_sent = Some(facts);
                self.apply(config).await
            }
            WireReply::Refused { reason } => Err(format!("the config-service refuses this agent: {reason}")),
        }
    }

    async fn apply(&mut self, wire: WireConfig) -> Result<(), String> {
        let revision = wire.revision;
        let plan = match Plan::read(&wire) {
            Ok(plan) => plan,
            Err(reason) => {
                self.status(revision, Some(reason.clone())).await;
                return Err(format!("revision {revision} cannot be applied: {reason}"));
            }
        };
        let problem = plan.problem();
        if let Some(problem) = &problem {
            self.follower.metrics.config_failures.inc();
            tracing::warn!(revision, problem, "some checks cannot run");
        }
        tracing::info!(revision, checks = plan.checks.len(), "configuration applied");
        self.plan.send_replace(Arc::new(plan));
        let (folder, saved) = (self.follower.folder.clone(), wire.clone());
        self.wire = Some(wire);
        let saved = tokio::task::spawn_blocking(move || store::config::save(&folder, &saved)).await;
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

/// A seed as a number in 0..1.
fn fraction(seed: u64) -> f64 {
    f64::from(u16::try_from(seed % 1_000).unwrap_or_default()) / 1_000.0
}
