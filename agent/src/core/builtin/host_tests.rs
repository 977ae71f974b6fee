//! The checks of services, files, logs and the like, on texts of real hosts.

use proptest::prelude::*;
use protocol::{Scalar, Status};
use serde_json::json;

use super::{
    Memory, Ran,
    services::tests::list,
    tests::{Sample, value, with},
};
use crate::core::output::Finding;

/// What `name` finds on a host that does not change.
fn on(host: &Sample, name: &str, options: serde_json::Value) -> Finding {
    with(name, &options, host, host, None)
}

fn said(finding: &Finding) -> (Status, &str) {
    (finding.status, finding.output.as_str())
}

fn systemd(units: &[(&str, &str, &str)]) -> Sample {
    let mut host = Sample::of(&[("/run/systemd/system/x", "")]);
    host.2.sockets.insert("/run/dbus/system_bus_socket".into(), list(units));
    host
}

const UNITS: [(&str, &str, &str); 6] = [
    ("ssh.service", "active", "running"),
    ("nginx.service", "failed", "failed"),
    ("certbot.timer", "active", "waiting"),
    ("cron.service", "inactive", "dead"),
    ("wg-quick@wg0.service", "active", "exited"),
    ("apt-daily.service", "failed", "failed"),
];

#[test]
fn units_that_failed_or_should_run() {
    let host = systemd(&UNITS);
    assert_eq!(
        said(&on(&host, "systemd", json!({}))),
        (Status::Warning, "SYSTEMD WARNING - 2 of 6 units failed: nginx.service, apt-daily.service")
    );
    let found =
        on(&host, "systemd", json!({"exclude": ["apt-*"], "units": ["ssh", "certbot.timer", "wg-quick@*"]}));
    assert_eq!(said(&found), (Status::Warning, "SYSTEMD WARNING - 1 of 6 units failed: nginx.service"));
    assert_eq!((value(&found, "inactive"), found.value), (Some(0.0), Scalar::number(1.0)));
    let found =
        on(&host, "systemd", json!({"exclude": "*", "units": "cron,ssh".split(',').collect::<Vec<_>>()}));
    assert_eq!(
        said(&found),
        (Status::Critical, "SYSTEMD CRITICAL - cron.service is inactive (dead); none of 6 units failed")
    );
    let found = on(&host, "systemd", json!({"exclude": "*", "units": "redis"}));
    assert_eq!(said(&found).1, "SYSTEMD CRITICAL - redis.service is not loaded; none of 6 units failed");
    assert_eq!(
        said(&on(&Sample::default(), "systemd", json!({}))),
        (Status::Unknown, "SYSTEMD UNKNOWN - systemd does not run this host")
    );
    let silent = Sample::of(&[("/run/systemd/system/x", "")]);
    let found = on(&silent, "systemd", json!({}));
    assert!(found.output.contains("cannot ask /run/dbus/system_bus_socket"), "{}", found.output);
}

