use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser;
use http_bridge::Settings;
use protocol::{
    AgentId, CheckResult, ErrorCode, ErrorReply,
    admin::{KeyInfo, KeyVerify, Role, key_hash},
    config::{AgentConfig, ConfigReply, ConfigRequest},
    stream, subject,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use service_kit::{Context, Metrics, Readiness, Tasks, respond, streams};
use testkit::NatsServer;

/// A broker, a scripted config-service and a bridge.
pub(crate) struct Bridge {
    pub(crate) nats: NatsServer,
    pub(crate) http: SocketAddr,
    pub(crate) submit: SocketAddr,
    pub(crate) client: reqwest::Client,
    pub(crate) script: Arc<Script>,
    pub(crate) ctx: Context,
    /// Whoever the scripted services are.
    pub(crate) behind: Context,
}

/// What the scripted config-service knows.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) keys: Mutex<HashMap<String, KeyInfo>>,
    pub(crate) config: Mutex<Option<AgentConfig>>,
    pub(crate) verified: Mutex<usize>,
}

pub(crate) fn context(name: &'static str, nats: async_nats::Client) -> Context {
    Context { name, nats, tasks: Tasks::new(), ready: Readiness::default(), metrics: Metrics::default() }
}

pub(crate) fn key(role: Role) -> String {
    format!("dw_{role}")
}

impl Bridge {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        let nats = NatsServer::start().await;
        let behind = context("config-service", nats.client().await);
        let script = Arc::new(Script::default());
        for role in [Role::Agent, Role::Viewer, Role::Editor, Role::Admin] {
            let agent = (role == Role::Agent).then(|| AgentId::new("web-01").unwrap());
            let info = KeyInfo {
                id: role.to_string(),
                role,
                agent,
                created_ms: 1,
                last_used_ms: 0,
                revoked_ms: None,
                expires_ms: None,
                hosts: None,
            };
            script.keys.lock().unwrap().insert(key_hash(&key(role)), info);
        }
        let config = json!({"revision": 7, "etag": "e7", "checks": [
            {"name": "os_updates", "command": "echo 12", "every_ms": 1000, "timeout_ms": 1000, "unit": "packages",
             "warning": "> 0", "critical": "> 50"},
            {"name": "disk", "builtin": "disk", "every_ms": 1000, "timeout_ms": 1000},
        ]});
        *script.config.lock().unwrap() = Some(serde_json::from_value(config).unwrap());
        script.serve(&behind).await;
        streams::ensure_stream(&behind.jetstream(), &stream::RESULTS).await.unwrap();

        let (http, submit) = (testkit::free_address(), testkit::free_address());
        let (http_text, submit_text) = (http.to_string(), submit.to_string());
        let mut args = vec!["http-bridge", "--http", &http_text, "--submit", &submit_text];
        args.extend(flags);
        let ctx = context("http-bridge", nats.client().await);
        http_bridge::start(Settings::try_parse_from(args).unwrap(), ctx.clone()).await.unwrap();
        // Only the first test of the process installs it.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { nats, http, submit, client, script, ctx, behind }
    }

    pub(crate) fn request(&self, method: Method, path: &str, key: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.http)).header("X-API-Key", key)
    }

    pub(crate) async fn get(&self, path: &str, role: Role) -> Response {
        self.request(Method::GET, path, &key(role)).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, role: Role, body: impl Into<reqwest::Body>) -> Response {
        self.request(Method::POST, path, &key(role)).body(body).send().await.unwrap()
    }

    pub(crate) async fn submit(&self, body: impl Into<reqwest::Body>) -> Response {
        self.post("/api/submit", Role::Agent, body).await
    }

    /// All that is in a stream, in order: headers and body.
    pub(crate) async fn stored(&self, stream: &str) -> Vec<(HashMap<String, String>, Vec<u8>)> {
        let mut stream = match self.behind.jetstream().get_stream(stream).await {
            Ok(stream) => stream,
            Err(_) => return Vec::new(),
        };
        let last = stream.info().await.unwrap().state.last_sequence;
        let mut messages = Vec::new();
        for sequence in 1..=last {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let headers = message
                .headers
                .iter()
                .map(|(name, values)| (name.to_string(), values[0].to_string()))
                .collect();
            messages.push((headers, message.payload.to_vec()));
        }
        messages
    }

    pub(crate) async fn results(&self) -> Vec<CheckResult> {
        let stored = self.stored("RESULTS").await;
        stored.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }
}

impl Script {
    async fn serve(self: &Arc<Self>, behind: &Context) {
        let limits = respond::Limits::default();
        let script = Arc::clone(self);
        respond::respond(behind, subject::ADMIN_KEY_VERIFY, limits, move |_, question: KeyVerify| {
            *script.verified.lock().unwrap() += 1;
            let known = script.keys.lock().unwrap().get(&question.hash).cloned();
            async move { known.ok_or_else(|| ErrorReply::new(ErrorCode::Unauthorized, "unknown")) }
        })
        .await
        .unwrap();
        let script = Arc::clone(self);
        respond::respond(behind, subject::CONFIG_GET_ALL, limits, move |_, question: ConfigRequest| {
            let config = script.config.lock().unwrap().clone();
            async move {
                assert!(question.facts.is_none());
                Ok(match config {
                    None => ConfigReply::Refused { reason: "not enrolled".into() },
                    Some(config) if question.etag.as_deref() == Some(&config.etag) => {
                        ConfigReply::Unchanged { revision: config.revision }
                    }
                    Some(config) => ConfigReply::Full { config },
                })
            }
        })
        .await
        .unwrap();
    }
}

/// The problem of an answer, after checking that it is one.
pub(crate) async fn problem(response: Response, status: u16) -> Value {
    assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    assert_eq!(kind.as_deref(), Some("application/problem+json"));
    if matches!(status, 429 | 503) {
        let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..60).contains(&seconds));
    }
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    for member in ["type", "title", "detail"] {
        assert!(body[member].is_string(), "{body}");
    }
    body
}

pub(crate) const SOON: Duration = Duration::from_secs(5);
