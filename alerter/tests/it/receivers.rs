//! Receivers as others know them: signatures that their libraries verify, Alertmanager's payload, mail; and what people
//! do about notifications that are not delivered.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use protocol::{
    document::Document,
    letter::{
        NotificationChange, NotificationList, NotificationOrder, NotificationQuery, NotificationsChanged,
        ReceiverTest, ReceiverTested,
    },
    subject,
};
use serde_json::{Value, json};
use testkit::{WebhookSink, eventually, webhook::Received};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Bed, LIMIT, documents, received, receiver_of, result, rule, states, webhook_id};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAAAAAAAAA=";
const OLD_SECRET: &str = "whsec_b2xkLXNlY3JldC1vbGQtc2VjcmV0LW9sZC1zZWNyZXQ=";

/// What a program says to a text on its standard input.
fn run(mut command: Command, input: &str) -> Option<Output> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.ok()?;
    child.stdin.take()?.write_all(input.as_bytes()).ok()?;
    child.wait_with_output().ok()
}

fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", script]);
    command
}

fn has_python(module: &str) -> bool {
    run(python(&format!("import {module}")), "").is_some_and(|output| output.status.success())
}

async fn change(bed: &Bed, order: NotificationOrder, ids: &[&str]) -> NotificationsChanged {
    let request = NotificationChange {
        order,
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        receiver: None,
        all: ids.is_empty(),
        actor: "a test".into(),
    };
    service_kit::request::request(&bed.client, subject::ALERTER_NOTIFICATION_CHANGE, &request, LIMIT)
        .await
        .unwrap()
}

pub(crate) async fn letters(bed: &Bed, count: usize) -> NotificationList {
    eventually(&format!("{count} dead letters"), LIMIT, || async {
        let query = NotificationQuery { receiver: None, state: Some("gave_up".into()) };
        let list: NotificationList =
            service_kit::request::request(&bed.client, subject::ALERTER_NOTIFICATION_LIST, &query, LIMIT)
                .await
                .map_err(|error| error.to_string())?;
        if list.notifications.len() == count { Ok(list) } else { Err(format!("{list:?}")) }
    })
    .await
}

pub(crate) async fn try_receiver(bed: &Bed, name: &str) -> ReceiverTested {
    let request = ReceiverTest { name: name.parse().unwrap() };
    service_kit::request::request(&bed.client, subject::ALERTER_RECEIVER_TEST, &request, LIMIT).await.unwrap()
}

/// Why the only dead letter was given up.
pub(crate) async fn reason(bed: &Bed) -> String {
    letters(bed, 1).await.notifications[0].reason.clone().unwrap()
}

/// Two keys sign while one follows the other; each library that knows one of them is content.
#[tokio::test]
async fn signatures_are_verified_by_libraries_of_standard_webhooks() {
    let sink = WebhookSink::start().await;
    sink.answer(&[500]);
    let signed = json!({"webhook": {"url": sink.url(), "sign": [{"file": "new"}, {"file": "old"}]}});
    let bed = Bed::new(vec![Document::Rule(rule("full")), receiver_of("ops", signed)]).await;
    bed.secret("new", &format!("{SECRET}\n"));
    bed.secret("old", OLD_SECRET);
    let _alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    let told = received(&sink, 2).await;
    assert_eq!(webhook_id(&told[0]), webhook_id(&told[1]));
    let (mut verified, mut missing) = (0, Vec::new());
    for secret in [SECRET, OLD_SECRET] {
        for (library, output) in verify(&told[1], secret) {
            match output {
                Some(output) if output.status.code() != Some(3) => {
                    assert!(
                        output.status.success(),
                        "{library}: {}",
                        String::from_utf8_lossy(&output.stderr)
                    );
                    verified += 1;
                }
                _ => missing.push(library),
            }
        }
    }
    for (library, output) in verify(&told[1], "whsec_d3Jvbmctc2VjcmV0LXdyb25nLXNlY3JldC13cm9uZy0=") {
        let accepts = output.is_some_and(|output| output.status.success());
        assert!(!accepts, "{library} accepts a signature of another key");
    }
    println!("verified {verified} times");
    missing.dedup();
    for library in missing {
        eprintln!(
            "NOT TESTED: signatures with {library}. Install it: pip install standardwebhooks, npm install -g standardwebhooks"
        );
    }
}

