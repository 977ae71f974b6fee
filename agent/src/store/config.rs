//! The last good configuration, so that an agent that starts without a broker knows what to run (G7).

use std::{io, path::Path};

use protocol::Facts;
use serde::{Deserialize, Serialize};
use service_kit::files::write_private;

use crate::core::check::WireConfig;

const FILE: &str = "config.json";

/// A configuration, and the facts of this host by which it was judged: before they are looked up anew, they tell what of
/// it may run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    #[serde(flatten)]
    pub wire: WireConfig,
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
}

/// # Errors
/// As the file system says; the configuration before stays.
pub fn save(folder: &Path, config: &Saved) -> io::Result<()> {
    write_private(&folder.join(FILE), &serde_json::to_vec(config)?)
}

/// The configuration that was saved last; `None` when there is none.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn load(folder: &Path) -> io::Result<Option<Saved>> {
    match std::fs::read(folder.join(FILE)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether one was saved, and is still there as far as can be seen.
#[must_use]
pub fn is_there(folder: &Path) -> bool {
    folder.join(FILE).try_exists().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g7_what_was_saved_is_loaded_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()).unwrap(), None);
        let value = vec![serde_json::json!({"a": 1})];
        let wire =
            WireConfig { revision: 7, etag: "e".into(), checks: value.clone(), documents: value.clone() };
        let config = Saved { wire, facts: [("os".to_owned(), "linux".into())].into() };
        save(folder.path(), &config).unwrap();
        assert_eq!(load(folder.path()).unwrap(), Some(config));
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(load(folder.path()).is_err());
    }
}
