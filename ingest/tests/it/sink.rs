//! Remote write to the real Prometheus and to VictoriaMetrics, and to a receiver that refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Stdio,
    time::Duration,
};

use protocol::{
    query::{PrometheusAnswer, PrometheusQuery},
    subject,
};
use serde_json::Value;
use service_kit::now_ms;
use testkit::{NatsServer, Program, WebhookSink, eventually, free_address, program};

use crate::fixture::*;

const AGENTS: [&str; 3] = ["a-1", "a-2", "a-3"];
const LAST: u64 = 600;

/// A place that takes remote writes, killed on drop. It keeps its port and data when it is started again.
struct Receiver {
    kind: Kind,
    port: u16,
    folder: tempfile::TempDir,
    child: Option<std::process::Child>,
}

#[derive(Clone, Copy)]
enum Kind {
    Prometheus,
    VictoriaMetrics,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        }
    }
}

impl Receiver {
    /// `None` where it is not installed.
    fn new(kind: Kind) -> Option<Self> {
        let program = kind.program();
        let mut found = std::process::Command::new(program);
        found.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("prometheus.yml"), "global: {}\n").unwrap();
        Some(Self { kind, port: free_address().port(), folder, child: None })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn start(&mut self) {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut command = std::process::Command::new(self.kind.program());
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match self.kind {
            Kind::Prometheus => command
                .args([
                    "--config.file=prometheus.yml",
                    "--storage.tsdb.path=data",
                    "--web.enable-remote-write-receiver",
                ])
                .arg(format!("--web.listen-address={listen}")),
            Kind::VictoriaMetrics => command
                .args(["-storageDataPath=data", "-search.latencyOffset=0s", "-search.disableCache"])
                // One of two equal samples is kept.
                .arg("-dedup.minScrapeInterval=1ms")
                .arg(format!("-httpListenAddr={listen}")),
        };
        self.child = Some(command.spawn().unwrap());
        eventually("the receiver answers", LIMIT, || async { self.ask("1").await.map(drop) }).await;
    }

    fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        match self.kind {
            Kind::Prometheus => child.kill().unwrap(),
            // It keeps what it took in memory for some seconds, and forgets it when it is killed.
            Kind::VictoriaMetrics => {
                let pid = child.id().to_string();
                assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
            }
        }
        child.wait().unwrap();
    }

    async fn ask(&self, query: &str) -> Result<Value, String> {
        let url = url::Url::parse_with_params(
            &format!("{}/api/v1/query", self.url()),
            [("query", query), ("time", &(now_ms() / 1_000).to_string())],
        )
        .unwrap();
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.get(url).send().await.map_err(|error| error.to_string())?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" {
            Ok(answer["data"]["result"].clone())
        } else {
            Err(answer.to_string())
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Each series with its value, labels as one text.
fn values(result: &Value) -> BTreeMap<String, f64> {
    let rows = result.as_array().unwrap().iter();
    rows.map(|row| (row["metric"].to_string(), row["value"][1].as_str().unwrap().parse().unwrap())).collect()
}

fn ingest(server: &NatsServer, data: &Path, url: &str, failpoint: bool) -> Program {
    let mut command = program::command("dogwatch-ingest");
    command.args(["--nats-url", &server.url(), "--keep-free", "0", "--data"]).arg(data);
    command.args(["--remote-write-samples", "50", "--remote-write-url", url]);
    if failpoint {
        command.env("DOGWATCH_FAILPOINT", "remote_write_after_post");
    }
    Program::spawn("dogwatch-ingest", command)
}

/// Results of all agents, one each half second, ending about now; each has a value and a metric.
async fn send(client: &async_nats::Client, began: u64, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        for agent in AGENTS {
            let metric = r#""unit":"%","metrics":[{"name":"/var","value":7,"unit":"B"}]"#;
            let json = json(agent, "disk", seq, began + seq * 500).replace(r#""unknown":true"#, metric);
            publish_json(client, agent, "disk", json).await;
        }
    }
}

/// The same samples are there, through an outage of the receiver and kills of ingest.
async fn every_sample_arrives(mut receiver: Receiver, path: &str) {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    results_stream(&client).await;
    receiver.start().await;
    let url = format!("{}{path}", receiver.url());
    let began = now_ms() - LAST * 500 - 10_000;
    let sum = |last: u64| (last * (last + 1) / 2) as f64;
    let sent = async |receiver: &Receiver, last: u64| {
        let query = "sum by (agent) (sum_over_time(dogwatch_value{metric=\"\"}[1h]))";
        eventually(&format!("all up to {last} are there"), LIMIT, || async {
            let found = values(&receiver.ask(query).await?);
            let good = found.len() == AGENTS.len() && found.values().all(|value| *value == sum(last));
            if good { Ok(()) } else { Err(format!("{found:?}, not {}", sum(last))) }
        })
        .await;
    };

    send(&client, began, 1..=100).await;
    let mut first = ingest(&server, data.path(), &url, false);
    sent(&receiver, 100).await;
    // An outage of the receiver, and within it a kill of ingest.
    receiver.kill();
    send(&client, began, 101..=200).await;
    first.wait_for("the receiver of remote write takes nothing", LIMIT).await;
    first.kill();
    let mut second = ingest(&server, data.path(), &url, false);
    send(&client, began, 201..=300).await;
    second.wait_for("the receiver of remote write takes nothing", LIMIT).await;
    receiver.start().await;
    sent(&receiver, 300).await;
    second.kill();
    // Death after the receiver took a batch and before that is acknowledged: it is sent again.
    send(&client, began, 301..=400).await;
    let died = ingest(&server, data.path(), &url, true).ended(LIMIT).await;
    assert!(!died.success() && died.code().is_none(), "it ends by SIGABRT: {died}");
    send(&client, began, 401..=LAST).await;
    let mut last = ingest(&server, data.path(), &url, false);
    sent(&receiver, LAST).await;

    // Every sample, under the same labels as here.
    for name in AGENTS {
        stored_up_to(&client, name, LAST).await;
    }
    for query in [
        "count_over_time(dogwatch_value[1h])",
        "sum_over_time(dogwatch_value[1h])",
        "count_over_time(dogwatch_status[1h])",
    ] {
        let parameters = [("query", query.to_owned()), ("time", (now_ms() / 1_000).to_string())];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let question = PrometheusQuery { endpoint: "query".to_owned(), parameters, id: None };
        let own: PrometheusAnswer = ask(&client, subject::QUERY_PROMETHEUS, &question).await.unwrap();
        let own: Value = serde_json::from_str(own.body.get()).unwrap();
        let own = values(&own["data"]["result"]);
        eventually("the same answer comes from there", LIMIT, || async {
            let theirs = values(&receiver.ask(query).await?);
            if theirs == own { Ok(()) } else { Err(format!("{query}: {theirs:?}, not {own:?}")) }
        })
        .await;
        assert_eq!(own.len(), if query.contains("status") { 3 } else { 6 }, "{own:?}");
    }
    let labels: BTreeSet<String> = values(&receiver.ask("dogwatch_value").await.unwrap())
        .into_keys()
        .filter(|labels| labels.contains("a-1"))
        .collect();
    let expected = [
        r#"{"__name__":"dogwatch_value","agent":"a-1","check":"disk","metric":"/var","unit":"B"}"#,
        r#"{"__name__":"dogwatch_value","agent":"a-1","check":"disk","unit":"%"}"#,
    ];
    assert_eq!(labels, expected.map(str::to_owned).into());
    last.signal(15);
    assert_eq!(last.ended(LIMIT).await.code(), Some(0), "a stop waits for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_prometheus_gets_every_sample() {
    match Receiver::new(Kind::Prometheus) {
        Some(receiver) => every_sample_arrives(receiver, "/api/v1/write").await,
        None => eprintln!("NOT TESTED: remote write to Prometheus. Install it: apt-get install prometheus"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_victoria_metrics_gets_every_sample() {
    match Receiver::new(Kind::VictoriaMetrics) {
        Some(receiver) => every_sample_arrives(receiver, "/api/v1/write").await,
        None => {
            eprintln!(
                "NOT TESTED: remote write to VictoriaMetrics. Install it: apt-get install victoria-metrics"
            );
        }
    }
}

#[tokio::test]
async fn what_a_receiver_refuses_for_good_is_counted_and_blocks_nothing() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let sink = WebhookSink::start().await;
    std::fs::write(data.path().join("token"), "s3cret\n").unwrap();
    let token = data.path().join("token").to_string_lossy().into_owned();
    // Later, later, refused in part: both halves are tried, the first one is refused alone, the second taken.
    sink.answer(&[503, 429, 400, 400, 200]);
    let flags = [
        "--remote-write-url",
        &sink.url(),
        "--remote-write-token-file",
        &token,
        "--remote-write-tenant",
        "t-1",
    ];
    let running = Running::start_set(&server, &data.path().join("store"), &flags).await;
    publish(&client, "web-01", "disk", 1, now_ms()).await;
    let counted = |name: &str| running.metric(name).rsplit(' ').next().unwrap_or_default().to_owned();
    eventually("one sample is sent, one refused", LIMIT, || async {
        let counts = (
            counted("dogwatch_ingest_remote_write_samples_sent_total "),
            counted("dogwatch_ingest_remote_write_samples_refused_total{status=\"400\"} "),
            counted("dogwatch_ingest_remote_write_retries_total "),
        );
        if counts == ("1".into(), "1".into(), "2".into()) { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
    sink.answer(&[401]);
    publish(&client, "web-01", "disk", 2, now_ms()).await;
    eventually("a whole request is refused", LIMIT, || async {
        let count = counted("dogwatch_ingest_remote_write_samples_refused_total{status=\"401\"} ");
        (count == "2").then_some(()).ok_or(count)
    })
    .await;
    let requests = sink.received();
    assert_eq!(requests.len(), 6);
    let headers = &requests[0].headers;
    for (name, expected) in [
        ("authorization", "Bearer s3cret"),
        ("x-scope-orgid", "t-1"),
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "0.1.0"),
    ] {
        assert_eq!(headers.get(name).unwrap(), expected);
    }
    running.stop().await;
}

/// The queue is stream RESULTS: what its limit takes before the receiver did is counted.
#[tokio::test]
async fn g1_what_the_stream_forgets_before_it_is_sent_is_counted() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let sink = WebhookSink::start().await;
    let flags = ["--remote-write-url", &sink.url()];
    let running = Running::start_set(&server, data.path(), &flags).await;
    publish(&client, "web-01", "disk", 1, now_ms()).await;
    eventually("the first is sent", LIMIT, || async {
        let line = running.metric("dogwatch_ingest_remote_write_samples_sent_total ");
        if line.ends_with(" 2") { Ok(()) } else { Err(line) }
    })
    .await;
    running.stop().await;
    for seq in 2..=10 {
        publish(&client, "web-01", "disk", seq, now_ms()).await;
    }
    let jetstream = service_kit::publish::jetstream(&client);
    let stream = jetstream.get_stream("RESULTS").await.unwrap();
    stream.purge().sequence(8).await.unwrap();
    let running = Running::start_set(&server, data.path(), &flags).await;
    eventually("six were forgotten", LIMIT, || async {
        let line = running.metric("dogwatch_ingest_remote_write_results_dropped_total ");
        if line.ends_with(" 6") { Ok(()) } else { Err(line) }
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn wrong_settings_of_remote_write_are_refused_without_their_secrets() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let url = server.url();
    std::fs::write(data.path().join("login"), "s3cret").unwrap();
    let login = data.path().join("login").to_string_lossy().into_owned();
    for (flags, expected) in [
        (vec!["--remote-write-url", "http://me:s3cret@host/"], "must not hold a password"),
        (
            vec!["--remote-write-url", "http://h/", "--remote-write-token-file", "/no/token"],
            "cannot read /no/token",
        ),
        (
            vec!["--remote-write-url", "http://h/", "--remote-write-login-file", &login],
            "does not hold user:password",
        ),
    ] {
        let mut command = program::command("dogwatch-ingest");
        command.args(["--nats-url", &url, "--keep-free", "0", "--data"]).arg(data.path()).args(&flags);
        let mut program = Program::spawn("dogwatch-ingest", command);
        assert_eq!(program.ended(Duration::from_secs(30)).await.code(), Some(2), "{flags:?}");
        let said = program.stderr();
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}
