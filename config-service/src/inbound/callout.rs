//! Auth callout: the broker asks who signs in, and agents are answered with permissions for their own subjects (G4).
//!
//! Services and operators sign in by NKeys that the broker itself knows, so nothing here has to run for them. Replicas
//! share the work as a queue group.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::Context as _;
use futures_util::StreamExt;
use nkeys::{KeyPair, KeyPairType};
use prometheus_client::metrics::counter::Counter;
use protocol::{AgentId, ErrorCode, ErrorReply, audit::AuditOutcome, log::LogChange, subject::broker};
use service_kit::{Context, audit::Audit, now_ms, respond};
use tokio::sync::Semaphore;

use crate::{
    changes::{Changes, Snapshot},
    core::{
        callout::{self, Question},
        model::Model,
        sign_in::{Claim, Decision, shown},
    },
};

/// Sign-ins worked on at once; what is beyond is left to the next try of the client.
const AT_ONCE: usize = 256;

pub(crate) struct Callout {
    pub(crate) model: Arc<RwLock<Model>>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) audit: Audit,
    pub(crate) issuer: KeyPair,
}

#[derive(Clone, Default)]
struct Metrics {
    accepted: Counter,
    enrolled: Counter,
    refused: Counter,
    dropped: Counter,
}

impl Metrics {
    fn new(ctx: &Context) -> Self {
        let metrics = Self::default();
        ctx.metrics.register(ctx.name, |registry| {
            registry.register("sign_ins", "Agents that signed in", metrics.accepted.clone());
            registry.register("sign_ins_enrolled", "Of those, new ones", metrics.enrolled.clone());
            registry.register("sign_ins_refused", "Sign-ins refused", metrics.refused.clone());
            let help = "Sign-ins left unanswered: too many at once, or no question of a broker";
            registry.register("sign_ins_dropped", help, metrics.dropped.clone());
        });
        metrics
    }
}

/// The key of the account that the broker believes in this matter.
///
/// # Errors
/// When the file cannot be read, or holds no seed of an account.
pub(crate) fn issuer(path: &Path) -> anyhow::Result<KeyPair> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read --issuer-seed-file {name}: check the path and its permissions")
    })?;
    let pair =
        KeyPair::from_seed(text.trim()).ok().filter(|pair| pair.key_pair_type() == KeyPairType::Account);
    pair.with_context(|| format!("--issuer-seed-file {name} holds no NKey seed of an account (SA…)"))
}

impl Callout {
    /// Answer until the service stops. Returns once the broker knows of it.
    pub(crate) async fn serve(self, ctx: &Context) -> anyhow::Result<()> {
        let mut questions = ctx.nats.queue_subscribe(broker::SIGN_IN, ctx.name.to_owned()).await?;
        respond::barrier(&ctx.nats).await?;
        let (metrics, this) = (Metrics::new(ctx), Arc::new(self));
        let (client, token) = (ctx.nats.clone(), ctx.tasks.token());
        let places = Arc::new(Semaphore::new(AT_ONCE));
        ctx.tasks.spawn("sign-ins", async move {
            loop {
                let message = tokio::select! {
                    message = questions.next() => message,
                    () = token.cancelled() => return Ok(()),
                };
                let Some(message) = message else { anyhow::bail!("the subscription ended") };
                let place = Arc::clone(&places).try_acquire_owned();
                let (Some(reply), Ok(place)) = (message.reply, place) else {
                    metrics.dropped.inc();
                    continue;
                };
                let (this, client, metrics) = (Arc::clone(&this), client.clone(), metrics.clone());
                tokio::spawn(async move {
                    let _place = place;
                    let answer = match callout::read(&message.payload) {
                        Ok(question) => this.answer(&question, &metrics).await,
                        Err(error) => Err(error.to_string()),
                    };
                    let sent = match answer {
                        Ok(answer) => {
                            client.publish(reply, answer.into()).await.map_err(|error| error.to_string())
                        }
                        Err(reason) => Err(reason),
                    };
                    if let Err(reason) = sent {
                        metrics.dropped.inc();
                        tracing::warn!(reason, "a sign-in was not answered");
                    }
                });
            }
        });
        Ok(())
    }

    async fn answer(&self, question: &Question, metrics: &Metrics) -> Result<String, String> {
        let who = match self.decide(question, metrics).await {
            Ok(agent) => {
                metrics.accepted.inc();
                Ok(agent)
            }
            Err(error) => {
                metrics.refused.inc();
                let called = question.agent.as_deref().unwrap_or_default();
                let actor = format!("agent {}", shown(called).trim_matches('"'));
                tracing::warn!(
                    agent = actor,
                    from = question.from,
                    reason = error.message,
                    "a sign-in is refused"
                );
                self.audit.tell(
                    &actor,
                    Some(&question.from),
                    "sign in",
                    AuditOutcome::Refused,
                    &error.message,
                );
                Err(error.message)
            }
        };
        let who = who.as_ref().map_err(String::as_str);
        question.answer(&self.issuer, who, now_ms()).map_err(|error| error.to_string())
    }

    async fn decide(&self, question: &Question, metrics: &Metrics) -> Result<AgentId, ErrorReply> {
        let forbidden = |reason: String| ErrorReply::new(ErrorCode::Forbidden, reason);
        let Some(nkey) = question.nkey() else {
            return Err(forbidden("the client has no NKey, or did not sign with it".to_owned()));
        };
        self.changes.answerable()?;
        let claim =
            Claim { nkey: nkey.to_owned(), agent: question.agent.clone(), token: question.token.clone() };
        let decided = {
            let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
            model.sign_ins.decide(&claim, |agent| model.has_host(agent), now_ms())
        };
        match decided.map_err(forbidden)? {
            Decision::Known(agent) => Ok(agent),
            Decision::Enrol { agent, token } => {
                let agent = self.enrol(claim, agent, token, question.from.clone()).await?;
                metrics.enrolled.inc();
                Ok(agent)
            }
        }
    }

    /// Decided anew on the newest state, and durable before the broker hears of it.
    async fn enrol(
        &self,
        claim: Claim,
        agent: AgentId,
        token: String,
        from: String,
    ) -> Result<AgentId, ErrorReply> {
        let (actor, message) =
            (format!("agent {agent}"), format!("enrolled from {from} by the token {token}"));
        let model = Arc::clone(&self.model);
        let plan = move |snapshot: &Snapshot| {
            let now = now_ms();
            let in_inventory =
                |agent: &AgentId| model.read().unwrap_or_else(PoisonError::into_inner).has_host(agent);
            let decided = snapshot.sign_ins.decide(&claim, in_inventory, now);
            match decided.map_err(|reason| ErrorReply::new(ErrorCode::Forbidden, reason))? {
                Decision::Known(agent) => Ok((Vec::new(), agent)),
                Decision::Enrol { agent, token } => {
                    let nkey = claim.nkey.clone();
                    let enrolled = LogChange::AgentEnrolled { agent: agent.clone(), nkey, token, at_ms: now };
                    Ok((vec![enrolled], agent))
                }
            }
        };
        Ok(self.changes.make(actor, message, plan).await?.1)
    }
}
