//! How far in the stream results were sent on, in a file: the broker's own consumer knows it as well, but passes over what
//! the stream forgot without a word.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use service_kit::files;

const FILE: &str = "remote-write.json";

#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
struct Content {
    sequence: u64,
}

pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self(folder.join(FILE))
    }

    /// 0 where nothing is known.
    pub(super) fn load(&self) -> u64 {
        let read = std::fs::read(&self.0).ok();
        let content: Option<Content> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        content.unwrap_or_default().sequence
    }

    /// Where it cannot be written, only the count of what the stream forgot suffers.
    pub(super) async fn save(&self, sequence: u64) {
        let path = self.0.clone();
        let written = tokio::task::spawn_blocking(move || {
            files::write_private(&path, format!(r#"{{"sequence":{sequence}}}"#).as_bytes())
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, file = %self.0.display(), "the place of remote write cannot be written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_read_back_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::in_folder(folder.path());
        assert_eq!(place.load(), 0);
        place.save(7).await;
        assert_eq!(Place::in_folder(folder.path()).load(), 7);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(place.load(), 0);
    }
}
