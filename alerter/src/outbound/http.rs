//! HTTP to receivers: a client that goes where it is told and allowed, and nowhere else.
//!
//! The address is checked where it is used: the names that the client connects to are resolved here, and an address that
//! is not allowed never reaches it. A name that changes between two look-ups gains nothing. Redirects are not followed.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use protocol::receiver::{Method, Webhook};
use reqwest::{
    Certificate, Client, Identity, Proxy, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header, redirect,
};
use service_kit::report;

use crate::core::{
    attempt::Answer,
    guard::{Policy, Refused},
    notify::{Request, Secrets},
};

/// A receiver's timeout is kept within these.
pub(super) const TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Bytes of an answer that are read, so that the connection can be used again.
const ANSWER: usize = 64 * 1024;
/// Bytes of it that are kept.
const KEPT: usize = 16 * 1024;
/// Most clients: one for each proxy and set of certificates.
const CLIENTS: usize = 64;

/// What came back.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) answer: Answer,
    /// The beginning of its body.
    pub(super) text: String,
}

impl Came {
    pub(super) fn nothing(reason: String) -> Self {
        Self { answer: Answer::Nothing { reason }, text: String::new() }
    }
}

/// The clients, by what makes them different.
pub(super) struct Clients {
    policy: Arc<Policy>,
    by_key: Mutex<HashMap<u64, Client>>,
}

impl Clients {
    pub(super) fn new(policy: Arc<Policy>) -> Self {
        // Whoever was first in this process has installed the same.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        Self { policy, by_key: Mutex::default() }
    }

    /// Send it once. Of a URL, which may hold a secret, no reason says more than the host.
    pub(super) async fn send(&self, webhook: &Webhook, request: &Request, secrets: &Secrets) -> Came {
        let host = host(&request.url);
        let client = match self.allowed(&request.url).and_then(|()| self.client(webhook, secrets)) {
            Ok(client) => client,
            Err(reason) => return Came::nothing(format!("{host} is not called: {reason}")),
        };
        let method = match request.method {
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
        };
        let mut sent = client
            .request(method, &request.url)
            .timeout(webhook.timeout.clamp(TIMEOUT.0, TIMEOUT.1))
            .body(request.body.clone());
        for (name, value) in &request.headers {
            sent = sent.header(name, value);
        }
        match sent.send().await {
            Ok(response) => {
                let (code, retry_after) = (response.status().as_u16(), retry_after(&response));
                let text = secrets.hide(&read(response).await);
                Came { answer: Answer::Status { code, retry_after }, text }
            }
            Err(error) => {
                let reason = secrets.hide(&report(&error.without_url()));
                Came::nothing(format!("{host} does not answer: {reason}"))
            }
        }
    }

    /// Addresses that stand in the URL itself are never resolved.
    fn allowed(&self, url: &str) -> Result<(), String> {
        let url = url::Url::parse(url).map_err(|_| "its address is not a URL".to_owned())?;
        let checked = match url.host() {
            Some(url::Host::Ipv4(address)) => self.policy.check(address.into()),
            Some(url::Host::Ipv6(address)) => self.policy.check(address.into()),
            Some(url::Host::Domain(_)) | None => Ok(()),
        };
        checked.map_err(|refused| refused.to_string())
    }

