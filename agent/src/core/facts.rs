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

fn unquote(value: &str) -> String {
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
