//! Texts as real kernels write them, and what is to be made of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::{
    CheckName, Scalar, Status,
    work::{Output, RunSettings},
};

use super::*;
use crate::core::{
    check::{Check, Work},
    output::Finding,
};

/// A host made of texts.
#[derive(Default)]
pub(super) struct Sample(pub(super) BTreeMap<String, String>, BTreeMap<&'static str, Usage>, pub(super) More);

/// What else a host is made of.
#[derive(Default)]
pub(super) struct More {
    pub(super) now: u64,
    /// Where it is not the checksum of the path.
    pub(super) inodes: BTreeMap<String, u64>,
    pub(super) modified: BTreeMap<String, u64>,
    /// By program and arguments.
    pub(super) programs: BTreeMap<String, Ran>,
    /// What is said at a socket.
    pub(super) sockets: BTreeMap<String, Vec<u8>>,
    pub(super) memory: Option<Memory>,
}

impl Sample {
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let texts = files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
        Self(texts, BTreeMap::new(), More::default())
    }
}

impl Host for Sample {
    fn text(&self, path: &str) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| format!("cannot read {path}: No such file or directory"))
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let within =
            |path: &String| Some(path.strip_prefix(folder)?.strip_prefix('/')?.split('/').next()?.to_owned());
        let names: std::collections::BTreeSet<String> = self.0.keys().filter_map(within).collect();
        names.into_iter().collect()
    }

    fn usage(&self, folder: &str) -> Option<Usage> {
        self.1.get(folder).copied()
    }

    fn meta(&self, path: &str) -> Option<Meta> {
        let file = self.0.get(path);
        let inside = format!("{path}/");
        let is_folder = self.0.keys().chain(self.2.sockets.keys()).any(|other| other.starts_with(&inside));
        if file.is_none() && !is_folder && !self.2.sockets.contains_key(path) {
            return None;
        }
        let inode = self.2.inodes.get(path).copied();
        Some(Meta {
            id: FileId {
                device: 1,
                inode: inode.unwrap_or_else(|| u64::from(crc32fast::hash(path.as_bytes()))),
            },
            bytes: file.map_or(4096, |text| text.len() as u64),
            modified: self.2.modified.get(path).copied().unwrap_or(0),
            is_file: file.is_some(),
        })
    }

    fn part(&self, path: &str, from: u64, most: u64) -> Result<Part, String> {
        let bytes = self.text(path)?.into_bytes();
        let from = usize::try_from(from).unwrap().min(bytes.len());
        let end = usize::try_from(most).unwrap().saturating_add(from).min(bytes.len());
        Ok(Part { id: self.meta(path).unwrap().id, bytes: bytes[from..end].to_vec() })
    }

    fn now(&self) -> u64 {
        self.2.now
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<Ran, String> {
        let line = format!("{program} {}", args.join(" "));
        self.2
            .programs
            .get(line.trim())
            .cloned()
            .ok_or_else(|| format!("there is no program {}", line.trim()))
    }

    fn socket(
        &self,
        path: &str,
        _request: &[u8],
        complete: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>, String> {
        let said = self
            .2
            .sockets
            .get(path)
            .ok_or_else(|| format!("cannot ask {path}: No such file or directory"))?;
        let whole = (1..=said.len()).find(|end| complete(&said[..*end])).unwrap_or(said.len());
        Ok(said[..whole].to_vec())
    }

    fn recall(&self) -> Memory {
        self.2.memory.clone().unwrap_or(Memory::Empty)
    }
}

fn check(builtin: &'static Builtin, options: &Options, warning: Option<&str>) -> Check {
    Check {
        name: CheckName::new("c").unwrap(),
        work: Work::Builtin(builtin, options.clone()),
        run: RunSettings::default(),
        every_ms: 1_000,
        at: None,
        timeout_ms: 1_000,
        output: Output::default(),
        unit: None,
        warning: warning.map(|text| text.parse().unwrap()),
        critical: None,
    }
}

pub(super) fn judged(name: &str, measured: Result<Measured, String>) -> Finding {
    let builtin = Builtin::named(name).unwrap();
    if let Ok(measured) = &measured {
        documented(builtin, measured, true);
    }
    judge(builtin, &check(builtin, &Options::default(), None), measured)
}

/// What `name` finds on `after`, which is `before` 10 seconds later.
fn between(name: &str, before: &Sample, after: &Sample, warning: Option<&str>) -> Finding {
    with(name, &serde_json::json!({}), before, after, warning)
}

/// The same with options; those that are required and not given are left out.
pub(super) fn with(
    name: &str,
    given: &serde_json::Value,
    before: &Sample,
    after: &Sample,
    warning: Option<&str>,
) -> Finding {
    let builtin = Builtin::named(name).unwrap();
    let given = given.as_object().unwrap().clone().into_iter().collect();
    let options = Options::read(builtin.options, &given).unwrap_or_default();
    let Read::Host(read) = builtin.read else { panic!("{name} is read over the network") };
    let mut rates = Rates::new(1_000, None);
    let _first = read(before, &options, &mut rates);
    let sample = rates.into_sample();
    let measured = read(after, &options, &mut Rates::new(11_000, sample.as_ref()));
    if let Ok(measured) = &measured {
        documented(builtin, measured, !given.contains_key("judge"));
    }
    judge(builtin, &check(builtin, &options, warning), measured)
}

fn found(name: &str, files: &[(&str, &str)]) -> (Status, String) {
    let host = Sample::of(files);
    let found = between(name, &host, &host, None);
    (found.status, found.output)
}

pub(super) fn value(finding: &Finding, name: &str) -> Option<f64> {
    finding.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

/// Every metric is in the help, with its unit, and whether thresholds judge it where no option says otherwise.
fn documented(builtin: &Builtin, measured: &Measured, usual: bool) {
    for number in &measured.numbers {
        let fits = |about: &&About| match (about.name.find('<'), about.name.find('>')) {
            (Some(_), Some(end)) => number.name.ends_with(&about.name[end + 1..]),
            _ => about.name == number.name,
        };
        // The longest that fits: "<mount>" fits everything.
        let about = builtin.metrics.iter().filter(fits).max_by_key(|about| about.name.len());
        let about = about.unwrap_or_else(|| panic!("{}: {} is not in the help", builtin.name, number.name));
        assert_eq!(about.unit, number.unit, "{}", number.name);
        let by_check = matches!(number.judged, Judged::ByCheck | Judged::Beside);
        assert!(about.judged == by_check || !usual, "{}", number.name);
    }
}

#[test]
fn single_texts_are_understood() {
    let meminfo = "MemTotal:       16384000 kB\nMemFree:          512000 kB\nMemAvailable:    4096000 kB\nBuffers:  1000 kB\nCached: 2000 kB\nSwapCached: 0 kB\nSwapTotal:       2097148 kB\nSwapFree:         209714 kB\n";
    let old =
        "MemTotal: 1000 kB\nMemFree: 10 kB\nBuffers: 20 kB\nCached: 30 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
    let stat = "cpu  1 2 3 4\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 1\n";
    let psi = |some: &str, full: &str| {
        format!(
            "some avg10=9.00 avg60={some} avg300=0.02 total=829010330\nfull avg10=0.06 avg60={full} avg300=0.39 total=38037750\n"
        )
    };
    let (calm, thrashing, cpu) =
        (psi("0.50", "0.10"), psi("80.00", "60.25"), "some avg10=1.00 avg60=37.96 avg300=1.00 total=5\n");
    for (name, files, status, output) in [
        (
            "memory",
            vec![("/proc/meminfo", meminfo)],
            Status::Ok,
            "MEMORY OK - 75.0% used, 3.9 GiB of 15.6 GiB available",
        ),
        (
            "memory",
            vec![("/proc/meminfo", old)],
            Status::Warning,
            "MEMORY WARNING - 94.0% used, 60.0 KiB of 1000.0 KiB available",
        ),
        (
            "memory",
            vec![("/proc/meminfo", "MemTotal: 0 kB")],
            Status::Unknown,
            "MEMORY UNKNOWN - /proc/meminfo has no MemTotal",
        ),
        (
            "swap",
            vec![("/proc/meminfo", meminfo), ("/proc/vmstat", "pswpin 5\npswpout 6\n")],
            Status::Warning,
            "SWAP WARNING - 90.0% used, 204.8 MiB of 2.0 GiB free",
        ),
        ("swap", vec![("/proc/meminfo", old)], Status::Ok, "SWAP OK - this host has no swap"),
        (
            "load",
            vec![("/proc/loadavg", "4.50 0.50 0.25 3/812 12345\n"), ("/proc/stat", stat)],
            Status::Warning,
            "LOAD WARNING - 4.50 0.50 0.25 on 2 processors",
        ),
        (
            "load",
            vec![("/proc/loadavg", "x\n"), ("/proc/stat", stat)],
            Status::Unknown,
            "LOAD UNKNOWN - /proc/loadavg does not begin with three numbers: \"x\"",
        ),
        (
            "open_files",
            vec![("/proc/sys/fs/file-nr", "1304\t0\t2466170\n")],
            Status::Ok,
            "OPEN FILES OK - 0.1% used, 1304 of 2466170",
        ),
        (
            "open_files",
            vec![("/proc/sys/fs/file-nr", "900\t0\t1000\n")],
            Status::Warning,
            "OPEN FILES WARNING - 90.0% used, 900 of 1000",
        ),
        (
            "open_files",
            vec![("/proc/sys/fs/file-nr", "9888\t0\t9223372036854775807\n")],
            Status::Ok,
            "OPEN FILES OK - 0.0% used, 9888 of 9223372036854775807",
        ),
        (
            "conntrack",
            vec![
                ("/proc/sys/net/netfilter/nf_conntrack_count", "65000\n"),
                ("/proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
            ],
            Status::Critical,
            "CONNTRACK CRITICAL - 99.2% used, 65000 of 65536",
        ),
        (
            "conntrack",
            vec![],
            Status::Unknown,
            "CONNTRACK UNKNOWN - cannot read /proc/sys/net/netfilter/nf_conntrack_count: No such file or directory (the kernel tracks connections only with the module nf_conntrack)",
        ),
        (
            "pressure",
            vec![
                ("/proc/pressure/memory", &thrashing),
                ("/proc/pressure/io", &calm),
                ("/proc/pressure/cpu", cpu),
            ],
            Status::Critical,
            "PRESSURE CRITICAL - in the last minute memory_full 60.2%, io_full 0.1%, memory_some 80.0%, io_some 0.5%, cpu_some 38.0%",
        ),
        ("uptime", vec![("/proc/uptime", "93784.21 180000.00\n")], Status::Ok, "UPTIME OK - 1d 2h 3m"),
        (
            "uptime",
            vec![
                ("/proc/uptime", "60.0 1.0\n"),
                ("/run/reboot-required", "*** System restart required ***\n"),
                (
                    "/run/reboot-required.pkgs",
                    "linux-image-6.1.0-21-amd64\nlinux-image-6.1.0-21-amd64\nlibc6\n",
                ),
            ],
            Status::Warning,
            "UPTIME WARNING - 0d 0h 1m, a reboot is needed: asked for by linux-image-6.1.0-21-amd64, libc6",
        ),
        (
            "uptime",
            vec![("/proc/uptime", "60.0 1.0\n"), ("/run/reboot-required", ""), ("/.dockerenv", "")],
            Status::Ok,
            "UPTIME OK - 0d 0h 1m",
        ),
        (
            "uptime",
            vec![
                ("/proc/uptime", "60.0 1.0\n"),
                ("/proc/sys/kernel/osrelease", "6.1.0-20-amd64\n"),
                ("/lib/modules/6.1.0-20-amd64/modules.order", ""),
                ("/lib/modules/6.1.0-21-amd64/modules.order", ""),
                ("/lib/modules/6.1.0-22-amd64/left", ""),
            ],
            Status::Warning,
            "UPTIME WARNING - 0d 0h 1m, a reboot is needed: kernel 6.1.0-21-amd64 is installed, 6.1.0-20-amd64 runs",
        ),
        (
            "uptime",
            vec![
                ("/proc/uptime", "60.0 1.0\n"),
                ("/proc/sys/kernel/osrelease", "6.1.0-own\n"),
                ("/lib/modules/6.1.0-21-amd64/modules.order", ""),
            ],
            Status::Ok,
            "UPTIME OK - 0d 0h 1m",
        ),
        (
            "processes",
            vec![
                ("/proc/1/stat", "1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 17"),
                ("/proc/77/stat", "77 (a) Z (b) D 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 17"),
                ("/proc/78/stat", "78 (sh) Z 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 17"),
                ("/proc/79/cmdline", ""),
                ("/proc/stat", "x"),
            ],
            Status::Ok,
            "PROCESSES OK - 3 processes, 1 zombies, 1 blocked, 11 threads",
        ),
        (
            "temperature",
            vec![
                ("/sys/class/hwmon/hwmon0/name", "coretemp\n"),
                ("/sys/class/hwmon/hwmon0/temp1_input", "86500\n"),
                ("/sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n"),
                ("/sys/class/hwmon/hwmon0/temp1_crit", "100000\n"),
                ("/sys/class/hwmon/hwmon1/name", "nvme\n"),
                ("/sys/class/hwmon/hwmon1/temp1_input", "38850\n"),
                ("/sys/class/hwmon/hwmon1/temp2_input", "-273150\n"),
                ("/sys/class/hwmon/hwmon1/in0_input", "99999\n"),
                ("/sys/class/thermal/thermal_zone0/temp", "99000\n"),
            ],
            Status::Warning,
            "TEMPERATURE WARNING - coretemp Package id 0 86.5 °C, the hottest of 2 sensors",
        ),
        (
            "temperature",
            vec![
                ("/sys/class/thermal/cooling_device0/type", "Processor"),
                ("/sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
                ("/sys/class/thermal/thermal_zone0/temp", "48312\n"),
            ],
            Status::Ok,
            "TEMPERATURE OK - cpu-thermal 48.3 °C, the hottest of 1 sensors",
        ),
        (
            "temperature",
            vec![],
            Status::Unknown,
            "TEMPERATURE UNKNOWN - this host shows no temperature sensor",
        ),
    ] {
        assert_eq!(found(name, &files), (status, output.to_owned()), "{name}");
    }
}

#[test]
fn processors_are_measured_from_one_reading_to_the_next() {
    let stat = |line: &str| Sample::of(&[("/proc/stat", line)]);
    let before = stat("cpu  1000 0 1000 10000 500 0 0 100 0 0\ncpu0 1 2 3 4\n");
    let after = stat("cpu  1500 100 1200 10090 560 10 20 120 999 0\ncpu0 1 2 3 4\n");
    let finding = between("cpu", &before, &after, None);
    // 1,000 ticks, of which 90 were idle and 60 waited.
    assert_eq!(finding.output, "CPU OK - 85.0% used, 6.0% waiting for disks, 2.0% stolen");
    assert_eq!((value(&finding, "user"), value(&finding, "system")), (Some(60.0), Some(23.0)));
    assert_eq!(between("cpu", &before, &after, Some("> 50")).status, Status::Warning);
    assert_eq!(between("cpu", &after, &before, None).value, Scalar::number(0.0), "counters that went back");
    assert_eq!(between("cpu", &before, &stat("intr 5\n"), None).status, Status::Unknown);
    let huge = stat("cpu  18446744073709551615 18446744073709551615 1 18446744073709551615\n");
    assert_eq!(between("cpu", &stat("cpu  0 0 0 0\n"), &huge, None).value, Scalar::number(0.0));
    // Old kernels, and containers, have fewer columns.
    assert_eq!(
        between("cpu", &stat("cpu  0 0 0 0\n"), &stat("cpu  30 0 0 70\n"), None).value,
        Scalar::number(30.0)
    );
}

#[test]
fn traffic_of_disks_is_that_of_whole_disks_that_are_used() {
    let stats = |vda: &str| {
        let text = format!(
            "   7       0 loop0 5 0 9 0 0 0 0 0 0 0 0\n 254       0 vda {vda} 108966 74 64042472 26129 145338 14830\n 254       1 vda1 1377332 32097 57262234 1296498 516619 302956 138573600 778068 0 136712 2115527\n   8       0 sda 0 0 0 0 0 0 0 0 0 0 0\n"
        );
        Sample::of(&[
            ("/proc/diskstats", &text),
            ("/sys/block/vda/size", ""),
            ("/sys/block/loop0/size", ""),
            ("/sys/block/sda/size", ""),
        ])
    };
    let before = stats("1000 10 8000 500 2000 20 16000 900 0 5000 1400");
    let after = stats("1100 10 28480 600 2100 20 16000 1200 3 9000 2000");
    let finding = between("diskio", &before, &after, Some("> 30"));
    assert_eq!(
        finding.output,
        "DISKIO WARNING - vda busy 40.0% of the time, 1.0 MiB/s read, 0.0 B/s written"
    );
    let names: Vec<_> = finding.metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["vda_read", "vda_write", "vda_wait", "vda_busy"]);
    assert_eq!((value(&finding, "vda_wait"), value(&finding, "vda_read")), (Some(2.0), Some(1_048_576.0)));
    assert_eq!(between("diskio", &before, &Sample::default(), None).status, Status::Unknown);
}

#[test]
fn traffic_of_interfaces_without_those_of_containers() {
    let dev = |eth0: &str| {
        let text = format!(
            "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo: 29401907382 2510548    0    0    0     0          0         0 29401907382 2510548    0    0    0     0       0          0\n  ifb0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n  eth0:{eth0}\nvethab12@if3: 10 10 0 0 0 0 0 0 10 10 0 0 0 0 0 0\n"
        );
        Sample::of(&[("/proc/net/dev", &text)])
    };
    let before = dev(
        "294931488   11472    3    5    0     0          0         0   662842    6607    1    0    0     0       0          0",
    );
    let after = dev(
        "294941728   11500   33    5    0     0          0         0   672842    6700   21   10    0     0       0          0",
    );
    let finding = between("network", &before, &after, None);
    assert_eq!(
        finding.output,
        "NETWORK WARNING - 1 interfaces, 1.0 KiB/s received, 1000.0 B/s sent, eth0_errors 5.0/s"
    );
    for (name, expected) in
        [("eth0_rx", 1024.0), ("eth0_tx", 1000.0), ("eth0_errors", 5.0), ("eth0_drops", 1.0)]
    {
        assert_eq!(value(&finding, name), Some(expected), "{name}");
    }
    // A card whose driver was loaded anew counts from 0: no rate, and no nonsense.
    let again = between("network", &after, &dev("5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0"), None);
    assert_eq!((again.status, again.metrics.len(), again.value), (Status::Ok, 0, None));
}

const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684084k
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 254:16 / /var/lib/my\\040data rw,noatime - xfs /dev/vdb rw,attr2
41 27 254:16 /hosts /etc rw,noatime - xfs /dev/vdb rw,attr2
41 27 254:16 /x /srv rw,noatime - xfs /dev/vdb rw,attr2
42 27 7:1 / /snap/core/1 ro,nodev - squashfs /dev/loop1 ro
43 27 0:50 / /net rw - nfs4 server:/x rw
44 27 254:32 / /archive ro - ext4 /dev/vdc ro
45 27 0:60 / /home/u/mnt rw - fuse.sshfs u@h: rw
46 27 254:48 / /boot rw shared:2 - vfat /dev/vdd rw
47 27 0:70 / /tank rw - zfs tank rw
a line of rubbish
";

fn disks(mounts: &str) -> Sample {
    let usage = |used, inodes_free| Usage { used, available: 100 - used, inodes: 100, inodes_free };
    let mut host = Sample::of(&[("/proc/self/mountinfo", mounts)]);
    host.1.extend([
        ("/", usage(40, 90)),
        ("/srv", usage(85, 50)),
        ("/archive", usage(10, 50)),
        ("/boot", Usage { used: 1, available: 9, ..Usage::default() }),
        ("/tank", usage(1, 99)),
        ("/net", usage(99, 1)),
        ("/snap/core/1", usage(100, 0)),
    ]);
    host
}

#[test]
fn file_systems_on_disks_are_judged_once_each() {
    let host = disks(MOUNTS);
    let finding = between("disk", &host, &host, None);
    assert_eq!(finding.output, "DISK WARNING - /srv 85.0% used, 15.0 B of 100.0 B available");
    assert_eq!(finding.value, Scalar::number(85.0));
    let names: Vec<_> = finding.metrics.iter().map(|metric| metric.name.as_str()).collect();
    let expected = [
        "/",
        "/ inodes",
        "/archive",
        "/archive inodes",
        "/boot",
        "/srv",
        "/srv inodes",
        "/tank",
        "/tank inodes",
        "read_only",
    ];
    assert_eq!(names, expected);
    assert_eq!(finding.metrics[0].warn.as_deref(), Some("> 80"));
    // Each is judged, not only the highest.
    assert_eq!(between("disk", &host, &host, Some("< 5")).status, Status::Warning);
    assert_eq!(between("disk", &host, &host, Some("> 90")).status, Status::Ok);
    let none = disks("22 27 0:21 / /proc rw,relatime - proc proc rw\n");
    assert_eq!(
        between("disk", &none, &none, None).output,
        "DISK UNKNOWN - no file system on a disk is mounted here"
    );
}

#[test]
fn inodes_that_run_out_warn_and_are_not_the_value() {
    let mut host = disks(MOUNTS);
    host.1.insert("/", Usage { used: 40, available: 60, inodes: 100, inodes_free: 5 });
    host.1.remove("/srv");
    let finding = between("disk", &host, &host, None);
    assert_eq!((finding.status, finding.value), (Status::Critical, Scalar::number(40.0)));
    assert_eq!(finding.output, "DISK CRITICAL - / 95.0% of inodes used, 5 free");
}

#[test]
fn a_file_system_that_the_kernel_made_read_only_is_critical() {
    let broken = disks(&MOUNTS.replace("ext4 /dev/vda rw,discard", "ext4 /dev/vda ro,discard"));
    let finding = between("disk", &broken, &broken, Some("> 99"));
    assert_eq!(finding.status, Status::Critical);
    assert_eq!(
        finding.output,
        "DISK CRITICAL - the kernel made / read-only after an error; /srv 85.0% used, 15.0 B of 100.0 B available"
    );
    assert_eq!((value(&finding, "read_only"), finding.value), (Some(1.0), Scalar::number(85.0)));
}

#[test]
fn many_zombies_are_a_warning_whatever_the_thresholds() {
    let stat = "7 (sh) Z 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 17".to_owned();
    let host = Sample(
        (1..=11).map(|pid| (format!("/proc/{pid}/stat"), stat.clone())).collect(),
        BTreeMap::new(),
        More::default(),
    );
    assert_eq!(between("processes", &host, &host, Some("> 500")).status, Status::Warning);
    assert_eq!(between("processes", &host, &host, Some("> 5")).value, Scalar::number(11.0));
}

#[test]
fn the_table_is_in_order() {
    for builtin in ALL.iter().filter(|builtin| matches!(builtin.read, Read::Host(_))) {
        assert!(CheckName::new(builtin.name).is_ok() && builtin.metrics[0].judged, "{}", builtin.name);
        assert_eq!(Builtin::named(builtin.name), Some(builtin));
        assert_eq!(ALL.iter().filter(|other| other.name == builtin.name).count(), 1, "{}", builtin.name);
        for option in builtin.options {
            // Its flag is its own, and its default can be read.
            assert!(
                !["warning", "critical", "timeout", "help", "state"].contains(&option.name),
                "{}",
                option.name
            );
            assert_eq!(builtin.options.iter().filter(|other| other.name == option.name).count(), 1);
            let with = BTreeMap::from_iter(option.default.map(|text| (option.name.to_owned(), text.into())));
            let only = Options::read(std::slice::from_ref(option), &with);
            assert!(only.is_ok() || option.required, "{}: {only:?}", option.name);
        }
    }
}

proptest! {
    #[test]
    fn no_text_of_a_kernel_panics_or_gives_what_is_no_number(
        before in "(cpu |eth0:|MemTotal: |SwapTotal: |SwapFree: |pswpin |8 0 sda )?[-0-9 .:a-zä\n]{0,60}",
        after in "(cpu |eth0:|MemTotal: |SwapTotal: |SwapFree: |pswpin |8 0 sda )?(18446744073709551615|[-0-9 .:a-zä\n]){0,60}",
    ) {
        let files = ["/proc/stat", "/proc/meminfo", "/proc/vmstat", "/proc/loadavg", "/proc/uptime", "/proc/1/stat",
            "/proc/pressure/memory", "/proc/pressure/io", "/proc/pressure/cpu", "/proc/sys/fs/file-nr", "/proc/net/dev",
            "/proc/diskstats", "/proc/self/mountinfo", "/proc/sys/net/netfilter/nf_conntrack_count",
            "/proc/sys/net/netfilter/nf_conntrack_max", "/sys/class/hwmon/hwmon0/temp1_input", "/sys/block/sda/size"];
        let host = |text: &str| Sample::of(&files.map(|path| (path, text)));
        let (before, after) = (host(&before), host(&after));
        for builtin in ALL.iter().filter(|builtin| matches!(builtin.read, Read::Host(_))) {
            let finding = between(builtin.name, &before, &after, None);
            for metric in finding.metrics {
                prop_assert!(metric.value.is_finite(), "{} {}", builtin.name, metric.name);
            }
        }
    }
}
