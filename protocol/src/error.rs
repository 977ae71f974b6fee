//! The few errors that cross the wire.

use serde::{Deserialize, Serialize};

/// What went wrong, for programs. The bridge maps each to one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request itself is wrong; sending it again cannot help.
    Invalid,
    /// No key, or one that is unknown or revoked.
    Unauthorized,
    /// A known key whose role may not do this.
    Forbidden,
    NotFound,
    /// Made from an outdated state.
    Conflict,
    TooLarge,
    /// Too much at once here; try again later.
    Overloaded,
    /// Something behind is away (broker, store); try again later.
    Unavailable,
    Internal,
    /// A code of a newer version.
    #[serde(other)]
    Unknown,
}

/// An error as it is answered: what failed, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct ErrorReply {
    pub code: ErrorCode,
    pub message: String,
    /// The field at fault, as a path into the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Every problem of a set of documents, where that is what the request held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<crate::admin::Problem>,
}

impl ErrorReply {
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, problems: Vec::new() }
    }

    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}
