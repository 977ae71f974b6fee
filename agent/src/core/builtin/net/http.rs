//! `http`: what is asked for, when a redirect is followed, and what the answer means.

use std::{fmt::Write as _, time::Duration};

use protocol::{Status, pattern::Pattern};
use url::Url;

use super::{
    Family, Measured, Number, Options, Peer, Target, Trust, milliseconds, regex, time, tls::certificate_days,
    whole, wrong,
};
use crate::core::builtin::{bytes, float};

#[derive(Debug, Clone)]
pub struct Plan {
    pub first: Request,
    statuses: Vec<(u16, u16)>,
    matches: Option<Pattern>,
    no_match: Option<Pattern>,
    redirects: u16,
    pub trust: Trust,
    /// Holds `user:password`.
    pub auth_file: Option<String>,
    certificate_days: f64,
    pub family: Family,
}

/// One request; redirects make others of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub url: Url,
    pub method: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    /// Still at the server that the check names: only that one gets credentials.
    pub trusted: bool,
}

/// How long each phase took. Those of a connection are of the last one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    pub dns: Duration,
    pub connect: Duration,
    pub tls: Option<Duration>,
    pub first_byte: Duration,
    pub total: Duration,
}

/// The last answer.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub status: u16,
    pub size: usize,
    /// There was more content.
    pub cut: bool,
    pub redirects: u16,
    pub peer: Option<Peer>,
    pub phases: Phases,
    /// What is wrong with the content.
    pub wrong: Option<String>,
}

impl Plan {
    pub(super) fn read(options: &Options) -> Result<Self, String> {
        let url = options.text("url").unwrap_or_default();
        let url = Url::parse(url).map_err(|error| wrong("url", error))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong("url", "it begins with neither http:// nor https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("url", "credentials belong into a file, see auth_file"));
        }
        let method = options.text("method").unwrap_or("GET").to_owned();
        if method.is_empty() || method.len() > 20 || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong("method", "not a method such as GET, in capitals"));
        }
        // Else a check could send the first line of any file to anybody.
        if options.text("auth_file").is_some_and(|path| !path.ends_with(".auth")) {
            return Err(wrong("auth_file", "its name does not end in .auth"));
        }
        let headers = options.texts("headers").iter().map(|text| header(text)).collect::<Result<_, _>>()?;
        let statuses = options.texts("status").iter().map(|text| range(text)).collect::<Result<_, _>>()?;
        let body = options.text("body").map(str::to_owned);
        Ok(Self {
            first: Request { url, method, headers, body, trusted: true },
            statuses,
            matches: regex(options, "match")?,
            no_match: regex(options, "no_match")?,
            redirects: whole("redirects", options.number("redirects").unwrap_or(5.0), 0, 20)?,
            trust: Trust::read(options),
            auth_file: options.text("auth_file").map(str::to_owned),
            certificate_days: options.number("certificate_days").unwrap_or_default(),
            family: Family::read(options)?,
        })
    }

    /// The request that a redirect asks for; `None` when the answer is the last one.
    ///
    /// # Errors
    /// Why it cannot be followed.
    pub fn follow(
        &self,
        asked: &[Request],
        status: u16,
        location: Option<&str>,
    ) -> Result<Option<Request>, String> {
        let (Some(last), Some(location)) = (asked.last(), location) else { return Ok(None) };
        if !matches!(status, 301 | 302 | 303 | 307 | 308) || self.redirects == 0 {
            return Ok(None);
        }
        if asked.len() > usize::from(self.redirects) {
            return Err(format!(
                "more than {} redirects, the last one to {}",
                self.redirects,
                shortly(location)
            ));
        }
        let unusable = || format!("a redirect leads to {}, which is no address of a page", shortly(location));
        let mut url = last.url.join(location).map_err(|_| unusable())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(unusable());
        }
        url.set_fragment(None);
        // Never send what another server wrote as our credentials.
        if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
            return Err(unusable());
        }
        let mut next = Request { url, ..last.clone() };
        if status == 303 && next.method != "HEAD" || matches!(status, 301 | 302) && next.method == "POST" {
            "GET".clone_into(&mut next.method);
            next.body = None;
        }
        if next.url.origin() != last.url.origin() {
            (next.trusted, next.body) = (false, None);
            next.headers.clear();
        }
        if asked.contains(&next) {
            return Err(format!("the redirects go round in a circle, back to {}", show(&next.url)));
        }
        Ok(Some(next))
    }

    /// What is wrong with the content. Looks at up to a MiB: not for a thread that others wait for.
    #[must_use]
    pub fn misses(&self, content: &[u8]) -> Option<String> {
        if self.matches.is_none() && self.no_match.is_none() {
            return None;
        }
        let text = String::from_utf8_lossy(content);
        if let Some(pattern) = self.matches.as_ref().filter(|pattern| !pattern.is_match(&text)) {
            return Some(format!("{:?} is not found in it", super::cut(pattern.as_str(), 100)));
        }
        let unwanted = self.no_match.as_ref().filter(|pattern| pattern.is_match(&text))?;
        Some(format!("{:?} is found in it", super::cut(unwanted.as_str(), 100)))
    }

    /// `now` in seconds since 1970.
    #[must_use]
    pub fn judge(&self, page: &Page, url: &Url, now: i64) -> Measured {
        let phases = &page.phases;
        let size = float(u64::try_from(page.size).unwrap_or(u64::MAX));
        let mut numbers = vec![
            milliseconds("total", phases.total).judged(),
            milliseconds("dns", phases.dns),
            milliseconds("connect", phases.connect),
        ];
        numbers.extend(phases.tls.map(|tls| milliseconds("tls", tls)));
        numbers.push(milliseconds("first_byte", phases.first_byte));
        numbers.push(Number::new("size", size, "B"));
        numbers.push(Number::new("status", f64::from(page.status), ""));
        numbers.push(Number::new("redirects", f64::from(page.redirects), ""));
        let mut text = format!(
            "{} answers {} with {}{} in {}",
            show(url),
            page.status,
            if page.cut { "more than " } else { "" },
            bytes(size),
            time(phases.total)
        );
        if page.redirects > 0 {
            let _infallible = write!(text, ", after {} redirects", page.redirects);
        }
        if let Some(leaf) = page.peer.as_ref().and_then(|peer| peer.leaf.as_ref()) {
            let _infallible = write!(text, "; its certificate {}", leaf.expiry(now));
        }
        numbers
            .extend(page.peer.as_ref().and_then(|peer| certificate_days(peer, self.certificate_days, now)));
        let fine = self.statuses.iter().any(|(least, most)| (*least..=*most).contains(&page.status));
        let failed = if fine {
            page.wrong.clone()
        } else {
            let range = |&(least, most): &(u16, u16)| {
                if least == most { least.to_string() } else { format!("{least}-{most}") }
            };
            let wanted: Vec<_> = self.statuses.iter().map(range).collect();
            Some(format!("the status should be {}", wanted.join(" or ")))
        };
        let at_least = failed.as_ref().map(|_| Status::Critical);
        if let Some(failed) = failed {
            let _infallible = write!(text, ": {failed}");
        }
        Measured { numbers, text, at_least, ..Measured::default() }
    }
}

