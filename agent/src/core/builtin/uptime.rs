//! How long the host has been up, and whether it should be started anew.

use super::{Host, Judged, Measured, Number, Options, Rates};

pub(super) fn uptime(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let text = host.text("/proc/uptime")?;
    let seconds = text.split_whitespace().next().and_then(|word| word.split('.').next()?.parse::<u64>().ok());
    let seconds = seconds.ok_or_else(|| format!("/proc/uptime has no number: {:?}", text.trim()))?;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let reason = reboot_reason(host);
    let needed = if reason.is_some() { 1.0 } else { 0.0 };
    let warned = options.flag("reboot");
    let judged = if warned { Judged::Above { warning: Some(0.0), critical: None } } else { Judged::No };
    let reason = reason.map(|reason| format!(", a reboot is needed: {reason}")).unwrap_or_default();
    Ok(Measured {
        numbers: vec![
            Number::new("uptime", super::float(seconds), "s").judged(),
            Number { judged, max: Some(1.0), ..Number::new("reboot_needed", needed, "") },
        ],
        text: format!("{days}d {hours}h {minutes}m{reason}"),
        ..Measured::default()
    })
}

fn reboot_reason(host: &dyn Host) -> Option<String> {
    // A container has neither a kernel of its own nor a reason to reboot.
    let inside = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
    if inside.iter().any(|path| host.text(path).is_ok()) {
        return None;
    }
    // Of Debian and its kin.
    if host.text("/run/reboot-required").is_ok() {
        let packages = host.text("/run/reboot-required.pkgs").unwrap_or_default();
        let mut packages: Vec<_> = packages.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
        packages.dedup();
        let count = packages.len();
        packages.truncate(3);
        let more = if count > packages.len() { ", …" } else { "" };
        let by = if count == 0 { "a package".to_owned() } else { packages.join(", ") };
        return Some(format!("asked for by {by}{more}"));
    }
    let running = host.text("/proc/sys/kernel/osrelease").ok()?;
    let running = running.trim();
    let installed = host.names("/lib/modules");
    // A kernel that came from elsewhere says nothing about those of the package manager.
    if !installed.iter().any(|kernel| kernel == running) {
        return None;
    }
    let newer = installed.iter().filter(|kernel| is_newer(kernel, running));
    // A folder may be left behind by a kernel that is gone.
    let whole = |kernel: &&String| host.text(&format!("/lib/modules/{kernel}/modules.order")).is_ok();
    let newest = newer.filter(whole).max_by(|a, b| Release::of(a).numbers.cmp(&Release::of(b).numbers))?;
    Some(format!("kernel {newest} is installed, {running} runs"))
}

/// A kernel release such as `6.1.0-21-amd64` or `5.14.0-503.11.1.el9_5.x86_64`.
#[derive(Debug, PartialEq)]
struct Release {
    numbers: Vec<u64>,
    /// Words without their digits: only kernels of one flavour are compared.
    flavour: Vec<String>,
}

impl Release {
    fn of(release: &str) -> Self {
        let (mut numbers, mut flavour) = (Vec::new(), Vec::new());
        for word in release.split(['.', '-', '+', '~']) {
            match word.parse() {
                Ok(number) => numbers.push(number),
                Err(_) => flavour.push(word.chars().filter(|c| c.is_alphabetic()).collect()),
            }
        }
        Self { numbers, flavour }
    }
}

fn is_newer(kernel: &str, running: &str) -> bool {
    let (kernel, running) = (Release::of(kernel), Release::of(running));
    kernel.flavour == running.flavour && kernel.numbers > running.numbers
}

#[cfg(test)]
mod tests {
    use super::is_newer;

    #[test]
    fn kernels_of_one_flavour_are_compared_by_number() {
        for (kernel, running, newer) in [
            ("6.1.0-21-amd64", "6.1.0-20-amd64", true),
            ("6.1.0-9-amd64", "6.1.0-20-amd64", false),
            ("6.1.0-20-amd64", "6.1.0-20-amd64", false),
            ("6.1.0-21-cloud-amd64", "6.1.0-20-amd64", false),
            ("6.8.0-45-generic", "5.15.0-122-generic", true),
            ("6.8.0-1014-aws", "6.8.0-45-generic", false),
            ("5.14.0-503.11.1.el9_5.x86_64", "5.14.0-427.13.1.el9_4.x86_64", true),
            ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.el9.x86_64", true),
            ("6.11.4-301.fc41.x86_64", "6.11.4-201.fc40.x86_64", true),
            ("6.12.1-0-lts", "6.6.60-0-lts", true),
            ("", "6.1.0-20-amd64", false),
            ("extramodules", "6.1.0-20-amd64", false),
        ] {
            assert_eq!(is_newer(kernel, running), newer, "{kernel} {running}");
        }
    }
}
