//! Whose key is this? Asked of the config-service, remembered for a few seconds.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use protocol::{
    AgentId, ErrorCode, ErrorReply,
    admin::{KeyInfo, KeyVerify, key_hash},
    subject,
};

use super::{Ask, lock};
use crate::core::cache::Cache;

/// A revoked key works for at most this long.
const KNOWN: Duration = Duration::from_secs(5);
/// A new key that was tried too early is refused for at most this long.
const UNKNOWN: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Keys {
    ask: Ask,
    known: Mutex<Cache<String, KeyInfo>>,
    /// Apart from the known ones, so that a flood of guesses does not push those out.
    unknown: Mutex<Cache<String, ()>>,
}

impl Keys {
    pub(crate) fn new(ask: Ask) -> Self {
        Self {
            ask,
            known: Mutex::new(Cache::new(KNOWN, 100_000)),
            unknown: Mutex::new(Cache::new(UNKNOWN, 10_000)),
        }
    }

    /// The answer that needs no question: `Some(None)` for a key that is known to be none.
    pub(crate) fn cached(&self, hash: &String) -> Option<Option<KeyInfo>> {
        let now = Instant::now();
        if let Some(info) = lock(&self.known).get(hash, now) {
            return Some(Some(info));
        }
        lock(&self.unknown).get(hash, now).map(|()| None)
    }

    /// `None`: unknown or revoked.
    ///
    /// # Errors
    /// When nobody can tell.
    pub(crate) async fn verify(&self, hash: String) -> Result<Option<KeyInfo>, ErrorReply> {
        let question = KeyVerify { hash: hash.clone() };
        match self.ask.ask(subject::ADMIN_KEY_VERIFY, &question, TIMEOUT).await {
            Ok(info) => {
                lock(&self.known).put(hash, KeyInfo::clone(&info), Instant::now());
                Ok(Some(info))
            }
            Err(error) if error.code == ErrorCode::Unauthorized => {
                lock(&self.unknown).put(hash, (), Instant::now());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A key that was revoked here is refused from now on.
    pub(crate) fn forget(&self, id: &str) {
        lock(&self.known).remove_if(|info| info.id == id);
    }

    /// The keys of a host that was revoked here are refused from now on.
    pub(crate) fn forget_host(&self, agent: &AgentId) {
        lock(&self.known).remove_if(|info| info.agent.as_ref() == Some(agent));
    }

    pub(crate) fn hash(key: &str) -> String {
        key_hash(key)
    }
}
