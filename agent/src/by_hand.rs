//! `dogwatch-agent check NAME`: one built-in check now, with the output and the exit code of a Nagios plugin, so that it
//! serves other systems too. It needs no broker, no settings and no state.

use std::{ffi::OsString, fmt::Write as _, io::Write as _, process::ExitCode, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command};
use protocol::{
    CheckName, Status, Threshold,
    work::{Output, RunSettings},
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{
        builtin::{ALL, About, Builtin, Defaults, Options},
        check::{Check, Work},
        output::Finding,
        perfdata,
    },
    outbound::probe::Prober,
};

/// Of the plugin convention. It stands for wrong use as well: clap's own 2 would say "critical".
const UNKNOWN: u8 = 3;

/// Run with the arguments from `check` on. Exit codes: 0 ok, 1 warning, 2 critical, 3 unknown or wrong use.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(args) {
        Ok((text, code)) => ExitCode::from(say(&text).map_or(UNKNOWN, |()| code)),
        Err(error) => {
            let code = if error.use_stderr() { UNKNOWN } else { 0 };
            ExitCode::from(error.print().map_or(UNKNOWN, |()| code))
        }
    }
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn run(args: impl IntoIterator<Item = OsString>) -> Result<(String, u8), clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    let Some((builtin, options)) =
        matches.subcommand().and_then(|(name, options)| Some((Builtin::named(name)?, options)))
    else {
        return Ok((list(), 0));
    };
    let finding = find(builtin, options)
        .unwrap_or_else(|error| Finding::unknown(format!("{} UNKNOWN - {error}", builtin.title())));
    let code = match finding.status {
        Status::Ok => 0,
        Status::Warning => 1,
        Status::Critical => 2,
        Status::Unknown => UNKNOWN,
    };
    Ok((perfdata::line(&finding.output, &finding.metrics), code))
}

/// # Errors
/// When there is no thread for it.
fn find(builtin: &'static Builtin, options: &ArgMatches) -> anyhow::Result<Finding> {
    let threshold = |name: &str| options.get_one::<Threshold>(name).cloned();
    let timeout = options.get_one::<Duration>("timeout").copied().unwrap_or_default();
    let check = Check {
        name: CheckName::new(builtin.name)?,
        work: Work::Builtin(builtin, Options::default()),
        run: RunSettings::default(),
        every_ms: 0,
        at: None,
        timeout_ms: protocol::duration::millis(timeout),
        output: Output::default(),
        unit: None,
        warning: threshold("warning"),
        critical: threshold("critical"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let ran = runtime.block_on(Prober::default().run(&check, &CancellationToken::new()));
    // A reading that hangs is not waited for.
    runtime.shutdown_background();
    Ok(ran.map_or_else(|| Finding::unknown("cancelled"), |ran| ran.finding))
}

fn command() -> Command {
    let list = Arg::new("list").long("list").action(ArgAction::SetTrue);
    let threshold = |name: &'static str, short, help: &'static str| {
        Arg::new(name)
            .long(name)
            .short(short)
            .value_name("THRESHOLD")
            .allow_hyphen_values(true)
            .value_parser(str::parse::<Threshold>)
            .help(help)
    };
    let timeout = Arg::new("timeout")
        .long("timeout")
        .short('t')
        .value_name("DURATION")
        .default_value("10s")
        .value_parser(service_kit::settings::duration)
        .help("How long it may take before the answer is \"unknown\"");
    let one = |builtin: &'static Builtin| {
        Command::new(builtin.name)
            .about(builtin.about)
            .after_help(manual(builtin))
            .arg(threshold(
                "warning",
                'w',
                "Values that are a warning: \"> 80\", \"< 5\", or a Nagios range such as 10:20",
            ))
            .arg(threshold("critical", 'c', "Values that are critical, written in the same way"))
            .arg(timeout.clone())
    };
    Command::new("check")
        .bin_name("dogwatch-agent check")
        .about("Run one built-in check now: one line as of a Nagios plugin; exit code 0 ok, 1 warning, 2 critical, 3 unknown")
        .subcommand_value_name("NAME")
        .subcommand_help_heading("Built-in checks")
        .disable_help_subcommand(true)
        .arg_required_else_help(true)
        .args_conflicts_with_subcommands(true)
        .arg(list.help("One line for each built-in check: name, value and unit, what it measures"))
        .subcommands(ALL.iter().map(one))
}

fn list() -> String {
    let line = |builtin: &Builtin| {
        let unit = builtin.metrics.first().map_or("", |metric| metric.unit);
        format!("{:<12} {:<4} {}", builtin.name, unit, builtin.about)
    };
    ALL.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What `--help` says below the options.
fn manual(builtin: &Builtin) -> String {
    let mut text = String::new();
    if !builtin.more.is_empty() {
        text = format!("{}\n\n", builtin.more);
    }
    text.push_str("Metrics (the thresholds judge those with *; the highest of them is the value):\n");
    for About { name, unit, about, judged } in builtin.metrics {
        let mark = if *judged { '*' } else { ' ' };
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, " {mark} {name:<20} {unit:<7} {about}");
    }
    let name = builtin.name;
    let _infallible = write!(
        text,
        "\nDefault thresholds, in force when none is given: {}\n\nAs a document:\n  kind: Check\n  name: {name}\n  builtin: {name}\n  every: 1m",
        defaults(&builtin.defaults)
    );
    text
}

/// In words: `warning "> 80", critical "> 90"`.
#[must_use]
pub fn defaults(defaults: &Defaults) -> String {
    let each = if defaults.per_processor { " for each processor" } else { "" };
    let one = |name: &str, bound: Option<f64>| bound.map(|bound| format!("{name} \"> {bound}\"{each}"));
    let both = [one("warning", defaults.warning), one("critical", defaults.critical)];
    let both: Vec<String> = both.into_iter().flatten().collect();
    if both.is_empty() { "none".to_owned() } else { both.join(", ") }
}
