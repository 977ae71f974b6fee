//! The connection to the broker: settings, reconnects with jitter, and what the client tells only by events.
//!
//! async-nats reports a slow consumer, a refused publish and a lost connection by callback and nowhere else, so each
//! is counted and logged here.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerError};
use clap::Args;
use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

use crate::{Backoff, Metrics, Readiness, report};

#[derive(Debug, Clone, Args)]
pub struct NatsSettings {
    /// NATS servers, separated by commas; tls:// demands TLS
    #[arg(long, env = "DOGWATCH_NATS_URL", value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    pub nats_url: String,
    /// Sign in with the NKey seed in this file
    #[arg(long, env = "DOGWATCH_NATS_NKEY_FILE", value_name = "FILE", group = "nats_identity")]
    pub nats_nkey_file: Option<PathBuf>,
    /// Sign in with this .creds file
    #[arg(long, env = "DOGWATCH_NATS_CREDS_FILE", value_name = "FILE", group = "nats_identity")]
    pub nats_creds_file: Option<PathBuf>,
    /// Sign in as this user, with the password in --nats-password-file
    #[arg(
        long,
        env = "DOGWATCH_NATS_USER",
        value_name = "USER",
        group = "nats_identity",
        requires = "nats_password_file"
    )]
    pub nats_user: Option<String>,
    /// File with the password of --nats-user
    #[arg(long, env = "DOGWATCH_NATS_PASSWORD_FILE", value_name = "FILE", requires = "nats_user")]
    pub nats_password_file: Option<PathBuf>,
    /// Trust the certificate authorities in this PEM file
    #[arg(long, env = "DOGWATCH_NATS_CA_FILE", value_name = "FILE")]
    pub nats_ca_file: Option<PathBuf>,
    /// Client certificate (PEM) for mutual TLS
    #[arg(long, env = "DOGWATCH_NATS_CERT_FILE", value_name = "FILE", requires = "nats_cert_key_file")]
    pub nats_cert_file: Option<PathBuf>,
    /// Key (PEM) of the client certificate
    #[arg(long, env = "DOGWATCH_NATS_CERT_KEY_FILE", value_name = "FILE", requires = "nats_cert_file")]
    pub nats_cert_key_file: Option<PathBuf>,
    /// Who it says it is besides: set by the agent, which is asked about by auth callout.
    #[arg(skip)]
    pub claim: Option<Claim>,
}

/// A sign-in by an NKey that the broker does not know itself: it asks the config-service.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Id of the agent.
    pub name: String,
    /// File with the seed of its own NKey. Read at each sign-in.
    pub nkey_file: PathBuf,
    /// File with a token, sent as long as [`Self::new_nkey_file`] is there. Read at each sign-in: a token that expired can
    /// be replaced.
    pub token_file: Option<PathBuf>,
    /// The seed before it is known to be enrolled; preferred to the other.
    pub new_nkey_file: PathBuf,
}

impl Claim {
    /// Name, NKey and token for the broker, with its nonce signed.
    fn sign(&self, nonce: &[u8]) -> Result<async_nats::Auth, String> {
        let new = self.new_nkey_file.exists();
        let seed = if new { &self.new_nkey_file } else { &self.nkey_file };
        let read = |what, path: &Path| secret(what, path).map_err(|error| report(&error));
        let bad = || format!("{} holds no NKey seed: delete it, and enrol this host again", seed.display());
        let pair = nkeys::KeyPair::from_seed(&read("the NKey seed", seed)?).map_err(|_| bad())?;
        let mut auth = async_nats::Auth::new();
        auth.nkey = Some(pair.public_key());
        auth.signature = Some(pair.sign(nonce).map_err(|_| bad())?);
        auth.username = Some(self.name.clone());
        let token = self.token_file.as_deref().filter(|_| new);
        let token = token.map(|path| read("the enrolment token", path)).transpose()?.unwrap_or_default();
        // Behind it stand labels, for the agent alone.
        auth.password = Some(token.lines().next().unwrap_or_default().trim().to_owned());
        Ok(auth)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot read {what} from {path}: check the path and its permissions")]
    Secret { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the broker at {url} refuses the sign-in: check the NKey, credentials or user given")]
    Refused { url: String },
    #[error("{url:?} is not a NATS address: write it like nats://host:4222")]
    Address { url: String },
    #[error("cannot reach the broker at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("stopped before the broker at {url} answered (last: {reason})")]
    Stopped { url: String, reason: String },
}

impl ConnectError {
    /// Whether the settings are at fault, so that another start with the same ones would fail as well.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Address { .. } | Self::Secret { .. })
    }
}

/// What async-nats calls a refused sign-in.
const REFUSED: &str = "authorization violation";
const HOW_TO_ENROL: &str = "the broker refuses this agent: its enrolment token is expired, used up, revoked or for \
    another host, or another host has its id, or it was revoked; `dogwatch audit` on the server says which, and \
    `dogwatch token create` there makes another token";

/// Whether to go on without the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Return once connected. Only a refused sign-in or a bad address is an error; anything else is tried again.
    ForBroker,
    /// Return at once and connect in the background: agents work without the broker (G7).
    No,
}

