//! `tcp`: whether a port answers, how fast, and with what.

use std::time::Duration;

use protocol::{Status, pattern::Pattern};

use super::{Measured, Options, Peer, Target, Trust, milliseconds, regex, tame, time, wrong};

/// Most of an answer that is looked at, in bytes.
pub const ANSWER: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub struct Plan {
    pub target: Target,
    pub send: Vec<u8>,
    pub expect: Option<Pattern>,
    /// Speak TLS, with a server of this name.
    pub tls: Option<(String, Trust)>,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub address: String,
    pub connect: Duration,
    pub tls: Option<(Peer, Duration)>,
    /// What was said, and when as much of it was there as was expected.
    pub answer: Vec<u8>,
    pub response: Option<Duration>,
}

impl Plan {
    pub(super) fn read(options: &Options) -> Result<Self, String> {
        let target = Target::read(options, None)?;
        let server_name = options.text("server_name").unwrap_or(&target.host).to_owned();
        let tls = options.flag("tls").then(|| (server_name, Trust::read(options)));
        let send = unescaped(options.text("send").unwrap_or_default())?;
        Ok(Self { target, send, expect: regex(options, "expect")?, tls })
    }

    #[must_use]
    pub fn judge(&self, seen: &Seen) -> Measured {
        let mut numbers = vec![milliseconds("connect", seen.connect).judged()];
        numbers.extend(seen.tls.as_ref().map(|(_, tls)| milliseconds("tls", *tls)));
        numbers.extend(seen.response.map(|response| milliseconds("response", response)));
        let connected = format!("{} answers in {}", self.target, time(seen.connect));
        let trouble = seen.tls.as_ref().and_then(|(peer, _)| peer.trouble.as_ref());
        let verify = self.tls.as_ref().is_some_and(|(_, trust)| trust.verify);
        let failed = match (trouble, &self.expect, seen.response) {
            (Some(trouble), _, _) if verify => Some(trouble.clone()),
            (_, Some(_), None) if seen.answer.is_empty() => {
                Some("it said nothing of what is expected, and closed the connection".to_owned())
            }
            (_, Some(_), None) => Some(format!(
                "it did not say what is expected, but {:?}{}",
                tame(&seen.answer, 100),
                if seen.answer.len() > 100 { "…" } else { "" }
            )),
            _ => None,
        };
        let said = match (&self.expect, seen.response) {
            (Some(_), Some(response)) => format!(", and says what is expected in {}", time(response)),
            _ => String::new(),
        };
        match failed {
            Some(failed) => Measured {
                numbers,
                text: format!("{connected}, but {failed}"),
                at_least: Some(Status::Critical),
                ..Measured::default()
            },
            None => Measured { numbers, text: format!("{connected}{said}"), ..Measured::default() },
        }
    }
}

/// `\r`, `\n`, `\t`, `\\` and `\x41` stand for bytes.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let mut digit =
                    || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                match (digit(), digit()) {
                    (Some(high), Some(low)) => high * 16 + low,
                    _ => return Err(wrong("send", "\\x is followed by two hexadecimal digits")),
                }
            }
            _ => return Err(wrong("send", "after a backslash it knows r, n, t, x and another backslash")),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescaped("QUIT\\r\\n\\t\\\\\\x00\\xfF ä").unwrap(), b"QUIT\r\n\t\\\0\xff \xc3\xa4");
        for wrong in ["\\", "\\q", "\\x4", "\\xzz", "\\xä"] {
            assert!(unescaped(wrong).is_err(), "{wrong}");
        }
    }
}
