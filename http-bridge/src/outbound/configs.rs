//! The configuration of a host: fetched for its script, and looked at to judge what it submits.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use protocol::{
    AgentId, ErrorCode, ErrorReply, Labels, Origin, VERSION,
    config::{AgentConfig, ConfigReply, ConfigRequest},
    subject,
};

use super::{Ask, ask::ANSWER, lock};
use crate::core::cache::Cache;

/// Thresholds that changed judge submissions after this time.
const FRESH: Duration = Duration::from_secs(5);
/// A submission does not wait longer for its thresholds.
const JUDGING: Duration = Duration::from_secs(1);

pub(crate) struct Configs {
    ask: Ask,
    cache: Mutex<Cache<AgentId, Arc<AgentConfig>>>,
}

impl Configs {
    pub(crate) fn new(ask: Ask) -> Self {
        Self { ask, cache: Mutex::new(Cache::new(FRESH, 1_000)) }
    }

    /// What the host is to run now.
    ///
    /// # Errors
    /// When the config-service is away, or refuses the host.
    pub(crate) async fn current(&self, agent: &AgentId) -> Result<Arc<AgentConfig>, ErrorReply> {
        self.fetch(agent, ANSWER).await
    }

    /// What the host was to run a moment ago; `None` when nobody can tell, which is no reason to refuse a submission.
    pub(crate) async fn recent(&self, agent: &AgentId) -> Option<Arc<AgentConfig>> {
        let fresh = lock(&self.cache).get(agent, Instant::now());
        if fresh.is_some() {
            return fresh;
        }
        match self.fetch(agent, JUDGING).await {
            Ok(config) => Some(config),
            Err(error) => {
                tracing::debug!(%agent, error = error.message, "submission judged without fresh thresholds");
                lock(&self.cache).get_stale(agent)
            }
        }
    }

    async fn fetch(&self, agent: &AgentId, timeout: Duration) -> Result<Arc<AgentConfig>, ErrorReply> {
        let held = lock(&self.cache).get_stale(agent);
        let question = ConfigRequest {
            v: VERSION,
            facts: None,
            labels: Labels::new(),
            etag: held.as_ref().map(|config| config.etag.clone()),
            agent_version: None,
            origin: Origin::Http,
            poll_ms: None,
            instance: None,
            signed: false,
        };
        let config = match self.ask.ask(&subject::config_get(agent), &question, timeout).await? {
            ConfigReply::Full { config } => Arc::new(config),
            ConfigReply::Unchanged { revision } => match held {
                Some(held) if held.revision == revision => held,
                Some(held) => Arc::new(AgentConfig { revision, ..AgentConfig::clone(&held) }),
                None => {
                    let text = "the config-service took an answer for granted that was never given";
                    return Err(ErrorReply::new(ErrorCode::Internal, text));
                }
            },
            ConfigReply::Refused { reason } => {
                return Err(ErrorReply::new(
                    ErrorCode::Forbidden,
                    format!("no configuration for {agent}: {reason}"),
                ));
            }
        };
        lock(&self.cache).put(agent.clone(), Arc::clone(&config), Instant::now());
        Ok(config)
    }
}
