//! Facts about the host, from texts that others read.

use std::collections::BTreeMap;

/// The keys of an `os-release` file (see its manual page); lines that are not `KEY=value` are left out.
#[must_use]
pub fn os_release(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (key, value) = line.trim().split_once('=')?;
        (!key.starts_with('#')).then(|| (key.to_owned(), unquote(value)))
    };
    text.lines().filter_map(pair).collect()
}

pub(super) fn unquote(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            let mut text = String::new();
            let mut escaped = false;
            for c in inner.chars() {
                escaped = c == '\\' && !escaped;
                if !escaped {
                    text.push(c);
                }
            }
            return text;
        }
    }
    value.to_owned()
}

/// The package manager of the system: of those that belong to the distribution, else of all, the first whose program
/// exists. (A Debian host may have `dnf` installed as a tool, and it is still an apt host.)
#[must_use]
pub fn package_manager(
    os: &str,
    release: &BTreeMap<String, String>,
    exists: impl Fn(&str) -> bool,
) -> Option<&'static str> {
    const ALL: [(&str, &str); 7] = [
        ("apt", "apt-get"),
        ("dnf", "dnf"),
        ("yum", "yum"),
        ("zypper", "zypper"),
        ("apk", "apk"),
        ("pacman", "pacman"),
        ("pkg", "pkg"),
    ];
    let own: &[&str] = if os == "freebsd" {
        &["pkg"]
    } else {
        let ids = ["ID", "ID_LIKE"].into_iter().filter_map(|key| release.get(key));
        ids.flat_map(|ids| ids.split_whitespace()).find_map(family).unwrap_or(&[])
    };
    let managers = own.iter().copied().chain(ALL.iter().map(|(manager, _)| *manager));
    managers.filter_map(|name| ALL.iter().find(|(manager, _)| *manager == name)).find_map(
        |(manager, program)| {
            // Only FreeBSD and its kin have a `pkg` that manages packages of the system.
            let foreign = *manager == "pkg" && !os.ends_with("bsd") && os != "dragonfly";
            (!foreign && exists(program)).then_some(*manager)
        },
    )
}

fn family(id: &str) -> Option<&'static [&'static str]> {
    Some(match id {
        "debian" | "ubuntu" | "linuxmint" | "raspbian" | "kali" => &["apt"],
        // microdnf images have no dnf, and old releases only yum.
        "fedora" | "rhel" | "centos" | "rocky" | "almalinux" | "ol" | "amzn" => &["dnf", "yum"],
        "suse" | "opensuse" | "sles" | "opensuse-leap" | "opensuse-tumbleweed" => &["zypper"],
        "alpine" => &["apk"],
        "arch" | "manjaro" | "archarm" => &["pacman"],
        _ => return None,
    })
}

/// What is known of the machine under the system.
#[derive(Debug, Clone, Default)]
pub struct Machine<'a> {
    /// A file that container engines leave exists.
    pub container: bool,
    /// Vendor and product by the firmware.
    pub dmi: &'a str,
    /// The processor says that a hypervisor runs it.
    pub hypervisor: bool,
}

/// The family of the distribution, by its package format and tools: `debian`, `redhat`, `suse`, `alpine` or `arch`.
#[must_use]
pub fn os_family(release: &BTreeMap<String, String>) -> Option<&'static str> {
    let ids = ["ID", "ID_LIKE"].into_iter().filter_map(|key| release.get(key));
    let family = ids.flat_map(|ids| ids.split_whitespace()).find_map(family)?;
    Some(match *family.first()? {
        "apt" => "debian",
        "dnf" => "redhat",
        "zypper" => "suse",
        "apk" => "alpine",
        _ => "arch",
    })
}

/// What shows that this is a container.
#[derive(Debug, Clone, Default)]
pub struct Traces<'a> {
    /// The environment or a mount is that of a Kubernetes pod.
    pub kubernetes: bool,
    /// `/run/systemd/container`
    pub systemd: &'a str,
    /// `/.dockerenv`
    pub docker: bool,
    /// `/run/.containerenv`
    pub podman: bool,
}

