//! Settings of a program: flags, then environment (`DOGWATCH_…`), then a TOML file, then defaults.
//!
//! A program declares its settings once, as a clap struct. The file has the long flags as its keys, with `_` for `-`
//! (`nats_url = "nats://broker:4222"`): its values take the place of the defaults, so that flags and environment win.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, error::ErrorKind};

/// Settings that every program has.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// TOML file with settings; keys are the long flags with _ for -
    #[arg(long, env = "DOGWATCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub nats: crate::nats::NatsSettings,
    #[command(flatten)]
    pub log: crate::telemetry::LogSettings,
    /// Serve /livez, /readyz and /metrics at this address
    #[arg(long, env = "DOGWATCH_MONITOR", value_name = "ADDR")]
    pub monitor: Option<std::net::SocketAddr>,
    /// How long a stop may take before what is left is cut off
    #[arg(long, env = "DOGWATCH_GRACE", value_name = "DURATION", default_value = "8s", value_parser = duration)]
    pub grace: std::time::Duration,
}

/// Value parser for durations such as `30s` or `1h 30m`.
///
/// # Errors
/// When `text` is not a duration.
pub fn duration(text: &str) -> Result<std::time::Duration, protocol::duration::DurationError> {
    protocol::duration::parse(text)
}

/// The settings are at fault: another start with the same ones would fail as well. A program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongSettings(pub String);

/// Settings from this process's flags, environment and file. On an error it says what is wrong and exits with code 2.
#[must_use]
pub fn load<T: Parser>() -> T {
    match load_from(std::env::args_os()) {
        Ok(settings) => settings,
        Err(error) => error.exit(),
    }
}

/// # Errors
/// A usage error that names the flag, variable or key and the place.
pub fn load_from<T: CommandFactory + FromArgMatches>(
    args: impl IntoIterator<Item = OsString>,
) -> Result<T, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = T::command();
    if let Some(path) = config_path(&command, &args) {
        command = apply_file(command, &path)?;
    }
    let matches = command.clone().try_get_matches_from(args)?;
    T::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// One setting as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// As it stands in a settings file.
    pub key: String,
    pub values: Vec<String>,
    /// Where it is from: `flag`, `environment`, `file` or `default`.
    pub from: &'static str,
}

/// The settings that `args`, the environment and the file give, those without a value left out.
///
/// # Errors
/// As [`load_from`].
pub fn effective<T: CommandFactory>(
    args: impl IntoIterator<Item = OsString>,
) -> Result<Vec<Effective>, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let plain = T::command();
    let command = match config_path(&plain, &args) {
        Some(path) => apply_file(plain.clone(), &path)?,
        None => plain.clone(),
    };
    let matches = command.clone().try_get_matches_from(args)?;
    // The file's values stand in for the defaults.
    let of_file = |arg: &clap::Arg| {
        let own = plain.get_arguments().find(|own| own.get_id() == arg.get_id());
        own.is_some_and(|own| own.get_default_values() != arg.get_default_values())
    };
    let one = |arg: &clap::Arg| {
        let id = arg.get_id().as_str();
        let values = matches.get_raw(id)?.map(|value| value.to_string_lossy().into_owned()).collect();
        let from = match matches.value_source(id)? {
            clap::parser::ValueSource::CommandLine => "flag",
            clap::parser::ValueSource::EnvVariable => "environment",
            _ if of_file(arg) => "file",
            _ => "default",
        };
        Some(Effective { key: arg.get_long()?.replace('-', "_"), values, from })
    };
    Ok(command.get_arguments().filter_map(one).collect())
}

/// The file named by `--config` or its variable, read ahead of the rest since it gives the defaults for them.
fn config_path(command: &Command, args: &[OsString]) -> Option<PathBuf> {
    let matches = command.clone().ignore_errors(true).try_get_matches_from(args).ok()?;
    let mut matches = &matches;
    loop {
        if let Ok(Some(path)) = matches.try_get_one::<PathBuf>("config") {
            return Some(path.clone());
        }
        matches = matches.subcommand()?.1;
    }
}

