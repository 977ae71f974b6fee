//! On what, and when, the figures were measured.

use std::process::Command;

pub(crate) fn line(quick: bool) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model.trim());
    let nats = first_line(Command::new(testkit::nats::binary()).arg("--version"));
    let date = first_line(Command::new("date").arg("+%F"));
    let mut line = format!("{cores} cores, {model}; {nats}; {date}");
    if cfg!(debug_assertions) {
        line.push_str("; NOT OPTIMISED: the figures mean nothing");
    } else if quick {
        line.push_str("; --quick: the figures are rough");
    }
    line
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").to_owned()
}
