//! Every plugin of Debian's `monitoring-plugins`, run unchanged: what it prints is understood.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use agent::{core::check::Check, core::output::Finding, outbound::probe::Prober};
use futures_util::{StreamExt, stream};
use protocol::{
    Status,
    work::{Output, OutputFormat},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};
use tokio_util::sync::CancellationToken;

use crate::rig;

/// Straight to stderr: what a test that passes prints is not shown.
fn say(text: &str) {
    let text = format!("NOT TESTED: {text}\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

const FOLDER: &str = "/usr/lib/nagios/plugins";
/// Beyond what any of them takes by itself, on a busy machine too.
const TIMEOUT_MS: u64 = 40_000;
/// How many run at once.
const AT_ONCE: usize = 6;

use Status::{Critical, Ok as Fine, Warning};

/// Invocations that work on any host without a network: plugin, arguments (`{name}` is a port of [`servers`], `{dir}` the
/// test's folder), the status where it does not depend on the host, and metrics that must be among those found.
const WORKING: &[(&str, &str, Option<Status>, &[&str])] = &[
    ("check_apt", "-n", None, &["available_upgrades", "critical_updates"]),
    ("check_clamd", "-H 127.0.0.1 -p {clamd}", Some(Fine), &["time"]),
    ("check_cluster", "--service -l x -d 0,2,0,2 -c @2:", Some(Critical), &[]),
    ("check_curl", "-H 127.0.0.1 -p {http}", Some(Fine), &["time", "size"]),
    ("check_dig", "-H 127.0.0.1 -p {dns} -l host.example", Some(Fine), &["time"]),
    ("check_disk", "-w 1% -c 0% -p /", None, &["/"]),
    ("check_dummy", "0 fine", Some(Fine), &[]),
    ("check_dummy", "1 look", Some(Warning), &[]),
    ("check_dummy", "2 'bad | a=1;2;3'", Some(Critical), &["a"]),
    ("check_dummy", "3", Some(Status::Unknown), &[]),
    ("check_file_age", "-f {dir}/file -w 90000 -c 99999", Some(Fine), &["age", "size"]),
    ("check_file_age", "-f {dir}/none", Some(Critical), &[]),
    ("check_fping", "127.0.0.1", Some(Fine), &["loss", "rta"]),
    ("check_ftp", "-H 127.0.0.1 -p {ftp}", Some(Fine), &["time"]),
    ("check_host", "127.0.0.1", Some(Fine), &["pkt", "rta"]),
    ("check_http", "-H 127.0.0.1 -p {http}", Some(Fine), &["time", "size"]),
    ("check_icmp", "127.0.0.1", Some(Fine), &["rta", "pl"]),
    ("check_imap", "-H 127.0.0.1 -p {imap}", Some(Fine), &["time"]),
    ("check_jabber", "-H 127.0.0.1 -p {jabber}", Some(Fine), &["time"]),
    ("check_load", "-w 100000 -c 200000", Some(Fine), &["load1", "load5", "load15"]),
    ("check_log", "-F {dir}/file -O {dir}/seen -q none", Some(Fine), &[]),
    ("check_mailq", "-w 100000 -c 200000", None, &["unsent"]),
    ("check_mrtg", "-F {dir}/mrtg.log -a AVG -v 1 -w 100 -c 200", Some(Fine), &["value"]),
    ("check_mrtgtraf", "-F {dir}/mrtg.log -a AVG -w 15,15 -c 99,99", Some(Warning), &["in", "out"]),
    ("check_nagios", "-F {dir}/nagios.log -e 60 -C {process} -t 30", Some(Fine), &[]),
    ("check_nntp", "-H 127.0.0.1 -p {nntp}", Some(Fine), &["time"]),
    ("check_nt", "-H 127.0.0.1 -p {seven} -v UPTIME -s x", Some(Fine), &["uptime"]),
    ("check_nwstat", "-H 127.0.0.1 -p {seven} -v UPTIME", Some(Fine), &[]),
    ("check_overcr", "-H 127.0.0.1 -p {seven} -v NET80", Some(Fine), &[]),
    ("check_ping", "-H 127.0.0.1 -w 9000,90% -c 9999,100% -p 1", Some(Fine), &["rta", "pl"]),
    ("check_pop", "-H 127.0.0.1 -p {pop}", Some(Fine), &["time"]),
    ("check_procs", "-w 1:1000000", Some(Fine), &["procs"]),
    ("check_real", "-H 127.0.0.1 -p {real}", Some(Fine), &[]),
    ("check_rta_multi", "127.0.0.1", Some(Fine), &["rta", "pl"]),
    ("check_smtp", "-H 127.0.0.1 -p {smtp}", Some(Fine), &["time"]),
    ("check_ssh", "-p {ssh} 127.0.0.1", Some(Fine), &["time"]),
    ("check_swap", "-w 1% -c 0%", None, &["swap"]),
    ("check_tcp", "-H 127.0.0.1 -p {ftp} -e 220", Some(Fine), &["time"]),
    ("check_time", "-H 127.0.0.1 -p {time} -w 600 -c 900", Some(Fine), &["time", "offset"]),
    ("check_udp", "-H 127.0.0.1 -p {udp} -s ping -e pong", Some(Fine), &["time"]),
    ("check_ups", "-H 127.0.0.1 -p {ups} -u x", Some(Fine), &[]),
    ("check_users", "-w 100000 -c 200000", Some(Fine), &["users"]),
    ("negate", "/usr/lib/nagios/plugins/check_dummy 2 x", Some(Fine), &[]),
    ("urlize", "http://x /usr/lib/nagios/plugins/check_dummy 1 x", Some(Warning), &[]),
];

/// Those that need what a test has not: plugin, arguments, what it needs. They must say what is wrong, in their own words.
const WITHOUT: &[(&str, &str, &str)] = &[
    ("check_breeze", "-H 127.0.0.1 -w 1 -c 2", "an SNMP device"),
    ("check_by_ssh", "-H 127.0.0.1 -p 1 -C true", "an SSH server with a key"),
    ("check_dbi", "-d mysql -q 'select 1'", "a database"),
    ("check_dhcp", "-i lo -t 1", "a DHCP server"),
    ("check_disk_smb", "-H 127.0.0.1 -s share", "an SMB server"),
    ("check_dns", "-H host.example -s 127.0.0.1 -t 5", "a name server on port 53"),
    ("check_flexlm", "-F {dir}/none", "a licence server"),
    ("check_game", "q2s 127.0.0.1", "a game server and qstat"),
    ("check_hpjd", "-H 127.0.0.1", "an SNMP printer"),
    ("check_ide_smart", "-d /dev/null", "a disk with SMART"),
    ("check_ifoperstatus", "-H 127.0.0.1 -k 1 -t 2", "an SNMP device"),
    ("check_ifstatus", "-H 127.0.0.1 -t 2", "an SNMP device"),
    ("check_ircd", "-H 127.0.0.1 -p 1", "an IRC server"),
    ("check_ldap", "-H 127.0.0.1 -b x -p 1", "an LDAP server"),
    ("check_ldaps", "-H 127.0.0.1 -b x -p 1", "an LDAP server with TLS"),
    ("check_mysql", "-H 127.0.0.1 -P 1", "a database"),
    ("check_mysql_query", "-H 127.0.0.1 -P 1 -q 'select 1'", "a database"),
    ("check_nntps", "-H 127.0.0.1 -p 1", "a news server with TLS"),
    ("check_nrpe", "-H 127.0.0.1 -p 1", "the NRPE daemon"),
    ("check_ntp", "-H 127.0.0.1 -t 2", "a time server"),
    ("check_ntp_peer", "-H 127.0.0.1 -t 2", "a time server"),
    ("check_ntp_time", "-H 127.0.0.1 -t 2", "a time server"),
    ("check_oracle", "--tns x", "a database"),
    ("check_pgsql", "-H 127.0.0.1 -P 1", "a database"),
    ("check_radius", "-H 127.0.0.1 -P 1 -F {dir}/none -u x -p x", "a RADIUS server"),
    ("check_rpc", "-H 127.0.0.1 -C nfs", "an RPC server"),
    ("check_sensors", "--none", "sensors"),
    ("check_simap", "-H 127.0.0.1 -p 1", "a mail server with TLS"),
    ("check_snmp", "-H 127.0.0.1 -o .1 -t 2", "an SNMP device"),
    ("check_spop", "-H 127.0.0.1 -p 1", "a mail server with TLS"),
    ("check_ssmtp", "-H 127.0.0.1 -p 1", "a mail server with TLS"),
    ("check_wave", "-H 127.0.0.1", "an SNMP device"),
];

/// Words of a plugin that lacks a library or a program of this host, or the right to send ICMP: it cannot be tried here.
const LACKS: &[&str] = &[
    "error while loading shared libraries",
    "Can't locate ",
    "not found",
    "No such file or directory",
    "Operation not permitted",
    "Can't fork",
    "Could not open pipe",
    "Cannot find ",
    "raw ICMP socket",
    "ping command",
    "mailq",
];

async fn run(plugin: &str, arguments: &str) -> Finding {
    let command = format!("{FOLDER}/{plugin} {arguments}");
    let output = Output { format: OutputFormat::Nagios, ..Output::default() };
    let spec = protocol::config::CheckSpec {
        timeout_ms: TIMEOUT_MS,
        output,
        ..rig::check("plugin", 60_000, &command)
    };
    Prober::default().run(&Check::from(spec), &CancellationToken::new()).await.unwrap().finding
}

/// Whether it lacks something of this host, which is said loudly.
fn lacks(plugin: &str, finding: &Finding) -> bool {
    let text = &finding.output;
    let lacks = finding.status != Fine && LACKS.iter().any(|words| text.contains(words));
    if lacks {
        say(&format!("{plugin} cannot work here: {}", text.lines().next().unwrap_or_default()));
    }
    lacks
}

/// The plugins of the package that are installed.
fn installed() -> Option<Vec<String>> {
    let names = fs::read_dir(FOLDER).into_iter().flatten().map(|entry| entry.unwrap());
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    let known = |name: &String| {
        let known = WORKING.iter().any(|row| row.0 == name) || WITHOUT.iter().any(|row| row.0 == name);
        if !known {
            say(&format!("{name}: no invocation of it is known here; it is of another package"));
        }
        known
    };
    let names = names.filter(|name| !name.starts_with("utils."));
    let mut names: Vec<String> = names.filter(known).collect();
    names.sort();
    if names.is_empty() {
        say("monitoring-plugins is not installed");
        return None;
    }
    Some(names)
}

#[tokio::test]
async fn every_installed_plugin_answers_for_help_and_version() {
    let Some(names) = installed() else { return };
    let tried = names.iter().flat_map(|name| ["--help", "--version"].map(|option| (name, option)));
    let wrong: Vec<String> = stream::iter(tried)
        .map(|(name, option)| async move {
            let found = run(name, option).await;
            let answered = matches!(found.exit_code, Some(0 | 3)) && !found.output.trim().is_empty();
            (!answered && !lacks(name, &found)).then(|| format!("{name} {option}: {found:?}"))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test]
async fn every_installed_plugin_works_and_is_understood() {
    let Some(names) = installed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path()).await;
    let filled = |text: &str| {
        places.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    };
    let there = |plugin: &str| names.iter().any(|name| name == plugin);
    let working = WORKING.iter().filter(|row| there(row.0)).map(|&(plugin, arguments, status, metrics)| {
        let arguments = filled(arguments);
        async move {
            let found = run(plugin, &arguments).await;
            let named = metrics.iter().all(|name| found.metrics.iter().any(|metric| metric.name == *name));
            let value = metrics.is_empty() || found.value.is_some();
            let right = status.is_none_or(|status| status == found.status)
                && named
                && value
                && !found.output.is_empty()
                && !found.output.contains("timed out");
            (!right && !lacks(plugin, &found)).then(|| format!("{plugin} {arguments}: {found:?}"))
        }
    });
    let wrong: Vec<String> =
        stream::iter(working).buffer_unordered(AT_ONCE).filter_map(async |wrong| wrong).collect().await;
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test]
async fn a_plugin_that_cannot_work_says_why() {
    let Some(names) = installed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let tried = WITHOUT.iter().filter(|row| names.iter().any(|name| name == row.0));
    let wrong: Vec<String> = stream::iter(tried)
        .map(|&(plugin, arguments, needs)| async move {
            let found = run(plugin, &arguments.replace("{dir}", folder)).await;
            let explained = found.status != Fine && !found.output.trim().is_empty();
            (!explained).then(|| format!("{plugin} without {needs}: {found:?}"))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert_eq!(wrong, Vec::<String>::new());
}

/// What stands for each `{name}` of the tables.
async fn places(folder: &Path) -> BTreeMap<String, String> {
    let now = service_kit::now_ms() / 1_000;
    fs::write(folder.join("file"), "x\n").unwrap();
    fs::write(folder.join("nagios.log"), format!("[{now}] hello\n")).unwrap();
    let mrtg: String = (0..4).map(|n| format!("{} 10 20 30 40\n", now - n * 300)).collect();
    fs::write(folder.join("mrtg.log"), format!("{now} 100 200\n{mrtg}")).unwrap();
    let mut places = servers().await;
    places.insert("dir".into(), folder.to_str().unwrap().into());
    let program = std::env::current_exe().unwrap();
    places.insert("process".into(), program.file_name().unwrap().to_str().unwrap().into());
    places
}

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const STREAM: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='1'>";

/// What to say to what was said.
type Answer = fn(&str) -> String;

/// Servers on loopback, each saying as much of its protocol as a plugin needs: name to port.
async fn servers() -> BTreeMap<String, String> {
    let since_1900 = u32::try_from(service_kit::now_ms() / 1_000 + 2_208_988_800).unwrap().to_be_bytes();
    let say: [(&str, &[u8], Answer); 12] = [
        ("http", b"", |_| PAGE.into()),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n", |_| String::new()),
        ("ftp", b"220 ready\r\n", |_| "221 bye\r\n".into()),
        ("smtp", b"220 mail.example ESMTP\r\n", |_| "250 mail.example\r\n".into()),
        ("pop", b"+OK ready\r\n", |_| "+OK bye\r\n".into()),
        ("imap", b"* OK ready\r\n", |_| "* BYE\r\n".into()),
        ("nntp", b"200 ready\r\n", |_| "205 bye\r\n".into()),
        ("clamd", b"", |_| "PONG\n".into()),
        ("jabber", b"", |_| STREAM.into()),
        ("real", b"", |_| "RTSP/1.0 200 OK\r\n\r\n".into()),
        ("time", &since_1900, |_| String::new()),
        ("seven", b"", |_| "7&\n".into()),
    ];
    let mut ports = BTreeMap::new();
    for (name, greeting, answer) in say {
        ports.insert(name.to_owned(), serve(greeting.to_vec(), name == "http", answer).await);
    }
    let ups: Answer = |question| match question.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["GET", "VAR", ups, "ups.status", ..] => format!("VAR {ups} ups.status \"OL\"\n"),
        ["GET", "VAR", ups, name, ..] => format!("VAR {ups} {name} \"50\"\n"),
        _ => "OK\n".to_owned(),
    };
    ports.insert("ups".into(), serve(Vec::new(), false, ups).await);
    ports.insert("udp".into(), datagrams(|_| b"pong".to_vec()).await);
    ports.insert("dns".into(), datagrams(address).await);
    ports
}

/// Greet whoever connects, and answer all that is said, or only the first of it.
async fn serve(greeting: Vec<u8>, once: bool, answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let greeting = greeting.clone();
            tokio::spawn(async move {
                connection.write_all(&greeting).await.ok()?;
                let mut said = [0; 4_096];
                loop {
                    let length = connection.read(&mut said).await.ok().filter(|length| *length > 0)?;
                    let reply = answer(&String::from_utf8_lossy(&said[..length]));
                    connection.write_all(reply.as_bytes()).await.ok()?;
                    if once {
                        return connection.shutdown().await.ok();
                    }
                }
            });
        }
    });
    port
}

async fn datagrams(answer: fn(&[u8]) -> Vec<u8>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        let mut said = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut said).await {
            socket.send_to(&answer(&said[..length]), from).await.unwrap();
        }
    });
    port
}

/// A DNS answer to any question: 127.0.0.1.
fn address(question: &[u8]) -> Vec<u8> {
    let mut end = 12;
    while question[end] != 0 {
        end += usize::from(question[end]) + 1;
    }
    let asked = &question[12..end + 5];
    let header = [&question[..2], &[0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
    let record = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1];
    [&header[..], asked, &record].concat()
}
