//! What signed documents make of this host. Programs that name [`resolve`] hold the whole language of expressions, which
//! on disk and in memory is a fifth of the agent; the agent's own program leaves it to another one (`src/bin/resolve.rs`).

use std::collections::BTreeMap;

use documents::{Outcome, Resolver};
use protocol::{AgentId, CheckName, Facts, Labels, config::CheckSpec, document::Document};
use serde::{Deserialize, Serialize};

/// Documents that are believed, and the host that they are to be resolved for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub agent: AgentId,
    pub facts: Facts,
    pub labels: Labels,
    /// As JSON: the agent itself reads none of it.
    pub documents: Vec<serde_json::Value>,
}

/// Checks that select the host: what runs, or why the check does not fit.
pub type Resolved = BTreeMap<CheckName, Result<CheckSpec, String>>;

#[must_use]
pub fn resolve(question: &Question) -> Resolved {
    let Question { agent, facts, labels, documents } = question;
    let mut resolver = Resolver::default();
    let mut unread = Resolved::new();
    for value in documents {
        match Document::deserialize(value) {
            Ok(document) => resolver.put(&document),
            Err(error) => {
                let name = value.get("name").and_then(|name| CheckName::new(name.as_str()?).ok());
                let reason = format!("this version cannot read the document: {error}");
                unread.extend(name.map(|name| (name, Err(reason))));
            }
        }
    }
    let outcomes = resolver.outcomes(agent, facts, labels).into_iter();
    let read = outcomes.map(|(name, outcome)| match outcome {
        Outcome::Runs(way) => (name, Ok(way.spec().clone())),
        Outcome::Unfit(reason) => (name, Err(reason)),
    });
    unread.into_iter().chain(read).collect()
}