impl Request {
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    #[must_use]
    pub fn target(&self, family: Family) -> Target {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Target { host, port: self.url.port_or_known_default().unwrap_or(80), family }
    }

    /// As it is sent. `credentials`: `user:password`.
    #[must_use]
    pub fn bytes(&self, credentials: Option<&str>) -> Vec<u8> {
        let mut path = self.url.path().to_owned();
        if let Some(query) = self.url.query() {
            let _infallible = write!(path, "?{query}");
        }
        let mut host = self.url.host_str().unwrap_or_default().to_owned();
        if let Some(port) = self.url.port() {
            let _infallible = write!(host, ":{port}");
        }
        let mut text = format!("{} {path} HTTP/1.1\r\n", self.method);
        let mut say = |name: &str, value: &str| {
            let given = self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
            if !given {
                let _infallible = write!(text, "{name}: {value}\r\n");
            }
        };
        say("Host", &host);
        say("User-Agent", concat!("dogwatch-agent/", env!("CARGO_PKG_VERSION")));
        say("Accept", "*/*");
        if let Some(credentials) = credentials {
            say("Authorization", &format!("Basic {}", base64(credentials.as_bytes())));
        }
        if let Some(body) = &self.body {
            say("Content-Length", &body.len().to_string());
        }
        for (name, value) in &self.headers {
            let _infallible = write!(text, "{name}: {value}\r\n");
        }
        text.push_str("Connection: close\r\n\r\n");
        text.push_str(self.body.as_deref().unwrap_or_default());
        text.into_bytes()
    }
}

/// Without the query, which may hold secrets.
#[must_use]
pub fn show(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    super::cut(url.as_str(), 200).to_owned()
}

fn shortly(location: &str) -> String {
    let without_query = location.split(['?', '#']).next().unwrap_or_default();
    // Credentials that a server wrote into it stay out of the text as well.
    let (scheme, rest) = without_query.split_once("//").unwrap_or(("", without_query));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let separator = if without_query.contains("//") { "//" } else { "" };
    format!("{:?}", super::tame(format!("{scheme}{separator}{rest}").as_bytes(), 100))
}

fn header(text: &str) -> Result<(String, String), String> {
    const FRAMING: [&str; 4] = ["connection", "content-length", "transfer-encoding", "upgrade"];
    let (name, value) =
        text.split_once(':').ok_or_else(|| wrong("headers", "write each as \"Name: value\""))?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(token) || value.contains(|c: char| c.is_control() && c != '\t') {
        // Its value may be a secret.
        return Err(wrong(
            "headers",
            format!(
                "{:?} is not the name of a header, or its value holds a line break",
                super::cut(name, 40)
            ),
        ));
    }
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(wrong("headers", format!("{name} is set by the agent itself")));
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=999).contains(status));
    match (status(least), status(most)) {
        (Some(least), Some(most)) if least <= most => Ok((least, most)),
        _ => Err(wrong(
            "status",
            format!("{:?} is neither a status nor a range such as 200-399", super::cut(text, 40)),
        )),
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            let digit = DIGITS.get(digit).copied().map_or('=', char::from);
            text.push(if place <= group.len() { digit } else { '=' });
        }
    }
    text
}
