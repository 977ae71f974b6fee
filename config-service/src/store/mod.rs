//! What survives: the fold of the log, the log itself, and the inventory, in sled. Nothing else names sled.
//!
//! Calls block on the disk; callers are on blocking threads.

mod disk;

use std::{collections::BTreeMap, path::Path};

use protocol::{
    AgentId,
    document::{Document, Kind},
    log::{KeyRecord, LogChange, LogRecord},
    rollout::Rollout,
    signed::Signature,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sled::{Transactional, Tree, transaction::ConflictableTransactionError};

use crate::core::{
    model::{HostRecord, Keys},
    plan::Documents,
    sign_in::{Kept, SignIns},
    signing::{self, Signed},
};
pub(crate) use disk::StoreError;
use disk::{Disk, Failure, Trees, read};

/// How far the stream is folded in: the last record's place and id, so that another stream is told from this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) id: String,
    pub(crate) revision: u64,
}

/// All that is loaded at the start.
pub(crate) struct Loaded {
    pub(crate) position: Position,
    pub(crate) documents: Documents,
    /// Those of them that are signed.
    pub(crate) signed: Signed,
    pub(crate) keys: Keys,
    pub(crate) hosts: Vec<(AgentId, HostRecord)>,
    /// When each key was last used.
    pub(crate) used: BTreeMap<String, u64>,
    pub(crate) sign_ins: SignIns,
    pub(crate) rollouts: Vec<Rollout>,
}

pub(crate) struct Store(Disk);

const POSITION: &str = "position";
/// In front of the keys of tree `sign_ins`.
const TOKEN: &str = "token/";
const NKEY: &str = "nkey/";
const GONE: &str = "gone/";