/// What runs this container; `None` outside of one. Best effort.
#[must_use]
pub fn container(traces: &Traces<'_>) -> Option<&'static str> {
    const KNOWN: [&str; 6] = ["lxc", "lxc-libvirt", "systemd-nspawn", "docker", "podman", "wsl"];
    match traces {
        Traces { kubernetes: true, .. } => Some("kubernetes"),
        Traces { docker: true, .. } => Some("docker"),
        Traces { podman: true, .. } => Some("podman"),
        Traces { systemd, .. } if systemd.trim().is_empty() => None,
        Traces { systemd, .. } => {
            Some(KNOWN.into_iter().find(|known| *known == systemd.trim()).unwrap_or("other"))
        }
    }
}

/// A name for this machine that outlives its host name, made from `/etc/machine-id`, which is not to be told to others.
#[must_use]
pub fn machine_id(text: &str) -> Option<String> {
    let id = text.trim();
    let good = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A hash of its own use, so that no other program's is the same.
    let hash = || protocol::admin::key_hash(&format!("dogwatch machine {}", id.to_ascii_lowercase()));
    good.then(|| hash().chars().take(32).collect())
}

/// The cloud that this machine is of, by what its firmware says of it (all of `/sys/class/dmi/id` that may be read).
#[must_use]
pub fn cloud(dmi: &str) -> Option<&'static str> {
    const CLOUDS: [(&str, &str); 15] = [
        ("amazon", "aws"),
        ("google compute", "gcp"),
        // The chassis of every Azure machine.
        ("7783-7084-3265-9085-8269-3286-77", "azure"),
        ("hetzner", "hetzner"),
        ("digitalocean", "digitalocean"),
        ("oraclecloud", "oracle"),
        ("alibaba cloud", "alibaba"),
        ("scaleway", "scaleway"),
        ("vultr", "vultr"),
        ("linode", "linode"),
        ("akamai", "linode"),
        ("upcloud", "upcloud"),
        ("exoscale", "exoscale"),
        ("ovh", "ovh"),
        // Last, since many of the others are built on it.
        ("openstack", "openstack"),
    ];
    let dmi = dmi.to_ascii_lowercase();
    CLOUDS.iter().find(|(text, _)| dmi.contains(text)).map(|(_, cloud)| *cloud)
}

/// The processor's name in `/proc/cpuinfo`. ARM kernels give none.
#[must_use]
pub fn cpu_model(cpuinfo: &str) -> Option<String> {
    let (_, model) = cpuinfo.lines().find(|line| line.starts_with("model name"))?.split_once(':')?;
    Some(model.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|model| !model.is_empty())
}

