//! An editor that is limited to some hosts: which changes are within its limits.
//!
//! It may change checks, as far as nothing changes on other hosts, now or when another host joins. All other documents
//! concern everybody (rules, receivers, groups, variables) and are not its to change.

use documents::HostExpression;
use protocol::{
    AgentId, ErrorCode, ErrorReply, Facts, Labels,
    document::{Document, Kind},
    log::LogChange,
};

use super::{
    effects::Prospect,
    model::{Known, Model},
};

/// Hosts named in a refusal.
const NAMED: usize = 5;

/// The hosts of an editor, and those beyond them that a change was found to concern.
pub(crate) struct HostLimit {
    text: String,
    expression: HostExpression,
    foreign: Vec<AgentId>,
    more: u64,
}

impl HostLimit {
    /// # Errors
    /// `forbidden` when the expression cannot be evaluated any more, or a document is not a check.
    pub(crate) fn new(text: &str, changes: &[LogChange]) -> Result<Self, ErrorReply> {
        let expression = HostExpression::compile(text)
            .map_err(|error| forbidden(format!("the hosts of the key cannot be told ({error})")))?;
        let others: Vec<String> = changes
            .iter()
            .filter_map(|change| match change {
                LogChange::DocumentPut { document: Document::Check(_), .. }
                | LogChange::DocumentDeleted { kind: Kind::Check, .. } => None,
                LogChange::DocumentPut { document, .. } => {
                    Some(format!("{} {}", document.kind(), document.name()))
                }
                LogChange::DocumentDeleted { kind, name } => Some(format!("{kind} {name}")),
                _ => None,
            })
            .take(NAMED)
            .collect();
        if !others.is_empty() {
            let list = others.join(", ");
            return Err(forbidden(format!("a key that is limited to hosts changes checks only, not {list}")));
        }
        Ok(Self { text: text.to_owned(), expression, foreign: Vec::new(), more: 0 })
    }

    /// Look at what some hosts would run.
    pub(crate) fn look_at(&mut self, prospect: &Prospect, model: &Model, agents: &[AgentId]) {
        for agent in agents {
            // A host of which it cannot be said is not one of the editor's.
            if model.matches(agent, &self.expression) {
                continue;
            }
            let Some(Known { facts, labels, resolved }) = model.view(agent) else { continue };
            let (scope, outcomes) = (&resolved.scope, &resolved.outcomes);
            let host = scope.view(agent, &facts, &labels);
            let after = |name| prospect.resolver.outcome(name, scope, &host);
            let differs = |name| outcomes.get(name) != after(name).as_ref();
            if prospect.checks.iter().any(differs) {
                if self.foreign.len() < NAMED {
                    self.foreign.push(agent.clone());
                } else {
                    self.more += 1;
                }
            }
        }
    }

    /// # Errors
    /// `forbidden`, with the names of the hosts that the change would concern.
    pub(crate) fn verdict(self, prospect: &Prospect) -> Result<(), ErrorReply> {
        let text = &self.text;
        if !self.foreign.is_empty() {
            let names: Vec<_> = self.foreign.iter().map(ToString::to_string).collect();
            let more = if self.more == 0 { String::new() } else { format!(" and {} more", self.more) };
            return Err(forbidden(format!(
                "it would change what other hosts run than those of the key ({text}): {}{more}; narrow `hosts` of the \
                 checks",
                names.join(", ")
            )));
        }
        let (facts, labels) = (Facts::new(), Labels::new());
        let anybody = AgentId::new("some-host-that-joins-later").ok();
        let joins = anybody.as_ref().and_then(|agent| {
            let scope = prospect.resolver.scope(agent, &facts, &labels);
            let host = scope.view(agent, &facts, &labels);
            let selects = |name: &&_| prospect.resolver.outcome(name, &scope, &host).is_some();
            prospect.checks.iter().find(selects)
        });
        match joins {
            Some(check) => Err(forbidden(format!(
                "the check {check} would also run on other hosts that join later: write into its `hosts` what the \
                 hosts of the key have in common ({text})"
            ))),
            None => Ok(()),
        }
    }
}

fn forbidden(message: String) -> ErrorReply {
    ErrorReply::new(ErrorCode::Forbidden, message)
}
