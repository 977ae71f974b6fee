//! The streams, as data: `service-kit` creates them, or compares them with what the broker has.

use std::time::Duration;

use crate::subject;

/// How long a stream keeps a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Until a limit is reached.
    Limits,
    /// Until a consumer acknowledged it.
    WorkQueue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    pub name: &'static str,
    pub subjects: &'static [&'static str],
    pub retention: Retention,
    /// `None`: for ever.
    pub max_age: Option<Duration>,
    /// Bytes; the oldest go first. `None`: as the broker allows.
    pub max_bytes: Option<i64>,
    /// Inside it the broker drops messages whose `Nats-Msg-Id` it has seen.
    pub duplicate_window: Duration,
}

const DAY: u64 = 86_400;
const TWO_MINUTES: Duration = Duration::from_secs(120);
const GIB: i64 = 1024 * 1024 * 1024;

/// Results on their way to ingest and to anyone who subscribes. Agents keep what ingest has not stored, so a limit
/// that is reached loses nothing for the store.
pub const RESULTS: StreamSpec = StreamSpec {
    name: "RESULTS",
    subjects: &[subject::RESULT_ALL],
    retention: Retention::Limits,
    max_age: Some(Duration::from_secs(2 * DAY)),
    max_bytes: Some(4 * GIB),
    duplicate_window: TWO_MINUTES,
};

/// Every alert transition.
pub const ALERTS: StreamSpec = StreamSpec {
    name: "ALERTS",
    subjects: &[subject::ALERT_ALL],
    retention: Retention::Limits,
    max_age: Some(Duration::from_secs(30 * DAY)),
    max_bytes: Some(GIB),
    duplicate_window: TWO_MINUTES,
};

/// The alerter's outbox.
pub const NOTIFY: StreamSpec = StreamSpec {
    name: "NOTIFY",
    subjects: &[subject::NOTIFY_ALL],
    retention: Retention::WorkQueue,
    max_age: Some(Duration::from_secs(7 * DAY)),
    max_bytes: Some(GIB),
    duplicate_window: TWO_MINUTES,
};

/// Every accepted change of documents and keys. Never expires: it is the history.
pub const CONFIG: StreamSpec = StreamSpec {
    name: "CONFIG",
    subjects: &[subject::CONFIG_LOG],
    retention: Retention::Limits,
    max_age: None,
    max_bytes: None,
    duplicate_window: TWO_MINUTES,
};

/// Who did what: see [`crate::audit`].
pub const AUDIT: StreamSpec = StreamSpec {
    name: "AUDIT",
    subjects: &[subject::AUDIT_ALL],
    retention: Retention::Limits,
    max_age: Some(Duration::from_secs(90 * DAY)),
    max_bytes: Some(GIB / 4),
    duplicate_window: TWO_MINUTES,
};

/// What could not be understood, whole, with the reason in its headers.
pub const REJECTED: StreamSpec = StreamSpec {
    name: "REJECTED",
    subjects: &[subject::REJECTED_ALL],
    retention: Retention::Limits,
    max_age: Some(Duration::from_secs(7 * DAY)),
    max_bytes: Some(GIB / 4),
    duplicate_window: TWO_MINUTES,
};

/// Headers of a message on REJECTED; its body is that of the message it was made from, to the byte.
pub mod rejected_header {
    /// Why it was rejected.
    pub const REASON: &str = "Dogwatch-Reason";
    /// Subject on which it came.
    pub const SUBJECT: &str = "Dogwatch-Subject";
}

/// Durable consumers. One name each, so that a restart goes on where it stopped.
pub mod consumer {
    pub const INGEST: &str = "ingest";
    pub const REMOTE_WRITE: &str = "remote-write";
    pub const ALERTER: &str = "alerter";
    pub const NOTIFIER: &str = "notifier";
}
