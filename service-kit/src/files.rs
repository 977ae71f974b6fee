//! Files that must survive: private, whole or not there, and folders that only one process uses.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Write `bytes` to `path` so that after a crash either the old or the new content is there. Mode 0600.
///
/// # Errors
/// As the file system says.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Make the entries of a folder durable (`fsync`).
///
/// # Errors
/// As the file system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Remove the files of a folder whose names are those of leftovers. A folder that is not there has none.
///
/// # Errors
/// As the file system says.
pub fn remove_leftovers(folder: &Path, is_leftover: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if is_leftover(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A folder of data that this process alone uses, for as long as the value lives. The lock ends with the process,
/// however it ends.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    #[error("the data folder {0} is in use by another process: stop that one, or choose another folder")]
    InUse(PathBuf),
    #[error("cannot use the data folder {0}: check that it can be written and the disk has room")]
    Io(PathBuf, #[source] io::Error),
}

impl DataFolder {
    /// Create `path` where it is missing (mode 0700) and lock it.
    ///
    /// # Errors
    /// [`DataFolderError`] when another process holds it, or it cannot be written.
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        let io = |error| DataFolderError::Io(path.to_owned(), error);
        let existed = path.is_dir();
        fs::create_dir_all(path).map_err(io)?;
        if !existed {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io)?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(DataFolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// Make a folder that was removed under this process again, and lock it. `true` when it had gone, or its lock had.
    ///
    /// # Errors
    /// [`DataFolderError`] when another process uses the folder now, or it cannot be written.
    pub fn put_back(&mut self) -> Result<bool, DataFolderError> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let io = |error| DataFolderError::Io(self.path.clone(), error);
        let ours = self.lock.metadata().map_err(io)?;
        match fs::metadata(self.path.join("lock")) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let again = Self::open(&self.path)?;
        // Whoever made it again may not have known that it is private.
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700)).map_err(io)?;
        *self = again;
        Ok(true)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataFolder::open(&path).unwrap();
        assert!(matches!(DataFolder::open(&path), Err(DataFolderError::InUse(_))));
        drop(first);
        assert!(DataFolder::open(&path).is_ok());
    }

    #[test]
    fn a_folder_that_was_removed_is_made_and_locked_again() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let mut ours = DataFolder::open(&path).unwrap();
        assert!(!ours.put_back().unwrap());
        fs::remove_dir_all(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(ours.put_back().unwrap() && !ours.put_back().unwrap());
        assert!(matches!(DataFolder::open(&path), Err(DataFolderError::InUse(_))));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        // Another process was faster.
        fs::remove_dir_all(&path).unwrap();
        let theirs = DataFolder::open(&path).unwrap();
        assert!(matches!(ours.put_back(), Err(DataFolderError::InUse(_))));
        drop(theirs);
        assert!(ours.put_back().unwrap());
    }

    #[test]
    fn a_private_file_is_replaced_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
