//! `dogwatch-agent check`, as a person and as another monitoring system call it.

use std::{
    collections::BTreeMap,
    process::{Command, Output},
};

use agent::core::builtin::{ALL, Builtin, Read};
use protocol::{CheckName, Threshold};

fn agent(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dogwatch-agent"));
    // It uses no settings, not even wrong ones.
    command.env("DOGWATCH_CONFIG", "/no/such/file").env("DOGWATCH_NATS_URL", "rubbish");
    command.arg("check").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A value for an option that a check cannot do without.
fn some(option: &str) -> &'static str {
    match option {
        "path" => "/etc/passwd",
        "pattern" => "^root:",
        "name" => "no-such-service",
        "url" => "http://127.0.0.1:1/",
        "host" => "127.0.0.1",
        "port" => "1",
        other => panic!("say what to give for {other}"),
    }
}

#[test]
fn every_builtin_answers_as_a_plugin_does() {
    for builtin in &ALL {
        let mut args = vec![builtin.name.to_owned()];
        for option in builtin.options.iter().filter(|option| option.required) {
            args.extend([format!("--{}", option.name), some(option.name).to_owned()]);
        }
        if builtin.options.iter().any(|option| option.name == "server") {
            args.extend(["--server".to_owned(), "127.0.0.1:1".to_owned()]);
        }
        let ran = agent(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let (line, code) = (text(&ran.stdout), ran.status.code().unwrap());
        let word = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::try_from(code).unwrap()];
        assert!(line.starts_with(&format!("{} {word} - ", builtin.title())), "{code}: {line}");
        assert_eq!((line.lines().count(), text(&ran.stderr).as_str()), (1, ""), "{line}");
        // A host that cannot be reached gives no numbers.
        let numbers = code != 3 && !(code == 2 && matches!(builtin.read, Read::Net(_)));
        assert_eq!(line.contains(" | '"), numbers, "{line}");
    }
}

#[test]
fn thresholds_decide_and_are_shown_as_ranges() {
    for (warning, critical, code, perfdata) in [
        ("> 1e9", "> 1e12", 0, "s;~:1000000000;~:1000000000000;0"),
        (">= 0", "> 1e12", 1, "s;@0:;~:1000000000000;0"),
        ("~:-1", "@0:", 2, "s;~:-1;@0:;0"),
    ] {
        let ran = agent(&["uptime", "--warning", warning, "-c", critical]);
        assert!(text(&ran.stdout).contains(perfdata), "{}", text(&ran.stdout));
        assert_eq!(ran.status.code(), Some(code), "{warning} {critical}");
    }
    assert_eq!(agent(&["uptime", "-w", "-5:5"]).status.code(), Some(1));
}

#[test]
fn wrong_use_is_unknown_and_not_critical() {
    for args in
        [&["nope"][..], &["uptime", "-w", "lots"], &["uptime", "--timeout", "soon"], &["--list", "cpu"], &[]]
    {
        let ran = agent(args);
        assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(3), ""), "{args:?}");
        assert!(!ran.stderr.is_empty());
    }
    let slow = agent(&["cpu", "--timeout", "100ms"]);
    assert_eq!(text(&slow.stdout), "CPU UNKNOWN - timed out after 100ms\n");
    assert_eq!(slow.status.code(), Some(3));
}

#[test]
fn the_list_and_the_help_document_every_builtin() {
    let list = agent(&["--list"]);
    assert_eq!((text(&list.stdout).lines().count(), list.status.code()), (ALL.len(), Some(0)));
    for builtin in &ALL {
        let help = agent(&[builtin.name, "--help"]);
        let help = text(&help.stdout);
        for option in builtin.options {
            let flag = format!("--{}", option.name.replace('_', "-"));
            assert!(help.contains(&flag) && help.contains(option.default.unwrap_or_default()), "{help}");
        }
        assert!(help.contains(&format!("builtin: {}", builtin.name)), "{help}");
        for metric in builtin.metrics {
            assert!(help.contains(metric.name) && help.contains(metric.unit), "{help}");
        }
    }
}

