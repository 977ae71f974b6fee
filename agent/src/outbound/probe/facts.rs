//! Facts about this host, detected anew each time: a system is upgraded under a running agent.

use std::{fs, path::Path};

use protocol::Facts;
use serde_json::Value;

use crate::core::{
    builtin::memory_total,
    facts::{Machine, os_release, package_manager, virtualization},
};

/// Blocks on small reads of `/etc`, `/proc` and `/sys`. What cannot be detected is left out.
#[must_use]
pub fn detect() -> Facts {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let os = std::env::consts::OS;
    let release = ["/etc/os-release", "/usr/lib/os-release", "/var/run/os-release"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok());
    let release = os_release(&release.unwrap_or_default());
    let dmi = ["sys_vendor", "product_name"].map(|name| text(&format!("/sys/class/dmi/id/{name}"))).join(" ");
    let cpuinfo = text("/proc/cpuinfo");
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let machine = Machine {
        container: ["/.dockerenv", "/run/.containerenv"].into_iter().any(|path| Path::new(path).exists()),
        dmi: &dmi,
        hypervisor: flags.split_whitespace().any(|flag| flag == "hypervisor"),
    };
    let memory = memory_total(&text("/proc/meminfo"));
    let uname = rustix::system::uname();
    let cpus = std::thread::available_parallelism().ok().map(|cpus| cpus.get());
    let found = [
        ("os", Some(os.into())),
        ("distro", release.get("ID").cloned().map(Value::from)),
        ("distro_version", release.get("VERSION_ID").cloned().map(Value::from)),
        ("package_manager", package_manager(os, &release, on_path).map(Value::from)),
        ("arch", Some(std::env::consts::ARCH.into())),
        ("kernel", Some(uname.release().to_string_lossy().into())),
        ("cpus", cpus.map(Value::from)),
        ("memory_bytes", memory.filter(|bytes| *bytes > 0).map(Value::from)),
        ("hostname", Some(crate::settings::hostname().into())),
        ("virtualization", Some(virtualization(&machine).into())),
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
        for name in
            ["os", "arch", "kernel", "cpus", "memory_bytes", "hostname", "virtualization", "agent_version"]
        {
            assert!(facts.contains_key(name), "{name} is missing in {facts:?}");
        }
    }
}
