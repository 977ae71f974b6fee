//! Every subject, built from checked ids. No other place spells one out.

use crate::{AgentId, CheckName, ReceiverName, RuleName};

macro_rules! subjects {
    ($($(#[$doc:meta])* $name:ident = $subject:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = concat!("dogwatch.v1.", $subject);)*

        /// All of the above: no agent may use one of them as it stands here.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

subjects! {
    /// Requests for configuration, of all agents.
    CONFIG_GET_ALL = "config.get.*";
    /// Reports of applied or failed configurations, of all agents.
    CONFIG_STATUS_ALL = "config.status.*";
    /// Published after every accepted change, for services that hold rules or receivers.
    CONFIG_REVISION = "config.revision";
    /// Stream CONFIG: every accepted change.
    CONFIG_LOG = "config.log";

    ADMIN_APPLY = "admin.apply";
    ADMIN_DIFF = "admin.diff";
    ADMIN_DOCUMENTS = "admin.documents";
    ADMIN_EXPLAIN = "admin.explain";
    ADMIN_HISTORY = "admin.history";
    ADMIN_HOSTS = "admin.hosts";
    ADMIN_KEY_CREATE = "admin.key.create";
    ADMIN_KEY_LIST = "admin.key.list";
    ADMIN_KEY_REVOKE = "admin.key.revoke";
    ADMIN_KEY_VERIFY = "admin.key.verify";
    ADMIN_ROLLBACK = "admin.rollback";
    ADMIN_TOKEN_CREATE = "admin.token.create";
    ADMIN_TOKEN_LIST = "admin.token.list";
    ADMIN_TOKEN_REVOKE = "admin.token.revoke";
    ADMIN_HOST_REVOKE = "admin.host.revoke";
    ADMIN_AUDIT = "admin.audit";
    /// Begin to fetch an archive of the installation.
    ADMIN_BACKUP = "admin.backup";
    /// Begin to bring one.
    ADMIN_RESTORE = "admin.restore";
    ADMIN_RESTORE_STATE = "admin.restore.state";
    ADMIN_HOST_DECOMMISSION = "admin.host.decommission";
    ADMIN_HOST_DECOMMISSIONED = "admin.host.decommissioned";
    ADMIN_ROLLOUT_CHANGE = "admin.rollout.change";
    ADMIN_ROLLOUT_LIST = "admin.rollout.list";

    /// Stream RESULTS.
    RESULT_ALL = "result.*.*";
    STORED_GET_ALL = "stored.get.*";
    /// Stream ALERTS.
    ALERT_ALL = "alert.*.*";
    /// Stream NOTIFY.
    NOTIFY_ALL = "notify.*";
    /// Stream AUDIT.
    AUDIT_ALL = "audit.*";
    /// Stream REJECTED.
    REJECTED_ALL = "rejected.*";

    QUERY_RESULTS = "query.results";
    QUERY_ALERTS = "query.alerts";
    QUERY_LOSS = "query.loss";
    QUERY_PROMETHEUS = "query.prometheus";
    QUERY_SERIES = "query.series";
    QUERY_AVAILABILITY = "query.availability";
    QUERY_LATEST = "query.latest";
    QUERY_TIMELINE = "query.timeline";
    QUERY_TOP = "query.top";
    /// Published: a question whose answer nobody waits for.
    QUERY_CANCEL = "query.cancel";
    QUERY_CLOCKS = "query.clocks";

    /// Why is an alert as it is?
    ALERTER_WHY = "alerter.why";
    ALERTER_ACKNOWLEDGE = "alerter.acknowledge";
    ALERTER_SILENCE_LIST = "alerter.silence.list";
    ALERTER_SILENCE_PUT = "alerter.silence.put";
    ALERTER_SILENCE_EXPIRE = "alerter.silence.expire";
    ALERTER_NOTIFICATION_LIST = "alerter.notification.list";
    ALERTER_NOTIFICATION_CHANGE = "alerter.notification.change";
    ALERTER_RECEIVER_TEST = "alerter.receiver.test";
    /// Begin to fetch what the alerter remembers.
    ALERTER_BACKUP = "alerter.backup";
    /// Begin to bring it.
    ALERTER_RESTORE = "alerter.restore";
}

#[must_use]
pub fn config_get(agent: &AgentId) -> String {
    format!("dogwatch.v1.config.get.{agent}")
}

#[must_use]
pub fn config_changed(agent: &AgentId) -> String {
    format!("dogwatch.v1.config.changed.{agent}")
}

#[must_use]
pub fn config_status(agent: &AgentId) -> String {
    format!("dogwatch.v1.config.status.{agent}")
}

#[must_use]
pub fn result(agent: &AgentId, check: &CheckName) -> String {
    format!("dogwatch.v1.result.{agent}.{check}")
}

/// Results of this agent and this check, each of all where none is given.
#[must_use]
pub fn results(agent: Option<&AgentId>, check: Option<&CheckName>) -> String {
    let (agent, check) = (agent.map_or("*", AgentId::as_str), check.map_or("*", CheckName::as_str));
    format!("dogwatch.v1.result.{agent}.{check}")
}

#[must_use]
pub fn stored(agent: &AgentId) -> String {
    format!("dogwatch.v1.stored.{agent}")
}

#[must_use]
pub fn stored_get(agent: &AgentId) -> String {
    format!("dogwatch.v1.stored.get.{agent}")
}

/// Requests to run a check now.
#[must_use]
pub fn run(agent: &AgentId) -> String {
    format!("dogwatch.v1.run.{agent}")
}

#[must_use]
pub fn alert(agent: &AgentId, rule: &RuleName) -> String {
    format!("dogwatch.v1.alert.{agent}.{rule}")
}

#[must_use]
pub fn notify(receiver: &ReceiverName) -> String {
    format!("dogwatch.v1.notify.{receiver}")
}

/// Where a transfer that began at `begin` goes on: at the replica that it began at.
#[must_use]
pub fn transfer(begin: &str, replica: &str) -> String {
    format!("{begin}.piece.{replica}")
}

/// Where a transfer that was brought to this replica takes effect.
#[must_use]
pub fn transfer_end(begin: &str, replica: &str) -> String {
    format!("{begin}.end.{replica}")
}

/// `service` is a program's own name, such as `ingest`.
#[must_use]
pub fn rejected(service: &str) -> String {
    format!("dogwatch.v1.rejected.{service}")
}

/// `service` is a program's own name, such as `http-bridge`.
#[must_use]
pub fn audit(service: &str) -> String {
    format!("dogwatch.v1.audit.{service}")
}

/// Subjects of the NATS server itself.
pub mod broker {
    /// It asks here who signs in (auth callout).
    pub const SIGN_IN: &str = "$SYS.REQ.USER.AUTH";
    /// Every server of a cluster answers with its connections.
    pub const CONNECTIONS: &str = "$SYS.REQ.SERVER.PING.CONNZ";

    /// Cuts a connection of one server, by the server's id.
    #[must_use]
    pub fn kick(server: &str) -> String {
        format!("$SYS.REQ.SERVER.{server}.KICK")
    }
}

/// Prefix of an agent's reply inboxes, so that the broker can keep other agents out of them.
#[must_use]
pub fn agent_inbox(agent: &AgentId) -> String {
    format!("_INBOX_{agent}")
}

/// The agent whose `config.get`, `config.status` or `stored.get` subject this is: its last token.
#[must_use]
pub fn last_agent(subject: &str) -> Option<AgentId> {
    AgentId::new(subject.rsplit('.').next()?).ok()
}

/// Agent and check of a result's subject. The broker enforces who may publish on it, so it is the truth about whose
/// result a message is; a body that says otherwise is rejected.
#[must_use]
pub fn result_parts(subject: &str) -> Option<(AgentId, CheckName)> {
    let (agent, check) = subject.strip_prefix("dogwatch.v1.result.")?.split_once('.')?;
    Some((AgentId::new(agent).ok()?, CheckName::new(check).ok()?))
}

/// What an agent may publish. `config.status`, `config.get` and `stored.get` are its questions and reports. Besides, it
/// may answer the requests that reach it on [`run`], and nobody else: see [`AGENT_RESPONSES`].
#[must_use]
pub fn agent_publishes(agent: &AgentId) -> Vec<String> {
    vec![format!("dogwatch.v1.result.{agent}.*"), config_get(agent), config_status(agent), stored_get(agent)]
}

/// Answers that an agent may give to one request, at most, and for how long after it came (`allow_responses`). A check
/// may run for a day.
pub const AGENT_RESPONSES: (u32, std::time::Duration) = (10_000, std::time::Duration::from_secs(90_000));

/// What an agent may subscribe to.
#[must_use]
pub fn agent_subscribes(agent: &AgentId) -> Vec<String> {
    vec![config_changed(agent), stored(agent), run(agent), format!("{}.>", agent_inbox(agent))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_subject_is_read_back() {
        let (agent, check) = (AgentId::new("web-01").unwrap(), CheckName::new("Disk").unwrap());
        assert_eq!(result_parts(&result(&agent, &check)), Some((agent.clone(), check)));
        assert_eq!(last_agent(&config_get(&agent)), Some(agent));
        for bad in
            ["dogwatch.v1.result.web", "dogwatch.v1.result.web.a.b", "dogwatch.v2.result.a.b", "", "a.b"]
        {
            assert_eq!(result_parts(bad), None, "{bad}");
        }
    }
}
