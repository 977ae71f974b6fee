//! A result between the spool and the broker: what is known only when it is sent is put into its text, which need not
//! be read and written anew for that. An agent with a full spool sends many.

use protocol::{AgentId, CheckName, CheckResult, DecodeError, limits, result::message_id};

/// How the text of a result begins.
const HEAD: &str = "{\"v\":1,\"agent\":\"";
/// What stands in it as long as it has no number and was not sent.
const NUMBER: &str = "\"epoch\":0,\"seq\":0";
const END: &str = "\"replayed\":false}";

/// A result as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// By which the broker knows a repeat.
    pub id: String,
    pub body: Vec<u8>,
}

impl Message {
    /// # Errors
    /// As of [`protocol::encode`].
    pub fn of(result: &CheckResult) -> Result<Self, serde_json::Error> {
        Ok(Self { id: result.message_id(), body: protocol::encode(result)? })
    }
}

/// A result as it stands in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    pub check: CheckName,
    /// When the run began, in milliseconds since 1970.
    pub at_ms: u64,
    agent: AgentId,
    text: Vec<u8>,
    /// Where [`NUMBER`] begins in it.
    number: usize,
}

impl Spooled {
    /// From a text that this version of the agent, or another, put into the spool.
    ///
    /// # Errors
    /// [`DecodeError`] when it is no result.
    pub fn read(text: Vec<u8>) -> Result<Self, DecodeError> {
        let text = match Self::find(text) {
            Ok(spooled) => return Ok(spooled),
            Err(text) => text,
        };
        let result: CheckResult = protocol::decode(&text, limits::RESULT)?;
        let bare = CheckResult { epoch: 0, seq: 0, replayed: false, id: None, ..result };
        let malformed = |reason| DecodeError::Malformed { what: "CheckResult", reason };
        let text = protocol::encode(&bare).map_err(|error| malformed(error.to_string()))?;
        Self::find(text).map_err(|_| malformed("its fields are in no known order".to_owned()))
    }

    /// Gives `text` back where its fields are not in the order in which this version writes them. Names hold nothing that
    /// JSON writes in another way, so that a quote ends them; and no part of the object ends as all of it does.
    fn find(text: Vec<u8>) -> Result<Self, Vec<u8>> {
        let places = || {
            let head = text.strip_suffix(END.as_bytes())?;
            let (agent, rest) = until(head.strip_prefix(HEAD.as_bytes())?, b'"')?;
            let (check, rest) = until(rest.strip_prefix(b",\"check\":\"")?, b'"')?;
            let rest = rest.strip_prefix(b",")?;
            let number = head.len() - rest.len();
            let rest = rest.strip_prefix(NUMBER.as_bytes())?.strip_prefix(b",\"at_ms\":")?;
            let at_ms = until(rest, b',')?.0.parse().ok()?;
            Some((AgentId::new(agent).ok()?, CheckName::new(check).ok()?, at_ms, number))
        };
        match places() {
            Some((agent, check, at_ms, number)) => Ok(Self { check, at_ms, agent, text, number }),
            None => Err(text),
        }
    }

    #[must_use]
    pub fn message(&self, epoch: u64, seq: u64, replayed: bool) -> Message {
        let (head, rest) = self.text.split_at_checked(self.number).unwrap_or_default();
        let rest = rest.get(NUMBER.len()..rest.len().saturating_sub(END.len())).unwrap_or_default();
        let number = format!("\"epoch\":{epoch},\"seq\":{seq}");
        let end = if replayed { "\"replayed\":true}" } else { END };
        let body = [head, number.as_bytes(), rest, end.as_bytes()].concat();
        Message { id: message_id(&self.agent, epoch, seq), body }
    }

    /// All of it, with its number.
    ///
    /// # Errors
    /// [`DecodeError`] when it is no result after all.
    pub fn result(&self, epoch: u64, seq: u64) -> Result<CheckResult, DecodeError> {
        let result: CheckResult = protocol::decode(&self.text, limits::RESULT)?;
        Ok(CheckResult { epoch, seq, ..result })
    }
}

/// What stands before the first `end`, and behind it.
fn until(text: &[u8], end: u8) -> Option<(&str, &[u8])> {
    let place = text.iter().position(|byte| *byte == end)?;
    let before = std::str::from_utf8(text.get(..place)?).ok()?;
    Some((before, text.get(place + 1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::{Metric, Scalar, Status, result::Usage};

    use super::*;

    fn result(check: &str, output: String, metrics: Vec<String>) -> CheckResult {
        let metric =
            |name| Metric { name, value: 1.5, unit: None, warn: None, crit: None, min: None, max: None };
        let (agent, check) = (AgentId::new("web-01").unwrap(), CheckName::new(check).unwrap());
        CheckResult {
            value: Scalar::number(5.0),
            unit: Some("\"epoch\":0,\"seq\":0".to_owned()),
            metrics: metrics.into_iter().map(metric).collect(),
            output,
            exit_code: Some(1),
            usage: Some(Usage { cpu_us: 5, memory_bytes: 6 }),
            revision: 7,
            ..CheckResult::new(agent, check, 1_795_000_000_000, Status::Warning)
        }
    }

    proptest! {
        /// The message is what a writer of JSON makes of the result, whatever its texts hold.
        #[test]
        fn g1_a_spooled_result_is_sent_as_it_was_with_its_number(
            check in "[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
            output in "(\"replayed\":false\\}|[\"{},\\\\a-cä\u{0}\n]){0,6}",
            metrics in proptest::collection::vec("[\"{}:,a-cä]{0,9}", 0..3),
            (epoch, seq) in (any::<u64>(), any::<u64>()),
            replayed in any::<bool>(),
        ) {
            let bare = result(&check, output, metrics);
            let whole = CheckResult { epoch, seq, replayed, ..bare.clone() };
            let spooled = Spooled::read(protocol::encode(&bare).unwrap()).unwrap();
            prop_assert_eq!((spooled.check.as_str(), spooled.at_ms), (check.as_str(), bare.at_ms));
            prop_assert_eq!(spooled.message(epoch, seq, replayed), Message::of(&whole).unwrap());
            let again = spooled.result(epoch, seq).unwrap();
            prop_assert_eq!(again, CheckResult { replayed: false, ..whole });
        }

        #[test]
        fn no_text_panics(text in "(\\{\"v\":1,\"agent\":\"web)?[\"a-z0:,]{0,20}(\"replayed\":false\\})?") {
            drop(Spooled::read(text.into_bytes()));
        }
    }

    #[test]
    fn what_another_version_wrote_is_read_and_written_anew() {
        let known = protocol::encode(&result("disk", "x".to_owned(), Vec::new())).unwrap();
        let known = String::from_utf8(known).unwrap();
        for other in [
            known.replace("{\"v\":1,", "{\"future\":[1],\"v\":1,"),
            known.replace("\"epoch\":0,\"seq\":0,", ""),
            known.replace("\"epoch\":0,\"seq\":0,", "\"epoch\":7,\"seq\":8,"),
            known.replace(",\"replayed\":false}", "}"),
            known.replace(",\"replayed\":false}", ",\"replayed\":true, \"future\":{} }"),
        ] {
            assert_ne!(other, known);
            let spooled = Spooled::read(other.into_bytes()).unwrap();
            assert_eq!(spooled.text, known.as_bytes());
        }
        for bad in ["", "{}", "[1]", "{\"v\":1,\"agent\":\"web-01\",\"check\":\"c\",\"replayed\":false}"] {
            assert!(Spooled::read(bad.into()).is_err(), "{bad}");
        }
    }
}