    fn client(&self, webhook: &Webhook, secrets: &Secrets) -> Result<Client, String> {
        let get = |secret: &Option<_>| {
            let value = secret.as_ref().map(|secret| secrets.get(secret)).transpose();
            value.map_err(|error| error.to_string())
        };
        let tls = webhook.tls.clone().unwrap_or_default();
        let (ca, certificate, key) = (get(&tls.ca)?, get(&tls.certificate)?, get(&tls.key)?);
        let mut hasher = DefaultHasher::new();
        (ca, certificate, key, &webhook.proxy).hash(&mut hasher);
        let place = hasher.finish();
        let mut clients = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&place) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder()
            .user_agent(concat!("dogwatch/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(30))
            .dns_resolver(Guarded(Arc::clone(&self.policy)));
        // The error of a certificate names the place in it, not what it holds.
        let broken = |what: &str| format!("{what} is no PEM that can be used");
        if let Some(ca) = ca {
            let roots = Certificate::from_pem_bundle(ca.as_bytes()).map_err(|_| broken("tls.ca"))?;
            builder = builder.tls_certs_only(roots);
        }
        if let (Some(certificate), Some(key)) = (certificate, key) {
            let both = format!("{certificate}\n{key}\n");
            let identity =
                Identity::from_pem(both.as_bytes()).map_err(|_| broken("tls.certificate with tls.key"))?;
            builder = builder.identity(identity);
        }
        if let Some(proxy) = &webhook.proxy {
            self.allowed(proxy).map_err(|reason| format!("its proxy: {reason}"))?;
            builder = builder.proxy(Proxy::all(proxy).map_err(|_| "its proxy is not a URL".to_owned())?);
        }
        let client =
            builder.build().map_err(|error| format!("its TLS cannot be set up: {}", report(&error)))?;
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(place, client.clone());
        Ok(client)
    }
}

/// Resolves names to addresses that are allowed.
struct Guarded(Arc<Policy>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let found = resolve(&policy, name.as_str(), 0).await?;
            Ok::<Addrs, _>(Box::new(found.into_iter()))
        })
    }
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("its name cannot be resolved")]
    Unknown(#[source] std::io::Error),
    #[error("its name has no address")]
    Nothing,
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Addresses of `host` that are allowed, at least one.
pub(super) async fn resolve(policy: &Policy, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(ResolveError::Unknown)?;
    let (mut allowed, mut refused) = (Vec::new(), None);
    for address in found {
        match policy.check(address.ip()) {
            Ok(()) => allowed.push(address),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(refused) if allowed.is_empty() => Err(refused.into()),
        None if allowed.is_empty() => Err(ResolveError::Nothing),
        _ => Ok(allowed),
    }
}

/// Host and port of a URL, which may be shown.
#[must_use]
pub(super) fn host(url: &str) -> String {
    let parsed = url::Url::parse(url).ok();
    parsed
        .as_ref()
        .and_then(|url| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Some(format!("{}{port}", url.host_str()?))
        })
        .unwrap_or_else(|| "an address that is not a URL".to_owned())
}

/// `Retry-After`, as seconds or as a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

/// The status counts; what follows it is read only so far that the connection can be used again, and not longer than the
/// request's timeout.
async fn read(mut response: Response) -> String {
    let (mut read, mut kept) = (0, Vec::new());
    while read < ANSWER {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                read += chunk.len();
                let room = KEPT.saturating_sub(kept.len()).min(chunk.len());
                kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
            }
            Ok(None) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_url_only_the_host_is_shown() {
        assert_eq!(host("https://me:pw@hooks.example.com:8443/T0/s3cret?x=y"), "hooks.example.com:8443");
        assert_eq!(host("http://[::1]/s3cret"), "[::1]");
        assert_eq!(host("s3cret"), "an address that is not a URL");
    }

    async fn reason(policy: &str, url: &str) -> String {
        let clients = Clients::new(Arc::new(policy.parse().unwrap()));
        let webhook = Webhook { url: url.to_owned(), timeout: Duration::from_secs(5), ..Webhook::default() };
        let request =
            Request { method: Method::Post, url: url.to_owned(), headers: Vec::new(), body: String::new() };
        match clients.send(&webhook, &request, &Secrets::default()).await.answer {
            Answer::Nothing { reason } => reason,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_secret_in_a_url_is_in_no_reason() {
        for url in [
            "http://127.0.0.1:1/s3cret?s3cret",
            "http://s3cret:s3cret@127.0.0.1:1/",
            "https://127.0.0.1:1/s3cret",
            "http://[s3cret",
            "s3cret",
            "ftp://127.0.0.1/s3cret",
        ] {
            for policy in ["public", "loopback"] {
                let reason = reason(policy, url).await;
                assert!(!reason.contains("s3cret"), "{reason}");
            }
        }
    }

    /// However this machine is called.
    #[tokio::test]
    async fn this_machine_is_not_called_unless_that_is_allowed() {
        for url in [
            "http://127.0.0.1:1/",
            "http://localhost:1/",
            "http://2130706433:1/",
            "http://0x7f.1:1/",
            "http://[::ffff:127.0.0.1]:1/",
            "http://0.0.0.0:1/",
        ] {
            let refused = reason("public,private", url).await;
            assert!(refused.contains("is a loopback address"), "{url}: {refused}");
            let tried = reason("public,loopback", url).await;
            assert!(tried.contains("does not answer") && !tried.contains("may not be"), "{url}: {tried}");
        }
        let metadata =
            reason("public,private,loopback,link-local", "http://169.254.169.254/latest/meta-data").await;
        assert!(metadata.contains("is a metadata address"), "{metadata}");
    }
}