/// Connect as `name`, until `stop`.
///
/// # Errors
/// [`ConnectError`]; a broker that does not answer yet is waited for.
pub async fn connect(
    settings: &NatsSettings,
    name: &'static str,
    inbox_prefix: Option<String>,
    wait: Wait,
    (metrics, ready): (&Metrics, &Readiness),
    stop: &CancellationToken,
) -> Result<Client, ConnectError> {
    let url = redact(&settings.nats_url);
    let servers = servers(settings)?;
    let events = Events::new(name, url.clone(), metrics, ready);
    let events = Arc::new(Events { claims: settings.claim.is_some(), ..events });
    events.lost("not connected yet");
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(4));
    let mut last_logged = String::new();
    loop {
        let options = options(settings, name, inbox_prefix.as_deref(), wait, &events).await?;
        let error = match options.connect(servers.clone()).await {
            Ok(client) => {
                if wait == Wait::ForBroker {
                    events.found();
                }
                return Ok(client);
            }
            Err(error) => error,
        };
        if matches!(error.kind(), ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication)
        {
            return Err(ConnectError::Refused { url });
        }
        let reason = report(&error);
        if reason != last_logged {
            tracing::warn!(service = name, broker = url, reason, "waiting for the broker");
            last_logged.clone_from(&reason);
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = stop.cancelled() => return Err(ConnectError::Stopped { url, reason }),
        }
    }
}

fn servers(settings: &NatsSettings) -> Result<Vec<async_nats::ServerAddr>, ConnectError> {
    let addresses = settings.nats_url.split(',');
    addresses
        .map(|part| part.trim().parse().map_err(|_| ConnectError::Address { url: redact(part) }))
        .collect()
}

/// Connect with another NKey for a short errand; a broker that does not answer is not waited for.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_briefly(
    settings: &NatsSettings,
    nkey_file: &Path,
    name: &'static str,
) -> Result<Client, ConnectError> {
    let url = redact(&settings.nats_url);
    let servers = servers(settings)?;
    let settings = NatsSettings {
        nats_nkey_file: Some(nkey_file.to_owned()),
        nats_creds_file: None,
        nats_user: None,
        nats_password_file: None,
        claim: None,
        ..settings.clone()
    };
    // What becomes of it is of no interest to metrics and readiness.
    let events = Arc::new(Events::new(name, url.clone(), &Metrics::default(), &Readiness::default()));
    let options = options(&settings, name, None, Wait::ForBroker, &events).await?;
    options.connect(servers).await.map_err(|error| match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            ConnectError::Refused { url: url.clone() }
        }
        _ => ConnectError::Unreachable { url: url.clone(), reason: report(&error) },
    })
}

async fn options(
    settings: &NatsSettings,
    name: &'static str,
    inbox_prefix: Option<&str>,
    wait: Wait,
    events: &Arc<Events>,
) -> Result<ConnectOptions, ConnectError> {
    let callback = Arc::clone(events);
    let options = match settings.claim.clone() {
        None => ConnectOptions::new(),
        Some(claim) => ConnectOptions::with_auth_callback(move |nonce| {
            let auth = claim.sign(&nonce).map_err(|reason| {
                tracing::error!(reason, "cannot sign in");
                async_nats::AuthError::new(reason)
            });
            std::future::ready(auth)
        }),
    };
    let mut options = options
        .name(format!("dogwatch-{name}"))
        .ping_interval(Duration::from_secs(15))
        .connection_timeout(Duration::from_secs(10))
        .reconnect_delay_callback(|attempt| {
            // Full jitter, so that a fleet does not come back in step; the first attempt is quick.
            let ceiling = Duration::from_millis(50 << attempt.min(7)).min(Duration::from_secs(4));
            ceiling.mul_f64(rand::random::<f64>())
        })
        .event_callback(move |event| {
            let events = Arc::clone(&callback);
            async move { events.handle(&event) }
        });
    if wait == Wait::No {
        options = options.retry_on_initial_connect();
    }
    if let Some(prefix) = inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    if let Some(path) = &settings.nats_nkey_file {
        options = options.nkey(secret("the NKey seed", path)?);
    }
    if let Some(path) = &settings.nats_creds_file {
        options = crate::creds::sign_in(options, &secret("the credentials", path)?)
            .map_err(|source| ConnectError::Secret { what: "the credentials", path: path.clone(), source })?;
    }
    if let (Some(user), Some(path)) = (&settings.nats_user, &settings.nats_password_file) {
        options = options.user_and_password(user.clone(), secret("the password", path)?);
    }
    if let Some(path) = &settings.nats_ca_file {
        secret("the certificate authorities", path)?;
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(certificate), Some(key)) = (&settings.nats_cert_file, &settings.nats_cert_key_file) {
        secret("the client certificate", certificate)?;
        secret("the key of the client certificate", key)?;
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

fn secret(what: &'static str, path: &Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|source| ConnectError::Secret {
        what,
        path: path.to_owned(),
        source,
    })
}