#[test]
fn services_of_every_kind_of_host() {
    let stat = |name: &str, state: &str| {
        format!("7 ({name}) {state} 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 17")
    };
    let (lives, zombie) = (stat("nginx", "S"), stat("nginx", "Z"));
    let long = stat("systemd-network", "S");
    let up = (Status::Ok, "SERVICE OK - up: nginx");
    for (files, expected) in [
        // OpenRC
        (vec![("/run/openrc/started/nginx", "")], up),
        (
            vec![("/run/openrc/started/nginx", ""), ("/run/nginx.pid", "9\n")],
            (Status::Critical, "SERVICE CRITICAL - nginx is down (process 9 of /run/nginx.pid does not run)"),
        ),
        (
            vec![("/run/openrc/crashed/nginx", ""), ("/etc/init.d/nginx", "")],
            (Status::Critical, "SERVICE CRITICAL - nginx is down (OpenRC: crashed)"),
        ),
        (
            vec![("/run/openrc/softlevel", ""), ("/etc/init.d/nginx", "")],
            (Status::Critical, "SERVICE CRITICAL - nginx is down (OpenRC: stopped)"),
        ),
        // runit
        (vec![("/var/service/nginx/supervise/stat", "run\n")], up),
        (
            vec![("/var/service/nginx/supervise/stat", "down, want up\n")],
            (Status::Critical, "SERVICE CRITICAL - nginx is down (runit: down, want up)"),
        ),
        // A process
        (vec![("/run/nginx.pid", "7\n"), ("/proc/7/stat", &lives)], up),
        (
            vec![("/run/nginx/nginx.pid", "x\n")],
            (Status::Critical, "SERVICE CRITICAL - nginx is down (/run/nginx/nginx.pid holds no number)"),
        ),
        (vec![("/proc/7/stat", &lives)], up),
        (
            vec![("/proc/7/stat", &zombie)],
            (
                Status::Critical,
                "SERVICE CRITICAL - nginx is down (no pid file and no process of the name nginx)",
            ),
        ),
        // systemd without a message bus
        (
            vec![
                ("/run/systemd/system/x", ""),
                ("/sys/fs/cgroup/system.slice/nginx.service/cgroup.procs", "7\n"),
            ],
            up,
        ),
        (
            vec![
                ("/run/systemd/system/x", ""),
                ("/sys/fs/cgroup/system.slice/nginx.service/cgroup.procs", ""),
            ],
            (
                Status::Critical,
                "SERVICE CRITICAL - nginx is down (nginx.service has no processes; the message bus could not be asked)",
            ),
        ),
    ] {
        let found = on(&Sample::of(&files), "service", json!({"name": "nginx"}));
        assert_eq!(said(&found), expected, "{files:?}");
    }
    let host = Sample::of(&[("/proc/7/stat", &long)]);
    assert_eq!(on(&host, "service", json!({"name": "systemd-networkd"})).status, Status::Ok);
    let host = systemd(&UNITS);
    let found = on(&host, "service", json!({"name": ["ssh", "nginx", "redis"]}));
    assert_eq!(
        said(&found),
        (
            Status::Critical,
            "SERVICE CRITICAL - nginx is down (systemd: failed, failed), redis is down (systemd has not loaded redis.service)"
        )
    );
    assert_eq!(
        (value(&found, "ssh up"), value(&found, "nginx up"), value(&found, "down")),
        (Some(1.0), Some(0.0), Some(2.0))
    );
    assert_eq!(on(&host, "service", json!({"name": "../x"})).status, Status::Unknown);
}

#[test]
fn processes_are_chosen_by_name_line_and_user() {
    let stat = |pid: u32, name: &str, ticks: u32, start: u32| {
        format!("{pid} ({name}) S 1 {pid} 77 0 -1 4194560 1 2 3 4 {ticks} 0 7 8 20 0 3 0 {start}")
    };
    let host = |ticks: u32| {
        let files = [
            ("/proc/self/stat", stat(9, "dogwatch-agent", 0, 900)),
            ("/proc/1/stat", stat(1, "python3", ticks, 100)),
            ("/proc/1/cmdline", "/usr/bin/python3\0-m\0worker\0".to_owned()),
            ("/proc/1/status", "Name:\tpython3\nUid:\t0\t1000\t0\t0\nVmRSS:\t    2048 kB\n".to_owned()),
            ("/proc/2/stat", stat(2, "python3", 50, 200)),
            ("/proc/2/cmdline", "/usr/bin/python3\0server.py\0".to_owned()),
            ("/proc/2/status", "Name:\tpython3\nUid:\t33\t33\t33\t33\nVmRSS:\t    1024 kB\n".to_owned()),
            ("/proc/3/stat", stat(3, "a-very-long-nam", 50, 300)),
            ("/proc/9/stat", stat(9, "dogwatch-agent", 5, 900)),
            ("/proc/9/cmdline", "dogwatch-agent\0check\0processes\0--match\0worker\0".to_owned()),
            ("/etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n".to_owned()),
        ];
        Sample::of(&files.each_ref().map(|(path, text)| (*path, text.as_str())))
    };
    let (before, after) = (host(1_000), host(1_250));
    for (options, count) in [
        (json!({}), 4.0),
        (json!({"name": "python3"}), 2.0),
        (json!({"name": ["python3", "a-very-long-name-indeed"]}), 3.0),
        (json!({"match": "worker$"}), 1.0),
        (json!({"match": "worker"}), 1.0),
        (json!({"user": "app"}), 1.0),
        (json!({"user": 33, "name": "python3"}), 1.0),
        (json!({"name": "nginx"}), 0.0),
    ] {
        let found = with("processes", &options, &before, &after, None);
        assert_eq!((found.status, found.value), (Status::Ok, Scalar::number(count)), "{options}");
    }
    let found = with("processes", &json!({"name": "python3"}), &before, &after, Some("< 3"));
    assert_eq!(
        said(&found),
        (
            Status::Warning,
            "PROCESSES WARNING - 2 processes, 0 zombies, 0 blocked, 6 threads, 3.0 MiB of memory, 25.0% of a processor"
        )
    );
    for wrong in [json!({"user": "nobody-here"}), json!({"match": "("})] {
        assert_eq!(on(&after, "processes", wrong).status, Status::Unknown);
    }
}

