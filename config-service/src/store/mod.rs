//! What survives: the fold of the log, the log itself, and the inventory, in sled. Nothing else names sled.
//!
//! Calls block on the disk; callers are on blocking threads.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use protocol::{
    AgentId,
    document::Document,
    log::{KeyRecord, LogChange, LogRecord},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use service_kit::files::{DataFolder, DataFolderError, sync_folder};
use sled::{
    Transactional, Tree,
    transaction::{ConflictableTransactionError, TransactionError},
};

use crate::core::{
    model::{HostRecord, Keys},
    plan::Documents,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    #[error("cannot {action} the store in {path}: check that the disk has room and works")]
    Disk { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error(
        "cannot {action} the store in {path}: check the disk; removing the folder rebuilds it from stream CONFIG"
    )]
    Sled { action: &'static str, path: PathBuf, source: sled::Error },
    #[error(
        "{what} {key:?} in the store cannot be read ({reason}): removing the data folder rebuilds it from stream CONFIG"
    )]
    Unreadable { what: &'static str, key: String, reason: String },
}

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
    pub(crate) keys: Keys,
    pub(crate) hosts: Vec<(AgentId, HostRecord)>,
    /// When each key was last used.
    pub(crate) used: BTreeMap<String, u64>,
}

pub(crate) struct Store {
    db: sled::Db,
    log: Tree,
    documents: Tree,
    keys: Tree,
    meta: Tree,
    hosts: Tree,
    used: Tree,
    path: PathBuf,
    /// sled's flush leaves the data to the kernel; a `fdatasync` on its file makes it durable.
    file: File,
    /// Large values have files of their own, which sled does not sync either.
    blobs: Mutex<HashSet<OsString>>,
    _folder: DataFolder,
}

const POSITION: &str = "position";