fn apply_file(command: Command, path: &std::path::Path) -> Result<Command, clap::Error> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        clap::Error::raw(ErrorKind::Io, format!("cannot read the settings file {name}: {error}\n"))
    })?;
    let invalid =
        |what: String| clap::Error::raw(ErrorKind::InvalidValue, format!("settings file {name}: {what}\n"));
    let table: toml::Table = text.parse().map_err(|error| invalid(format!("{error}")))?;
    let mut values = Vec::new();
    for (key, value) in table {
        let texts = match value {
            toml::Value::Array(items) => items.iter().map(scalar).collect(),
            other => scalar(&other).map(|text| vec![text]),
        };
        let texts = texts.ok_or_else(|| {
            invalid(format!("{key} must be a text, a number, true, false or a list of these"))
        })?;
        values.push((key, texts));
    }
    let command = fill(command, &mut values);
    match values.first() {
        None => Ok(command),
        Some((key, _)) => {
            Err(invalid(format!("unknown key {key:?}; the keys are the long flags of --help with _ for -")))
        }
    }
}

/// Make `values` the defaults of the arguments that have their names, here and in subcommands, and take them out.
fn fill(command: Command, values: &mut Vec<(String, Vec<String>)>) -> Command {
    let mut used = Vec::new();
    let command = fill_all(command, values, &mut used);
    values.retain(|(key, _)| !used.contains(key));
    command
}

fn fill_all(mut command: Command, values: &[(String, Vec<String>)], used: &mut Vec<String>) -> Command {
    for (key, texts) in values {
        let flag = key.replace('_', "-");
        let id = command.get_arguments().find_map(|arg| {
            let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append | ArgAction::SetTrue);
            (takes && arg.get_long() == Some(&flag) && flag != "config").then(|| arg.get_id().clone())
        });
        if let Some(id) = id {
            let texts = texts.clone();
            command = command.mut_arg(id, |arg| arg.required(false).default_values(texts));
            used.push(key.clone());
        }
    }
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |sub| fill_all(sub, values, used));
    }
    command
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long, default_value = "default")]
        nats_url: String,
        #[arg(long)]
        empty: bool,
        #[arg(long, env = "DOGWATCH_TEST_SETTING_LABEL")]
        label: Vec<String>,
        #[arg(long, default_value_t = 1)]
        port: u16,
    }

    fn settings(file: &str, args: &[&str]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, file).unwrap();
        let mut all = vec!["test".into(), "--config".into(), path.into_os_string()];
        all.extend(args.iter().map(OsString::from));
        load_from(all).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = "nats_url = 'file'\nempty = true\nlabel = ['a=1', 'b=2']\nport = 7\n";
        let read = settings(file, &["--port", "8"]).unwrap();
        assert_eq!((read.nats_url.as_str(), read.empty, read.port), ("file", true, 8));
        assert_eq!(read.label, ["a=1", "b=2"]);
        assert!(read.config.is_some());
        assert_eq!(settings("", &[]).unwrap().nats_url, "default");
    }

    #[test]
    fn the_settings_in_effect_say_where_they_are_from() {
        let args = ["test", "--port", "8", "--label", "a=1", "--label", "b=2"].map(OsString::from);
        let all = effective::<Settings>(args).unwrap();
        let line = |one: &Effective| format!("{} {} {}", one.key, one.values.join(","), one.from);
        let lines: Vec<_> = all.iter().map(line).collect();
        assert!(lines.contains(&"port 8 flag".to_owned()), "{lines:?}");
        assert!(lines.contains(&"label a=1,b=2 flag".to_owned()), "{lines:?}");
        assert!(lines.contains(&"nats_url default default".to_owned()), "{lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("config")), "{lines:?}");
    }

    #[test]
    fn a_wrong_file_says_where_and_what_to_do() {
        for (file, expected) in [
            ("nats_urll = 'x'", "unknown key \"nats_urll\"; the keys are the long flags"),
            ("nats_url = ", "TOML parse error at line 1"),
            ("port = 'x'", "invalid value 'x' for '--port <PORT>'"),
            ("port = {a=1}", "port must be a text"),
            ("config = 'x'", "unknown key \"config\""),
        ] {
            let error = settings(file, &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let missing = load_from::<Settings>(["test", "--config", "/no/such/file"].map(OsString::from));
        assert!(missing.unwrap_err().to_string().contains("cannot read the settings file /no/such/file"));
    }
}
