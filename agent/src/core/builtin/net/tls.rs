//! `tls`: how long the certificate of a server is still valid, and whether clients will accept it.

use std::time::Duration;

use super::{Judged, Measured, Number, Options, Peer, Target, Trust, milliseconds, wrong};

#[derive(Debug, Clone)]
pub struct Plan {
    pub target: Target,
    /// The name that the certificate must be for.
    pub server_name: String,
    pub trust: Trust,
    pub start: Option<StartTls>,
}

/// How a protocol is asked to go on in TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    Smtp,
    Imap,
    Pop3,
}

impl StartTls {
    fn port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Imap => 143,
            Self::Pop3 => 110,
        }
    }

    /// What is sent after the greeting, and how the last line of each answer that is fine begins (the first of them
    /// answers nothing: it is the greeting).
    #[must_use]
    pub fn talk(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Smtp => &[("", "220"), ("EHLO dogwatch.invalid\r\n", "250"), ("STARTTLS\r\n", "220")],
            Self::Imap => &[("", "* OK"), ("a1 STARTTLS\r\n", "a1 OK")],
            Self::Pop3 => &[("", "+OK"), ("STLS\r\n", "+OK")],
        }
    }

    /// Whether `line` ends an answer: those of SMTP may have several lines, and IMAP says other things in between.
    #[must_use]
    pub fn ends(self, line: &str, expected: &str) -> bool {
        match self {
            Self::Smtp => line.as_bytes().get(3) != Some(&b'-'),
            Self::Imap => expected.starts_with('*') || !line.starts_with('*'),
            Self::Pop3 => true,
        }
    }
}

impl Plan {
    pub(super) fn read(options: &Options) -> Result<Self, String> {
        let start = match options.text("starttls") {
            None => None,
            Some("smtp") => Some(StartTls::Smtp),
            Some("imap") => Some(StartTls::Imap),
            Some("pop3") => Some(StartTls::Pop3),
            Some(other) => {
                return Err(wrong("starttls", format!("{other:?} is none of smtp, imap and pop3")));
            }
        };
        let target = Target::read(options, Some(start.map_or(443, StartTls::port)))?;
        let server_name = options.text("server_name").unwrap_or(&target.host).to_owned();
        Ok(Self { target, server_name, trust: Trust::read(options), start })
    }

    /// `now` in seconds since 1970.
    #[must_use]
    pub fn judge(&self, peer: &Peer, handshake: Duration, now: i64) -> Measured {
        let mut numbers = Vec::new();
        let mut text = format!("{} showed no certificate that can be read", self.target);
        if let Some(leaf) = &peer.leaf {
            numbers.push(Number { min: None, ..Number::new("days_left", leaf.days_left(now), "d") }.judged());
            let issuer = if leaf.issuer.is_empty() { "an issuer without a name" } else { &leaf.issuer };
            text = format!(
                "certificate of {} {}, issued by {issuer}, {}",
                self.server_name,
                leaf.expiry(now),
                peer.version
            );
        }
        let trusted = if peer.trouble.is_none() { 1.0 } else { 0.0 };
        numbers.push(Number { max: Some(1.0), ..Number::new("trusted", trusted, "") });
        numbers.push(milliseconds("handshake", handshake));
        let mut measured = Measured { numbers, ..Measured::default() };
        if let Some(trouble) = &peer.trouble {
            text = format!("{trouble}; {text}");
            if self.trust.verify {
                measured.at_least = Some(protocol::Status::Critical);
            }
        } else if peer.leaf.is_none() {
            measured.at_least = Some(protocol::Status::Critical);
        }
        Measured { text, ..measured }
    }
}

/// Days that are left of the certificate of a server that was asked for something else.
pub(super) fn certificate_days(peer: &Peer, warning: f64, now: i64) -> Option<Number> {
    let days = peer.leaf.as_ref()?.days_left(now);
    let judged = Judged::Below { warning: (warning > 0.0).then_some(warning), critical: None };
    Some(Number { min: None, judged, ..Number::new("certificate_days", days, "d") })
}