/// An address without the user and password that it may hold.
fn redact(url: &str) -> String {
    url.split(',')
        .map(|part| match (part.split_once("://"), part.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
            (None, Some((_, host))) => format!("…@{host}"),
            _ => part.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// What the connection's events do to metrics, readiness and the log.
struct Events {
    service: &'static str,
    /// Its address without secrets.
    broker: String,
    /// Whether an NKey is used that the config-service decides about.
    claims: bool,
    ready: Readiness,
    condition: String,
    connected: AtomicBool,
    /// The last reason for which there was no connection.
    told: Mutex<String>,
    disconnects: Counter,
    slow_consumers: Counter,
    server_errors: Counter,
}

impl Events {
    fn new(service: &'static str, broker: String, metrics: &Metrics, ready: &Readiness) -> Self {
        let counter = |name, help| {
            let counter = Counter::default();
            metrics.register(service, |registry| registry.register(name, help, counter.clone()));
            counter
        };
        Self {
            service,
            broker,
            claims: false,
            ready: ready.clone(),
            condition: format!("{service} nats"),
            connected: AtomicBool::new(false),
            told: Mutex::default(),
            disconnects: counter("nats_disconnects", "Connections to the broker that were lost"),
            slow_consumers: counter(
                "nats_slow_consumers",
                "Messages dropped because a subscription was too slow",
            ),
            server_errors: counter("nats_errors", "Errors that the broker sent, such as refused permissions"),
        }
    }

    fn found(&self) {
        self.connected.store(true, Ordering::Relaxed);
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.ready.met(&self.condition);
    }

    fn lost(&self, reason: &str) {
        self.ready.unmet(&self.condition, reason);
    }

    /// Said once for each reason: a wrong address or seed would otherwise never show where nobody waits for the broker.
    fn unreachable(&self, reason: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != reason {
            if self.claims && reason.contains(REFUSED) {
                tracing::error!(service = self.service, broker = self.broker, "{HOW_TO_ENROL}");
            }
            tracing::warn!(
                service = self.service,
                broker = self.broker,
                reason,
                "the broker cannot be reached, trying on"
            );
            reason.clone_into(&mut told);
        }
    }

    fn handle(&self, event: &Event) {
        let service = self.service;
        match event {
            Event::Connected => {
                self.found();
                tracing::info!(service, "connected to the broker");
            }
            Event::Disconnected => {
                self.lost("the broker is away");
                if self.connected.swap(false, Ordering::Relaxed) {
                    self.disconnects.inc();
                    tracing::warn!(service, "lost the broker, reconnecting");
                }
            }
            Event::SlowConsumer(_) => {
                self.slow_consumers.inc();
                tracing::warn!(service, "messages dropped: a subscription is too slow");
            }
            Event::ServerError(ServerError::Other(error)) => {
                self.server_errors.inc();
                tracing::error!(service, error, "the broker refused something");
            }
            Event::ServerError(error) => {
                self.server_errors.inc();
                tracing::error!(service, %error, "the broker refused something");
            }
            Event::ClientError(error) if !self.connected.load(Ordering::Relaxed) => {
                self.unreachable(&error.to_string());
            }
            Event::ClientError(error) => tracing::debug!(service, %error, "client error"),
            Event::LameDuckMode | Event::Draining | Event::Closed => {
                tracing::debug!(service, %event, "connection")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        assert_eq!(redact("nats://me:s3cret@host:4222,nats://b:4222"), "nats://…@host:4222,nats://b:4222");
        assert_eq!(redact("me:s@cret@host"), "…@host");
    }

    #[test]
    fn an_unreachable_broker_is_told_once_for_each_reason() {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let events = Events::new("x", "nats://typo".to_owned(), &Metrics::default(), &Readiness::default());
        let refused = |reason: &str| Event::ClientError(async_nats::ClientError::Other(reason.to_owned()));
        tracing::subscriber::with_default(subscriber, || {
            for event in [refused("DNS error"), refused("DNS error"), refused("IO error")] {
                events.handle(&event);
            }
            events.handle(&Event::Connected);
            events.handle(&refused("not about the connection"));
            events.handle(&Event::Disconnected);
            events.handle(&refused("IO error"));
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("the broker cannot be reached").count(), 3, "{text}");
        assert!(text.contains("broker=\"nats://typo\" reason=\"nats: DNS error\""), "{text}");
        assert!(!text.contains("not about"), "{text}");
    }
}
