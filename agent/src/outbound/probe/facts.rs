//! Facts about this host, detected anew each time: a system is upgraded under a running agent.

use std::{fs, path::Path};

use protocol::Facts;
use serde_json::Value;

use crate::core::{
    builtin::memory_total,
    facts::{
        Machine, Traces, boot_time, cloud, container, cpu_model, machine_id, os_family, os_release,
        package_manager, virtualization,
    },
};

/// What firmware says of the cloud that it is of.
const FIRMWARE: [&str; 7] = [
    "sys_vendor",
    "product_name",
    "product_version",
    "board_vendor",
    "bios_vendor",
    "bios_version",
    "chassis_asset_tag",
];

/// Blocks on small reads of `/etc`, `/proc` and `/sys`. What cannot be detected is left out.
#[must_use]
pub fn detect() -> Facts {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let os = std::env::consts::OS;
    let release = ["/etc/os-release", "/usr/lib/os-release", "/var/run/os-release"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok());
    let release = os_release(&release.unwrap_or_default());
    let dmi = |names: &[&str]| -> String {
        names.iter().map(|name| text(&format!("/sys/class/dmi/id/{name}"))).collect::<Vec<_>>().join(" ")
    };
    let (vendor, firmware) = (dmi(&["sys_vendor", "product_name"]), dmi(&FIRMWARE));
    let exists = |path: &str| Path::new(path).exists();
    let container = container(&Traces {
        kubernetes: exists("/var/run/secrets/kubernetes.io") || std::env::var_os("KUBERNETES_PORT").is_some(),
        systemd: &text("/run/systemd/container"),
        docker: exists("/.dockerenv"),
        podman: exists("/run/.containerenv"),
    });
    let cpuinfo = text("/proc/cpuinfo");
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let machine = Machine {
        container: container.is_some(),
        dmi: &vendor,
        hypervisor: flags.split_whitespace().any(|flag| flag == "hypervisor"),
    };
    let memory = memory_total(&text("/proc/meminfo"));
    let uname = rustix::system::uname();
    let cpus = std::thread::available_parallelism().ok().map(|cpus| cpus.get());
    let found = [
        ("os", Some(os.into())),
        ("os_family", os_family(&release).map(Value::from)),
        ("distro", release.get("ID").cloned().map(Value::from)),
        ("distro_like", release.get("ID_LIKE").cloned().map(Value::from)),
        ("distro_version", release.get("VERSION_ID").cloned().map(Value::from)),
        ("package_manager", package_manager(os, &release, on_path).map(Value::from)),
        ("arch", Some(std::env::consts::ARCH.into())),
        ("kernel", Some(uname.release().to_string_lossy().into())),
        ("cpu_model", cpu_model(&cpuinfo).map(Value::from)),
        ("cpus", cpus.map(Value::from)),
        ("memory_bytes", memory.filter(|bytes| *bytes > 0).map(Value::from)),
        ("machine_id", machine_id(&text("/etc/machine-id")).map(Value::from)),
        ("hostname", Some(crate::settings::hostname().into())),
        ("virtualization", Some(virtualization(&machine).into())),
        ("container", container.map(Value::from)),
        ("cloud", cloud(&firmware).map(Value::from)),
        ("boot_time", boot_time(&text("/proc/stat")).map(Value::from)),
        ("agent_version", Some(env!("CARGO_PKG_VERSION").into())),
    ];
    found.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A service may be started with a short PATH.
    let folders =
        std::env::split_paths(&path).chain(["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(Into::into));
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_host_has_facts() {
        let facts = super::detect();
        for name in [
            "os",
            "arch",
            "kernel",
            "cpus",
            "memory_bytes",
            "hostname",
            "virtualization",
            "boot_time",
            "agent_version",
        ] {
            assert!(facts.contains_key(name), "{name} is missing in {facts:?}");
        }
    }
}
