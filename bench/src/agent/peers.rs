//! Other agents of the field, from Debian's packages: started by hand, on loopback, in a folder of their own.
//!
//! Each is asked as often as ours checks, so that no one is measured asleep.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::proc::Running;

/// How a peer is asked.
enum Ask {
    /// One item after the other, by the Zabbix protocol.
    Zabbix,
    /// All metrics, over HTTP.
    Scrape,
    Nobody,
}

pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) program: Running,
    address: SocketAddr,
    ask: Ask,
}

/// One peer that can be installed.
struct Known {
    name: &'static str,
    program: &'static str,
    args: fn(&Path, SocketAddr) -> Vec<String>,
    config: Option<fn(&Path, SocketAddr) -> String>,
    ask: fn() -> Ask,
}

const ZABBIX_ITEMS: [&str; 10] = [
    "system.cpu.load[all,avg1]",
    "system.cpu.util",
    "vm.memory.size[available]",
    "system.swap.size[,pfree]",
    "vfs.fs.size[/,pused]",
    "vfs.fs.inode[/,pused]",
    "proc.num[]",
    "system.uptime",
    "net.if.in[lo]",
    "kernel.maxfiles",
];

const KNOWN: [Known; 4] = [
    Known {
        name: "zabbix-agent",
        program: "/usr/sbin/zabbix_agentd",
        args: |folder, _| vec!["-f".into(), "-c".into(), config(folder)],
        config: Some(|folder, address| {
            format!("{}PidFile={}\nAllowRoot=1\n", zabbix(address), folder.join("pid").display())
        }),
        ask: || Ask::Zabbix,
    },
    Known {
        name: "zabbix-agent2",
        program: "/usr/sbin/zabbix_agent2",
        args: |folder, _| vec!["-f".into(), "-c".into(), config(folder)],
        config: Some(|folder, address| {
            let socket = |name: &str| folder.join(name).display().to_string();
            let (plugins, control) = (socket("plugins.sock"), socket("control.sock"));
            format!("{}PluginSocket={plugins}\nControlSocket={control}\n", zabbix(address))
        }),
        ask: || Ask::Zabbix,
    },
    Known {
        name: "prometheus-node-exporter",
        program: "/usr/bin/prometheus-node-exporter",
        args: |_, address| vec![format!("--web.listen-address={address}")],
        config: None,
        ask: || Ask::Scrape,
    },
    Known {
        name: "nagios-nrpe-server",
        program: "/usr/sbin/nrpe",
        args: |folder, _| vec!["-c".into(), config(folder), "-f".into()],
        config: Some(|folder, address| {
            format!(
                "server_address={}\nserver_port={}\nallowed_hosts=127.0.0.1\nnrpe_user=nagios\nnrpe_group=nagios\npid_file={}\n",
                address.ip(),
                address.port(),
                folder.join("pid").display()
            )
        }),
        ask: || Ask::Nobody,
    },
];

/// Zabbix takes no port above 32767.
fn free_address() -> anyhow::Result<SocketAddr> {
    let addresses = (20_000..32_000).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let free = |address: &SocketAddr| std::net::TcpListener::bind(address).is_ok();
    // Not from the first on: another run may look at the same time.
    let skipped = std::process::id() as usize % 10_000;
    addresses.skip(skipped).find(free).context("no free port on loopback")
}

fn config(folder: &Path) -> String {
    folder.join("peer.conf").display().to_string()
}

fn zabbix(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!("LogType=console\nServer=127.0.0.1\nListenIP={ip}\nListenPort={port}\nHostname=bench\n")
}

/// Start all that are installed, each in its own folder of `folder`. Besides: names of those that are missing or do
/// not start, and why.
pub(crate) async fn start(folder: &Path) -> anyhow::Result<(Vec<Peer>, Vec<(&'static str, String)>)> {
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    for known in KNOWN {
        if !Path::new(known.program).is_file() {
            missing.push((known.name, "not installed".to_owned()));
            continue;
        }
        let (folder, address) = (open_folder(folder, known.name)?, free_address()?);
        if let Some(text) = known.config {
            fs::write(folder.join("peer.conf"), text(&folder, address))?;
        }
        let mut command = Command::new(known.program);
        command.args((known.args)(&folder, address)).current_dir(&folder);
        let log = folder.join("log");
        let program = Running::start(&mut command, &log)?;
        let mut peer = Peer { name: known.name, program, address, ask: (known.ask)() };
        match peer.answers().await {
            true => peers.push(peer),
            false => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                missing.push((known.name, format!("does not start here: {}", said.trim())));
            }
        }
    }
    Ok((peers, missing))
}

/// A folder that a peer can write as whatever user it runs.
pub(crate) fn open_folder(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    for path in [folder, &path] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    Ok(path)
}

impl Peer {
    async fn answers(&mut self) -> bool {
        for _ in 0..100 {
            if TcpStream::connect(self.address).await.is_ok() {
                return true;
            }
            if !self.program.alive() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// Ask for something, the `turn`-th time. An item is asked of 20 times a minute, all of them once a minute.
    pub(crate) async fn ask(&self, turn: usize) -> anyhow::Result<()> {
        let question = match self.ask {
            Ask::Zabbix => {
                let item = ZABBIX_ITEMS.get(turn % ZABBIX_ITEMS.len()).copied().unwrap_or_default();
                let mut question = b"ZBXD\x01".to_vec();
                question.extend_from_slice(&(item.len() as u64).to_le_bytes());
                question.extend_from_slice(item.as_bytes());
                question
            }
            Ask::Scrape if turn.is_multiple_of(20) => b"GET /metrics HTTP/1.0\r\n\r\n".to_vec(),
            Ask::Scrape | Ask::Nobody => return Ok(()),
        };
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(&question).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await??;
        anyhow::ensure!(!answer.is_empty(), "{} did not answer", self.name);
        Ok(())
    }
}
