//! Requests to the bridge: where it is, with which key, and what its refusals mean.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::admin::Problem;
use reqwest::{Method, StatusCode, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::{Host, Url};

use crate::{args::Common, up::local};

const TIMEOUT: Duration = Duration::from_secs(30);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer that comes line by line: a check may run for a day.
const LINES_TIMEOUT: Duration = Duration::from_secs(90_000);
/// The bridge says something more often than that.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest line of such an answer, in bytes.
const LINE: usize = 4 * 1024 * 1024;
/// Longest key, in bytes.
const KEY: usize = 1024;
/// As much of a key file as is read, in bytes.
const KEY_FILE: u64 = 4096;
/// How often a request that came too fast is made again.
const TRIES: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{0:?} is not an address of dogwatch: write it like http://host:5000")]
    Address(String),
    #[error(
        "no key for {0}: give --key-file FILE (DOGWATCH_KEY_FILE), or run this in the folder of a running `dogwatch up`"
    )]
    NoKey(Url),
    #[error("cannot read the key from {0}: check the path and its permissions")]
    KeyFile(PathBuf, #[source] io::Error),
    #[error("the file {0} holds no key")]
    NotAKey(PathBuf),
    #[error("cannot reach dogwatch at {server}: is `dogwatch up` running? ({reason})")]
    Unreachable { server: Url, reason: String },
    #[error("{}", refusal(.status, .problem))]
    Refused { status: StatusCode, problem: Box<ProblemBody> },
    #[error("the answer of {server} cannot be understood, is it dogwatch? ({reason})")]
    Malformed { server: Url, reason: String },
}

/// What is read of `application/problem+json`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ProblemBody {
    /// Prometheus' interface calls it `error`.
    #[serde(default, alias = "error")]
    detail: String,
    #[serde(default)]
    pub(crate) field: Option<String>,
    #[serde(default)]
    pub(crate) problems: Vec<Problem>,
}

fn refusal(status: &StatusCode, problem: &ProblemBody) -> String {
    let detail = if problem.detail.is_empty() { "no reason given" } else { &problem.detail };
    let field = problem.field.as_deref().map(|field| format!(" (at {field})")).unwrap_or_default();
    format!("refused with status {}: {detail}{field}", status.as_u16())
}

/// Ask for readiness. Needs no key.
///
/// # Errors
/// What is not in order.
pub(crate) async fn health(url: &str) -> anyhow::Result<()> {
    let url: Url = url.parse().map_err(|_| crate::Usage(format!("{url:?} is not a URL")))?;
    let http = reqwest::Client::builder().no_proxy().timeout(HEALTH_TIMEOUT).build()?;
    let answer = http
        .get(url.clone())
        .send()
        .await
        .map_err(|error| anyhow::anyhow!("{url}: {}", service_kit::report(&error.without_url())))?;
    let (status, text) = (answer.status(), answer.text().await?);
    anyhow::ensure!(status.is_success(), "{url}: {status}: {}", text.trim());
    Ok(())
}

pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    key: header::HeaderValue,
    local: bool,
}

impl Client {
    /// # Errors
    /// When there is no address or no key to use.
    pub(crate) fn open(common: &Common) -> Result<Self, ClientError> {
        let running = local::endpoint(Path::new(local::FOLDER));
        let text = common.server.as_deref().or(running.as_deref()).unwrap_or("http://127.0.0.1:5000");
        let server = address(text)?;
        let local = running.as_deref().and_then(|running| address(running).ok()).as_ref() == Some(&server);
        let path = match &common.key_file {
            Some(path) => path.clone(),
            // The key of the local `up` goes to nobody else.
            None if local => local::admin_key(Path::new(local::FOLDER)),
            None => return Err(ClientError::NoKey(server)),
        };
        let key = key_in(path)?;
        // A redirect would carry the key to wherever it leads.
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .timeout(TIMEOUT);
        if is_loopback(&server) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| ClientError::Unreachable {
            server: server.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self { http, server, key, local })
    }