#[test]
fn files_are_judged_by_age_size_or_count() {
    let mut host = Sample::of(&[
        ("/backup/a/db.dump", "123"),
        ("/backup/b/db.dump", "12345"),
        ("/backup/b/.hidden.dump", ""),
        ("/backup/b/old.txt", ""),
    ]);
    host.2.now = 100_000;
    host.2
        .modified
        .extend([("/backup/a/db.dump".to_owned(), 90_000), ("/backup/b/db.dump".to_owned(), 99_940)]);
    let found = on(&host, "file", json!({"path": "/backup/*/*.dump"}));
    assert_eq!(
        said(&found),
        (
            Status::Ok,
            "FILE OK - 2 files of 8.0 B, the newest /backup/b/db.dump (60 s ago), the oldest /backup/a/db.dump (2.8 h ago)"
        )
    );
    let judged = |judge: &str, warning| {
        let options = json!({"path": "/backup/*/*.dump", "judge": judge});
        let found = with("file", &options, &host, &host, Some(warning));
        (found.status, found.value)
    };
    assert_eq!(judged("age", "> 59"), (Status::Warning, Scalar::number(60.0)));
    assert_eq!(judged("oldest", "> 10000"), (Status::Ok, Scalar::number(10_000.0)));
    assert_eq!(judged("size", "< 9"), (Status::Warning, Scalar::number(8.0)));
    assert_eq!(judged("count", "!= 2"), (Status::Ok, Scalar::number(2.0)));
    assert_eq!(judged("taste", "> 1").0, Status::Unknown);
    let found = on(&host, "file", json!({"path": ["/backup/a/db.dump", "/backup/c/db.dump"]}));
    assert_eq!(
        said(&found),
        (
            Status::Critical,
            "FILE CRITICAL - /backup/a/db.dump is 3.0 B and changed 2.8 h ago; there is no /backup/c/db.dump"
        )
    );
    let found = on(&host, "file", json!({"path": "/gone/*"}));
    assert_eq!(said(&found), (Status::Critical, "FILE CRITICAL - no such file: /gone/*"));
    assert_eq!(on(&host, "file", json!({"path": "/gone/*", "judge": "count"})).status, Status::Ok);
    assert_eq!(
        on(&host, "file", json!({"path": "/backup/*/*.dump", "exclude": "/backup/*"})).status,
        Status::Critical
    );
    assert_eq!(on(&host, "file", json!({"path": "relative"})).status, Status::Unknown);
}

