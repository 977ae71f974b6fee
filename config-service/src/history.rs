//! Looking back: the store keeps every accepted change. Calls block on the disk.

use std::sync::Arc;

use protocol::{
    ErrorCode, ErrorReply,
    admin::{DiffQuery, Difference, HistoryPage, HistoryQuery, Revision, Touched},
    limits,
    log::{LogChange, LogRecord},
};
use service_kit::report;

use crate::{
    core::{
        difference,
        plan::Documents,
        signing::{self, Signed},
    },
    store::{Store, StoreError},
};

/// Changes shown of one revision; all are counted.
const SHOWN: usize = 20;
/// Documents named in a refusal.
const NAMED: usize = 5;
/// Bytes of one page as JSON; the rest of the message is what is around them.
const PAGE_BYTES: usize = limits::MESSAGE / 2;

/// The store as it was at a revision that it has reached.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) store: Arc<Store>,
    pub(crate) newest: u64,
}

impl From<StoreError> for ErrorReply {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::Unavailable, format!("the history cannot be read: {}", report(&error)))
    }
}

impl History {
    /// # Errors
    /// `unavailable` when the store cannot be read.
    pub(crate) fn page(&self, query: &HistoryQuery) -> Result<HistoryPage, ErrorReply> {
        let limit = if query.limit == 0 { limits::PAGE } else { query.limit.min(limits::PAGE) };
        let first = query.before.map_or(self.newest, |before| before.saturating_sub(1).min(self.newest));
        let mut page = HistoryPage::default();
        let mut size = 0_usize;
        for revision in (1..=first).rev() {
            let shown = shown(self.record(revision)?);
            size += protocol::encode(&shown).map_or(0, |json| json.len() + 1);
            if page.revisions.len() == limit || (size > PAGE_BYTES && !page.revisions.is_empty()) {
                page.next = page.revisions.last().map(|last| last.revision);
                break;
            }
            page.revisions.push(shown);
        }
        Ok(page)
    }

    /// # Errors
    /// `not_found` for a revision that there never was, `unavailable` when the store cannot be read.
    pub(crate) fn difference(&self, query: &DiffQuery) -> Result<Difference, ErrorReply> {
        let to = query.to.unwrap_or(self.newest);
        let (before, after) = (self.documents_at("from", query.from)?, self.documents_at("to", to)?);
        Ok(Difference { from: query.from, to, changes: difference::between(&before, &after) })
    }

    /// The documents as they were at `revision`, which the field `field` of a request names.
    ///
    /// # Errors
    /// As [`Self::difference`].
    pub(crate) fn documents_at(&self, field: &str, revision: u64) -> Result<Documents, ErrorReply> {
        if revision > self.newest {
            let message = format!("there is no revision {revision}: the newest is {}", self.newest);
            return Err(ErrorReply::new(ErrorCode::NotFound, message).at(field));
        }
        let mut documents = Documents::new();
        for revision in 1..=revision {
            for change in self.record(revision)?.changes {
                match change {
                    LogChange::DocumentPut { document, .. } => {
                        documents.insert((document.kind(), document.name().to_owned()), document);
                    }
                    LogChange::DocumentDeleted { kind, name } => {
                        documents.remove(&(kind, name));
                    }
                    _ => {}
                }
            }
        }
        Ok(documents)
    }

    /// Those documents of `revision` that were signed.
    ///
    /// # Errors
    /// As [`Self::difference`].
    pub(crate) fn signed_at(&self, revision: u64) -> Result<Signed, ErrorReply> {
        let mut all = Signed::new();
        for revision in 1..=revision.min(self.newest) {
            for change in self.record(revision)?.changes {
                if let LogChange::DocumentPut { document, signature } = change {
                    let key = (document.kind(), document.name().to_owned());
                    match signing::signed(&document, signature.as_ref()) {
                        Some(signed) => drop(all.insert(key, signed)),
                        None => drop(all.remove(&key)),
                    }
                }
            }
        }
        Ok(all)
    }

    /// Whether a change that was made from `base` may be made now.
    ///
    /// # Errors
    /// `conflict`, with what changed since, and by whom.
    pub(crate) fn unchanged_since(&self, base: u64) -> Result<(), ErrorReply> {
        let conflict = |message: String| Err(ErrorReply::new(ErrorCode::Conflict, message).at("base"));
        if base > self.newest {
            return conflict(format!("there is no revision {base}: the newest is {}", self.newest));
        }
        let mut since = Vec::new();
        for revision in base + 1..=self.newest {
            let record = self.record(revision)?;
            for change in &record.changes {
                let (kind, name) = match change {
                    LogChange::DocumentPut { document, .. } => (document.kind(), document.name()),
                    LogChange::DocumentDeleted { kind, name } => (*kind, name.as_str()),
                    _ => continue,
                };
                since.push(format!("{kind} {name} (revision {revision}, {})", record.actor));
            }
        }
        if since.is_empty() {
            return Ok(());
        }
        let more = since.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        since.truncate(NAMED);
        conflict(format!(
            "made from revision {base}, and since then changed: {}{more}; look at it again with `dogwatch plan`",
            since.join(", ")
        ))
    }

    pub(crate) fn record(&self, revision: u64) -> Result<LogRecord, ErrorReply> {
        self.store.record(revision)?.ok_or_else(|| {
            let message = format!("revision {revision} is not kept here: ask another replica");
            ErrorReply::new(ErrorCode::Unavailable, message)
        })
    }
}

fn shown(record: LogRecord) -> Revision {
    let LogRecord { revision, at_ms, actor, message, changes, .. } = record;
    let count = u64::try_from(changes.len()).unwrap_or(u64::MAX);
    let touched = |change| match change {
        LogChange::DocumentPut { document, .. } => {
            Touched::Put { kind: document.kind(), name: document.name().to_owned() }
        }
        LogChange::DocumentDeleted { kind, name } => Touched::Deleted { kind, name },
        LogChange::KeyCreated { key } => Touched::KeyCreated { id: key.id },
        LogChange::KeyRevoked { id, .. } => Touched::KeyRevoked { id },
        LogChange::TokenCreated { token } => Touched::TokenCreated { id: token.id },
        LogChange::TokenRevoked { id, .. } => Touched::TokenRevoked { id },
        LogChange::AgentEnrolled { agent, .. } => Touched::AgentEnrolled { agent },
        LogChange::AgentRevoked { agent, .. } => Touched::AgentRevoked { agent },
        LogChange::HostDecommissioned { agent, .. } => Touched::HostDecommissioned { agent },
        LogChange::RolloutPut { rollout } => {
            Touched::Rollout { revision: rollout.revision, state: rollout.state }
        }
    };
    let changes = changes.into_iter().take(SHOWN).map(touched).collect();
    Revision { revision, at_ms, actor, message, changes, count }
}
