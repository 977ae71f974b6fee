//! Units of systemd, and services by whatever starts them: systemd, OpenRC, runit, or nothing but a process.

use super::{
    Host, Judged, Measured, Number, Options, Process, Rates,
    dbus::{self, Call, Reply},
    float, pattern,
};

/// The second one is root's alone, and needs no message bus.
const SOCKETS: [&str; 2] = ["/run/dbus/system_bus_socket", "/run/systemd/private"];
/// There when systemd is what started the host.
const BOOTED: &str = "/run/systemd/system";
/// Names that a text shows.
const SHOWN: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    name: String,
    active: String,
    sub: String,
}

/// All units that systemd has loaded.
fn units(host: &dyn Host) -> Result<Vec<Unit>, String> {
    if host.meta(BOOTED).is_none() {
        return Err("systemd does not run this host".to_owned());
    }
    let call = Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "ListUnits",
        args: &[],
    };
    listed(&dbus::ask(host, &SOCKETS, &call)?)
}

fn listed(reply: &Reply) -> Result<Vec<Unit>, String> {
    let list = (reply.signature == "a(ssssssouso)").then(|| {
        reply.body().array(8, |item| {
            let (name, _about, _loaded) = (item.text()?, item.text()?, item.text()?);
            let unit = Unit { name, active: item.text()?, sub: item.text()? };
            let (_followed, _path, _job) = (item.text()?, item.text()?, item.u32()?);
            let (_job_kind, _job_path) = (item.text()?, item.text()?);
            Some(unit)
        })
    });
    list.flatten().ok_or_else(|| "systemd's list of units cannot be understood".to_owned())
}

/// The name of a unit as systemd knows it: `nginx` is `nginx.service`.
fn full(name: &str) -> String {
    const KINDS: [&str; 11] = [
        "service",
        "socket",
        "target",
        "device",
        "mount",
        "automount",
        "swap",
        "timer",
        "path",
        "slice",
        "scope",
    ];
    let is_full = name.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind));
    if is_full { name.to_owned() } else { format!("{name}.service") }
}

/// Active, or on the way there or to new settings.
fn is_up(unit: &Unit) -> bool {
    matches!(unit.active.as_str(), "active" | "reloading" | "refreshing")
}

pub(super) fn systemd(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let all = units(host)?;
    let exclude: Vec<String> = options.texts("exclude").iter().map(|name| full(name)).collect();
    let is_failed = |unit: &&Unit| unit.active == "failed" && !pattern::any_fits(&exclude, &unit.name);
    let failed: Vec<String> = all.iter().filter(is_failed).map(|unit| unit.name.clone()).collect();
    let mut numbers = vec![
        Number {
            max: Some(float(all.len() as u64)),
            ..Number::new("failed", float(failed.len() as u64), "")
        }
        .judged(),
        Number::new("units", float(all.len() as u64), ""),
    ];
    let mut text = match failed.as_slice() {
        [] => format!("none of {} units failed", all.len()),
        _ => format!("{} of {} units failed: {}", failed.len(), all.len(), some(&failed)),
    };
    let wanted = options.texts("units");
    if !wanted.is_empty() {
        let state = |name: &String| {
            let name = full(name);
            let found: Vec<&Unit> = all.iter().filter(|unit| pattern::fits(&name, &unit.name)).collect();
            match found.iter().find(|unit| !is_up(unit)).or(found.first()) {
                Some(unit) if is_up(unit) => None,
                Some(unit) => Some(format!("{} is {} ({})", unit.name, unit.active, unit.sub)),
                None => Some(format!("{name} is not loaded")),
            }
        };
        let inactive: Vec<String> = wanted.iter().filter_map(state).collect();
        let judged = Judged::Above { warning: None, critical: Some(0.0) };
        numbers.push(Number { judged, ..Number::new("inactive", float(inactive.len() as u64), "") });
        if !inactive.is_empty() {
            text = format!("{}; {text}", some(&inactive));
        }
    }
    Ok(Measured { numbers, text, ..Measured::default() })
}

