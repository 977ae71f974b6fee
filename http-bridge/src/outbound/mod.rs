//! What leaves: requests to the other services, and messages on streams. Nothing but a change of documents
//! waits for more than 5 seconds in all, and nothing waits for a broker that is known to be away.

mod ask;
mod configs;
mod keys;
mod live;
mod runs;
mod streams;

pub(crate) use ask::{ANSWER, Ask, CHANGE};
pub(crate) use configs::Configs;
pub(crate) use keys::Keys;
pub(crate) use live::{Filter, Live, LiveTails};
pub(crate) use runs::{Events, Next};
pub(crate) use streams::{Streams, Submission};

/// A lock that a panic elsewhere does not poison: the caches behind it are whole at every step.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