/// Exit code 0 verified, 1 not, 3 the library is missing.
fn verify(received: &Received, secret: &str) -> Vec<(&'static str, Option<Output>)> {
    let headers: serde_json::Map<String, Value> = received
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap())))
        .collect();
    let input = json!({"secret": secret, "body": received.raw, "headers": headers}).to_string();
    let in_python = python(
        "import json, sys\n\
         try:\n    from standardwebhooks import Webhook\n\
         except ImportError:\n    sys.exit(3)\n\
         given = json.load(sys.stdin)\n\
         Webhook(given['secret']).verify(given['body'], given['headers'])",
    );
    let mut in_node = Command::new("sh");
    in_node.args(["-c", "NODE_PATH=$NODE_PATH:$(npm root -g); export NODE_PATH; exec node -e \"$0\""]).arg(
        "let lib; try { lib = require('standardwebhooks') } catch { process.exit(3) }\n\
         const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n\
         new lib.Webhook(given.secret).verify(given.body, given.headers);",
    );
    let node = run(in_node, &input).filter(|output| output.status.code() != Some(127));
    vec![("standardwebhooks of PyPI", run(in_python, &input)), ("standardwebhooks of npm", node)]
}

/// The keys, and what stands under them, of the real Alertmanager's webhook for the same alert.
#[tokio::test]
async fn the_payload_is_that_of_alertmanager() {
    let sink = WebhookSink::start().await;
    let ours = json!({"webhook": {"url": sink.url(), "format": "alertmanager"}});
    let bed = Bed::new(vec![Document::Rule(rule("full")), receiver_of("ops", ours)]).await;
    let _alerter = bed.alerter().await;
    bed.publish(&result(1, 93.5)).await;
    received(&sink, 1).await;
    bed.publish(&result(2, 5.0)).await;
    let told = received(&sink, 2).await;
    assert_eq!(told[0].body["status"], "firing");
    assert_eq!(told[1].body["status"], "resolved");
    assert_eq!(told[0].body["alerts"][0]["fingerprint"], told[1].body["alerts"][0]["fingerprint"]);
    let Some(peer) = Alertmanager::start().await else {
        eprintln!(
            "NOT TESTED: payloads like Alertmanager's. Install it: apt-get install prometheus-alertmanager"
        );
        return;
    };
    for ours in &told {
        let theirs = peer.told(&ours.body["alerts"][0]).await;
        same("", &ours.body, &theirs);
    }
}

/// Alertmanager as Debian packages it, with one webhook.
struct Alertmanager {
    child: Child,
    address: std::net::SocketAddr,
    sink: WebhookSink,
    _folder: tempfile::TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Alertmanager {
    async fn start() -> Option<Self> {
        let sink = WebhookSink::start().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alertmanager.yml");
        let text = format!(
            "route:\n  receiver: ops\n  group_by: [alertname, instance]\n  group_wait: 0s\n  group_interval: 1s\n\
             receivers:\n- name: ops\n  webhook_configs:\n  - url: {}\n    send_resolved: true\n",
            sink.url()
        );
        std::fs::write(&file, text).unwrap();
        let address = testkit::free_address();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let peer = Self { child, address, sink, _folder: folder };
        eventually("Alertmanager listens", Duration::from_secs(60), || async {
            tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        Some(peer)
    }

    /// Its webhook for this alert.
    async fn told(&self, alert: &Value) -> Value {
        let mut posted = json!({
            "labels": alert["labels"], "annotations": alert["annotations"], "startsAt": alert["startsAt"],
        });
        if alert["status"] == "resolved" {
            posted["endsAt"] = alert["endsAt"].clone();
        }
        let body = json!([posted]).to_string();
        let before = self.sink.received().len();
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST /api/v2/alerts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let told = eventually("Alertmanager's webhook", Duration::from_secs(60), || async {
            let all = self.sink.received();
            all.get(before..)
                .and_then(|new| new.iter().rev().find(|one| one.body["status"] == alert["status"]).cloned())
                .ok_or("not yet")
        })
        .await;
        told.body
    }
}

/// Each field of theirs is there, and the same; none of ours is unknown to them.
fn same(at: &str, ours: &Value, theirs: &Value) {
    // Where Alertmanager and Prometheus are; and the group, which names the route.
    if ["/externalURL", "/alerts/0/generatorURL", "/groupKey"].contains(&at) {
        assert!(ours.is_string() && theirs.is_string(), "{at}");
        return;
    }
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{at}");
            for (key, value) in a {
                same(&format!("{at}/{key}"), value, &b[key]);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}");
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                same(&format!("{at}/{index}"), a, b);
            }
        }
        _ => assert_eq!(ours, theirs, "{at}"),
    }
}