fn some(names: &[String]) -> String {
    let more =
        if names.len() > SHOWN { format!(", and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

pub(super) fn service(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let names = options.texts("name");
    if names.is_empty() {
        return Err("no service is named".to_owned());
    }
    if let Some(name) = names.iter().find(|name| name.contains('/') || name.is_empty()) {
        return Err(format!("{name:?} is no name of a service"));
    }
    // Without the message bus, the processes of a unit still show that it runs.
    let units = units(host).ok();
    let mut down = Vec::new();
    let mut numbers = Vec::new();
    for name in names {
        let (up, how) = match &units {
            Some(units) => of_systemd(units, name),
            None if host.meta(BOOTED).is_some() => of_cgroup(host, name),
            None => without_systemd(host, name),
        };
        numbers.push(Number {
            max: Some(1.0),
            ..Number::new(format!("{name} up"), if up { 1.0 } else { 0.0 }, "")
        });
        if !up {
            down.push(format!("{name} is down ({how})"));
        }
    }
    let count = float(down.len() as u64);
    numbers.insert(
        0,
        Number { max: Some(float(names.len() as u64)), ..Number::new("down", count, "") }.judged(),
    );
    let text = if down.is_empty() { format!("up: {}", some(names)) } else { some(&down) };
    Ok(Measured { numbers, text, ..Measured::default() })
}

/// Whether it is up, and what says so.
type Found = (bool, String);

fn of_systemd(units: &[Unit], name: &str) -> Found {
    match units.iter().find(|unit| unit.name == full(name)) {
        Some(unit) => (is_up(unit), format!("systemd: {}, {}", unit.active, unit.sub)),
        None => (false, format!("systemd has not loaded {}", full(name))),
    }
}

fn of_cgroup(host: &dyn Host, name: &str) -> Found {
    let name = full(name);
    let folders = ["/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/systemd/system.slice"];
    let runs = |folder: &&str| {
        host.text(&format!("{folder}/{name}/cgroup.procs")).is_ok_and(|text| !text.trim().is_empty())
    };
    (folders.iter().any(runs), format!("{name} has no processes; the message bus could not be asked"))
}

fn without_systemd(host: &dyn Host, name: &str) -> Found {
    if host.meta("/run/openrc").is_some() {
        let is = |state: &str| host.meta(&format!("/run/openrc/{state}/{name}")).is_some();
        // What has crashed still counts as started until somebody looks; its process tells.
        if is("started") {
            let pid_file = pid_file(host, name);
            return pid_file.filter(|(up, _)| !up).unwrap_or((true, "OpenRC: started".to_owned()));
        }
        if host.meta(&format!("/etc/init.d/{name}")).is_some() {
            let state =
                ["crashed", "failed", "starting", "stopping", "inactive"].into_iter().find(|state| is(state));
            return (false, format!("OpenRC: {}", state.unwrap_or("stopped")));
        }
    }
    for folder in ["/run/runit/service", "/var/service", "/etc/service", "/service"] {
        if let Ok(state) = host.text(&format!("{folder}/{name}/supervise/stat")) {
            let state = state.trim();
            return (state.starts_with("run"), format!("runit: {state}"));
        }
    }
    pid_file(host, name).unwrap_or_else(|| by_process(host, name))
}

/// By the pid file, where there is one.
fn pid_file(host: &dyn Host, name: &str) -> Option<Found> {
    let paths =
        [format!("/run/{name}.pid"), format!("/run/{name}/{name}.pid"), format!("/var/run/{name}.pid")];
    let (path, text) =
        paths.into_iter().find_map(|path| Some((host.text(&path).ok()?, path))).map(|(t, p)| (p, t))?;
    let pid = text.split_whitespace().next().and_then(|word| word.parse::<u32>().ok());
    let Some(pid) = pid else { return Some((false, format!("{path} holds no number"))) };
    let lives = host.text(&format!("/proc/{pid}/stat")).is_ok_and(|stat| !is_zombie(&stat));
    Some((lives, format!("process {pid} of {path} does not run")))
}

fn is_zombie(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn by_process(host: &dyn Host, name: &str) -> Found {
    let short: String = name.chars().take(15).collect();
    let runs = |process: &Process| *process.name == *short && !matches!(process.state, 'Z' | 'X');
    let up = host.processes().iter().any(runs);
    (up, format!("no pid file and no process of the name {short}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::builtin::dbus::tests::{align, conversation, texts};

    /// What systemd says when it lists units of these names, states and sub-states.
    pub(crate) fn list(units: &[(&str, &str, &str)]) -> Vec<u8> {
        // The array's items begin at a multiple of 8, behind its length.
        let mut items = vec![0; 8];
        for (name, active, sub) in units {
            align(&mut items, 8);
            texts(
                &mut items,
                &[name, "Some unit", "loaded", active, sub, "", "/org/freedesktop/systemd1/unit/x"],
            );
            align(&mut items, 4);
            items.extend(0_u32.to_le_bytes());
            texts(&mut items, &["", "/"]);
        }
        let length = u32::try_from(items.len() - 8).unwrap();
        items[..4].copy_from_slice(&length.to_le_bytes());
        conversation(2, "a(ssssssouso)", &items)
    }

    #[test]
    fn names_of_units_are_completed() {
        for (name, expected) in [
            ("nginx", "nginx.service"),
            ("nginx.service", "nginx.service"),
            ("backup.timer", "backup.timer"),
            ("getty@tty1", "getty@tty1.service"),
            ("php8.2-fpm", "php8.2-fpm.service"),
            ("cron*", "cron*.service"),
        ] {
            assert_eq!(full(name), expected);
        }
    }
}