    /// Whether it talks with the `up` that runs in this folder.
    pub(crate) fn is_local(&self) -> bool {
        self.local
    }

    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        self.send::<(), T>(Method::GET, path, query, None).await
    }

    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<T, ClientError> {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.send::<(), T>(Method::DELETE, path, &[], None).await
    }

    /// An answer of JSON lines that comes over time.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn post_for_lines(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Lines<'_>, ClientError> {
        self.lines(Method::POST, path, query).await
    }

    /// An answer of lines that comes over time.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn lines(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Lines<'_>, ClientError> {
        let response = self.answer::<()>(method, path, query, None, LINES_TIMEOUT).await?;
        Ok(Lines { client: self, response, buffer: Vec::new() })
    }

    async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let response = self.answer(method, path, query, body, TIMEOUT).await?;
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&body).map_err(|error| self.malformed(error.to_string()))
    }

    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        let reason = service_kit::report(&error.without_url());
        ClientError::Unreachable { server: self.server.clone(), reason }
    }

    fn malformed(&self, reason: String) -> ClientError {
        ClientError::Malformed { server: self.server.clone(), reason }
    }

    /// The answer to a request that was not refused.
    async fn answer<B: Serialize>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&B>,
        timeout: Duration,
    ) -> Result<reqwest::Response, ClientError> {
        let mut url = self.server.clone();
        {
            let mut segments =
                url.path_segments_mut().map_err(|()| ClientError::Address(self.server.to_string()))?;
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut tries = 1;
        let response = loop {
            let request = self.http.request(method.clone(), url.clone()).timeout(timeout);
            let mut request = request.header("X-API-Key", self.key.clone());
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await.map_err(|error| self.unreachable(error))?;
            if response.status() != StatusCode::TOO_MANY_REQUESTS || tries == TRIES {
                break response;
            }
            tries += 1;
            let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let seconds = wait.and_then(|wait| wait.parse().ok()).unwrap_or(1).min(10);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        };
        let status = response.status();
        if !status.is_success() {
            let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
            let problem = serde_json::from_slice(&body).unwrap_or_default();
            return Err(ClientError::Refused { status, problem: Box::new(problem) });
        }
        Ok(response)
    }
}

/// Objects that come one by one.
pub(crate) struct Lines<'a> {
    client: &'a Client,
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Lines<'_> {
    /// The next object with its line; `None` at the end. Empty lines only say that more may come.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(String, T)>, ClientError> {
        let Some(line) = self.line().await? else { return Ok(None) };
        let object = self.read(&line)?;
        Ok(Some((line, object)))
    }

    /// What a line holds as JSON.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(crate) fn read<T: DeserializeOwned>(&self, line: &str) -> Result<T, ClientError> {
        serde_json::from_str(line).map_err(|error| self.client.malformed(error.to_string()))
    }

    /// The next line that is not empty; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(crate) async fn line(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE {
                return Err(self.client.malformed("a line has no end".to_owned()));
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk()).await;
            match chunk.map_err(|_| self.client.malformed(format!("nothing came for {SILENCE:?}")))? {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.client.unreachable(error)),
            }
        }
    }
}

/// The key in a file, as editors leave it: with an end of line, or a byte order mark before it.
fn key_in(path: PathBuf) -> Result<header::HeaderValue, ClientError> {
    let mut text = String::new();
    let read = fs::File::open(&path).and_then(|file| file.take(KEY_FILE).read_to_string(&mut text));
    if let Err(error) = read {
        return Err(ClientError::KeyFile(path, error));
    }
    let key = text.trim_start_matches('\u{feff}').trim();
    let plain = !key.is_empty() && key.len() <= KEY && key.bytes().all(|byte| byte.is_ascii_graphic());
    let value = if plain { header::HeaderValue::from_str(key).ok() } else { None };
    let mut value = value.ok_or(ClientError::NotAKey(path))?;
    value.set_sensitive(true);
    Ok(value)
}

fn address(text: &str) -> Result<Url, ClientError> {
    let url: Url = text.trim().parse().map_err(|_| ClientError::Address(text.to_owned()))?;
    let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
    if plain { Ok(url) } else { Err(ClientError::Address(text.to_owned())) }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_holds_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let read = |bytes: &[u8]| {
            let path = folder.path().join("key");
            fs::write(&path, bytes).unwrap();
            key_in(path).map(|key| key.to_str().unwrap().to_owned()).map_err(|error| error.to_string())
        };
        for good in ["dw_1_2", "dw_1_2\n\n", " dw_1_2\r\n", "\u{feff}dw_1_2\r\n"] {
            assert_eq!(read(good.as_bytes()).as_deref(), Ok("dw_1_2"), "{good:?}");
        }
        let long = "a".repeat(100_000);
        for bad in ["", "\n", "\u{feff}\n", "a\nb", "a b", "h\u{e9}", &long] {
            assert!(read(bad.as_bytes()).unwrap_err().ends_with("holds no key"), "{bad:.10}");
        }
        assert!(read(b"\xff\xfe\x00").unwrap_err().starts_with("cannot read the key from"));
    }

    #[test]
    fn addresses_are_web_addresses() {
        assert!(address("http://127.0.0.1:5000").is_ok());
        for bad in ["127.0.0.1:5000", "localhost:5000", "ftp://x", "", "http://"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(is_loopback(&address("http://[::1]:5000").unwrap()));
        assert!(!is_loopback(&address("http://dogwatch.example").unwrap()));
    }
}
