//! The answer to every request: `{"ok": …}` or `{"error": …}`.

use std::ops::Range;

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

/// Where the answer lies in a good reply as services of this workspace write it, so that it can be handed on without
/// being read; `None` for an error, and for what must be decoded to tell.
#[must_use]
pub fn answer(reply: &[u8]) -> Option<Range<usize>> {
    const BEGIN: &[u8] = br#"{"ok":"#;
    let inside = reply.strip_prefix(BEGIN)?.strip_suffix(b"}")?;
    Some(BEGIN.len()..BEGIN.len() + inside.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorReply;

    #[test]
    fn a_good_answer_is_found_without_reading_it() {
        let reply = crate::encode(&Reply::Ok(vec![1, 2])).unwrap();
        assert_eq!(&reply[answer(&reply).unwrap()], b"[1,2]");
        let reply = crate::encode(&Reply::<()>::Error(ErrorReply::invalid("no"))).unwrap();
        assert_eq!(answer(&reply), None);
    }
}