#[test]
fn options_are_flags() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for name in ["a.log", "b.log", "c,d.log"] {
        std::fs::write(path(name), "error\nfine\nerror\n").unwrap();
    }
    let out = |args: &[&str]| {
        let ran = agent(args);
        (ran.status.code(), text(&ran.stdout) + &text(&ran.stderr))
    };
    // Lists are given with commas, or flag by flag.
    let both = format!("{},{}", path("a.log"), path("b.log"));
    let (code, said) =
        out(&["file", "--path", &both, "--path", &path("?.log"), "--judge=count", "-w", "> 3"]);
    assert!(code == Some(1) && said.starts_with("FILE WARNING - 4 files"), "{said}");
    let (code, said) = out(&["uptime", "--reboot=false", "-w", "< 0"]);
    assert!(code == Some(0) && said.starts_with("UPTIME OK"), "{said}");
    let (code, said) = out(&["uptime", "--reboot=perhaps"]);
    assert!(code == Some(3) && said.contains("neither true nor false"), "{said}");
    let (code, said) = out(&["log", "--path", &path("a.log")]);
    assert!(code == Some(3) && said.contains("--pattern"), "{said}");

    // Without a folder to remember in, all of the log counts, each time; with one, what is new.
    let log = path("a.log");
    let args = ["log", "--path", log.as_str(), "--pattern", "^error"];
    for _ in 0..2 {
        assert!(out(&args).1.starts_with("LOG WARNING - 2 of 3 new lines match, the last: error"));
    }
    let state = path("state");
    let args = [&args[..], &["--state", state.as_str()]].concat();
    assert!(out(&args).1.starts_with("LOG OK - the first run"));
    std::fs::write(&log, "error\nfine\nerror\nerror again\n").unwrap();
    assert!(out(&args).1.starts_with("LOG WARNING - 1 of 1 new lines match, the last: error again"));
    assert!(out(&args).1.starts_with("LOG OK - none of 0 new lines matches"));
    // Another pattern is another check.
    assert!(
        out(&["log", "--path", &log, "--pattern", "x", "--state", &state])
            .1
            .starts_with("LOG OK - the first run")
    );
    // A folder that cannot be one makes each run the first, which must not look fine.
    let (code, said) = out(&["log", "--path", &log, "--pattern", "x", "--state", &log]);
    assert!(code == Some(3) && said.starts_with("LOG UNKNOWN - the position of log-"), "{said}");
}

#[test]
fn pending_updates_of_apt_are_counted_by_apt_itself() {
    let asked =
        Command::new("apt-get").args(["-s", "-q", "-o", "Debug::NoLocking=true", "dist-upgrade"]).output();
    let Ok(asked) = asked else {
        eprintln!("NOT TESTED: updates with apt, since there is no apt-get here");
        return;
    };
    let ran = agent(&["updates", "--manager", "apt", "-w", "> 1e9", "-t", "5m"]);
    let line = text(&ran.stdout);
    if !asked.status.success() {
        assert!(line.starts_with("UPDATES UNKNOWN - apt-get"), "{line}");
        return;
    }
    let count = text(&asked.stdout).lines().filter(|line| line.starts_with("Inst ")).count();
    assert!(line.starts_with(&format!("UPDATES OK - {count} updates wait by apt, ")), "{line}");
    assert!(line.contains(&format!("'updates'={count};")) && line.contains("'index_age'="), "{line}");
}

/// What docs/AGENT.md says about a built-in.
fn section(builtin: &Builtin) -> String {
    let mut text = format!("### {}\n\n{}.", builtin.name, builtin.about);
    if !builtin.more.is_empty() {
        text = format!("{text} {}", builtin.more);
    }
    if !builtin.options.is_empty() {
        text.push_str("\n\n| option | | default | what it is |\n|---|---|---|---|");
        for option in builtin.options {
            let default = match option.default {
                Some(default) => format!("`{default}`"),
                None if option.required => "required".to_owned(),
                None => String::new(),
            };
            let hint = option.kind.hint().replace('|', " or ");
            text.push_str(&format!("\n| `{}` | {hint} | {default} | {} |", option.name, option.about));
        }
    }
    text.push_str("\n\n| metric | unit | what it is |\n|---|---|---|\n");
    for metric in builtin.metrics {
        let mark = if metric.judged { " *" } else { "" };
        text.push_str(&format!("| `{}`{mark} | {} | {} |\n", metric.name, metric.unit, metric.about));
    }
    let (defaults, document) =
        (agent::by_hand::defaults(&builtin.defaults), agent::by_hand::document(builtin));
    format!("{text}\nDefault thresholds: {defaults}.\n\n```yaml\n{document}```\n")
}

/// A document, as far as a built-in check goes.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // What is only read has been checked by that.
struct Document {
    kind: String,
    name: CheckName,
    builtin: String,
    every: String,
    #[serde(default)]
    timeout: Option<String>,
    #[serde(default)]
    with: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    warning: Option<Threshold>,
    #[serde(default)]
    critical: Option<Threshold>,
}

#[test]
fn the_example_of_every_builtin_is_understood() {
    for builtin in &ALL {
        let text = agent::by_hand::document(builtin);
        let document: Document =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let options = builtin.options(&document.with);
        assert!(options.is_ok() && document.builtin == builtin.name, "{text}: {options:?}");
        let with_options = builtin.options.is_empty() == document.with.is_empty();
        assert!(with_options || builtin.name == "time", "an example shows options: {text}");
    }
}

#[test]
fn the_manual_says_what_the_help_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/AGENT.md");
    let manual = std::fs::read_to_string(path).unwrap();
    let missing: Vec<String> =
        ALL.iter().map(section).filter(|section| !manual.contains(section.as_str())).collect();
    assert!(missing.is_empty(), "docs/AGENT.md lacks:\n\n{}", missing.join("\n"));

    // Its commands run as they are written.
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_dogwatch-agent"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let commands: Vec<_> = manual.lines().filter(|line| line.starts_with("dogwatch-agent check")).collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        let ran = Command::new("sh").args(["-c", command]).env("PATH", &path).output().unwrap();
        assert!(ran.stderr.is_empty(), "{command}: {}", text(&ran.stderr));
        assert!(!ran.stdout.is_empty() && ran.status.code() < Some(3), "{command}: {}", ran.status);
    }
}
