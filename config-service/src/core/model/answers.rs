//! Whole configurations as bytes. Hosts that run the same get the same bytes, put together once from parts that are JSON
//! already.

use std::collections::HashMap;

use bytes::Bytes;
use documents::{Outcome, Resolved};
use protocol::{
    Reply,
    config::{AgentConfig, ConfigReply},
};

use crate::core::signing::{self, Signed};

/// Most bytes that are kept together.
const KEPT: usize = 64 * 1024 * 1024;

/// All that an answer depends on, as long as nothing is folded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) revision: u64,
    /// Of the checks, and where documents are asked for also of these.
    pub(super) etag: String,
    /// Documents are those before the open rollout.
    pub(super) held_back: bool,
}

/// Answers that were made since the last change.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    kept: HashMap<Key, Bytes>,
    bytes: usize,
}

impl Bodies {
    /// To be called whenever documents, signatures or rollouts change.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The answer for `key`; `signed` are the documents that go with it.
    pub(super) fn get(&mut self, key: Key, resolved: &Resolved, signed: Option<&Signed>) -> Bytes {
        if let Some(body) = self.kept.get(&key) {
            return body.clone();
        }
        let body = body(&key, resolved, signed);
        self.bytes += body.len();
        if self.bytes > KEPT {
            self.kept.clear();
            self.bytes = body.len();
        }
        self.kept.insert(key, body.clone());
        body
    }
}

/// What [`whole`] would encode to, without encoding each check anew.
fn body(key: &Key, resolved: &Resolved, signed: Option<&Signed>) -> Bytes {
    let head = protocol::encode(&whole(key)).unwrap_or_default();
    // It ends in the empty list of checks, and what is around it.
    let (open, close) = head.split_at(head.len().saturating_sub(CLOSE.len()));
    let mut body = open.to_vec();
    let ways = resolved.outcomes.values().filter_map(|outcome| match outcome {
        Outcome::Runs(way) => Some(way.json()),
        Outcome::Unfit(_) => None,
    });
    join(ways, &mut body);
    let documents = signed.into_iter().flat_map(|signed| signing::needed(&resolved.outcomes, signed));
    let mut documents = documents.filter_map(|document| protocol::encode(document).ok()).peekable();
    if documents.peek().is_some() {
        body.extend_from_slice(b"],\"documents\":[");
        join(documents, &mut body);
    }
    body.extend_from_slice(close);
    body.into()
}

const CLOSE: &[u8] = b"]}}}";

fn whole(key: &Key) -> Reply<ConfigReply> {
    let Key { revision, etag, .. } = key.clone();
    Reply::Ok(ConfigReply::Full {
        config: AgentConfig { revision, etag, checks: Vec::new(), documents: Vec::new() },
    })
}

fn join<P: AsRef<[u8]>>(parts: impl Iterator<Item = P>, into: &mut Vec<u8>) {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            into.push(b',');
        }
        into.extend_from_slice(part.as_ref());
    }
}
