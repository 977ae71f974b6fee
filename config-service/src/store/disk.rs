//! sled on disk, with what sled 0.34 leaves to its user.
//!
//! Its `flush` does not sync on Linux, neither its file nor the blobs beside it. A torn snapshot, which a crash may leave,
//! keeps it from opening. After a failed write (a full disk) it refuses all further ones until it is opened anew, so
//! the next use does that, once a file of some size shows that there is room again.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::de::DeserializeOwned;
use service_kit::files::{DataFolder, DataFolderError, remove_leftovers, sync_folder};
use sled::{Tree, transaction::TransactionError};

/// Room that there is to be besides what is to be written, in bytes: more than a segment of sled.
const SPARE: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    #[error("the disk is full or cannot be written ({path}): make room on it")]
    Disk { path: PathBuf, source: io::Error },
    #[error(
        "cannot use the store in {path}: check the disk; removing the folder rebuilds it from stream CONFIG"
    )]
    Sled { path: PathBuf, source: sled::Error },
    #[error(
        "{what} {key:?} in {path} cannot be read ({reason}): removing the folder rebuilds it from stream CONFIG"
    )]
    Unreadable { path: PathBuf, what: &'static str, key: String, reason: String },
}

/// What fails inside a use of the trees.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    Sled(sled::Error),
    Unreadable { what: &'static str, key: String, reason: String },
}

/// The folder, and the trees while they are usable.
pub(super) struct Disk {
    folder: DataFolder,
    trees: Mutex<Option<Trees>>,
}

pub(super) struct Trees {
    db: sled::Db,
    pub(super) log: Tree,
    pub(super) documents: Tree,
    pub(super) signatures: Tree,
    pub(super) keys: Tree,
    pub(super) meta: Tree,
    pub(super) hosts: Tree,
    /// When each host was seen last: it changes all the time, and all else of a host seldom.
    pub(super) seen: Tree,
    pub(super) used: Tree,
    pub(super) sign_ins: Tree,
    pub(super) rollouts: Tree,
    path: PathBuf,
    file: File,
    /// Blobs that are synced: large values have files of their own.
    blobs: HashSet<OsString>,
}

impl Disk {
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let disk = Self { folder: DataFolder::open(folder)?, trees: Mutex::default() };
        let trees = Trees::open(disk.folder.path()).map_err(|failure| disk.error(failure))?;
        *disk.trees.lock().unwrap_or_else(PoisonError::into_inner) = Some(trees);
        Ok(disk)
    }

    /// Use the trees, one caller at a time.
    pub(super) fn with<R>(
        &self,
        work: impl FnOnce(&mut Trees) -> Result<R, Failure>,
    ) -> Result<R, StoreError> {
        let mut open = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder.path();
        let result = match open.take() {
            Some(trees) => Ok(trees),
            None => probe(folder, SPARE).map_err(Failure::Io).and_then(|()| Trees::open(folder)),
        };
        let result = result.and_then(|mut trees| {
            let result = work(&mut trees);
            if !matches!(result, Err(Failure::Io(_) | Failure::Sled(_))) {
                *open = Some(trees);
            }
            result
        });
        result.map_err(|failure| self.error(failure))
    }

    /// Whether there is room for `bytes` and some more. Without it nothing is used until there is.
    pub(super) fn room_for(&self, bytes: usize) -> Result<(), StoreError> {
        let room = probe(self.folder.path(), bytes.saturating_add(SPARE));
        self.with(|_| room.map_err(Failure::Io))
    }

    fn error(&self, failure: Failure) -> StoreError {
        let path = self.folder.path().to_owned();
        match failure {
            Failure::Io(source) => StoreError::Disk { path, source },
            Failure::Sled(source) => StoreError::Sled { path, source },
            Failure::Unreadable { what, key, reason } => StoreError::Unreadable { path, what, key, reason },
        }
    }
}

impl Trees {
    fn open(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("store");
        remove_torn_snapshots(&path)?;
        // Nothing is flushed behind our back: what is durable is decided here.
        let config = sled::Config::new().path(&path).cache_capacity(32 * 1024 * 1024).flush_every_ms(None);
        let db = config.open()?;
        let file = File::open(path.join("db"))?;
        let trees = Self {
            log: db.open_tree("log")?,
            documents: db.open_tree("documents")?,
            signatures: db.open_tree("signatures")?,
            keys: db.open_tree("keys")?,
            meta: db.open_tree("meta")?,
            hosts: db.open_tree("hosts")?,
            seen: db.open_tree("seen")?,
            used: db.open_tree("used")?,
            sign_ins: db.open_tree("sign_ins")?,
            rollouts: db.open_tree("rollouts")?,
            db,
            path,
            file,
            blobs: HashSet::new(),
        };
        sync_folder(&trees.path)?;
        sync_folder(folder)?;
        Ok(trees)
    }

    /// All that was written is on disk when this returns.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        self.db.flush()?;
        self.sync_blobs()?;
        Ok(self.file.sync_data()?)
    }

    fn sync_blobs(&mut self) -> io::Result<()> {
        let folder = self.path.join("blobs");
        let mut present = HashSet::new();
        let mut new = false;
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name();
            if !self.blobs.contains(&name) {
                // sled may remove it meanwhile: then nothing needs it.
                match File::open(folder.join(&name)).and_then(|file| file.sync_data()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    outcome => outcome?,
                }
                new = true;
            }
            present.insert(name);
        }
        if new {
            sync_folder(&folder)?;
        }
        self.blobs = present;
        Ok(())
    }
}

pub(super) fn read<T: DeserializeOwned>(what: &'static str, key: &str, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::Unreadable {
        what,
        key: key.to_owned(),
        reason: error.to_string(),
    })
}

/// Write a file of `bytes` to the disk, and remove it.
fn probe(folder: &Path, bytes: usize) -> io::Result<()> {
    let path = folder.join("room");
    let mut file = File::create(&path)?;
    let written = file.write_all(&vec![0; bytes]).and_then(|()| file.sync_data());
    fs::remove_file(&path)?;
    written
}

/// A crash while sled writes a snapshot leaves one that makes it refuse to open for ever; without it, it opens.
fn remove_torn_snapshots(path: &Path) -> io::Result<()> {
    remove_leftovers(path, |name| name.starts_with("snap.") && name.ends_with(".generating"))
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<sled::Error> for Failure {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => Self::Io(error),
            other => Self::Sled(other),
        }
    }
}

impl From<TransactionError<io::Error>> for Failure {
    fn from(error: TransactionError<io::Error>) -> Self {
        match error {
            TransactionError::Abort(error) => Self::Io(error),
            TransactionError::Storage(error) => error.into(),
        }
    }
}
