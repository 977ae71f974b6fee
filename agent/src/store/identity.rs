//! The agent's own NKey: made on this host, never sent anywhere, in its state folder with mode 0600.
//!
//! A new one is `enrolling.nk` until the service has answered the agent that signed in with it, and goes with the token
//! as long. Then it is `agent.nk`, and no token is needed any more.

use std::{
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nkeys::KeyPair;
use protocol::AgentId;
use service_kit::{
    files::{sync_folder, write_private},
    nats::Claim,
};

const ENROLLED: &str = "agent.nk";
const ENROLLING: &str = "enrolling.nk";

/// How the agent signs in with an NKey of its own; makes one where there is a token and none yet. `None`: it has neither.
///
/// # Errors
/// When the state folder cannot be written.
pub fn claim(state: &Path, agent: &AgentId, token_file: Option<&PathBuf>) -> anyhow::Result<Option<Claim>> {
    let (nkey_file, new_nkey_file) = (state.join(ENROLLED), state.join(ENROLLING));
    let has = |path: &Path| {
        path.try_exists()
            .with_context(|| format!("cannot look for {}: check its permissions", path.display()))
    };
    if !has(&nkey_file)? && !has(&new_nkey_file)? {
        if token_file.is_none() {
            return Ok(None);
        }
        let cannot =
            || format!("cannot write {}: check that the folder can be written", new_nkey_file.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).with_context(cannot)?;
        let seed = KeyPair::new_user().seed().context("the system gave no random key")?;
        write_private(&new_nkey_file, format!("{seed}\n").as_bytes()).with_context(cannot)?;
    }
    if let Some(token_file) = token_file.filter(|_| new_nkey_file.exists()) {
        super::labels::keep(state, token_file)
            .with_context(|| format!("cannot write into {}: check the folder", state.display()))?;
    }
    let (name, token_file) = (agent.to_string(), token_file.cloned());
    Ok(Some(Claim { name, nkey_file, token_file, new_nkey_file }))
}

/// The service has answered: the NKey is enrolled.
pub fn confirm(state: &Path) {
    let renamed = match std::fs::rename(state.join(ENROLLING), state.join(ENROLLED)) {
        Ok(()) => sync_folder(state),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => Err(error),
    };
    match renamed {
        Ok(()) => {
            tracing::info!("enrolled: from now on the agent signs in with its own NKey; the token can go")
        }
        Err(error) => tracing::warn!(%error, "the NKey cannot be renamed: the token goes on being sent"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_the_agents_own() {
        let folder = tempfile::tempdir().unwrap();
        let (state, agent) = (folder.path().join("state"), AgentId::new("web-01").unwrap());
        assert!(claim(&state, &agent, None).unwrap().is_none());
        let token = folder.path().join("token");
        let first = claim(&state, &agent, Some(&token)).unwrap().unwrap();
        let seed = std::fs::read_to_string(&first.new_nkey_file).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&first.new_nkey_file), mode(&state)), (0o600, 0o700));
        claim(&state, &agent, Some(&token)).unwrap();
        assert_eq!(std::fs::read_to_string(&first.new_nkey_file).unwrap(), seed);
        confirm(&state);
        confirm(&state);
        assert_eq!(std::fs::read_to_string(&first.nkey_file).unwrap(), seed);
        let later = claim(&state, &agent, None).unwrap().unwrap();
        assert!(!later.new_nkey_file.exists() && later.nkey_file.exists());
    }
}
