//! The answer to every request: `{"ok": …}` or `{"error": …}`.

use serde::{Deserialize, Serialize};

use crate::ErrorReply;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply<T> {
    Ok(T),
    Error(ErrorReply),
}

impl<T> From<Result<T, ErrorReply>> for Reply<T> {
    fn from(result: Result<T, ErrorReply>) -> Self {
        match result {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Error(error),
        }
    }
}

impl<T> Reply<T> {
    /// # Errors
    /// The error that the other side answered with.
    pub fn into_result(self) -> Result<T, ErrorReply> {
        match self {
            Self::Ok(value) => Ok(value),
            Self::Error(error) => Err(error),
        }
    }
}