#[test]
fn containers_and_their_health() {
    let list = r#"[{"Id":"1","Names":["/web"],"State":"running","Status":"Up 3 hours (unhealthy)"},
        {"Id":"2","Names":["/db-1"],"State":"running","Status":"Up 3 hours (healthy)"},
        {"Id":"3","Names":["/job"],"State":"exited","Status":"Exited (0) 2 days ago"},
        {"Id":"4","Names":["/boom"],"State":"exited","Status":"Exited (137) 2 days ago"},
        {"Id":"5","Names":["/loop"],"State":"restarting","Status":"Restarting (1) 5 seconds ago"}]"#;
    let mut host = Sample::default();
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{list}\r\n0\r\n\r\n",
        list.len()
    );
    host.2.sockets.insert("/run/docker.sock".into(), chunked.into_bytes());
    let found = on(&host, "containers", json!({}));
    assert_eq!(
        said(&found),
        (Status::Critical, "CONTAINERS CRITICAL - unhealthy: web, loop; 2 of 5 containers run")
    );
    assert_eq!((value(&found, "exited"), value(&found, "failed")), (Some(2.0), Some(1.0)));
    let found = on(&host, "containers", json!({"exclude": ["web", "loop"], "names": ["db-*", "cache"]}));
    assert_eq!(
        said(&found),
        (Status::Critical, "CONTAINERS CRITICAL - not running: cache; 1 of 3 containers run")
    );
    host.2.sockets.insert(
        "/other.sock".into(),
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 20\r\n\r\n{\"message\":\"too old\"}".to_vec(),
    );
    let found = on(&host, "containers", json!({"socket": "/other.sock"}));
    assert!(
        found.output.contains("/other.sock answers with 400: {\"message\":\"too old\""),
        "{}",
        found.output
    );
    let none = on(&Sample::default(), "containers", json!({}));
    assert!(none.output.contains("no container engine listens here"), "{}", none.output);
}

fn printing(host: &mut Sample, line: &str, code: i32, stdout: &str) {
    let ran = Ran { stdout: stdout.into(), stderr: String::new(), code: Some(code) };
    host.2.programs.insert(line.into(), ran);
}

#[test]
fn graphics_processors() {
    let mut host = Sample::default();
    printing(
        &mut host,
        "nvidia-smi --query-gpu=index,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw --format=csv,noheader,nounits",
        0,
        "0, NVIDIA A100-SXM4-40GB, 37, 10240, 40960, 86, 61.27\n1, Tesla K80, [N/A], 0, 11441, 34, [Not Supported]\n",
    );
    let found = on(&host, "gpu", json!({}));
    assert_eq!(
        said(&found),
        (
            Status::Warning,
            "GPU WARNING - 2 devices, the busiest gpu0 (NVIDIA A100-SXM4-40GB) 37%, the hottest 86 °C"
        )
    );
    assert_eq!((value(&found, "gpu0_memory"), value(&found, "gpu1_power")), (Some(25.0), None));
    assert_eq!(on(&host, "gpu", json!({"exclude": "gpu0"})).status, Status::Ok);
    assert_eq!(on(&host, "gpu", json!({"devices": "gpu7"})).status, Status::Unknown);
    assert_eq!(on(&Sample::default(), "gpu", json!({})).status, Status::Unknown);
}

#[test]
fn options_choose_disks_and_interfaces() {
    let mounts = "27 1 254:0 / / rw - ext4 /dev/vda rw\n28 1 254:1 / /boot/efi rw - vfat /dev/vdb rw\n43 27 0:50 / /net rw - nfs4 server:/x rw\n";
    let host = Sample::of(&[
        ("/proc/self/mountinfo", mounts),
        ("/proc/net/dev", "lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n eth0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"),
    ]);
    let found = on(&host, "disk", json!({"mounts": ["/data"]}));
    assert_eq!(said(&found), (Status::Critical, "DISK CRITICAL - nothing is mounted at /data"));
    assert_eq!((value(&found, "missing"), value(&found, "read_only")), (Some(1.0), Some(0.0)));
    assert_eq!(on(&host, "network", json!({"devices": "lo"})).metrics.len(), 4);
    assert_eq!(on(&host, "network", json!({})).metrics.len(), 4);
    assert_eq!(on(&host, "network", json!({"exclude": "eth*"})).status, Status::Unknown);
}

/// A log between runs: what each finds, and what it remembers.
#[derive(Default)]
struct Log {
    host: Sample,
}

impl Log {
    fn write(&mut self, path: &str, inode: u64, text: &str) {
        self.host.0.insert(path.into(), text.into());
        self.host.2.inodes.insert(path.into(), inode);
    }

    fn rename(&mut self, from: &str, to: &str) {
        let text = self.host.0.remove(from).unwrap();
        let inode = self.host.2.inodes.remove(from).unwrap();
        self.write(to, inode, &text);
    }

