//! `dogwatch token …`, `dogwatch host revoke`, `dogwatch audit`

use std::io::{self, BufRead, IsTerminal, Write};

use protocol::{
    AgentId,
    audit::{AuditEvent, AuditPage},
    duration,
    sign_in::{AgentRevoke, AgentRevoked, TokenCreate, TokenCreated, TokenInfo, TokenList},
};
use service_kit::now_ms;

use super::http::Client;
use crate::{
    Usage,
    args::{AuditArgs, Common, DecommissionArgs, TokenCreateArgs},
    output::{self, Column, age, left, note},
};

const TOKENS: [Column<TokenInfo>; 7] = [
    Column { title: "ID", cell: |token, _| token.id.clone() },
    Column { title: "USED", cell: |token, _| format!("{} of {}", token.used, token.uses) },
    Column {
        title: "AGENT",
        cell: |token, _| token.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
    },
    Column {
        title: "LABELS",
        cell: |token, _| {
            let pairs: Vec<_> = token.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            pairs.join(",")
        },
    },
    Column { title: "CREATED", cell: |token, now| age(token.created_ms, now) },
    Column { title: "EXPIRES", cell: |token, now| left(token.expires_ms, now) },
    Column {
        title: "REVOKED",
        cell: |token, now| token.revoked_ms.map(|at_ms| age(at_ms, now)).unwrap_or_default(),
    },
];

const AUDIT: [Column<AuditEvent>; 7] = [
    Column { title: "AGE", cell: |event, now| age(event.at_ms, now) },
    Column { title: "WHO", cell: |event, _| event.actor.clone() },
    Column { title: "FROM", cell: |event, _| event.from.clone().unwrap_or_default() },
    Column { title: "WHAT", cell: |event, _| event.what.clone() },
    Column { title: "OUTCOME", cell: |event, _| event.outcome.as_str().to_owned() },
    Column { title: "TIMES", cell: |event, _| event.count.to_string() },
    Column { title: "DETAIL", cell: |event, _| event.detail.clone() },
];

const HOST: [Column<AgentRevoked>; 3] = [
    Column { title: "HOST", cell: |revoked, _| revoked.agent.to_string() },
    Column { title: "KEYS REVOKED", cell: |revoked, _| revoked.keys.to_string() },
    Column {
        title: "CONNECTIONS CUT",
        cell: |revoked, _| {
            revoked.connections.map_or_else(|| "not known".to_owned(), |count| count.to_string())
        },
    },
];

/// # Errors
/// [`super::http::ClientError`], as for all of these.
pub(crate) async fn create_token(args: TokenCreateArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let line = |text: &str| !text.chars().any(char::is_control);
    if !args.labels.iter().all(|(name, value)| line(name) && line(value)) {
        return Err(Usage("a label is one line".to_owned()).into());
    }
    let labels = args.labels.clone();
    let request = TokenCreate {
        uses: Some(args.uses),
        expires_in_ms: Some(duration::millis(args.expires)),
        labels: args.labels.into_iter().collect(),
        agent: args.agent,
        actor: String::new(),
    };
    let created: TokenCreated = client.post(&["api", "v1", "tokens"], &request).await?;
    let TokenInfo { id, uses, expires_ms, .. } = &created.info;
    let left = left(*expires_ms, now_ms());
    note(&format!("token {id} enrols {uses} and is good for {left}: it is shown this once"));
    // The agent keeps the labels from here: what it believes no service may choose.
    let mut text = format!("{}\n", created.token);
    labels.iter().for_each(|(name, value)| text += &format!("label {name}={value}\n"));
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

pub(crate) async fn list_tokens(common: &Common) -> anyhow::Result<()> {
    let list: TokenList = Client::open(common)?.get(&["api", "v1", "tokens"], &[]).await?;
    output::print(&list.tokens, &TOKENS, common.output)
}

pub(crate) async fn revoke_token(id: &str, common: &Common) -> anyhow::Result<()> {
    let info: TokenInfo = Client::open(common)?.delete(&["api", "v1", "tokens", id]).await?;
    output::print(&[info], &TOKENS, common.output)
}

pub(crate) async fn revoke_host(agent: &AgentId, common: &Common) -> anyhow::Result<()> {
    let request = AgentRevoke { agent: agent.clone(), actor: String::new() };
    let path = ["api", "v1", "hosts", agent.as_str(), "revoke"];
    let revoked: AgentRevoked = Client::open(common)?.post(&path, &request).await?;
    output::print(&[revoked], &HOST, common.output)
}

/// Out of the inventory for good.
pub(crate) async fn decommission(args: &DecommissionArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let agent = args.agent.as_str();
    if !args.yes {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Usage("nobody to ask, since this is no terminal: give --yes".to_owned()).into());
        }
        write!(
            io::stderr(),
            "take {agent} out for good? It cannot sign in any more, and its alerts end. Its results stay. [y/N] "
        )?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        anyhow::ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "{agent} stays");
    }
    let body = serde_json::json!({"message": args.message});
    let gone: AgentRevoked = client.post(&["api", "v1", "hosts", agent, "decommission"], &body).await?;
    note(&format!(
        "{agent} is out of the inventory; to take it in again: dogwatch token create --agent {agent}"
    ));
    output::print(&[gone], &HOST, args.common.output)
}

pub(crate) async fn audit(args: &AuditArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let since_ms = now_ms().saturating_sub(duration::millis(args.since));
    let mut query = vec![("since_ms", since_ms.to_string())];
    query.extend(args.actor.clone().map(|actor| ("actor", actor)));
    let mut events = Vec::new();
    let mut before = None;
    loop {
        let mut query = query.clone();
        query.extend(before.clone().map(|before| ("before", before)));
        let page: AuditPage = client.get(&["api", "v1", "audit"], &query).await?;
        events.extend(page.events);
        if events.len() >= args.limit || page.next.is_none() || page.next == before {
            break;
        }
        before = page.next;
    }
    events.truncate(args.limit);
    output::print(&events, &AUDIT, args.common.output)
}