impl Store {
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        Disk::open(folder).map(Self)
    }

    /// Whether it can be written; after a failure this opens it anew.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.0.with(|_| Ok(()))
    }

    /// Whether this record could be committed: on a full disk it has to be known before it is in the stream.
    pub(crate) fn room_for(&self, record: &LogRecord) -> Result<(), StoreError> {
        // It is written twice, whole and as its effect, each time with some overhead.
        self.0.room_for(protocol::encode(record).map_or(0, |json| json.len().saturating_mul(4)))
    }

    pub(crate) fn load(&self) -> Result<Loaded, StoreError> {
        let id = |(name, record): (String, HostRecord)| AgentId::new(&name).ok().map(|agent| (agent, record));
        self.0.with(|trees| {
            let position = trees.meta.get(POSITION)?;
            let documents = all::<Document>(&trees.documents, "the document")?;
            let documents: Documents = documents
                .into_iter()
                .map(|(_, document)| ((document.kind(), document.name().to_owned()), document))
                .collect();
            let signatures: BTreeMap<String, Signature> =
                all(&trees.signatures, "the signature of")?.into_iter().collect();
            let signed = documents.iter().filter_map(|(key, document)| {
                let signature = signatures.get(&name(key.0, &key.1));
                Some((key.clone(), signing::signed(document, signature)?))
            });
            let signed = signed.collect();
            let mut hosts: Vec<(AgentId, HostRecord)> =
                all(&trees.hosts, "the host")?.into_iter().filter_map(id).collect();
            for (agent, record) in &mut hosts {
                let seen = trees.seen.get(agent.as_str())?;
                let seen = seen.and_then(|at_ms| at_ms.as_ref().try_into().ok()).map(u64::from_be_bytes);
                record.last_seen_ms = record.last_seen_ms.max(seen.unwrap_or_default());
            }
            Ok(Loaded {
                position: position
                    .map(|bytes| read("the", POSITION, &bytes))
                    .transpose()?
                    .unwrap_or_default(),
                documents,
                signed,
                keys: all(&trees.keys, "the key")?.into_iter().collect(),
                hosts,
                used: all(&trees.used, "the use of key")?.into_iter().collect(),
                sign_ins: sign_ins(&trees.sign_ins)?,
                rollouts: all(&trees.rollouts, "the rollout")?
                    .into_iter()
                    .map(|(_, rollout)| rollout)
                    .collect(),
            })
        })
    }

    /// Fold records in, each with its place in the stream and in one transaction with its effect. Durable on return.
    /// `kept` is what each of them makes of tokens and NKeys.
    pub(crate) fn commit(&self, records: &[(u64, LogRecord)], kept: &[Vec<Kept>]) -> Result<(), StoreError> {
        self.0.with(|trees| {
            for (index, (sequence, record)) in records.iter().enumerate() {
                let kept = kept.get(index).map_or(&[][..], Vec::as_slice);
                let position = position(*sequence, record);
                let Trees { log, documents, signatures, keys, sign_ins, rollouts, meta, .. } = &*trees;
                let all = (log, documents, signatures, keys, sign_ins, rollouts, meta);
                all.transaction(|(log, documents, signatures, keys, sign_ins, rollouts, meta)| {
                    log.insert(&record.revision.to_be_bytes(), write(record)?)?;
                    for change in &record.changes {
                        match change {
                            LogChange::DocumentPut { document, signature } => {
                                let key = name(document.kind(), document.name());
                                match signature {
                                    Some(signature) => signatures.insert(key.as_str(), write(signature)?)?,
                                    None => signatures.remove(key.as_str())?,
                                };
                                documents.insert(key.as_str(), write(document)?)?;
                            }
                            LogChange::DocumentDeleted { kind, name } => {
                                let key = self::name(*kind, name);
                                documents.remove(key.as_str())?;
                                signatures.remove(key.as_str())?;
                            }
                            LogChange::KeyCreated { key } => {
                                keys.insert(key.id.as_str(), write(key)?)?;
                            }
                            LogChange::KeyRevoked { id, at_ms } => {
                                let key = keys.get(id.as_str())?;
                                let key =
                                    key.and_then(|bytes| serde_json::from_slice::<KeyRecord>(&bytes).ok());
                                if let Some(key) = key {
                                    let revoked = KeyRecord { revoked_ms: Some(*at_ms), ..key };
                                    keys.insert(id.as_str(), write(&revoked)?)?;
                                }
                            }
                            LogChange::TokenCreated { .. }
                            | LogChange::TokenRevoked { .. }
                            | LogChange::AgentEnrolled { .. }
                            | LogChange::AgentRevoked { .. }
                            | LogChange::HostDecommissioned { .. } => {}
                            LogChange::RolloutPut { rollout } => {
                                rollouts.insert(rollout.revision.to_string().as_str(), write(rollout)?)?;
                            }
                        }
                    }
                    for kept in kept {
                        match kept {
                            Kept::Token(id, token) => {
                                sign_ins.insert(format!("{TOKEN}{id}").as_str(), write(token)?)?;
                            }
                            Kept::Enrolled(nkey, enrolled) => {
                                sign_ins.insert(format!("{NKEY}{nkey}").as_str(), write(enrolled)?)?;
                            }
                            Kept::Gone(agent, gone) => {
                                sign_ins.insert(format!("{GONE}{agent}").as_str(), write(gone)?)?;
                            }
                        }
                    }
                    meta.insert(POSITION, write(&position)?)?;
                    Ok(())
                })?;
                // A crash before this leaves what is passed over at the start.
                for change in &record.changes {
                    if let LogChange::HostDecommissioned { agent, .. } = change {
                        trees.hosts.remove(agent.as_str())?;
                        trees.seen.remove(agent.as_str())?;
                    }
                }
            }
            trees.sync()
        })
    }

    /// The stream holds our last record elsewhere.
    pub(crate) fn set_position(&self, position: &Position) -> Result<(), StoreError> {
        self.0.with(|trees| {
            put(&trees.meta, POSITION, position)?;
            trees.sync()
        })
    }

    pub(crate) fn record(&self, revision: u64) -> Result<Option<LogRecord>, StoreError> {
        self.0.with(|trees| {
            let bytes = trees.log.get(revision.to_be_bytes())?;
            bytes.map(|bytes| read("the record of revision", &revision.to_string(), &bytes)).transpose()
        })
    }

    /// `seen` is when hosts were seen that have nothing else to tell.
    pub(crate) fn write_hosts(
        &self,
        hosts: &[(AgentId, HostRecord)],
        used: &[(String, u64)],
        seen: &[(AgentId, u64)],
    ) -> Result<(), StoreError> {
        self.0.with(|trees| {
            for (agent, at_ms) in seen {
                trees.seen.insert(agent.as_str(), &at_ms.to_be_bytes())?;
            }
            for (agent, record) in hosts {
                put(&trees.hosts, agent.as_str(), record)?;
            }
            for (id, at_ms) in used {
                put(&trees.used, id, at_ms)?;
            }
            trees.sync()
        })
    }

    /// Hold these hosts and uses of keys, and no others.
    pub(crate) fn replace_inventory(
        &self,
        hosts: &[(AgentId, HostRecord)],
        used: &BTreeMap<String, u64>,
    ) -> Result<(), StoreError> {
        self.0.with(|trees| {
            trees.hosts.clear()?;
            trees.used.clear()?;
            trees.seen.clear()?;
            Ok(())
        })?;
        let used: Vec<(String, u64)> = used.iter().map(|(id, at_ms)| (id.clone(), *at_ms)).collect();
        self.write_hosts(hosts, &used, &[])
    }

    /// Forget all that came from the log: the stream has another history. The position goes first, so that a crash in
    /// between starts the fold anew.
    pub(crate) fn forget_log(&self) -> Result<(), StoreError> {
        self.0.with(|trees| {
            let Trees { meta, log, documents, signatures, keys, sign_ins, rollouts, .. } = &*trees;
            for tree in [meta, log, documents, signatures, keys, sign_ins, rollouts] {
                tree.clear()?;
            }
            trees.sync()
        })
    }
}

