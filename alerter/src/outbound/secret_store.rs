//! Secrets from the alerter's own folder and environment. A document names them and never holds them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use protocol::receiver::Secret;

use crate::core::notify::Secrets;

/// Largest secret, in bytes: a chain of certificates.
const LARGEST: u64 = 64 * 1024;
/// How long a value is used before it is read again.
const KEPT: Duration = Duration::from_secs(5);
/// Most values that are kept.
const MANY: usize = 1_000;

type Value = Result<String, String>;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct SecretStore {
    folder: Arc<PathBuf>,
    kept: Arc<Mutex<HashMap<Secret, (Instant, Value)>>>,
}

impl SecretStore {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder: Arc::new(folder), kept: Arc::default() }
    }

    /// Each value, or why it cannot be read.
    pub(super) async fn read(&self, wanted: BTreeSet<Secret>) -> Secrets {
        let mut values = BTreeMap::new();
        let mut missing = Vec::new();
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            for secret in wanted {
                match kept.get(&secret).filter(|(at, _)| at.elapsed() < KEPT) {
                    Some((_, value)) => {
                        values.insert(secret, value.clone());
                    }
                    None => missing.push(secret),
                }
            }
        }
        if !missing.is_empty() {
            let store = self.clone();
            // Were it cut off, its values are missing, which is said.
            let read = tokio::task::spawn_blocking(move || store.read_now(missing)).await;
            values.extend(read.unwrap_or_default());
        }
        Secrets::new(values)
    }

    fn read_now(&self, wanted: Vec<Secret>) -> Vec<(Secret, Value)> {
        let read: Vec<_> =
            wanted.into_iter().map(|secret| (secret.clone(), value(&self.folder, &secret))).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() + read.len() > MANY {
            kept.clear();
        }
        kept.extend(read.iter().map(|(secret, value)| (secret.clone(), (Instant::now(), value.clone()))));
        read
    }
}

fn value(folder: &Path, secret: &Secret) -> Value {
    if let Some(problem) = secret.problem() {
        return Err(format!("a secret is {problem}"));
    }
    let (what, text) = match secret {
        Secret::File(name) => {
            let path = folder.join(name);
            let mut text = String::new();
            let read = File::open(&path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
            (format!("the secret {}", path.display()), read.map(|_| text).map_err(|error| error.to_string()))
        }
        Secret::Env(name) => {
            let text = std::env::var(name).map_err(|error| error.to_string());
            (format!("the secret {name} of the environment"), text)
        }
    };
    let text = text.map_err(|error| format!("{what} cannot be read: {error}"))?;
    // Editors put a line break at the end.
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_is_read_from_its_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("outside"), "x").unwrap();
        let secrets = folder.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        std::fs::write(secrets.join("hook"), " s3cret\n").unwrap();
        std::fs::write(secrets.join("empty"), "\n").unwrap();
        let store = SecretStore::new(secrets);
        let wanted = ["hook", "empty", "missing", "../outside"].map(|name| Secret::File(name.to_owned()));
        let home = Secret::Env("HOME".to_owned());
        let read = store.read(wanted.iter().cloned().chain([home.clone()]).collect()).await;
        assert_eq!(read.get(&wanted[0]).unwrap(), "s3cret");
        for (secret, reason) in [
            (&wanted[1], "is empty"),
            (&wanted[2], "cannot be read: No such file"),
            (&wanted[3], "without a path"),
            (&home, "begins with DOGWATCH_SECRET_"),
        ] {
            let error = read.get(secret).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
