//! Prometheus and VictoriaMetrics from Debian's packages, started by hand on loopback in folders of their own, and given
//! the same numbers by remote write.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use protocol::CheckResult;

use super::{Target, http::Http};
use crate::{agent::proc::Running, progress};

/// Those that are installed; of the others it is said that they are missing.
pub(crate) fn start(folder: &Path) -> anyhow::Result<Vec<Target>> {
    std::fs::write(folder.join("prometheus.yml"), "global: {}\n")?;
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let known: [(&'static str, &str, Vec<String>, &str); 2] = [
        (
            "Prometheus",
            "prometheus",
            vec![
                format!("--config.file={}", path("prometheus.yml")),
                format!("--storage.tsdb.path={}", path("prometheus")),
                "--storage.tsdb.retention.time=100y".to_owned(),
                "--web.enable-remote-write-receiver".to_owned(),
                // One connection for the whole benchmark.
                "--web.read-timeout=10h".to_owned(),
                "--log.level=error".to_owned(),
            ],
            "--web.listen-address=",
        ),
        (
            "VictoriaMetrics",
            "victoria-metrics",
            vec![
                format!("-storageDataPath={}", path("victoria")),
                "-retentionPeriod=100y".to_owned(),
                "-http.connTimeout=10h".to_owned(),
                "-http.idleConnTimeout=10h".to_owned(),
                "-loggerLevel=ERROR".to_owned(),
            ],
            "-httpListenAddr=",
        ),
    ];
    let mut peers = Vec::new();
    for (name, program, args, listen) in known {
        if Command::new(program).arg("--version").output().is_err() {
            progress(&format!("query: {name} is missing: apt-get install {program}"));
            continue;
        }
        let address = testkit::free_address();
        let log = folder.join(program).with_extension("log");
        let mut command = Command::new(program);
        let running = Running::start(command.args(args).arg(format!("{listen}{address}")), &log)?;
        let http = reach(address).with_context(|| format!("{name} did not start"))?;
        peers.push(Target { name, http, below: "", _program: Some(running) });
    }
    Ok(peers)
}

fn reach(address: SocketAddr) -> anyhow::Result<Http> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let reached = Http::connect(address, "").and_then(|mut http| {
            let (status, _) = http.get("/api/v1/query?query=1")?;
            ensure!(status == 200, "it answers with status {status}");
            Ok(http)
        });
        match reached {
            Ok(http) => return Ok(http),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Give `peer` these results.
pub(crate) fn write(peer: &mut Target, results: &[CheckResult]) -> anyhow::Result<()> {
    const HEADERS: &str = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n\
        X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
    let mut request = Vec::new();
    for result in results {
        let mut series = Vec::new();
        let labels = [
            ("__name__", "dogwatch_value"),
            ("agent", result.agent.as_str()),
            ("check", result.check.as_str()),
            ("unit", result.unit.as_deref().unwrap_or_default()),
        ];
        for (name, value) in labels {
            let mut label = Vec::new();
            field(1, name.as_bytes(), &mut label);
            field(2, value.as_bytes(), &mut label);
            field(1, &label, &mut series);
        }
        let value = result.value.as_ref().and_then(protocol::Scalar::as_f64).unwrap_or(f64::NAN);
        let mut sample = vec![0x09];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(0x10);
        varint(result.at_ms, &mut sample);
        field(2, &sample, &mut series);
        field(1, &series, &mut request);
    }
    let (status, body) = peer.http.post("/api/v1/write", HEADERS, &unpacked_snappy(&request))?;
    ensure!((200..300).contains(&status), "status {status}: {}", String::from_utf8_lossy(body));
    Ok(())
}

/// A field of protobuf that holds bytes.
fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A block of snappy that only has literals: what it costs to pack is not measured here.
fn unpacked_snappy(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    varint(bytes.len() as u64, &mut out);
    for part in bytes.chunks(1 << 16) {
        out.push(61 << 2);
        let length = u16::try_from(part.len() - 1).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}
