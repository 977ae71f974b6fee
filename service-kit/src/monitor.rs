//! What monitors ask of every process: `/livez`, `/readyz`, `/metrics`.

mod pages;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, http::StatusCode, http::header::CONTENT_TYPE, routing::get};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::net::TcpListener;

use crate::{Readiness, Tasks};

/// The metrics of a process, in one registry that all its parts share. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    pub(crate) messages: Messages,
}

/// What became of the messages of each consumer: one family each, since a process may have several.
#[derive(Clone, Default)]
pub(crate) struct Messages {
    pub(crate) done: Family<ConsumerLabels, Counter>,
    pub(crate) retried: Family<ConsumerLabels, Counter>,
    pub(crate) rejected: Family<ConsumerLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ConsumerLabels {
    pub(crate) service: &'static str,
    pub(crate) consumer: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let messages = Messages::default();
        let mut registry = Registry::with_prefix("dogwatch");
        let families = [
            ("messages_done", "Messages acknowledged after their effect was durable", &messages.done),
            ("messages_retried", "Messages that failed and are tried again", &messages.retried),
            (
                "messages_rejected",
                "Messages kept in stream REJECTED because they cannot be understood",
                &messages.rejected,
            ),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        Self { registry: Arc::new(Mutex::new(registry)), messages }
    }
}

impl Metrics {
    /// Register metrics of `service`: their names get the prefix `dogwatch_<service>_`.
    pub fn register(&self, service: &str, register: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        register(registry.sub_registry_with_prefix(service.replace('-', "_")));
    }

    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _written = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}

/// What stands at one of the three paths.
struct Page {
    fine: bool,
    kind: &'static str,
    text: String,
}

const PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];
const PLAIN: &str = "text/plain; charset=utf-8";

fn page(path: &str, metrics: &Metrics, ready: &Readiness) -> Option<Page> {
    match path {
        "/livez" => Some(Page { fine: true, kind: PLAIN, text: "alive\n".to_owned() }),
        "/readyz" => {
            let problems = ready.problems();
            let fine = problems.is_empty();
            let text = if fine { "ready\n".to_owned() } else { problems.join("\n") + "\n" };
            Some(Page { fine, kind: PLAIN, text })
        }
        "/metrics" => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            Some(Page { fine: true, kind, text: metrics.encode() })
        }
        _ => None,
    }
}

/// The three routes, for a service that serves HTTP anyway.
pub fn router(metrics: Metrics, ready: Readiness) -> Router {
    PATHS.into_iter().fold(Router::new(), |router, path| {
        let (metrics, ready) = (metrics.clone(), ready.clone());
        let answer = move || {
            let page = page(path, &metrics, &ready);
            async move {
                let Page { fine, kind, text } = page.ok_or(StatusCode::NOT_FOUND)?;
                let status = if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                Ok::<_, StatusCode>((status, [(CONTENT_TYPE, kind)], text))
            }
        };
        router.route(path, get(answer))
    })
}

/// Serve the three routes at `address` until the service stops.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    ready: Readiness,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!("cannot listen on {address} for --monitor: {error}; choose a free address")
    })?;
    tasks.spawn("monitor", pages::serve(listener, metrics, ready, tasks.token()));
    Ok(())
}