pub(crate) fn position(sequence: u64, record: &LogRecord) -> Position {
    Position { sequence, id: record.id.clone(), revision: record.revision }
}

fn sign_ins(tree: &Tree) -> Result<SignIns, Failure> {
    let (mut tokens, mut nkeys, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for entry in tree.iter() {
        let (key, bytes) = entry?;
        let key = String::from_utf8_lossy(&key).into_owned();
        if let Some(id) = key.strip_prefix(TOKEN) {
            tokens.push((id.to_owned(), read("the token", id, &bytes)?));
        } else if let Some(nkey) = key.strip_prefix(NKEY) {
            nkeys.push((nkey.to_owned(), read("the NKey", nkey, &bytes)?));
        } else if let Some(agent) = key.strip_prefix(GONE) {
            gone.extend(AgentId::new(agent).ok().zip(Some(read("the host", agent, &bytes)?)));
        }
    }
    Ok(SignIns::load(tokens, nkeys, gone))
}

/// How a document is found.
fn name(kind: Kind, name: &str) -> String {
    format!("{kind}/{name}")
}

fn put<T: Serialize>(tree: &Tree, key: &str, value: &T) -> Result<(), Failure> {
    let bytes = serde_json::to_vec(value).map_err(std::io::Error::from)?;
    tree.insert(key, bytes)?;
    Ok(())
}

fn all<T: DeserializeOwned>(tree: &Tree, what: &'static str) -> Result<Vec<(String, T)>, Failure> {
    let entries = tree.iter().map(|entry| {
        let (key, bytes) = entry?;
        let key = String::from_utf8_lossy(&key).into_owned();
        let value = read(what, &key, &bytes)?;
        Ok((key, value))
    });
    entries.collect()
}

fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, ConflictableTransactionError<std::io::Error>> {
    serde_json::to_vec(value).map_err(|error| ConflictableTransactionError::Abort(error.into()))
}

#[cfg(test)]
mod tests {
    use protocol::admin::Role;

    use super::*;

    fn record(revision: u64, changes: Vec<LogChange>) -> LogRecord {
        let (actor, message) = (String::new(), String::new());
        LogRecord { v: 1, id: format!("id{revision}"), revision, at_ms: 1, actor, message, changes }
    }

    fn key(id: &str, facts: protocol::Facts) -> LogChange {
        let (agent, labels) = (None, protocol::Labels::new());
        LogChange::KeyCreated {
            key: KeyRecord {
                id: id.to_owned(),
                hash: id.to_owned(),
                role: Role::Admin,
                agent,
                labels,
                facts,
                created_ms: 1,
                revoked_ms: None,
                expires_ms: None,
                hosts: None,
            },
        }
    }

    #[test]
    fn g2_what_was_committed_is_there_after_a_reopen_even_with_a_torn_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        // Larger than what sled keeps in its log: a blob.
        let large = [("x".to_owned(), serde_json::Value::String("y".repeat(2 * 1024 * 1024)))].into();
        {
            let store = Store::open(folder.path()).unwrap();
            let changes = vec![key("a", protocol::Facts::new()), key("b", large)];
            store.commit(&[(7, record(1, changes))], &[]).unwrap();
            let revoke = LogChange::KeyRevoked { id: "a".to_owned(), at_ms: 9 };
            store.commit(&[(8, record(2, vec![revoke]))], &[]).unwrap();
            store
                .write_hosts(
                    &[(AgentId::new("h").unwrap(), HostRecord::default())],
                    &[("a".to_owned(), 5)],
                    &[(AgentId::new("h").unwrap(), 7), (AgentId::new("gone").unwrap(), 7)],
                )
                .unwrap();
        }
        std::fs::write(folder.path().join("store/snap.00000000000000FF.generating"), b"").unwrap();
        let store = Store::open(folder.path()).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.position, Position { sequence: 8, id: "id2".to_owned(), revision: 2 });
        assert_eq!(loaded.keys["a"].revoked_ms, Some(9));
        assert_eq!(loaded.keys["b"].facts["x"].as_str().unwrap().len(), 2 * 1024 * 1024);
        assert_eq!((loaded.hosts.len(), loaded.used["a"]), (1, 5));
        assert_eq!(loaded.hosts[0].1.last_seen_ms, 7);
        assert_eq!(store.record(1).unwrap().unwrap().changes.len(), 2);
        store.forget_log().unwrap();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.position, loaded.keys.len(), loaded.hosts.len()), (Position::default(), 0, 1));
    }

    #[test]
    fn a_folder_that_is_held_or_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Store::open(folder.path()).unwrap();
        let error = Store::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("is in use by another process"), "{error}");
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Store::open(&file.join("x")).err().unwrap().to_string();
        assert!(error.contains("cannot use the data folder"), "{error}");
    }
}
