//! Running one configured check now: the request on `dogwatch.v1.run.<agent>`, and what comes back while it runs.
//!
//! The agent answers with several messages, each a [`RunReply`], to the reply subject of the request. They come in
//! order; the last one is marked. An agent that does not know the request has no subscription, so the broker itself
//! answers that nobody listens.

use serde::{Deserialize, Serialize};

use crate::{CheckName, CheckResult, ErrorCode};

/// Run a check of the agent's configuration now. Nothing else can be run this way: what it does is the configuration's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    pub v: u8,
    pub check: CheckName,
    /// How long to wait for a run of it that is under way, in milliseconds; without it such a request is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Who asks, for the agent's log: `key 01KAH3W8T…`.
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReply {
    pub v: u8,
    #[serde(flatten)]
    pub event: RunEvent,
    /// Nothing follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum RunEvent {
    /// It is accepted and will begin as soon as a place is free.
    Started {
        /// Revision of the configuration that the check is of.
        revision: u64,
        /// How long it may take once it runs, in milliseconds.
        timeout_ms: u64,
    },
    /// Some of its output, as it comes. The whole of it, as far as it is kept, is in the result too.
    Output { stream: OutputStream, text: String },
    /// It ran. The result goes its usual way as well, with a number of its own.
    Ended {
        result: Box<CheckResult>,
        /// Bytes of output that were not passed on as they came, since they were too many.
        #[serde(default)]
        dropped: u64,
    },
    /// It does not run, or it was ended without a result.
    Refused { code: ErrorCode, reason: String },
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    Stdout,
    Stderr,
}

impl From<RunEvent> for RunReply {
    fn from(event: RunEvent) -> Self {
        let last = matches!(event, RunEvent::Ended { .. } | RunEvent::Refused { .. });
        Self { v: crate::VERSION, event, last }
    }
}