/// When the system started, in seconds since 1970, from `/proc/stat`.
#[must_use]
pub fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// `container`, the name of a hypervisor, `vm` for one that cannot be named, or `none`. Best effort.
#[must_use]
pub fn virtualization(machine: &Machine<'_>) -> &'static str {
    const VENDORS: [(&str, &str); 9] = [
        ("vmware", "vmware"),
        ("virtualbox", "virtualbox"),
        ("innotek", "virtualbox"),
        ("microsoft", "hyperv"),
        ("xen", "xen"),
        ("amazon ec2", "kvm"),
        ("google compute", "kvm"),
        ("qemu", "kvm"),
        ("kvm", "kvm"),
    ];
    if machine.container {
        return "container";
    }
    let dmi = machine.dmi.to_ascii_lowercase();
    let named = VENDORS.iter().find(|(text, _)| dmi.contains(text)).map(|(_, name)| *name);
    match (named, machine.hypervisor) {
        // Microsoft and Amazon sell bare machines too, which show no hypervisor.
        (Some(name), true) => name,
        (Some(name @ ("kvm" | "vmware" | "virtualbox" | "xen")), false) if !dmi.contains("amazon") => name,
        (None, true) => "vm",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_one_name_that_does_not_tell_its_own_id() {
        let id = "0123456789abcdef0123456789abcdef";
        let name = machine_id(&format!("{id}\n")).unwrap();
        assert_eq!((name.len(), machine_id(&id.to_uppercase())), (32, Some(name.clone())));
        assert_ne!(name, id);
        assert_ne!(machine_id("1123456789abcdef0123456789abcdef"), Some(name));
        for none in ["", "uninitialized\n", "0123", "0123456789abcdef0123456789abcdeg"] {
            assert_eq!(machine_id(none), None, "{none}");
        }
    }

    #[test]
    fn os_release_files_are_read_as_the_shell_would() {
        let text = "# comment\nID=debian\nVERSION_ID=\"12\"\nNAME='A B'\nX=\"a\\\"b\"\n\nnonsense\nEMPTY=\n";
        let read = os_release(text);
        let get = |key: &str| read.get(key).map(String::as_str);
        assert_eq!((get("ID"), get("VERSION_ID"), get("NAME")), (Some("debian"), Some("12"), Some("A B")));
        assert_eq!((get("X"), get("EMPTY"), read.len()), (Some("a\"b"), Some(""), 5));
    }

    #[test]
    fn each_system_has_its_package_manager() {
        for (os, release, programs, expected) in [
            ("linux", "ID=debian", "apt-get", Some("apt")),
            ("linux", "ID=ubuntu\nID_LIKE=debian", "dnf apt-get", Some("apt")),
            ("linux", "ID=pop\nID_LIKE=\"ubuntu debian\"", "apt-get pacman", Some("apt")),
            ("linux", "ID=fedora", "yum dnf apt-get", Some("dnf")),
            ("linux", "ID=rocky\nID_LIKE=\"rhel centos fedora\"", "dnf yum", Some("dnf")),
            ("linux", "ID=centos", "yum", Some("yum")),
            ("linux", "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"", "zypper", Some("zypper")),
            ("linux", "ID=alpine", "apk", Some("apk")),
            ("linux", "ID=arch", "pacman", Some("pacman")),
            ("linux", "ID=manjaro\nID_LIKE=arch", "pacman", Some("pacman")),
            ("freebsd", "ID=freebsd", "pkg", Some("pkg")),
            ("freebsd", "", "pkg", Some("pkg")),
            ("linux", "ID=homemade", "pacman", Some("pacman")),
            ("linux", "ID=debian", "pkg", None),
            ("macos", "", "", None),
        ] {
            let exists = |program: &str| programs.split(' ').any(|p| p == program);
            assert_eq!(
                package_manager(os, &os_release(release), exists),
                expected,
                "{os} {release} {programs}"
            );
        }
    }

    #[test]
    fn families_follow_the_distribution() {
        for (release, expected) in [
            ("ID=debian", Some("debian")),
            ("ID=pop\nID_LIKE=\"ubuntu debian\"", Some("debian")),
            ("ID=rocky\nID_LIKE=\"rhel centos fedora\"", Some("redhat")),
            ("ID=amzn", Some("redhat")),
            ("ID=\"opensuse-leap\"", Some("suse")),
            ("ID=alpine", Some("alpine")),
            ("ID=manjaro", Some("arch")),
            ("ID=homemade", None),
        ] {
            assert_eq!(os_family(&os_release(release)), expected, "{release}");
        }
    }

    #[test]
    fn clouds_and_containers_are_told_by_what_they_leave() {
        for (dmi, expected) in [
            ("Amazon EC2 t3.small", Some("aws")),
            ("Xen HVM domU 4.11.amazon", Some("aws")),
            ("Google Google Compute Engine", Some("gcp")),
            ("Microsoft Corporation Virtual Machine 7783-7084-3265-9085-8269-3286-77", Some("azure")),
            ("Microsoft Corporation Virtual Machine", None),
            ("Hetzner vServer", Some("hetzner")),
            ("DigitalOcean Droplet", Some("digitalocean")),
            ("QEMU Standard PC OracleCloud.com", Some("oracle")),
            ("OpenStack Foundation OpenStack Nova", Some("openstack")),
            ("QEMU Standard PC", None),
            ("", None),
        ] {
            assert_eq!(cloud(dmi), expected, "{dmi}");
        }
        for (traces, expected) in [
            (Traces::default(), None),
            (Traces { docker: true, ..Traces::default() }, Some("docker")),
            (Traces { docker: true, kubernetes: true, ..Traces::default() }, Some("kubernetes")),
            (Traces { podman: true, ..Traces::default() }, Some("podman")),
            (Traces { systemd: "lxc\n", ..Traces::default() }, Some("lxc")),
            (Traces { systemd: "quantum\n", ..Traces::default() }, Some("other")),
        ] {
            assert_eq!(container(&traces), expected, "{traces:?}");
        }
    }

    #[test]
    fn the_kernel_tells_processor_and_boot() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD  EPYC 7B13 \nflags\t: fpu";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("AMD EPYC 7B13"));
        assert_eq!(cpu_model("model name\t:\n"), None);
        assert_eq!((boot_time("cpu 1\nbtime 1795\n"), boot_time("btime x")), (Some(1795), None));
    }

    #[test]
    fn virtualization_is_guessed_from_what_shows() {
        for (container, dmi, hypervisor, expected) in [
            (true, "QEMU", true, "container"),
            (false, "QEMU Standard PC", true, "kvm"),
            (false, "VMware, Inc.", true, "vmware"),
            (false, "Microsoft Corporation Virtual Machine", true, "hyperv"),
            (false, "Microsoft Corporation Surface", false, "none"),
            (false, "Amazon EC2 m5.metal", false, "none"),
            (false, "Amazon EC2 t3.small", true, "kvm"),
            (false, "", true, "vm"),
            (false, "LENOVO", false, "none"),
        ] {
            assert_eq!(virtualization(&Machine { container, dmi, hypervisor }), expected, "{dmi}");
        }
    }
}
