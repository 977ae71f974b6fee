//! `dogwatch key …`

use std::io::{self, Write};

use protocol::{
    Facts, Labels,
    admin::{KeyCreate, KeyCreated, KeyInfo, KeyList},
    duration,
};
use serde_json::Value;

use super::http::Client;
use crate::{
    args::{Common, KeyCreateArgs},
    output::{self, Column, age, left, note},
};

const COLUMNS: [Column<KeyInfo>; 8] = [
    Column { title: "ID", cell: |key, _| key.id.clone() },
    Column { title: "ROLE", cell: |key, _| key.role.to_string() },
    Column { title: "AGENT", cell: |key, _| key.agent.as_ref().map(ToString::to_string).unwrap_or_default() },
    Column { title: "CREATED", cell: |key, now| age(key.created_ms, now) },
    Column { title: "LAST USED", cell: |key, now| age(key.last_used_ms, now) },
    Column {
        title: "REVOKED",
        cell: |key, now| key.revoked_ms.map(|at_ms| age(at_ms, now)).unwrap_or_default(),
    },
    Column {
        title: "EXPIRES",
        cell: |key, now| key.expires_ms.map(|end| left(end, now)).unwrap_or_default(),
    },
    Column { title: "HOSTS", cell: |key, _| key.hosts.clone().unwrap_or_default() },
];

/// # Errors
/// [`super::http::ClientError`].
pub(crate) async fn create(args: KeyCreateArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let request = KeyCreate {
        role: args.role,
        agent: args.agent,
        labels: args.labels.into_iter().collect::<Labels>(),
        facts: args.facts.into_iter().map(|(name, text)| (name, fact(text))).collect::<Facts>(),
        expires_in_ms: args.expires.map(duration::millis),
        hosts: args.hosts,
        actor: String::new(),
    };
    let created: KeyCreated = client.post(&["api", "v1", "keys"], &request).await?;
    note(&format!("key {} of role {}: it is shown this once", created.info.id, created.info.role));
    writeln!(io::stdout(), "{}", created.key)?;
    Ok(())
}

/// Numbers and truth values are facts of their own kind: `cpus=4`.
fn fact(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::String(text),
    }
}

/// # Errors
/// [`super::http::ClientError`].
pub(crate) async fn list(common: &Common) -> anyhow::Result<()> {
    let list: KeyList = Client::open(common)?.get(&["api", "v1", "keys"], &[]).await?;
    output::print(&list.keys, &COLUMNS, common.output)
}

/// # Errors
/// [`super::http::ClientError`].
pub(crate) async fn revoke(id: &str, common: &Common) -> anyhow::Result<()> {
    let info: KeyInfo = Client::open(common)?.delete(&["api", "v1", "keys", id]).await?;
    output::print(&[info], &COLUMNS, common.output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_keep_their_kind() {
        for (text, expected) in
            [("4", "4"), ("true", "true"), ("linux", "\"linux\""), ("[1]", "\"[1]\""), ("null", "\"null\"")]
        {
            assert_eq!(fact(text.to_owned()).to_string(), expected);
        }
    }
}
