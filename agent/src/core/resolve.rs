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
    pub documents: Vec<Document>,
}

/// Checks that select the host: what runs, or why the check does not fit.
pub type Resolved = BTreeMap<CheckName, Result<CheckSpec, String>>;

#[must_use]
pub fn resolve(question: &Question) -> Resolved {
    let Question { agent, facts, labels, documents } = question;
    let outcomes = Resolver::new(documents).outcomes(agent, facts, labels).into_iter();
    outcomes
        .map(|(name, outcome)| match outcome {
            Outcome::Runs(way) => (name, Ok(way.spec().clone())),
            Outcome::Unfit(reason) => (name, Err(reason)),
        })
        .collect()
}
