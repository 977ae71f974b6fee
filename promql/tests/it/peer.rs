//! The real Prometheus, with the samples of [`crate::data::fleet`].

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use promql::{Semantics, Series};
use serde_json::Value;

pub(crate) struct Prometheus {
    child: Child,
    port: u16,
    pub(crate) semantics: Semantics,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Prometheus {
    /// `None` where it is not installed.
    pub(crate) fn start(samples: &[Series]) -> Option<Self> {
        let version = Command::new("prometheus").arg("--version").output().ok()?;
        Command::new("promtool").arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&[version.stdout, version.stderr].concat()).into_owned();
        let semantics =
            if version.contains("version 2.") { Semantics::Prometheus2 } else { Semantics::Prometheus3 };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("samples.om"), openmetrics(samples)).unwrap();
        std::fs::write(folder.path().join("prometheus.yml"), "global: {}\n").unwrap();
        let loaded = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics", "samples.om", "data"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(loaded.status.success(), "promtool: {}", String::from_utf8_lossy(&loaded.stderr));
        let (child, port) = (0..5).find_map(|_| run(folder.path())).expect("Prometheus did not start");
        Some(Self { child, port, semantics, _folder: folder })
    }

    /// Status and body of its answer.
    pub(crate) fn ask(&self, path: &str, parameters: &[(&str, String)]) -> (u16, Value) {
        let form: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let (status, body) = post(self.port, path, &form.join("&")).expect("Prometheus does not answer");
        (status, serde_json::from_slice(&body).unwrap())
    }
}

/// Start it on a port that is free now; `None` when somebody else took the port.
fn run(folder: &Path) -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new("prometheus")
        .args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--storage.tsdb.retention.time=100y",
        ])
        .args(["--log.level=error", &format!("--web.listen-address=127.0.0.1:{port}")])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if matches!(post(port, "/api/v1/query", "query=1"), Some((200, _))) {
            return Some((child, port));
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

fn post(port: u16, path: &str, form: &str) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let head = "Host: localhost\r\nContent-Type: application/x-www-form-urlencoded";
    write!(stream, "POST {path} HTTP/1.0\r\n{head}\r\nContent-Length: {}\r\n\r\n{form}", form.len()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, answer[end + 4..].to_vec()))
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").unwrap();
        }
        out
    })
}

fn openmetrics(samples: &[Series]) -> String {
    let mut out = String::new();
    let mut series: Vec<&Series> = samples.iter().collect();
    series.sort_by(|a, b| a.labels.get(promql::NAME).cmp(&b.labels.get(promql::NAME)));
    for one in series {
        let labels: Vec<String> = one
            .labels
            .iter()
            .filter(|(name, _)| *name != promql::NAME)
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        let name = one.labels.get(promql::NAME).unwrap();
        for sample in &one.samples {
            let value = promql::json::number(sample.value);
            let (seconds, millis) = (sample.t_ms / 1000, sample.t_ms % 1000);
            writeln!(out, "{name}{{{}}} {value} {seconds}.{millis:03}", labels.join(",")).unwrap();
        }
    }
    out.push_str("# EOF\n");
    out
}
