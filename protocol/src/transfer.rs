//! What is larger than a message: piece by piece, over requests and replies.
//!
//! Whoever hands a file out or takes one in may be one of several replicas, so each transfer has a name that leads back
//! to the replica it began at: `<replica>-<number>`, both hexadecimal.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Bytes of one piece, at most: as hexadecimal digits it fits into a message with much room left.
pub const PIECE: usize = 512 * 1024;

/// The name of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    text: String,
    at: usize,
}

impl Transfer {
    /// `replica` in hexadecimal digits. `None` where it is not.
    #[must_use]
    pub fn new(replica: &str, number: u64) -> Option<Self> {
        Self::read(&format!("{replica}-{number:x}"))
    }

    fn read(text: &str) -> Option<Self> {
        let (replica, number) = text.split_once('-')?;
        let digits =
            |part: &str| (1..=32).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let good = digits(replica) && digits(number);
        good.then(|| Self { text: text.to_owned(), at: replica.len() })
    }

    /// The replica at which it began: one token of a subject.
    #[must_use]
    pub fn replica(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Transfer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Transfer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).ok_or_else(|| D::Error::custom("it is no name of a transfer"))
    }
}

/// Bytes that cross as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = crate::codec::unhex(&text).ok_or_else(|| D::Error::custom("not hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

/// Request for a piece of what is handed out; the reply is a [`Piece`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceQuery {
    /// Absent: begin. The transfer before it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    #[serde(default)]
    pub offset: u64,
    #[serde(default)]
    pub actor: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub transfer: Transfer,
    pub offset: u64,
    /// Bytes in all. Absent: it is still being made; ask again in a moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    #[serde(default)]
    pub data: Bytes,
}

/// Request that brings a piece; the reply is a [`PieceTaken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PiecePut {
    /// Absent: begin. What was brought before is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    /// Where it belongs: what was brought so far ends here, or later where a piece is brought once more.
    pub offset: u64,
    pub data: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceTaken {
    pub transfer: Transfer,
    /// Bytes that are there now.
    pub total: u64,
}

/// Request: what was brought is whole, and takes effect; or with `look` it is only looked at. The reply is a
/// [`TransferEnded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferEnd {
    pub transfer: Transfer,
    #[serde(default)]
    pub look: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferEnded {
    /// What it holds.
    pub entries: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_leads_to_its_replica_and_to_no_other_subject() {
        let transfer = Transfer::new("0a1f", 31).unwrap();
        assert_eq!((transfer.to_string().as_str(), transfer.replica()), ("0a1f-1f", "0a1f"));
        for bad in ["", "-", "a-", "-1", "a.b-1", "*-1", ">", "x1-1", "a-1-1", &"a".repeat(40)] {
            assert!(serde_json::from_value::<Transfer>((*bad).into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_come_back_and_what_is_none_is_refused() {
        let bytes = Bytes(vec![0, 255, 10]);
        let json = serde_json::to_string(&bytes).unwrap();
        assert_eq!(json, "\"00ff0a\"");
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), bytes);
        for bad in ["\"0\"", "\"zz\"", "\"ä\"", "1"] {
            assert!(serde_json::from_str::<Bytes>(bad).is_err(), "{bad}");
        }
    }
}
