//! `dogwatch-agent check`, as a person and as another monitoring system call it.

use std::process::{Command, Output};

use agent::core::builtin::{ALL, Builtin};

fn agent(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dogwatch-agent"));
    // It uses no settings, not even wrong ones.
    command.env("DOGWATCH_CONFIG", "/no/such/file").env("DOGWATCH_NATS_URL", "rubbish");
    command.arg("check").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_builtin_answers_as_a_plugin_does() {
    for builtin in &ALL {
        let ran = agent(&[builtin.name]);
        let (line, code) = (text(&ran.stdout), ran.status.code().unwrap());
        let word = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::try_from(code).unwrap()];
        assert!(line.starts_with(&format!("{} {word} - ", builtin.title())), "{code}: {line}");
        assert_eq!((line.lines().count(), text(&ran.stderr).as_str()), (1, ""), "{line}");
        assert_eq!(line.contains(" | '"), code != 3, "{line}");
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
        assert!(help.contains(&format!("builtin: {}", builtin.name)), "{help}");
        for metric in builtin.metrics {
            assert!(help.contains(metric.name) && help.contains(metric.unit), "{help}");
        }
    }
}

/// What docs/AGENT.md says about a built-in.
fn section(builtin: &Builtin) -> String {
    let mut text = format!("### {}\n\n{}.", builtin.name, builtin.about);
    if !builtin.more.is_empty() {
        text = format!("{text} {}", builtin.more);
    }
    text.push_str("\n\n| metric | unit | what it is |\n|---|---|---|\n");
    for metric in builtin.metrics {
        let mark = if metric.judged { " *" } else { "" };
        text.push_str(&format!("| `{}`{mark} | {} | {} |\n", metric.name, metric.unit, metric.about));
    }
    format!("{text}\nDefault thresholds: {}.\n", agent::by_hand::defaults(&builtin.defaults))
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