#[tokio::test]
async fn a_test_shows_the_request_without_its_secrets() {
    let sink = WebhookSink::start().await;
    let fields = json!({"webhook": {
        "url_from": {"file": "url"}, "bearer": {"file": "token"}, "format": "template", "method": "PUT",
        "body": "{\"text\": {{ alert.summary|tojson }}}",
    }});
    let bed = Bed::new(vec![receiver_of("ops", fields)]).await;
    bed.secret("url", &format!("{}s3cret-path", sink.url()));
    bed.secret("token", "s3cret-token");
    let _alerter = bed.alerter().await;
    let tested = try_receiver(&bed, "ops").await;
    assert!(tested.ok && tested.status == Some(200), "{tested:?}");
    let shown = serde_json::to_string(&tested).unwrap();
    assert!(!shown.contains("s3cret") && shown.contains("Bearer ***"), "{shown}");
    let came = &sink.received()[0];
    assert_eq!((came.method.as_str(), came.path.as_str()), ("PUT", "/s3cret-path"));
    assert_eq!(came.headers["authorization"], "Bearer s3cret-token");
    assert_eq!(came.raw, tested.body);
    assert!(came.body["text"].as_str().unwrap().contains("nothing is wrong"));
}

/// What one gives up another is told, and the end of it too.
#[tokio::test]
async fn g5_a_fallback_is_told_what_was_given_up_and_its_end() {
    let (sink, night) = (WebhookSink::start().await, WebhookSink::start().await);
    sink.answer(&[404]);
    let first = json!({"webhook": {"url": sink.url()}, "fallback": "night"});
    let bed = Bed::new(vec![
        Document::Rule(rule("full")),
        receiver_of("ops", first),
        // In a circle.
        receiver_of("night", json!({"webhook": {"url": night.url()}, "fallback": "ops"})),
    ])
    .await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    let told = received(&night, 1).await;
    assert_eq!(told[0].body["receiver"], "night");
    bed.publish(&result(2, 5.0)).await;
    let told = received(&night, 2).await;
    assert_eq!(states(&told), ["firing", "resolved"]);
    assert_eq!(states(&received(&sink, 2).await), ["firing", "resolved"]);
    bed.settled().await;
    alerter.stop().await;
    assert_eq!((sink.received().len(), night.received().len()), (2, 2));
}

#[tokio::test]
async fn g5_dead_letters_are_listed_sent_again_and_dropped() {
    let sink = WebhookSink::start().await;
    sink.answer(&[404, 404, 404]);
    let bed = Bed::new(documents(&sink)).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    letters(&bed, 1).await;
    bed.publish(&result(2, 5.0)).await;
    let list = letters(&bed, 2).await;
    let firing = list.notifications.iter().find(|info| info.id.contains(":firing:")).unwrap().id.clone();
    assert!(list.notifications.iter().all(|info| info.reason.as_ref().unwrap().contains("404")), "{list:?}");
    // Inside of the broker's window for repeats, and with what followed, in order.
    let changed = change(&bed, NotificationOrder::Retry, &[&firing]).await;
    assert_eq!((changed.changed, changed.unchanged.len()), (2, 0));
    let told = received(&sink, 4).await;
    assert_eq!(states(&told), ["firing", "resolved", "firing", "resolved"]);
    assert_eq!(webhook_id(&told[0]), webhook_id(&told[2]));
    let list = letters(&bed, 1).await;
    let again = change(&bed, NotificationOrder::Retry, &[&firing]).await;
    assert!(again.unchanged[&firing].contains("would never end"), "{again:?} {list:?}");
    assert_eq!(change(&bed, NotificationOrder::Drop, &[]).await.changed, 1);
    letters(&bed, 0).await;
    alerter.stop().await;
}

