//! A receiver of webhooks that records what it gets and answers as it is told.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    routing::any,
};
use tokio::sync::watch;

/// One request that came in.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    /// Null where it is no JSON.
    pub body: serde_json::Value,
    /// The body to the byte, where it is text.
    pub raw: String,
}

/// Listens on loopback until it is dropped. Answers 200, or the next of the statuses given to [`WebhookSink::answer`].
pub struct WebhookSink {
    address: SocketAddr,
    state: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    answers: Mutex<VecDeque<u16>>,
    count: watch::Sender<usize>,
}

impl WebhookSink {
    pub async fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into()).await
    }

    /// Listen on an address that a test chose before.
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.expect("listen for webhooks");
        let address = listener.local_addr().expect("address");
        let state = Arc::new(Shared::default());
        let app = Router::new().fallback(any(receive)).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("serve webhooks") });
        Self { address, state, server }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Statuses for the next requests, in order; afterwards 200 again.
    pub fn answer(&self, statuses: &[u16]) {
        self.state.answers.lock().expect("answers").extend(statuses);
    }

    /// All requests so far, refused ones too.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().expect("received").clone()
    }

    /// Wait until so many requests came, at once when the last of them does: for measuring.
    pub async fn reached(&self, count: usize) {
        let mut counted = self.state.count.subscribe();
        // The sender lives as long as this.
        let _open = counted.wait_for(|came| *came >= count).await;
    }
}

impl Drop for WebhookSink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(
    State(state): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let raw = String::from_utf8_lossy(&body).into_owned();
    let body = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
    let (method, path) = (method.to_string(), uri.path().to_owned());
    state.received.lock().expect("received").push(Received { method, path, headers, body, raw });
    state.count.send_modify(|count| *count += 1);
    let status = state.answers.lock().expect("answers").pop_front();
    status.map_or(StatusCode::OK, |status| StatusCode::from_u16(status).expect("an HTTP status"))
}
