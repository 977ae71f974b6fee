//! Cutting the connections of an agent whose sign-in was taken away: asked of the broker's system account.

use std::{path::PathBuf, time::Duration};

use async_nats::Client;
use futures_util::StreamExt;
use protocol::{AgentId, subject::broker};
use serde::Deserialize;
use serde_json::json;
use service_kit::{
    nats::{self, NatsSettings},
    report,
};

/// How long the servers of a cluster may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// After the first answer the others are not waited for as long.
const OTHERS: Duration = Duration::from_millis(300);
/// Connections of one agent on one server, at most: it has one, or a few that it lost.
const MOST: usize = 1_024;

/// How to reach the system account.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) nats: NatsSettings,
    /// File with the NKey seed of a user in that account.
    pub(crate) nkey_file: PathBuf,
}

#[derive(Deserialize)]
struct Answer {
    server: Server,
    data: Data,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    connections: Vec<Connection>,
}

#[derive(Deserialize)]
struct Connection {
    cid: u64,
    #[serde(default)]
    authorized_user: String,
}

impl Connections {
    /// Cut every connection that signed in as this agent. Returns how many there were.
    ///
    /// # Errors
    /// Why nobody knows whether there are any.
    pub(crate) async fn cut(&self, agent: &AgentId) -> Result<u32, String> {
        let client = nats::connect_briefly(&self.nats, &self.nkey_file, "config-service-system")
            .await
            .map_err(|error| report(&error))?;
        let outcome = tokio::time::timeout(TIMEOUT, cut(&client, agent)).await;
        service_kit::process::leave(&client).await;
        outcome.map_err(|_| format!("the broker did not answer within {TIMEOUT:?}"))?
    }
}

async fn cut(client: &Client, agent: &AgentId) -> Result<u32, String> {
    let question = json!({"auth": true, "user": agent, "limit": MOST}).to_string();
    let mut count = 0;
    for answer in ask_all(client, broker::CONNECTIONS, question).await? {
        let Answer { server, data } = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let own = data.connections.iter().filter(|one| one.authorized_user == agent.as_str());
        for connection in own {
            let order = json!({"cid": connection.cid}).to_string();
            let answer = client.request(broker::kick(&server.id), order.into()).await;
            answer.map_err(|error| report(&error))?;
            count += 1;
        }
    }
    Ok(count)
}

/// What every server answers.
async fn ask_all(client: &Client, subject: &str, question: String) -> Result<Vec<bytes::Bytes>, String> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
    let sent = client.publish_with_reply(subject.to_owned(), inbox, question.into()).await;
    sent.map_err(|error| report(&error))?;
    let first = answers.next().await.ok_or("the connection ended")?;
    let mut all = vec![first.payload];
    while let Ok(Some(message)) = tokio::time::timeout(OTHERS, answers.next()).await {
        all.push(message.payload);
    }
    Ok(all)
}
