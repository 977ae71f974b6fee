//! `dogwatch-agent check NAME`: one built-in check now, with the output and the exit code of a Nagios plugin, so that it
//! serves other systems too. It needs no broker, no settings and no state.

use std::{
    collections::BTreeMap, ffi::OsString, fmt::Write as _, io::Write as _, path::PathBuf, process::ExitCode,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind};
use protocol::{
    CheckName, Status, Threshold,
    work::{Output, RunSettings},
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{
        builtin::{ALL, About, Builtin, Defaults, Kind, Opt, Options},
        check::{Check, Work},
        output::Finding,
        perfdata,
    },
    outbound::probe::Prober,
};

/// Of the plugin convention. It stands for wrong use as well: clap's own 2 would say "critical".
const UNKNOWN: u8 = 3;
const STATE: &str = "state";

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
    let with = options_of(builtin, options).map_err(|reason| {
        command().error(ErrorKind::ValueValidation, format!("{}: {reason}", builtin.name))
    })?;
    let finding = find(builtin, with, options)
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
fn find(builtin: &'static Builtin, with: Options, given: &ArgMatches) -> anyhow::Result<Finding> {
    let threshold = |name: &str| given.get_one::<Threshold>(name).cloned();
    let timeout = given.get_one::<Duration>("timeout").copied().unwrap_or_default();
    // Whoever calls it for two logs in turn means two checks.
    let hash = crc32fast::hash(format!("{with:?}").as_bytes());
    let name =
        if builtin.remembers() { format!("{}-{hash:08x}", builtin.name) } else { builtin.name.to_owned() };
    let check = Check {
        name: CheckName::new(&name)?,
        work: Work::Builtin(builtin, with),
        run: RunSettings::default(),
        every_ms: 0,
        at: None,
        timeout_ms: protocol::duration::millis(timeout),
        output: Output::default(),
        unit: None,
        warning: threshold("warning"),
        critical: threshold("critical"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let state = if builtin.remembers() { given.get_one::<PathBuf>(STATE).cloned() } else { None };
    let prober = state.map_or_else(Prober::default, Prober::remembering_in);
    let ran = runtime.block_on(async {
        let mut ran = prober.run(&check, &CancellationToken::new()).await;
        if let Some(ran) = &mut ran
            && let Some(keep) = ran.keep.take()
            && let Err(error) = keep.keep().await
        {
            // Each run would be the first one, and fine for ever.
            ran.finding = Finding::unknown(format!("{} UNKNOWN - {error}", builtin.title()));
        }
        ran
    });
    // A reading that hangs is not waited for.
    runtime.shutdown_background();
    Ok(ran.map_or_else(|| Finding::unknown("cancelled"), |ran| ran.finding))
}

/// What the flags give as options.
///
/// # Errors
/// Names the option that is wrong.
fn options_of(builtin: &'static Builtin, given: &ArgMatches) -> Result<Options, String> {
    let mut with = BTreeMap::new();
    for option in builtin.options {
        let values: Vec<serde_json::Value> = given
            .get_many::<String>(option.name)
            .into_iter()
            .flatten()
            .map(|text| text.as_str().into())
            .collect();
        let value = match (option.kind, values.as_slice()) {
            (_, []) => continue,
            (Kind::Texts, _) => values.into(),
            (_, [.., last]) => last.clone(),
        };
        with.insert(option.name.to_owned(), value);
    }
    Options::read(builtin.options, &with)
}

/// The flag of an option: `_` becomes `-`.
fn flag(option: &Opt) -> Arg {
    let mut help = option.about.to_owned();
    if let Some(default) = option.default {
        help = format!("{help} [default: {default}]");
    }
    let arg = Arg::new(option.name)
        .long(option.name.replace('_', "-"))
        .value_name(option.kind.hint())
        .allow_hyphen_values(true)
        .required(option.required)
        .help(help)
        .help_heading("Options of this check");
    match option.kind {
        Kind::Texts => arg.action(ArgAction::Append).value_delimiter(','),
        Kind::Flag => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg,
    }
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
    let state =
        Arg::new(STATE).long(STATE).value_name("FOLDER").value_parser(clap::value_parser!(PathBuf)).help(
            "Folder to remember the last position in; without one, it looks at the end of what is there",
        );
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
            .args(builtin.remembers().then(|| state.clone()))
            .args(builtin.options.iter().map(flag))
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
    let _infallible = write!(
        text,
        "\nDefault thresholds, in force when none is given: {}\n\nAs a document:",
        defaults(&builtin.defaults)
    );
    for line in document(builtin).lines() {
        let _infallible = write!(text, "\n  {line}");
    }
    text
}

/// A check that runs it, with the options that one usually gives.
#[must_use]
pub fn document(builtin: &Builtin) -> String {
    let name = builtin.name;
    let example = builtin.example();
    let every = if example.starts_with("every:") { "" } else { "every: 1m\n" };
    format!("kind: Check\nname: {name}\nbuiltin: {name}\n{every}{example}")
}

/// In words: `warning "> 80", critical "> 90"`.
#[must_use]
pub fn defaults(defaults: &Defaults) -> String {
    let each = if defaults.per_processor { " for each processor" } else { "" };
    let one = |name: &str, bound: Option<f64>| {
        bound.map(|bound| format!("{name} \"{}\"{each}", defaults.side.beyond(bound)))
    };
    let both = [one("warning", defaults.warning), one("critical", defaults.critical)];
    let both: Vec<String> = both.into_iter().flatten().collect();
    if both.is_empty() { "none".to_owned() } else { both.join(", ") }
}
