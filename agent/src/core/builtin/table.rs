//! The built-in checks: name, help, thresholds and reader of each. What else is said about them (`check --help`, the
//! manual) is made from here.

use super::{
    Builtin, Defaults, Kind, Read, Side, clock, containers,
    declare::{above, above_critical, above_warning, default, judged, option, required, shown},
    disks, files, gpu, kernel, log, net, processes, sensors, services, updates, uptime,
};

const NONE: Defaults = Defaults { warning: None, critical: None, per_processor: false, side: Side::Above };

pub static ALL: [Builtin; 26] = [
    Builtin {
        name: "cpu",
        about: "Processor time in use",
        more: "",
        options: &[],
        metrics: &[
            judged("cpu", "%", "of all processors, without idle and iowait"),
            shown("user", "%", "programs"),
            shown("system", "%", "the kernel, with interrupts"),
            shown("iowait", "%", "idle while a disk was waited for"),
            shown("steal", "%", "taken by the hypervisor for other guests"),
        ],
        defaults: above(90.0, 97.0),
        read: Read::Host(kernel::cpu),
    },
    Builtin {
        name: "memory",
        about: "Memory that programs cannot get without swapping",
        more: "",
        options: &[],
        metrics: &[
            judged("memory", "%", "not available"),
            shown("available", "B", "what programs can still get, as the kernel estimates it"),
        ],
        defaults: above(90.0, 95.0),
        read: Read::Host(kernel::memory),
    },
    Builtin {
        name: "swap",
        about: "Swap space in use, and pages that move in and out",
        more: "A host without swap uses 0 %.",
        options: &[],
        metrics: &[
            judged("swap", "%", "in use"),
            shown("swap_in", "pages/s", "read back from swap"),
            shown("swap_out", "pages/s", "written to swap"),
        ],
        defaults: above(80.0, 95.0),
        read: Read::Host(kernel::swap),
    },
    Builtin {
        name: "load",
        about: "Processes that run or wait for a processor or a disk, on average",
        more: "",
        options: &[],
        metrics: &[
            judged("load1", "", "over 1 minute"),
            shown("load5", "", "over 5 minutes"),
            shown("load15", "", "over 15 minutes"),
        ],
        defaults: Defaults {
            warning: Some(2.0),
            critical: Some(4.0),
            per_processor: true,
            side: Side::Above,
        },
        read: Read::Host(kernel::load),
    },
    Builtin {
        name: "disk",
        about: "File systems on disks: space, inodes, and those that became read-only",
        more: "Left out are file systems of a network, in memory and of images (squashfs, iso9660, …), and FUSE. A file \
               system that the kernel made read-only after an error is critical, whatever the thresholds are; one that \
               was mounted read-only is not.",
        options: &[
            option(
                "mounts",
                Kind::Texts,
                "only these mount points; * stands for any text; one that is named whole is looked at whatever its type is, and critical while nothing is mounted there",
            ),
            option(
                "exclude",
                Kind::Texts,
                "mount points and types of file systems (btrfs, vfat) to leave out; * stands for any text",
            ),
        ],
        metrics: &[
            judged("<mount>", "%", "space in use, as df shows it"),
            judged(
                "<mount> inodes",
                "%",
                "inodes in use, where the file system counts them; never the value",
            ),
            shown("read_only", "", "file systems that the kernel made read-only; above 0 is critical"),
            shown("missing", "", "of the option mounts, those where nothing is mounted; above 0 is critical"),
        ],
        defaults: above(80.0, 90.0),
        read: Read::Host(disks::disk),
    },
    Builtin {
        name: "diskio",
        about: "Traffic of whole disks, and how busy they are",
        more: "Disks that were never used are left out. A disk that serves many requests at once (NVMe, RAID) may be \
               busy all the time and still have room: look at the wait too.",
        options: &[
            option("devices", Kind::Texts, "only these, partitions among them; * stands for any text"),
            option("exclude", Kind::Texts, "disks to leave out; * stands for any text"),
        ],
        metrics: &[
            judged("<disk>_busy", "%", "share of the time in which a request was under way"),
            shown("<disk>_read", "B/s", "read"),
            shown("<disk>_write", "B/s", "written"),
            shown("<disk>_wait", "ms", "mean time of a request, queue included"),
        ],
        defaults: NONE,
        read: Read::Host(disks::diskio),
    },
    Builtin {
        name: "network",
        about: "Traffic, errors and drops of the network interfaces",
        more: "Left out are lo, veth* and interfaces that never moved a packet.",
        options: &[
            option("devices", Kind::Texts, "only these interfaces; * stands for any text"),
            option("exclude", Kind::Texts, "interfaces to leave out; * stands for any text"),
        ],
        metrics: &[
            judged("<interface>_errors", "/s", "packets that were received or sent wrong"),
            shown("<interface>_rx", "B/s", "received"),
            shown("<interface>_tx", "B/s", "sent"),
            shown("<interface>_drops", "/s", "packets dropped, received or to be sent"),
        ],
        defaults: above(1.0, 10.0),
        read: Read::Host(kernel::network),
    },
    Builtin {
        name: "processes",
        about: "Number of processes, zombies among them",
        more: "With options, those that fit all of them. Where /proc is mounted with hidepid, an agent that is not root sees its own processes only. Checks that look within 100 ms of one another share one reading of /proc.",
        options: &[
            option(
                "name",
                Kind::Texts,
                "only processes of one of these names, as ps -e shows them; of longer ones the first 15 bytes count",
            ),
            option(
                "match",
                Kind::Text,
                "only processes whose command line has a match of this regular expression",
            ),
            option("user", Kind::Text, "only those of this user: a name of /etc/passwd, or a number"),
        ],
        metrics: &[
            judged("processes", "", "all of them, or those that the options choose"),
            shown("zombies", "", "ended, but not yet collected by their parents; above 10 is a warning"),
            shown("blocked", "", "waiting in the kernel, as a rule for a disk"),
            shown("threads", "", "of these processes"),
            shown("memory", "B", "resident memory, with options only; what processes share counts for each"),
            shown("cpu", "%", "of one processor, with options only"),
        ],
        defaults: NONE,
        read: Read::Host(processes::processes),
    },
    Builtin {
        name: "pressure",
        about: "Time lost by waiting for memory, disks and processors (pressure stall information)",
        more: "Each is the kernel's average over 60 seconds. Needs Linux 4.20 or newer.",
        options: &[],
        metrics: &[
            judged("memory_full", "%", "nothing at all could go on for want of memory"),
            judged("io_full", "%", "nothing at all could go on for want of disks"),
            shown("memory_some", "%", "something waited for memory"),
            shown("io_some", "%", "something waited for disks"),
            shown("cpu_some", "%", "something waited for a processor"),
        ],
        defaults: above(20.0, 50.0),
        read: Read::Host(kernel::pressure),
    },
    Builtin {
        name: "temperature",
        about: "Temperature sensors",
        more: "Reads /sys/class/hwmon, or /sys/class/thermal where that shows none. A host without sensors (most virtual \
               machines) is unknown.",
        options: &[
            option(
                "sensors",
                Kind::Texts,
                "only these, by the names that the metrics have; * stands for any text",
            ),
            option("exclude", Kind::Texts, "sensors to leave out; * stands for any text"),
        ],
        metrics: &[judged("<sensor>", "°C", "its maximum is what the chip itself calls critical")],
        defaults: above(85.0, 95.0),
        read: Read::Host(sensors::temperature),
    },
    Builtin {
        name: "uptime",
        about: "Time since the host started, and whether it should be started anew",
        more: "A reboot is needed when a package asked for it (/run/reboot-required), or when a newer kernel of the \
               running one's flavour lies in /lib/modules. In a container it never is.",
        options: &[default("reboot", Kind::Flag, "true", "whether it is a warning that a reboot is needed")],
        metrics: &[
            judged("uptime", "s", "since the start"),
            shown("reboot_needed", "", "1 when a reboot is needed, which is a warning"),
        ],
        defaults: NONE,
        read: Read::Host(uptime::uptime),
    },
    Builtin {
        name: "open_files",
        about: "Open files of the whole host, and their limit (fs.file-max)",
        more: "",
        options: &[],
        metrics: &[
            judged("open_files", "%", "of the limit"),
            shown("open", "", "open files; its maximum is the limit"),
        ],
        defaults: above(80.0, 90.0),
        read: Read::Host(kernel::open_files),
    },
    Builtin {
        name: "conntrack",
        about: "Connections that the firewall tracks, and their limit",
        more: "Unknown on a host whose kernel does not track connections.",
        options: &[],
        metrics: &[
            judged("conntrack", "%", "of the limit"),
            shown("connections", "", "tracked connections; its maximum is the limit"),
        ],
        defaults: above(80.0, 90.0),
        read: Read::Host(kernel::conntrack),
    },
    Builtin {
        name: "systemd",
        about: "Units of systemd that failed, and those that should be active",
        more: "Asks systemd by the message bus of the system, which any user may. Unknown on a host that systemd does \
               not run.",
        options: &[
            option(
                "units",
                Kind::Texts,
                "units that must be active; without a kind it is .service; * stands for any text",
            ),
            option("exclude", Kind::Texts, "units that may fail; * stands for any text"),
        ],
        metrics: &[
            judged("failed", "", "units that failed; its maximum is the number of all"),
            shown("units", "", "loaded units"),
            shown("inactive", "", "of the option units, those that are not active; above 0 is critical"),
        ],
        defaults: above_warning(0.0),
        read: Read::Host(services::systemd),
    },
    Builtin {
        name: "service",
        about: "Services that should be up, on any host",
        more: "With systemd a service is up when its unit is active. Else OpenRC and runit are asked; and else it is up \
               when the process of /run/NAME.pid lives, or one of that name.",
        options: &[required("name", Kind::Texts, "the services")],
        metrics: &[
            judged("down", "", "services that are not up; its maximum is the number of all"),
            shown("<service> up", "", "1 when it is up"),
        ],
        defaults: above_critical(0.0),
        read: Read::Host(services::service),
    },
    Builtin {
        name: "time",
        about: "Whether the clock is synchronized, and how far it is off",
        more: "As the host's time service sees it: chrony (by chronyc), systemd-timesyncd or ntpd (by ntpq). No server \
               is asked. Unknown where none of them runs, as in most containers.",
        options: &[],
        metrics: &[
            judged("offset", "ms", "how far the clock is off, to either side, where the service knows it"),
            shown("unsynchronized", "", "1 when the service follows no reference clock, which is a warning"),
            shown("stratum", "", "distance to a reference clock"),
            shown("age", "s", "time since the clock was compared"),
        ],
        defaults: above(100.0, 1_000.0),
        read: Read::Host(clock::time),
    },
    Builtin {
        name: "file",
        about: "Age, size and number of files, and whether they exist",
        more: "A path may have wildcards in each of its parts: * stands for any text, ? for one character. A path that \
               stands for no file is critical, but with judge: count.",
        options: &[
            required("path", Kind::Texts, "files; * stands for any text"),
            option("exclude", Kind::Texts, "names and paths to leave out; * stands for any text"),
            default(
                "judge",
                Kind::Text,
                "age",
                "which metric is the value and what thresholds judge: age, oldest, size or count",
            ),
        ],
        metrics: &[
            judged("age", "s", "since the newest of them changed"),
            shown("oldest", "s", "since the oldest of them changed"),
            shown("size", "B", "of all of them together"),
            shown("count", "", "how many there are"),
            shown("missing", "", "paths that stand for no file; above 0 is critical"),
        ],
        defaults: NONE,
        read: Read::Host(files::file),
    },
    Builtin {
        name: "log",
        about: "New lines of a log that match a regular expression",
        more: "The first run looks at nothing: it begins at the end. Later ones look at what came since, also after a \
               restart of the agent and when the log was rotated, by renaming or by copying and cutting off, as long \
               as the old one lies beside it, uncompressed. A line may be looked at twice when the agent is killed, \
               but is not left out. By hand it remembers in the folder of --state, and without one looks at the end \
               of what is there.",
        options: &[
            required("path", Kind::Texts, "the log, or up to 64 of them; * stands for any text"),
            required("pattern", Kind::Text, "regular expression of lines to count"),
            option("exclude", Kind::Text, "regular expression of lines that do not count all the same"),
            default("most", Kind::Size, "10MiB", "how much is read in one run; of more, the last part"),
        ],
        metrics: &[
            judged("matches", "", "new lines that match"),
            shown("lines", "", "new lines"),
            shown("skipped", "B", "not looked at, since it was too much; above 0 is a warning"),
        ],
        defaults: above_warning(0.0),
        read: Read::Host(log::log),
    },
    Builtin {
        name: "updates",
        about: "Packages that wait to be upgraded",
        more: "Asks apt, dnf, yum, zypper, apk, pacman or pkg (of FreeBSD) by the index that the host has; nothing is \
               refreshed or downloaded, so look at the age of the index too. It runs the package manager: give it a \
               timeout of a minute and run it seldom. apk and pacman do not tell which updates are for security.",
        options: &[
            default(
                "judge",
                Kind::Text,
                "updates",
                "which metric is the value and what thresholds judge: updates or security",
            ),
            option("manager", Kind::Text, "which package manager to ask, where the host has several"),
        ],
        metrics: &[
            judged("updates", "", "packages that wait"),
            shown("security", "", "those of them that are for security, where it is known"),
            shown("index_age", "s", "since the index was refreshed, where it is known"),
        ],
        defaults: above_warning(0.0),
        read: Read::Host(updates::updates),
    },
    Builtin {
        name: "containers",
        about: "Containers of Docker or Podman, and their health",
        more: "Asks the engine of the host by its socket, which the agent must be allowed to open (group docker, or \
               root).",
        options: &[
            option(
                "socket",
                Kind::Text,
                "socket of the engine; those of Docker and Podman are found by themselves",
            ),
            option("names", Kind::Texts, "containers that must run; * stands for any text"),
            option("exclude", Kind::Texts, "containers to leave out; * stands for any text"),
        ],
        metrics: &[
            judged(
                "unhealthy",
                "",
                "containers that fail their health check, are dead or restart again and again",
            ),
            shown("running", "", "that run"),
            shown("exited", "", "that have ended"),
            shown("failed", "", "that have ended with another exit code than 0"),
            shown("paused", "", "that are paused"),
            shown("missing", "", "of the option names, those that do not run; above 0 is critical"),
        ],
        defaults: above_critical(0.0),
        read: Read::Host(containers::containers),
    },
    Builtin {
        name: "gpu",
        about: "Graphics processors of NVIDIA: temperature, load, memory and power",
        more: "Runs nvidia-smi. Unknown on a host that has none.",
        options: &[
            option("devices", Kind::Texts, "only these, as gpu0 or by model; * stands for any text"),
            option("exclude", Kind::Texts, "devices to leave out; * stands for any text"),
        ],
        metrics: &[
            judged("<gpu>_temperature", "°C", "of the chip"),
            shown("<gpu>_busy", "%", "share of the time in which it worked"),
            shown("<gpu>_memory", "%", "of its memory in use"),
            shown("<gpu>_power", "W", "that it draws"),
        ],
        defaults: above(85.0, 95.0),
        read: Read::Host(gpu::gpu),
    },
    net::HTTP,
    net::TCP,
    net::DNS,
    net::TLS,
    net::PING,
];
