//! Telling those whom a change concerns. A nudge that is lost costs time only: agents and services also ask by
//! themselves.

use bytes::Bytes;
use protocol::{AgentId, VERSION, config::ConfigChanged, subject};

/// Tell these agents, and once all services, that `revision` is there.
pub(crate) async fn nudge(client: &async_nats::Client, revision: u64, agents: &[AgentId]) {
    let Ok(body) = protocol::encode(&ConfigChanged { v: VERSION, revision }) else { return };
    let body = Bytes::from(body);
    let subjects = agents.iter().map(subject::config_changed);
    for subject in subjects.chain([subject::CONFIG_REVISION.to_owned()]) {
        if let Err(error) = client.publish(subject, body.clone()).await {
            tracing::warn!(error = service_kit::report(&error), revision, "a nudge could not be sent");
            return;
        }
    }
}
