//! Why nobody is told of an alert that begins: a silence, or something that it depends on. Muting suppresses the
//! opening, never the end, and never the checks: an alert that still fires when the reason is gone is told then.

use std::collections::HashSet;

use documents::{ExpressionError, HostExpression};
use protocol::{
    AgentId, RuleName,
    alert::Alert,
    cron::{Cron, CronError},
    duration,
    operate::Silence,
};

use super::{
    alert::AlertKey,
    evaluate::HostInfo,
    rules::{CompiledRule, HOST_DOWN},
};

/// The label that names the host behind which a host is: its router, its hypervisor.
pub const PARENT: &str = "parent";

/// Why a silence cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SilenceError {
    #[error("hosts: {0}")]
    Hosts(#[from] ExpressionError),
    #[error("cron: {0}")]
    Cron(String),
    #[error(
        "it says neither when it ends nor when it comes again: give it \"ends\", or \"cron\" and \"duration\""
    )]
    Endless,
}

/// A silence with its expression compiled.
#[derive(Debug)]
pub struct CompiledSilence {
    pub silence: Silence,
    hosts: Option<HostExpression>,
    cron: Option<(Cron, u64)>,
}

impl CompiledSilence {
    /// # Errors
    /// [`SilenceError`].
    pub fn new(silence: Silence) -> Result<Self, SilenceError> {
        let hosts = silence.hosts.as_deref().map(HostExpression::compile).transpose()?;
        let cron = match (&silence.cron, silence.duration) {
            (Some(cron), Some(length)) => {
                let cron = cron.parse().map_err(|error: CronError| SilenceError::Cron(error.to_string()))?;
                Some((cron, duration::millis(length)))
            }
            (None, _) if silence.ends.is_some() => None,
            _ => return Err(SilenceError::Endless),
        };
        Ok(Self { silence, hosts, cron })
    }

    #[must_use]
    pub fn is_active(&self, now_ms: u64) -> bool {
        let Silence { starts, ends, timezone, .. } = &self.silence;
        if starts.is_some_and(|starts| now_ms < starts) || ends.is_some_and(|ends| now_ms >= ends) {
            return false;
        }
        let Some((cron, length_ms)) = &self.cron else { return true };
        let zone = protocol::cron::zone(timezone.as_deref().unwrap_or("UTC"));
        let Ok(zone) = zone else { return false };
        // The first window that begins after this one would have ended.
        let next = cron.next_after(now_ms.saturating_sub(*length_ms), &zone);
        next.is_some_and(|begins| begins <= now_ms)
    }

    fn fits(&self, alert: &Alert, host: &HostInfo) -> bool {
        let Silence { checks, rules, .. } = &self.silence;
        let view = host.view(&alert.agent);
        (checks.is_empty() || checks.contains(&alert.check))
            && (rules.is_empty() || rules.contains(&alert.rule))
            // An expression that has no answer silences nothing.
            && self.hosts.as_ref().is_none_or(|hosts| hosts.matches(&view).unwrap_or(false))
    }
}

/// Everything that mutes.
#[derive(Debug, Default)]
pub struct Mutes {
    pub silences: Vec<CompiledSilence>,
}

impl Mutes {
    /// Why nobody is to be told that `alert` fires. `firing`: all alerts that do.
    #[must_use]
    pub fn reason(
        &self,
        alert: &Alert,
        rule: &CompiledRule,
        host: &HostInfo,
        firing: &HashSet<AlertKey>,
        now_ms: u64,
    ) -> Option<String> {
        let silenced =
            self.silences.iter().find(|silence| silence.fits(alert, host) && silence.is_active(now_ms));
        if let Some(CompiledSilence { silence, .. }) = silenced {
            let comment =
                if silence.comment.is_empty() { String::new() } else { format!(" ({})", silence.comment) };
            return Some(format!("silence {}{comment}", silence.name));
        }
        depends(alert, rule, host, firing)
    }
}

/// The host, the host that it is behind, and what its rule depends on.
fn depends(
    alert: &Alert,
    rule: &CompiledRule,
    host: &HostInfo,
    firing: &HashSet<AlertKey>,
) -> Option<String> {
    let parent = host.labels.get(PARENT).and_then(|name| AgentId::new(name.as_str()).ok());
    let parent = parent.filter(|parent| *parent != alert.agent);
    let down = RuleName::new(HOST_DOWN).ok();
    let itself = (alert.rule.as_str() != HOST_DOWN).then(|| alert.agent.clone());
    let hosts_down = itself
        .into_iter()
        .chain(parent.clone())
        .zip(std::iter::repeat(down))
        .filter_map(|(agent, rule)| Some(AlertKey { agent, rule: rule? }));
    let hosts = [Some(alert.agent.clone()), parent];
    let rules = rule.rule.depends_on.iter().filter(|rule| **rule != alert.rule).flat_map(|rule| {
        hosts.iter().flatten().map(|agent| AlertKey { agent: agent.clone(), rule: rule.clone() })
    });
    let found = hosts_down.chain(rules).find(|key| firing.contains(key))?;
    Some(format!("it depends on {} on {}, which fires", found.rule, found.agent))
}
