//! Telling those whom a change concerns. A nudge that is lost costs time only: agents and services also ask by
//! themselves.

use std::time::Duration;

use bytes::Bytes;
use protocol::{AgentId, VERSION, config::ConfigChanged, subject};

/// While the broker is away publishing waits, and others wait for the one who nudges.
const LIMIT: Duration = Duration::from_secs(5);

/// Tell these agents, and once all services, that `revision` is there.
pub(crate) async fn nudge(client: &async_nats::Client, revision: u64, agents: &[AgentId]) {
    let Ok(body) = protocol::encode(&ConfigChanged { v: VERSION, revision }) else { return };
    let body = Bytes::from(body);
    let subjects = agents.iter().map(subject::config_changed);
    let sent = async {
        for subject in subjects.chain([subject::CONFIG_REVISION.to_owned()]) {
            client.publish(subject, body.clone()).await.map_err(|error| service_kit::report(&error))?;
        }
        Ok(())
    };
    let outcome = tokio::time::timeout(LIMIT, sent).await;
    if let Err(reason) = outcome.unwrap_or_else(|_| Err(format!("not within {LIMIT:?}"))) {
        tracing::warn!(reason, revision, "not all nudges could be sent; agents ask by themselves as well");
    }
}