/// A mail server of a library that is not ours keeps what it gets.
struct MailServer {
    child: Child,
    port: u16,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl MailServer {
    /// With `tls` it wants STARTTLS and a login before anything else. Certificate and key are in `folder`.
    fn start(folder: &Path, tls: bool) -> Self {
        let port = testkit::free_address().port();
        let mut command = python(include_str!("mail_server.py"));
        command.arg(folder).arg(if tls { "tls" } else { "plain" }).arg(port.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let server = Self { child, port, lines };
        assert_eq!(server.next(), "ready");
        server
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).expect("a line of the mail server")
    }

    fn mail(&self) -> Value {
        serde_json::from_str(&self.next()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_reaches_a_real_server_with_and_without_tls() {
    if !has_python("aiosmtpd") {
        eprintln!("NOT TESTED: mail. Install it: pip install aiosmtpd");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let (plain, secure) = (MailServer::start(folder.path(), false), MailServer::start(folder.path(), true));
    let email = |port: u16, more: Value| {
        let mut email = json!({"server": "localhost", "port": port, "from": "dogwatch@example.com", "to": ["ops@example.com"]});
        email.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"email": email})
    };
    let login = |password: &str| json!({"ca": {"file": "ca"}, "login": {"username": "me", "password": {"file": password}}});
    let bed = Bed::new(vec![
        Document::Rule(rule("full")),
        receiver_of("ops", email(plain.port, json!({"tls": "never"}))),
        receiver_of("nobody", email(plain.port, json!({"tls": "never", "to": ["nobody@example.com"]}))),
        receiver_of("secure", email(secure.port, login("pw"))),
        receiver_of("wrong", email(secure.port, login("wrong"))),
        receiver_of("untrusted", email(secure.port, json!({}))),
        receiver_of("naked", email(plain.port, json!({}))),
    ])
    .await;
    bed.secret("ca", &certified.cert.pem());
    bed.secret("pw", "pa ss");
    bed.secret("wrong", "pa ss wrong");
    let _alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    let firing = plain.mail();
    bed.publish(&result(2, 5.0)).await;
    let end = plain.mail();
    let field = |mail: &Value, name: &str| -> String {
        let data = mail["data"].as_str().unwrap().to_owned();
        let line = data.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {data}")).trim().to_owned()
    };
    assert_eq!(firing["to"], json!(["ops@example.com"]));
    assert_eq!(field(&firing, "Subject:"), "FIRING: full on web-01");
    assert_eq!(field(&end, "Subject:"), "RESOLVED: full on web-01");
    assert_eq!(field(&end, "In-Reply-To:"), field(&firing, "Message-ID:"));
    assert_eq!(field(&firing, "Auto-Submitted:"), "auto-generated");
    assert!(firing["data"].as_str().unwrap().contains("disk on web-01 is 95 %"), "{firing}");

    let tested = try_receiver(&bed, "secure").await;
    assert!(tested.ok, "{tested:?}");
    assert_eq!(secure.mail()["tls"], true);
    for (name, expected) in
        [("nobody", "no such user"), ("wrong", "535"), ("untrusted", "certificate"), ("naked", "STARTTLS")]
    {
        let tested = try_receiver(&bed, name).await;
        assert!(!tested.ok && tested.answer.contains(expected), "{name}: {tested:?}");
        assert!(!tested.answer.contains("pa ss"), "{tested:?}");
    }
}
