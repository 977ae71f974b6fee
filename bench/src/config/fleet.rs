//! A fleet on paper: its documents, its hosts, and agents that follow them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_nats::Client;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{
    AgentId, Facts, Labels, Origin, Reply,
    config::{ConfigRequest, ConfigStatus},
    subject,
};
use serde::Deserialize;

/// Requests on their way at once.
const WINDOW: usize = 256;
const ROLES: usize = 20;
const LIMIT: Duration = Duration::from_secs(60);

/// So many checks: one in four for every Linux host, one in four with a variant for each package manager, the others
/// for one of twenty roles each. `every` is that of all of them.
pub(super) fn documents(checks: usize, every: &str) -> String {
    let check = |n: usize| {
        let head = format!("kind: Check\nname: check_{n:03}\nevery: {every}\nwarning: \"> 80\"\n");
        match n % 4 {
            0 => format!(
                "{head}hosts: facts.os == \"linux\"\ncommand: /usr/lib/checks/check_{n} --quiet | wc -l\noutput: number\n"
            ),
            1 => format!(
                "{head}output: number\nvariants:\n- {{when: facts.package_manager == \"apt\", command: apt-get -s dist-upgrade | grep -c {n}}}\n\
                 - {{when: facts.package_manager == \"dnf\", command: dnf -q -C check-update | grep -c {n}}}\n"
            ),
            _ => format!(
                "{head}hosts: labels.role == \"role-{}\" && facts.cpus >= 2\nbuiltin: disk\n",
                n % ROLES
            ),
        }
    };
    (0..checks).map(check).collect::<Vec<_>>().join("---\n")
}

pub(super) fn agent(n: usize) -> anyhow::Result<AgentId> {
    Ok(AgentId::new(&format!("bench-{n:05}"))?)
}

pub(super) fn facts(n: usize) -> Facts {
    let text = |name: &str, value: String| (name.to_owned(), serde_json::Value::from(value));
    let manager = if n.is_multiple_of(3) { "dnf" } else { "apt" };
    let mut facts: Facts = [
        text("os", "linux".to_owned()),
        text("distro", if n.is_multiple_of(3) { "fedora" } else { "debian" }.to_owned()),
        text("package_manager", manager.to_owned()),
        text("arch", "x86_64".to_owned()),
        text("kernel", format!("6.1.0-{}-amd64", n % 40)),
        text("hostname", format!("bench-{n:05}.example.com")),
        text("virtualization", "kvm".to_owned()),
        text("init", "systemd".to_owned()),
        text("timezone", "Europe/Berlin".to_owned()),
        text("machine", format!("{:032x}", n * 7919)),
    ]
    .into();
    facts.insert("cpus".to_owned(), (2 + n % 62).into());
    facts.insert("memory_bytes".to_owned(), ((1 + n % 64) * 1_073_741_824).into());
    facts
}

pub(super) fn labels(n: usize) -> Labels {
    [("role".to_owned(), format!("role-{}", n % ROLES))].into()
}

pub(super) fn request(n: usize, etag: Option<String>) -> ConfigRequest {
    let facts = etag.is_none().then(|| facts(n));
    let (agent_version, origin) = (Some("0.1.0".to_owned()), Origin::Agent);
    let (v, poll_ms, instance) = (protocol::VERSION, Some(60_000), Some(format!("{n:016x}")));
    let labels = labels(n);
    ConfigRequest { v, facts, labels, etag, agent_version, origin, poll_ms, instance, signed: false }
}

/// What a simulated agent reads of an answer. A real one reads all of it, on a machine of its own.
#[derive(Deserialize)]
struct Brief {
    config: Option<BriefConfig>,
}

#[derive(Deserialize)]
struct BriefConfig {
    revision: u64,
    etag: String,
}

