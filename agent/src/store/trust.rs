//! The file of keys that this host trusts, and what it accepted by them.

use std::{io, path::Path};

use service_kit::files::write_private;

use super::policy;
use crate::core::trust::{Accepted, Trust, TrustedKey};

const FILE: &str = "accepted.json";

/// The keys of the settings and of their file. The file is believed as the policy is: only where nobody else can write it.
///
/// # Errors
/// What is wrong with the file, and what to do.
pub fn load_keys(keys: &[TrustedKey], file: Option<&Path>, required: Option<bool>) -> Result<Trust, String> {
    let Some(path) = file else { return Trust::new(keys, "", required) };
    let text = policy::read_text(path);
    let trust = text.and_then(|text| Trust::new(keys, &text, required));
    trust.map_err(|reason| format!("file of trusted keys {}: {reason}", path.display()))
}

/// What was accepted up to now; nothing where there is no file yet.
///
/// # Errors
/// When the file is there and cannot be read. Then nothing tells what is too old.
pub fn load(folder: &Path) -> Result<Accepted, String> {
    let path = folder.join(FILE);
    let read = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Accepted::default()),
        Err(error) => Err(error.to_string()),
    };
    read.map_err(|reason| {
        format!(
            "cannot read {}, which says what this host accepted ({reason}): restore it, or remove it to accept \
             any revision once more",
            path.display()
        )
    })
}

/// # Errors
/// As the file system says; what there was before stays.
pub fn save(folder: &Path, accepted: &Accepted) -> io::Result<()> {
    write_private(&folder.join(FILE), &serde_json::to_vec(accepted)?)
}
