//! Limits of a run: set by the agent on the waiting process, and told apart when one of them ended it.

use protocol::work::{Limits, RunSettings};
use rustix::process::{self, Pid, Resource, Rlimit, Signal};

use super::cgroup::{Cgroup, Cost};
use crate::core::output::{Finding, Printed};

/// Whether it must wait for its limits. Priority is one of them: what it starts inherits it.
pub(super) fn needed(run: &RunSettings) -> bool {
    let Limits { memory_bytes, cpu_ms, open_files, processes, file_size_bytes, output_bytes: _ } = run.limits;
    let all = [memory_bytes, cpu_ms, open_files, processes, file_size_bytes];
    run.nice.is_some() || all.into_iter().any(|limit| limit.is_some())
}

/// Limit `pid`. What the cgroup of the run limits needs no other limit.
///
/// # Errors
/// A text that says which limit cannot be set.
pub(super) fn set(pid: Pid, run: &RunSettings, uid: u32, cgroup: Option<&Cgroup>) -> Result<(), String> {
    let limits = &run.limits;
    let (memory, processes) =
        cgroup.map_or((false, false), |cgroup| (cgroup.limits.memory, cgroup.limits.pids));
    if limits.processes.is_some() && !processes && uid == 0 {
        return Err(
            "limits.processes: the kernel counts no processes of root without cgroups; give the check a \
                    run.user, or the agent's service Delegate=yes"
                .to_owned(),
        );
    }
    let cpu = limits.cpu_ms.map(|cpu| cpu.div_ceil(1000).max(1));
    for (name, resource, limit, above) in [
        ("memory", Resource::As, limits.memory_bytes.filter(|_| !memory), 0),
        // XCPU first, and KILL a second later.
        ("cpu", Resource::Cpu, cpu, 1),
        ("open_files", Resource::Nofile, limits.open_files, 0),
        ("processes", Resource::Nproc, limits.processes.filter(|_| !processes), 0),
        ("file_size", Resource::Fsize, limits.file_size_bytes, 0),
    ] {
        let Some(limit) = limit else { continue };
        // Nobody but root can have more than the agent has itself.
        let most = process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let (limit, hard) = (limit.min(most), limit.saturating_add(above).min(most));
        process::prlimit(Some(pid), resource, Rlimit { current: Some(limit), maximum: Some(hard) })
            .map_err(|error| format!("limits.{name} cannot be set: {error}"))?;
    }
    if let Some(nice) = run.nice {
        process::setpriority_process(Some(pid), nice.into()).map_err(|error| {
            format!("run.nice: {nice} cannot be set: {error}; below the agent's own it needs root")
        })?;
    }
    Ok(())
}

/// No core files: they would fill the disk that is watched.
pub(super) fn no_core(pid: Pid) {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // It is gone, or is not ours any more (sudo).
    let _denied = process::prlimit(Some(pid), Resource::Core, none);
}

/// The finding of a run that could not be, or was ended by a limit; `None` when its output says what it found.
pub(super) fn ended_by(
    limits: &Limits,
    printed: &Printed,
    said: &str,
    cpu_us: u64,
    cost: &Cost,
) -> Option<Finding> {
    // A shell reports the signal that ended its last command in this way.
    let signal = printed.signal.or_else(|| printed.exit_code.map(|code| code - 128).filter(|code| *code > 0));
    let by = |which: Signal| signal == Some(which.as_raw());
    let out_of_time =
        |ms: u64| by(Signal::XCPU) || (by(Signal::KILL) && cpu_us / 1_000_000 >= ms.div_ceil(1000));
    let Limits { memory_bytes, cpu_ms, processes, file_size_bytes, .. } = *limits;
    let limit = if let Some(bytes) = memory_bytes.filter(|_| cost.killed_for_memory > 0) {
        Some(format!("it took more memory than {}", size(bytes)))
    } else if let Some(count) =
        processes.filter(|_| cost.refused_processes > 0 && printed.exit_code != Some(0))
    {
        Some(format!("it wanted more than {count} processes at once"))
    } else if let Some(ms) = cpu_ms.filter(|ms| out_of_time(*ms)) {
        Some(format!("it took more processor time than {}s", ms.div_ceil(1000).max(1)))
    } else {
        let bytes = file_size_bytes.filter(|_| by(Signal::XFSZ));
        bytes.map(|bytes| format!("it wrote a file larger than {}", size(bytes)))
    };
    let reason = match (limit, printed.exit_code) {
        (Some(limit), _) => format!("stopped by its limit: {limit}"),
        (None, Some(127)) => "a program that it needs does not exist (exit code 127)".to_owned(),
        (None, Some(126)) => "a program that it needs cannot be run (exit code 126)".to_owned(),
        (None, _) => return None,
    };
    let output = if said.is_empty() { reason } else { format!("{reason}: {said}") };
    Some(Finding { exit_code: printed.exit_code, signal: printed.signal, ..Finding::unknown(output) })
}

/// As it was most likely written.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes} bytes"), |(name, unit)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_ended_a_run_is_named() {
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            cpu_ms: Some(1_500),
            processes: Some(7),
            file_size_bytes: Some(1_500),
            ..Limits::default()
        };
        let (exit, signal) = (|code| (Some(code), None), |signal| (None, Some(signal)));
        let cost = |killed_for_memory, refused_processes| Cost {
            killed_for_memory,
            refused_processes,
            ..Cost::default()
        };
        for (end, cpu_us, cost, expected) in [
            (signal(9), 10, cost(1, 0), "it took more memory than 64 MiB"),
            (exit(2), 10, cost(0, 3), "it wanted more than 7 processes at once"),
            (exit(0), 10, cost(0, 3), ""),
            (signal(24), 2_000_000, cost(0, 0), "it took more processor time than 2s"),
            (exit(152), 10, cost(0, 0), "it took more processor time than 2s"),
            (signal(9), 2_900_000, cost(0, 0), "it took more processor time than 2s"),
            (signal(9), 10, cost(0, 0), ""),
            (signal(25), 10, cost(0, 0), "it wrote a file larger than 1500 bytes"),
            (exit(153), 10, cost(0, 0), "it wrote a file larger than 1500 bytes"),
            (exit(1), 10, cost(0, 0), ""),
        ] {
            let printed = Printed { exit_code: end.0, signal: end.1, ..Printed::default() };
            let finding = ended_by(&limits, &printed, "text", cpu_us, &cost);
            let found = finding.map_or_else(String::new, |finding| finding.output);
            let expected = if expected.is_empty() {
                String::new()
            } else {
                format!("stopped by its limit: {expected}: text")
            };
            assert_eq!(found, expected, "{end:?}");
            if expected.is_empty() {
                continue;
            }
            assert_eq!(ended_by(&Limits::default(), &printed, "", cpu_us, &cost), None, "{end:?}");
        }
        let missing = Printed { exit_code: Some(127), ..Printed::default() };
        let finding = ended_by(&limits, &missing, "", 0, &Cost::default()).unwrap();
        assert_eq!((finding.status, finding.exit_code), (protocol::Status::Unknown, Some(127)));
    }
}
