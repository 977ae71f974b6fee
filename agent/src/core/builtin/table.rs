//! The built-in checks: name, help, thresholds and reader of each. What else is said about them (`check --help`, the
//! manual) is made from here.

use super::{About, Builtin, Defaults, Read, Side, disks, kernel, net, sensors, uptime};

const NONE: Defaults = Defaults { warning: None, critical: None, per_processor: false, side: Side::Above };

const fn above(warning: f64, critical: f64) -> Defaults {
    Defaults { warning: Some(warning), critical: Some(critical), per_processor: false, side: Side::Above }
}

/// A metric that the thresholds of the check judge.
const fn judged(name: &'static str, unit: &'static str, about: &'static str) -> About {
    About { name, unit, about, judged: true }
}

const fn shown(name: &'static str, unit: &'static str, about: &'static str) -> About {
    About { name, unit, about, judged: false }
}

pub static ALL: [Builtin; 18] = [
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
        options: &[],
        metrics: &[
            judged("<mount>", "%", "space in use, as df shows it"),
            judged(
                "<mount> inodes",
                "%",
                "inodes in use, where the file system counts them; never the value",
            ),
            shown("read_only", "", "file systems that the kernel made read-only; above 0 is critical"),
        ],
        defaults: above(80.0, 90.0),
        read: Read::Host(disks::disk),
    },
    Builtin {
        name: "diskio",
        about: "Traffic of whole disks, and how busy they are",
        more: "Disks that were never used are left out. A disk that serves many requests at once (NVMe, RAID) may be \
               busy all the time and still have room: look at the wait too.",
        options: &[],
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
        options: &[],
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
        more: "Where /proc is mounted with hidepid, an agent that is not root sees its own processes only.",
        options: &[],
        metrics: &[
            judged("processes", "", "all of them"),
            shown("zombies", "", "ended, but not yet collected by their parents; above 10 is a warning"),
            shown("blocked", "", "waiting in the kernel, as a rule for a disk"),
            shown("threads", "", "of all processes"),
        ],
        defaults: NONE,
        read: Read::Host(kernel::processes),
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
        options: &[],
        metrics: &[judged("<sensor>", "°C", "its maximum is what the chip itself calls critical")],
        defaults: above(85.0, 95.0),
        read: Read::Host(sensors::temperature),
    },
    Builtin {
        name: "uptime",
        about: "Time since the host started, and whether it should be started anew",
        more: "A reboot is needed when a package asked for it (/run/reboot-required), or when a newer kernel of the \
               running one's flavour lies in /lib/modules. In a container it never is.",
        options: &[],
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
    net::HTTP,
    net::TCP,
    net::DNS,
    net::TLS,
    net::PING,
];
