//! sled on disk, with what sled 0.34 leaves to its user.
//!
//! Its `flush` does not sync on Linux, so a durable write ends with an `fdatasync` of the file `db`. A torn
//! `snap.*.generating`, which a crash may leave, keeps it from opening, so such files are removed first; the folder's
//! lock keeps any other process out. After a failed write (a full disk) it refuses all further ones until it is opened
//! anew, so the next use does that: what was durable is there, what failed is not.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::de::DeserializeOwned;
use service_kit::files::{DataFolder, DataFolderError, remove_leftovers, sync_folder};
use sled::{Tree, transaction::TransactionError};

/// Format of the data. A newer one is refused.
const FORMAT: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    #[error("cannot use the alerts in {path}: check that the disk has room and can be written")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "cannot use the alerts in {path}: check that the disk has room and can be written; if its files are damaged, \
         restore the folder from a backup"
    )]
    Sled {
        path: PathBuf,
        #[source]
        source: sled::Error,
    },
    #[error(
        "the alerts in {path} have format {found}, newer than {FORMAT}: use the newer version that wrote them"
    )]
    Newer { path: PathBuf, found: u8 },
    #[error(
        "{tree} in {path} holds a record that cannot be read: {reason}; restore the folder from a backup"
    )]
    Damaged { path: PathBuf, tree: &'static str, reason: String },
    #[error("a record for {path} cannot be written: {source}")]
    Encode {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// What fails inside a use of the trees.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    Sled(sled::Error),
    Newer(u8),
    Damaged(&'static str, String),
    Encode(serde_json::Error),
}

/// The folder, and the trees while they are usable.
#[derive(Debug)]
pub(super) struct Disk {
    folder: DataFolder,
    trees: Mutex<Option<Trees>>,
}

#[derive(Debug)]
pub(super) struct Trees {
    pub(super) db: sled::Db,
    file: File,
    pub(super) trackers: Tree,
    pub(super) outbox: Tree,
    pub(super) deliveries: Tree,
    pub(super) resolved: Tree,
    pub(super) silences: Tree,
    /// Receivers that are disabled.
    pub(super) disabled: Tree,
    /// Whether there were alerts that sled could not read.
    #[cfg(test)]
    forgotten: bool,
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let disk = Self { folder: DataFolder::open(path)?, trees: Mutex::default() };
        disk.with(|_| Ok(()))?;
        Ok(disk)
    }

    /// Use the trees, one caller at a time, so that nobody reads what is not durable yet.
    pub(super) fn with<R>(&self, work: impl FnOnce(&Trees) -> Result<R, Failure>) -> Result<R, StoreError> {
        let mut open = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let trees = match open.take() {
            Some(trees) => trees,
            None => Trees::open(self.folder.path()).map_err(|failure| self.error(failure))?,
        };
        let result = work(&trees);
        if !matches!(result, Err(Failure::Io(_) | Failure::Sled(_))) {
            *open = Some(trees);
        }
        result.map_err(|failure| self.error(failure))
    }

    fn error(&self, failure: Failure) -> StoreError {
        let path = self.folder.path().to_owned();
        match failure {
            Failure::Io(source) => StoreError::Io { path, source },
            Failure::Sled(source) => StoreError::Sled { path, source },
            Failure::Newer(found) => StoreError::Newer { path, found },
            Failure::Damaged(tree, reason) => StoreError::Damaged { path, tree, reason },
            Failure::Encode(source) => StoreError::Encode { path, source },
        }
    }
}

impl Trees {
    fn open(folder: &Path) -> Result<Self, Failure> {
        let data = folder.join("sled");
        remove_torn_snapshots(&data)?;
        // Nothing is flushed behind our back: what is durable is decided here.
        let was_there = data.join("db").metadata().is_ok_and(|file| file.len() > 0);
        let config = sled::Config::new().path(&data).flush_every_ms(None).cache_capacity(32 * 1024 * 1024);
        let db = config.open()?;
        let file = File::open(data.join("db"))?;
        let forgotten = was_there && db.get("format")?.is_none();
        if forgotten {
            // sled passes over what it cannot read, without a word.
            tracing::error!(
                path = %data.display(),
                "the alerts that were kept are damaged and forgotten: what fires is told again, what ended since is not; \
                 restore the folder from a backup to have them back"
            );
        }
        let trees = Self {
            file,
            #[cfg(test)]
            forgotten,
            trackers: db.open_tree("trackers")?,
            outbox: db.open_tree("outbox")?,
            deliveries: db.open_tree("deliveries")?,
            resolved: db.open_tree("resolved")?,
            silences: db.open_tree("silences")?,
            disabled: db.open_tree("disabled")?,
            db,
        };
        match trees.db.get("format")?.as_deref() {
            None => {
                trees.db.insert("format", &[FORMAT])?;
                trees.sync()?;
                sync_folder(&data)?;
                sync_folder(folder)?;
            }
            Some([found]) if *found <= FORMAT => {}
            Some(found) => return Err(Failure::Newer(found.first().copied().unwrap_or(u8::MAX))),
        }
        Ok(trees)
    }

    /// All that was written is on disk when this returns.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.db.flush()?;
        Ok(self.file.sync_data()?)
    }
}