async fn ask(client: &Client, n: usize, etag: Option<String>) -> anyhow::Result<(String, u64)> {
    let body = protocol::encode(&request(n, etag))?;
    let asked = client.request(subject::config_get(&agent(n)?), body.into());
    let reply = tokio::time::timeout(LIMIT, asked).await??;
    let brief = serde_json::from_slice::<Reply<Brief>>(&reply.payload)?.into_result()?;
    let config = brief.config.context("not a configuration")?;
    Ok((config.etag, config.revision))
}

/// Let hosts ask for the first time. The etag of each.
pub(super) async fn fill(client: &Client, hosts: std::ops::Range<usize>) -> anyhow::Result<Vec<String>> {
    let asked = stream::iter(hosts).map(|n| async move { Ok(ask(client, n, None).await?.0) });
    asked.buffered(WINDOW).try_collect().await
}

/// Answers a second, and the size of one, to these requests over and over.
pub(super) async fn rate(
    client: &Client,
    requests: &[(String, Bytes)],
    window: Duration,
) -> anyhow::Result<(f64, usize)> {
    let (begun, size) = (Instant::now(), AtomicU64::new(0));
    let endless = stream::iter(requests.iter().cycle()).take_while(|_| async { begun.elapsed() < window });
    let answered = endless.map(|(subject, body)| {
        let size = &size;
        async move {
            let reply = tokio::time::timeout(LIMIT, client.request(subject.clone(), body.clone())).await??;
            ensure!(!reply.payload.starts_with(b"{\"error\""), "{}", String::from_utf8_lossy(&reply.payload));
            size.fetch_max(reply.payload.len() as u64, Ordering::Relaxed);
            anyhow::Ok(())
        }
    });
    let count = answered.buffer_unordered(WINDOW).try_fold(0_u32, |n, ()| async move { Ok(n + 1) }).await?;
    let size = usize::try_from(size.into_inner()).unwrap_or(usize::MAX);
    Ok((f64::from(count) / begun.elapsed().as_secs_f64(), size))
}

/// Agents that follow: each asks when it is nudged, and reports what it applied.
pub(super) async fn follow(url: &str, hosts: usize, connections: usize) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for connection in 0..connections {
        let client = async_nats::connect(url).await?;
        for n in (connection..hosts).step_by(connections) {
            let mut nudges = client.subscribe(subject::config_changed(&agent(n)?)).await?;
            let client = client.clone();
            tokio::spawn(async move {
                while nudges.next().await.is_some() {
                    let _lost = follow_once(&client, n).await;
                }
            });
        }
        service_kit::respond::barrier(&client).await?;
        clients.push(client);
    }
    Ok(clients)
}

/// As an agent does: it says that it runs something older, gets the new, and says so.
async fn follow_once(client: &Client, n: usize) -> anyhow::Result<()> {
    let (_, revision) = ask(client, n, Some("older".to_owned())).await?;
    let status = ConfigStatus { v: protocol::VERSION, agent: agent(n)?, revision, error: None };
    Ok(client.publish(subject::config_status(&status.agent), protocol::encode(&status)?.into()).await?)
}

/// When each of `hosts` reported that it applied `revision`, from now on.
pub(super) async fn reports(
    client: &Client,
    hosts: usize,
    revision: Arc<AtomicU64>,
) -> anyhow::Result<tokio::task::JoinHandle<anyhow::Result<Vec<Duration>>>> {
    let mut reports = client.subscribe(subject::CONFIG_STATUS_ALL).await?;
    service_kit::respond::barrier(client).await?;
    let begun = Instant::now();
    Ok(tokio::spawn(async move {
        let mut took = Vec::with_capacity(hosts);
        while took.len() < hosts {
            let report = tokio::time::timeout(LIMIT, reports.next()).await?;
            let Some(report) = report else { anyhow::bail!("the subscription ended") };
            let status: ConfigStatus = serde_json::from_slice(&report.payload)?;
            if status.revision >= revision.load(Ordering::Relaxed) {
                took.push(begun.elapsed());
            }
        }
        Ok(took)
    }))
}