    /// Matches and lines.
    fn run(&mut self, options: &serde_json::Value) -> (f64, f64, String) {
        let builtin = super::Builtin::named("log").unwrap();
        let given = options.as_object().unwrap().clone().into_iter().collect();
        let options = super::Options::read(builtin.options, &given).unwrap();
        let super::Read::Host(read) = builtin.read else { panic!("it is read over the network") };
        let measured = read(&self.host, &options, &mut super::Rates::new(1, None)).unwrap();
        let number = |name: &str| measured.numbers.iter().find(|number| number.name == name).unwrap().value;
        let found = (number("matches"), number("lines"), measured.text.clone());
        self.host.2.memory = Some(Memory::Kept(measured.remember.unwrap()));
        found
    }

    fn counts(&mut self, options: &serde_json::Value) -> (u32, u32) {
        let (matches, lines, _) = self.run(options);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        (matches as u32, lines as u32)
    }
}

#[test]
fn logs_are_read_on_from_where_they_were_left() {
    let options = json!({"path": "/log/app.log", "pattern": "error", "exclude": "harmless"});
    let mut log = Log::default();
    log.write("/log/app.log", 1, "error 0\nerror half");
    let (_, _, text) = log.run(&options);
    assert_eq!(text, "the first run: from here on new lines are looked at");
    // The half line is whole now.
    log.write("/log/app.log", 1, "error 0\nerror half a line\nfine\nharmless error\nerror 3\r\nerr");
    let (matches, lines, text) = log.run(&options);
    assert_eq!((matches.to_string(), lines.to_string()), ("2".into(), "4".into()));
    assert_eq!(text, "2 of 4 new lines match, the last: error 3");
    assert_eq!(log.counts(&options), (0, 0));
    // Each line is long, and control characters are not shown.
    let long = format!(
        "error 0\nerror half a line\nfine\nharmless error\nerror 3\r\nerror \u{1b}[31m{}\n",
        "x".repeat(999)
    );
    log.write("/log/app.log", 1, &long);
    let (_, _, text) = log.run(&options);
    assert!(text.len() < 300 && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn logs_are_followed_through_every_kind_of_rotation() {
    let options = json!({"path": "/log/app.log", "pattern": "error"});
    let mut log = Log::default();
    log.write("/log/app.log", 1, "Mon start\n");
    log.run(&options);
    // Renamed, with lines that came before and after, by a writer that noticed late.
    log.write("/log/app.log", 1, "Mon start\nerror 1\n");
    log.rename("/log/app.log", "/log/app.log.1");
    log.write("/log/app.log", 2, "error 2\n");
    assert_eq!(log.counts(&options), (2, 2));
    log.write("/log/app.log.1", 1, "Mon start\nerror 1\nerror 3\n");
    assert_eq!(log.counts(&options), (1, 1));
    assert_eq!(log.counts(&options), (0, 0));
    // Copied and cut off.
    log.write("/log/app.log", 2, "error 2\nerror 4\n");
    log.write("/log/app.log-20261121", 3, "error 2\nerror 4\n");
    log.write("/log/app.log", 2, "e");
    assert_eq!(log.counts(&options), (1, 1));
    // Cut off, and longer again than it was.
    log.write("/log/app.log", 2, "error 5\nerror 6\nerror 7\n");
    assert_eq!(log.counts(&options), (3, 3));
    log.write("/log/app.log", 2, "fine and a little longer than before\nerror 8\n");
    assert_eq!(log.counts(&options), (1, 2));
    // Gone between two runs, and back with the number of the old one.
    log.rename("/log/app.log", "/log/other");
    assert_eq!(log.counts(&options), (0, 0));
    log.write("/log/app.log", 2, "error 9\n");
    assert_eq!(log.counts(&options), (1, 1));
}

#[test]
fn many_logs_are_followed_and_new_ones_read_whole() {
    let options = json!({"path": ["/log/*.log"], "pattern": "error"});
    let mut log = Log::default();
    log.write("/log/a.log", 1, "error\n");
    log.run(&options);
    log.write("/log/b.log", 2, "error\nerror\n");
    log.write("/log/a.log", 1, "error\nerror\n");
    assert_eq!(log.counts(&options), (3, 3));
    log.rename("/log/a.log", "/log/c.log");
    log.write("/log/c.log", 1, "error\nerror\nerror\n");
    assert_eq!(log.counts(&options), (1, 1));
    for number in 0..70 {
        log.write(&format!("/log/{number}.log"), 100 + number, "");
    }
    assert!(on(&log.host, "log", options).output.contains("more than the 64"));
}

#[test]
fn too_much_of_a_log_is_skipped_and_said() {
    let options = json!({"path": "/log/app.log", "pattern": "error", "most": "100B"});
    let mut log = Log::default();
    log.write("/log/app.log", 1, "start\n");
    log.run(&options);
    log.write("/log/app.log", 1, &format!("start\n{}", "error 789\n".repeat(50)));
    let (matches, _, text) = log.run(&options);
    assert_eq!(matches.to_string(), "10");
    assert!(text.starts_with("400.0 B were skipped, since it was too much at once; 10 of 10"), "{text}");
    // By hand, without a memory, the end is looked at, and that there is more is no fault.
    log.host.2.memory = Some(Memory::None);
    let found = on(&log.host, "log", options);
    assert_eq!((value(&found, "matches"), value(&found, "skipped")), (Some(10.0), Some(0.0)));
    let one = json!({"path": "/log/one.log", "pattern": "error"});
    assert!(on(&log.host, "log", one).output.contains("there is no file /log/one.log"));
    // A line without an end does not grow in memory.
    log.host.2.memory = None;
    log.write("/log/app.log", 1, "start\n");
    let options = json!({"path": "/log/app.log", "pattern": "error"});
    log.run(&options);
    log.write("/log/app.log", 1, &format!("start\n{}error\n", "x".repeat(600 * 1024)));
    assert_eq!(log.counts(&options), (1, 3));
}

#[test]
fn damaged_memories_begin_anew() {
    let options = json!({"path": "/log/app.log", "pattern": "error"});
    let mut log = Log::default();
    log.write("/log/app.log", 1, "error\n");
    for text in ["", "{", "{\"positions\":7}", "[]"] {
        log.host.2.memory = Some(Memory::Kept(text.into()));
        assert!(log.run(&options).2.starts_with("the first run"), "{text}");
    }
}

/// What happens to a log.
#[derive(Debug, Clone)]
enum Event {
    Write(u8),
    Rename,
    CopyAndCut,
    Run,
}

proptest! {
    /// Each line counts once, however the log is rotated, and however often between two runs.
    #[test]
    fn no_line_is_left_out_or_counted_twice(
        events in prop::collection::vec(
            prop_oneof![
                4 => (0_u8..4).prop_map(Event::Write), 1 => Just(Event::Rename), 1 => Just(Event::CopyAndCut), 2 => Just(Event::Run)
            ],
            1..40,
        )
    ) {
        let options = json!({"path": "/log/app.log", "pattern": "line"});
        let mut log = Log::default();
        log.write("/log/app.log", 1, "the beginning of all\n");
        log.write("/log/app.log.0", 7, "line of old\n");
        log.write("/log/app-other.log", 8, "line of another log\n");
        log.run(&options);
        let (mut inode, mut written, mut rotated, mut counted) = (1, 0, 0, 0);
        for event in events.into_iter().chain([Event::Run]) {
            let text = log.host.0.get("/log/app.log").cloned().unwrap();
            match event {
                Event::Write(lines) => {
                    let new: String = (0..lines).map(|line| format!("line {}\n", written + u32::from(line))).collect();
                    written += u32::from(lines);
                    counted += u32::from(lines);
                    log.write("/log/app.log", inode, &(text + &new));
                }
                Event::Rename => {
                    rotated += 1;
                    log.rename("/log/app.log", &format!("/log/app.log.{rotated}"));
                    inode = 100 + rotated;
                    log.write("/log/app.log", inode, "");
                }
                Event::CopyAndCut => {
                    rotated += 1;
                    log.write(&format!("/log/app.log.{rotated}"), 1_000 + rotated, &text);
                    log.write("/log/app.log", inode, "");
                }
                Event::Run => {
                    prop_assert_eq!(log.counts(&options), (counted, counted));
                    counted = 0;
                }
            }
        }
    }
}