/// Read a record of `tree`.
pub(super) fn decode<T: DeserializeOwned>(tree: &'static str, value: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(value).map_err(|error| Failure::Damaged(tree, error.to_string()))
}

fn remove_torn_snapshots(data: &Path) -> io::Result<()> {
    remove_leftovers(data, |name| name.starts_with("snap.") && name.ends_with(".generating"))
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<sled::Error> for Failure {
    fn from(error: sled::Error) -> Self {
        Self::Sled(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Encode(error)
    }
}

impl From<TransactionError<Failure>> for Failure {
    fn from(error: TransactionError<Failure>) -> Self {
        match error {
            TransactionError::Abort(failure) => failure,
            TransactionError::Storage(error) => Self::Sled(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_snapshot_of_a_crash_does_not_keep_the_store_shut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts");
        drop(Disk::open(&path).unwrap());
        std::fs::write(path.join("sled/snap.0000000000000000.generating"), b"").unwrap();
        Disk::open(&path).unwrap();
    }

    #[test]
    fn one_process_has_the_store_and_a_newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        assert!(matches!(Disk::open(folder.path()), Err(StoreError::Folder(DataFolderError::InUse(_)))));
        disk.with(|trees| {
            trees.db.insert("format", &[FORMAT + 1])?;
            trees.sync()
        })
        .unwrap();
        drop(disk);
        let error = Disk::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("have format 2, newer than 1"), "{error}");
    }

    #[test]
    fn after_a_failed_write_only_what_was_durable_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        disk.with(|trees| {
            trees.outbox.insert("durable", "1")?;
            trees.sync()
        })
        .unwrap();
        let failed = disk.with(|trees| {
            trees.outbox.insert("durable", "2")?;
            Err::<(), _>(Failure::Io(io::Error::from(io::ErrorKind::StorageFull)))
        });
        assert!(failed.unwrap_err().to_string().contains("check that the disk has room"));
        assert!(disk.with(|trees| Ok(trees.outbox.get("durable")?.is_some())).unwrap());
    }

    #[test]
    fn damaged_alerts_are_not_forgotten_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let forgotten = || Disk::open(folder.path()).unwrap().with(|trees| Ok(trees.forgotten)).unwrap();
        assert!(!forgotten(), "the first start");
        assert!(!forgotten(), "a restart");
        let file = folder.path().join("sled/db");
        let length = std::fs::metadata(&file).unwrap().len();
        std::fs::write(&file, vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
        // With its snapshot sled refuses such a file; after a kill there is none.
        for entry in std::fs::read_dir(folder.path().join("sled")).unwrap() {
            let path = entry.unwrap().path();
            if path.display().to_string().contains("/snap.") {
                std::fs::remove_file(path).unwrap();
            }
        }
        assert!(forgotten(), "a damaged file");
        assert!(!forgotten(), "told once");
    }
}