impl Store {
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = DataFolder::open(folder)?;
        let path = folder.path().join("store");
        let disk = |source| StoreError::Disk { action: "open", path: path.clone(), source };
        let sled = |source| StoreError::Sled { action: "open", path: path.clone(), source };
        remove_unfinished_snapshots(&path).map_err(disk)?;
        let db = sled::Config::new()
            .path(&path)
            .cache_capacity(32 * 1024 * 1024)
            .flush_every_ms(None)
            .open()
            .map_err(sled)?;
        let tree = |name: &str| db.open_tree(name).map_err(sled);
        let file = File::open(path.join("db")).map_err(disk)?;
        sync_folder(&path).and_then(|()| sync_folder(folder.path())).map_err(disk)?;
        Ok(Self {
            log: tree("log")?,
            documents: tree("documents")?,
            keys: tree("keys")?,
            meta: tree("meta")?,
            hosts: tree("hosts")?,
            used: tree("used")?,
            path: path.clone(),
            file,
            blobs: Mutex::default(),
            db,
            _folder: folder,
        })
    }

    pub(crate) fn load(&self) -> Result<Loaded, StoreError> {
        let documents = self.all::<Document>(&self.documents, "the document")?;
        let keys = self.all::<KeyRecord>(&self.keys, "the key")?;
        let hosts = self.all::<HostRecord>(&self.hosts, "the host")?;
        let position = self.meta.get(POSITION).map_err(|source| self.sled("read", source))?;
        let id = |(name, record): (String, HostRecord)| AgentId::new(&name).ok().map(|agent| (agent, record));
        Ok(Loaded {
            position: position.map(|bytes| read("the", POSITION, &bytes)).transpose()?.unwrap_or_default(),
            documents: documents
                .into_iter()
                .map(|(_, document)| ((document.kind(), document.name().to_owned()), document))
                .collect(),
            keys: keys.into_iter().collect(),
            hosts: hosts.into_iter().filter_map(id).collect(),
            used: self.all::<u64>(&self.used, "the use of key")?.into_iter().collect(),
        })
    }

    /// Fold records in, each with its place in the stream and in one transaction with its effect. Durable on return.
    pub(crate) fn commit(&self, records: &[(u64, LogRecord)]) -> Result<(), StoreError> {
        for (sequence, record) in records {
            let position = position(*sequence, record);
            let trees = (&self.log, &self.documents, &self.keys, &self.meta);
            let outcome = trees.transaction(|(log, documents, keys, meta)| {
                log.insert(&record.revision.to_be_bytes(), write(record)?)?;
                for change in &record.changes {
                    match change {
                        LogChange::DocumentPut { document } => {
                            let key = format!("{}/{}", document.kind(), document.name());
                            documents.insert(key.as_str(), write(document)?)?;
                        }
                        LogChange::DocumentDeleted { kind, name } => {
                            documents.remove(format!("{kind}/{name}").as_str())?;
                        }
                        LogChange::KeyCreated { key } => {
                            keys.insert(key.id.as_str(), write(key)?)?;
                        }
                        LogChange::KeyRevoked { id, at_ms } => {
                            let key = keys.get(id.as_str())?;
                            let key = key.and_then(|bytes| serde_json::from_slice::<KeyRecord>(&bytes).ok());
                            if let Some(key) = key {
                                let revoked = KeyRecord { revoked_ms: Some(*at_ms), ..key };
                                keys.insert(id.as_str(), write(&revoked)?)?;
                            }
                        }
                    }
                }
                meta.insert(POSITION, write(&position)?)?;
                Ok(())
            });
            outcome.map_err(|error| match error {
                TransactionError::Abort(source) => {
                    StoreError::Disk { action: "write to", path: self.path.clone(), source }
                }
                TransactionError::Storage(source) => self.sled("write to", source),
            })?;
        }
        self.flush()
    }

    /// The stream holds our last record elsewhere.
    pub(crate) fn set_position(&self, position: &Position) -> Result<(), StoreError> {
        self.put(&self.meta, POSITION, position)?;
        self.flush()
    }

    pub(crate) fn record(&self, revision: u64) -> Result<Option<LogRecord>, StoreError> {
        let bytes = self.log.get(revision.to_be_bytes()).map_err(|source| self.sled("read", source))?;
        bytes.map(|bytes| read("the record of revision", &revision.to_string(), &bytes)).transpose()
    }

    pub(crate) fn write_hosts(
        &self,
        hosts: &[(AgentId, HostRecord)],
        used: &[(String, u64)],
    ) -> Result<(), StoreError> {
        for (agent, record) in hosts {
            self.put(&self.hosts, agent.as_str(), record)?;
        }
        for (id, at_ms) in used {
            self.put(&self.used, id, at_ms)?;
        }
        self.flush()
    }

    /// Forget all that came from the log: the stream has another history. The position goes first, so that a crash in
    /// between starts the fold anew.
    pub(crate) fn forget_log(&self) -> Result<(), StoreError> {
        for tree in [&self.meta, &self.log, &self.documents, &self.keys] {
            tree.clear().map_err(|source| self.sled("clear", source))?;
        }
        self.flush()
    }

    fn put<T: Serialize>(&self, tree: &Tree, key: &str, value: &T) -> Result<(), StoreError> {
        let disk = |source| StoreError::Disk { action: "write to", path: self.path.clone(), source };
        let bytes = serde_json::to_vec(value).map_err(|error| disk(error.into()))?;
        tree.insert(key, bytes).map_err(|source| self.sled("write to", source))?;
        Ok(())
    }

    fn all<T: DeserializeOwned>(
        &self,
        tree: &Tree,
        what: &'static str,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let entries = tree.iter().map(|entry| {
            let (key, bytes) = entry.map_err(|source| self.sled("read", source))?;
            let key = String::from_utf8_lossy(&key).into_owned();
            let value = read(what, &key, &bytes)?;
            Ok((key, value))
        });
        entries.collect()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|source| self.sled("flush", source))?;
        self.sync_blobs().and_then(|()| self.file.sync_data()).map_err(|source| StoreError::Disk {
            action: "sync",
            path: self.path.clone(),
            source,
        })
    }

    fn sync_blobs(&self) -> std::io::Result<()> {
        let folder = self.path.join("blobs");
        let mut synced = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = HashSet::new();
        let mut new = false;
        for entry in std::fs::read_dir(&folder)? {
            let name = entry?.file_name();
            if !synced.contains(&name) {
                // sled may remove it meanwhile: then nothing needs it.
                match File::open(folder.join(&name)).and_then(|file| file.sync_data()) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    outcome => outcome?,
                }
                new = true;
            }
            present.insert(name);
        }
        if new {
            sync_folder(&folder)?;
        }
        *synced = present;
        Ok(())
    }

    fn sled(&self, action: &'static str, source: sled::Error) -> StoreError {
        StoreError::Sled { action, path: self.path.clone(), source }
    }
}

pub(crate) fn position(sequence: u64, record: &LogRecord) -> Position {
    Position { sequence, id: record.id.clone(), revision: record.revision }
}

fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, ConflictableTransactionError<std::io::Error>> {
    serde_json::to_vec(value).map_err(|error| ConflictableTransactionError::Abort(error.into()))
}

fn read<T: DeserializeOwned>(what: &'static str, key: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Unreadable {
        what,
        key: key.to_owned(),
        reason: error.to_string(),
    })
}

/// A crash while sled writes a snapshot leaves one that makes it refuse to open for ever; without it, it opens.
fn remove_unfinished_snapshots(path: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
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
            store.commit(&[(7, record(1, changes))]).unwrap();
            let revoke = LogChange::KeyRevoked { id: "a".to_owned(), at_ms: 9 };
            store.commit(&[(8, record(2, vec![revoke]))]).unwrap();
            store
                .write_hosts(&[(AgentId::new("h").unwrap(), HostRecord::default())], &[("a".to_owned(), 5)])
                .unwrap();
        }
        std::fs::write(folder.path().join("store/snap.00000000000000FF.generating"), b"").unwrap();
        let store = Store::open(folder.path()).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.position, Position { sequence: 8, id: "id2".to_owned(), revision: 2 });
        assert_eq!(loaded.keys["a"].revoked_ms, Some(9));
        assert_eq!(loaded.keys["b"].facts["x"].as_str().unwrap().len(), 2 * 1024 * 1024);
        assert_eq!((loaded.hosts.len(), loaded.used["a"]), (1, 5));
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
