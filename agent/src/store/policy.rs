//! The policy file, and whom the agent believes on this host.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
};

use crate::core::policy::Policy;

/// Largest policy file, in bytes.
const MAX: u64 = 1024 * 1024;

/// Read the policy of this host; without a file all is allowed.
///
/// # Errors
/// What is wrong with the file, and what to do.
pub fn load(path: Option<&Path>) -> Result<Policy, String> {
    let Some(path) = path else { return Ok(Policy::default()) };
    let policy = read_text(path).and_then(|text| Policy::parse(&text));
    policy.map_err(|reason| format!("policy file {}: {reason}", path.display()))
}

/// The text of a file that says what the owner of this host wants.
///
/// # Errors
/// What is wrong with the file, and what to do.
pub fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // Of the open file, so that what is checked is what is read.
    let file = File::open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    trusted(&meta)?;
    let mut text = String::new();
    file.take(MAX + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > MAX {
        return Err(format!("larger than {MAX} bytes"));
    }
    Ok(text)
}

/// Whether a file says what the owner of this host wants: a plain file that nobody else can write.
///
/// # Errors
/// Why not, and what to do.
pub fn trusted(meta: &Metadata) -> Result<(), String> {
    let own = rustix::process::geteuid();
    if !meta.is_file() {
        return Err("not a file".to_owned());
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!("others can write it (mode {:o}): chmod go-w it", meta.mode() & 0o7777));
    }
    // An agent without rights of root has nothing to lend to the file's owner.
    if own.is_root() && meta.uid() != 0 {
        return Err(format!(
            "it belongs to user {}, and the agent runs as root: chown it to root",
            meta.uid()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn g3_only_a_file_that_nobody_else_can_write_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&path, "no_shell = true").unwrap();
        for (bits, expected) in [(0o644, ""), (0o400, ""), (0o646, "chmod go-w"), (0o664, "mode 664")] {
            mode(bits);
            match load(Some(&path)) {
                Ok(policy) => assert!(policy.no_shell && expected.is_empty(), "{bits:o}"),
                Err(reason) => assert!(!expected.is_empty() && reason.contains(expected), "{reason}"),
            }
        }
        mode(0o600);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            assert!(load(Some(&path)).unwrap_err().contains("belongs to user 65534"));
        } else {
            println!("NOT TESTED: files of other users, since this is not root");
        }
        for (path, expected) in [(folder.path(), "not a file"), (&folder.path().join("x"), "cannot be read")]
        {
            assert!(load(Some(path)).unwrap_err().contains(expected));
        }
        assert_eq!(load(None), Ok(Policy::default()));
    }
}
