//! Bytes to messages and back. No input panics; every error names what was read and why it failed.

use serde::{Serialize, de::DeserializeOwned};

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the message has {size} bytes, more than the {limit} allowed")]
    TooLarge { size: usize, limit: usize },
    #[error("not a valid {what}: {reason}")]
    Malformed { what: &'static str, reason: String },
}

/// # Errors
/// [`DecodeError`] when `bytes` are more than `limit`, or not one JSON object of the shape of `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { size: bytes.len(), limit });
    }
    // A list of values in the order of our fields would be taken for the struct; no other program knows that order.
    if bytes.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
        let reason = "it is a list, not an object".to_owned();
        return Err(DecodeError::Malformed { what: type_name::<T>(), reason });
    }
    serde_json::from_slice(bytes)
        .map_err(|error| DecodeError::Malformed { what: type_name::<T>(), reason: error.to_string() })
}

/// JSON of a message. Wire types hold nothing that JSON cannot express, so this does not fail for them.
///
/// # Errors
/// Only for a foreign type whose `Serialize` refuses.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(message)
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`hex`] wrote, back; `None` for anything else.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| if let [high, low] = pair { Some(digit(high)? << 4 | digit(low)?) } else { None })
        .collect()
}

fn type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.split('<').next().and_then(|n| n.rsplit("::").next()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CheckResult, query::LossQuery};

    #[test]
    fn errors_name_the_message_and_the_field() {
        let error = decode::<CheckResult>(b"{\"v\":1}", 100).unwrap_err().to_string();
        assert!(error.starts_with("not a valid CheckResult: missing field `agent`"), "{error}");
        let error = decode::<CheckResult>(&[b' '; 101], 100).unwrap_err().to_string();
        assert_eq!(error, "the message has 101 bytes, more than the 100 allowed");
    }

    #[test]
    fn a_list_is_no_message() {
        assert!(decode::<LossQuery>(b"{}", 100).is_ok());
        for list in ["[]", " \n[]", "[\"web-01\"]"] {
            let error = decode::<LossQuery>(list.as_bytes(), 100).unwrap_err().to_string();
            assert_eq!(error, "not a valid LossQuery: it is a list, not an object");
        }
    }
}
