//! Checks of other hosts, over the network: what they are told, and what the answers mean.
//!
//! A check is read in two steps: its options become a [`Probe`], which fails on what can never work (a pattern that is
//! none), and the probe is sent, in `outbound::probe::net`. What the other side does wrong is critical, and what is
//! wrong on this one unknown.

pub mod certificate;
pub mod dns;
pub mod http;
pub mod http_body;
pub mod ping;
mod table;
pub mod tcp;
pub mod tls;

use std::time::Duration;

pub(super) use table::{DNS, HTTP, PING, TCP, TLS};

use super::{Judged, Measured, Number, Options, pattern::regex};

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    Http,
    Tcp,
    Dns,
    Tls,
    Ping,
}

/// A check with all that it needs.
#[derive(Debug, Clone)]
pub enum Probe {
    Http(Box<http::Plan>),
    Tcp(Box<tcp::Plan>),
    Dns(dns::Plan),
    Tls(tls::Plan),
    Ping(ping::Plan),
}

impl Net {
    /// # Errors
    /// Names the option that cannot be used.
    pub fn plan(self, options: &Options) -> Result<Probe, String> {
        Ok(match self {
            Self::Http => Probe::Http(Box::new(http::Plan::read(options)?)),
            Self::Tcp => Probe::Tcp(Box::new(tcp::Plan::read(options)?)),
            Self::Dns => Probe::Dns(dns::Plan::read(options)?),
            Self::Tls => Probe::Tls(tls::Plan::read(options)?),
            Self::Ping => Probe::Ping(ping::Plan::read(options)?),
        })
    }
}

/// Why nothing was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The other side does not do what it should.
    Theirs(String),
    /// This side could not even try.
    Ours(String),
}

impl Fault {
    /// A reading of it.
    ///
    /// # Errors
    /// The reason, where the other side may be fine.
    pub fn reading(self) -> Result<Measured, String> {
        match self {
            Self::Theirs(text) => Ok(Measured::failed(text)),
            Self::Ours(reason) => Err(reason),
        }
    }
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    pub port: u16,
    pub family: Family,
}

impl Target {
    fn read(options: &Options, default_port: Option<u16>) -> Result<Self, String> {
        let host = host(options)?;
        let port = port(options, default_port)?;
        Ok(Self { host, port, family: Family::read(options)? })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    #[default]
    Any,
    V4,
    V6,
}

impl Family {
    fn read(options: &Options) -> Result<Self, String> {
        match options.text("family").unwrap_or("any") {
            "any" => Ok(Self::Any),
            "4" => Ok(Self::V4),
            "6" => Ok(Self::V6),
            other => Err(wrong("family", format!("{other:?} is none of any, 4 and 6"))),
        }
    }

    #[must_use]
    pub fn has(self, address: core::net::IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// How a TLS server proves who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// A certificate that does not prove it is a failure.
    pub verify: bool,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<String>,
}

impl Trust {
    fn read(options: &Options) -> Self {
        Self { verify: options.flag("verify"), ca_file: options.text("ca_file").map(str::to_owned) }
    }
}

/// What a TLS server showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Peer {
    pub leaf: Option<certificate::Certificate>,
    /// Why its certificate does not prove who it is.
    pub trouble: Option<String>,
    /// `TLS 1.3`
    pub version: String,
}

fn wrong(option: &str, reason: impl std::fmt::Display) -> String {
    format!("option {option:?}: {reason}")
}

fn host(options: &Options) -> Result<String, String> {
    let host = options.text("host").unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.len() > 253 || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong("host", format!("{:?} is neither a name nor an address", cut(host, 64))));
    }
    Ok(host.to_owned())
}

fn port(options: &Options, default: Option<u16>) -> Result<u16, String> {
    let number = options.number("port").or(default.map(f64::from)).unwrap_or_default();
    whole("port", number, 1, u16::MAX)
}

/// A number without a fraction, in these bounds.
fn whole(option: &str, number: f64, least: u16, most: u16) -> Result<u16, String> {
    let fits = number.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(&number);
    if !fits {
        return Err(wrong(option, format!("{number} is not a whole number from {least} to {most}")));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // just checked
    Ok(number as u16)
}

/// Milliseconds.
fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn milliseconds(name: &str, duration: Duration) -> Number {
    Number::new(name, ms(duration), "ms")
}

/// For people.
fn time(duration: Duration) -> String {
    let ms = ms(duration);
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

fn cut(text: &str, limit: usize) -> &str {
    crate::core::check::cut(text, limit)
}

/// Text of another host, for people: short, and without control characters.
#[must_use]
pub fn tame(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(bytes.get(..limit.min(bytes.len())).unwrap_or_default());
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}

#[cfg(test)]
pub(super) fn options(builtin: &super::Builtin, with: serde_json::Value) -> Result<Options, String> {
    let with = with.as_object().unwrap().clone().into_iter().collect();
    Options::read(builtin.options, &with)
}

#[cfg(test)]
mod tests;
