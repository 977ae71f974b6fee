//! Files of documents as operators write them, right and wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use protocol::{
    admin::SourceFile,
    document::{Document, Kind},
};
use serde_json::json;

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), text: text.to_owned() }
}

fn problems(text: &str) -> Vec<String> {
    let problems = documents::read(&[file("a.yaml", text)], |_, _| false).expect_err(text);
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_number_where_a_text_is_wanted_stays_as_it_is_written() {
    let text = "kind: Check\nname: 0755\ndescription: 1e5 # so many\nevery: 1m\nexec: [run, 1.10, 0x1F, -1_0, +1,007]\nrun: {environment: {VERSION: 3.0, \"MASK\": 022}}\n";
    let read = documents::read(&[file("a.yaml", text)], |_, _| true).unwrap();
    let read = serde_json::to_value(&read[0]).unwrap();
    assert_eq!((&read["name"], &read["description"]), (&json!("0755"), &json!("1e5")));
    assert_eq!(read["exec"], json!(["run", "1.10", "0x1F", "-1_0", "+1", "007"]));
    assert_eq!(read["run"]["environment"], json!({"VERSION": "3.0", "MASK": "022"}));
}

#[test]
fn the_documents_of_the_design_are_read() {
    let text = r#"
# a comment
kind: Check
name: os_updates
description: Packages that wait to be upgraded
hosts: 'facts.os == "linux"'
every: 1h
timeout: 2m
variants:
  - when: facts.package_manager == "dnf"
    command: dnf -q -C check-update | grep -c '^[[:alnum:]]'
  - command: "true"
output: number
unit: packages
warning: "> 0"
critical: 50
---
kind: Check
name: disk
builtin: disk
every: 10s
---
---
kind: Rule
name: disk_full
check: disk
when: value > 90
for: 5m
severity: critical
notify: [ops]
---
{"kind": "Receiver", "name": "ops", "webhook": {"url": "https://hooks.example/x"}}
"#;
    let documents =
        documents::read(&[file("a.yaml", text), file("empty.yaml", "# nothing\n")], |_, _| false).unwrap();
    assert_eq!(
        documents.iter().map(Document::name).collect::<Vec<_>>(),
        ["os_updates", "disk", "disk_full", "ops"]
    );
    let [Document::Check(updates), Document::Check(disk), Document::Rule(rule), Document::Receiver(ops)] =
        documents.as_slice()
    else {
        panic!("{documents:?}")
    };
    assert_eq!(updates.variants.len(), 2);
    assert_eq!(updates.critical.as_ref().unwrap().as_str(), "50");
    // No timeout given: 30 s would not fit into 10 s.
    assert_eq!(disk.timeout.as_millis(), 8_000);
    assert_eq!(rule.hold.as_secs(), 300);
    assert_eq!(ops.webhook.as_ref().unwrap().timeout.as_secs(), 15);
    for document in &documents {
        let json = serde_json::to_string(document).unwrap();
        assert_eq!(&serde_json::from_str::<Document>(&json).unwrap(), document, "{json}");
    }
}

#[test]
fn every_mistake_is_named_with_its_place_and_remedy() {
    for (text, expected) in [
        (
            "kind: Check\nname: a\nbuiltin: cpu\nevry: 10s\n",
            &[
                "a.yaml:1:1: a Check has exactly one of \"every\" and \"cron\": say how often, or when",
                "a.yaml:4:1: a Check has no key \"evry\" (did you mean \"every\"?); its keys are kind, name, description, hosts, every, cron, timezone, timeout, command, exec, builtin, with, variants, run, output, pointer, pattern, metric, unit, warning, critical, overrides, notify",
            ][..],
        ),
        (
            "kind: Check\nname: a b\nbuiltin: cpu\nevery: 10\nwarning: lots\n",
            &[
                "a.yaml:2:7: name: \"a b\" is not a valid check name: use [A-Za-z0-9][A-Za-z0-9_-]{0,63}",
                "a.yaml:4:8: every: \"10\" is not a duration: write it like 30s, 5m, 1h or 1h 30m",
                "a.yaml:5:10: warning: \"lots\" is not a threshold: write a comparison such as \"> 90\", \"<= 5\" or \"!= 0\", or a Nagios range such as \"10:20\"",
            ],
        ),
        (
            "kind: Check\nname: a\nevery: 500ms\n",
            &[
                "a.yaml:1:1: a Check has exactly one of \"command\", \"exec\", \"builtin\" and \"variants\"",
                "a.yaml:3:8: every: a check runs at most once a second, so this is 1s or more",
            ],
        ),
        (
            "kind: Check\nname: a\nevery: 10s\ntimeout: 10s\nbuiltin: cpu\ncommand: x\noutput: jsn\n",
            &[
                "a.yaml:1:1: a Check has exactly one of \"command\", \"exec\", \"builtin\" and \"variants\"",
                "a.yaml:4:10: timeout: it is longer than 0s and shorter than \"every\" (10s)",
                "a.yaml:7:9: output: it is one of number, nagios, json, prometheus and text",
            ],
        ),
        (
            "kind: Check\nname: a\nevery: 1m\nvariants:\n  - command: x\n  - when: fact.os == \"x\"\n    builtin: cpu\n    command: y\n",
            &[
                "a.yaml:5:5: a variant without \"when\" fits every host, so those after it never run: put it last",
                "a.yaml:6:5: a variant has exactly one of \"command\", \"exec\" and \"builtin\"",
                "a.yaml:6:11: when: there is no variable \"fact\" here (did you mean \"facts\"?); there are agent, facts, labels, groups, vars",
            ],
        ),
        (
            "kind: Check\nname: a\nevery: 1m\nbuiltin: cpu\nhosts: 'facts.os == \"linux\" && labls.x == \"y\"'\n",
            &[
                "a.yaml:5:32: hosts: there is no variable \"labls\" here (did you mean \"labels\"?); there are agent, facts, labels, groups, vars",
            ],
        ),
        (
            "kind: Rule\nname: r\ncheck: dsk\nwhen: forecast(\"4h\") > 95\nseverity: bad\nnotify: ops\naction: x\n",
            &[
                "a.yaml:3:8: there is no Check \"dsk\": apply it with this set, or correct the name",
                "a.yaml:4:15: when: forecast() is not available yet: it comes with a later version",
                "a.yaml:5:11: severity: it is one of info, warning and critical",
                "a.yaml:6:9: \"notify\" is a list such as [a, b], not a text",
                "a.yaml:7:9: action is not available yet: it comes with a later version",
            ],
        ),
        (
            "kind: Group\nname: g\n---\nkind: Chek\n---\nname: x\n---\n- 1\n",
            &[
                "a.yaml:1:1: a Group has \"hosts\" (an expression), \"members\" (hosts by their ids), or both",
                "a.yaml:4:7: there is no kind \"Chek\" (did you mean \"Check\"?); the kinds are Check, Rule, Receiver, Group, Variables, Silence, Action",
                "a.yaml:6:1: a document needs the key \"kind\"",
                "a.yaml:8:1: a document is a mapping such as \"name: …\", not a list",
            ],
        ),
        (
            "kind: Receiver\nname: ops\nwebhook:\n  url: ftp://secret@x\n  timeout: 10m\n",
            &[
                "a.yaml:4:8: url: write it like https://host/path, with http or https and a host",
                "a.yaml:5:12: timeout: a webhook gets 1s to 1m",
            ],
        ),
        (
            "kind: Check\nname: a\nevery: 1m\nbuiltin: cpu\n---\nkind: Check\nname: a\nevery: 1m\nbuiltin: cpu\n",
            &["a.yaml:6:1: the Check \"a\" is already defined at a.yaml:1: remove or rename one"],
        ),
    ] {
        assert_eq!(problems(text), expected, "{text}");
    }
}

#[test]
fn what_is_not_yaml_is_named_with_its_place() {
    for (text, place) in [
        ("kind: Check\nname: [a\n", "a.yaml:"),
        ("kind: Check\n  name: x\n", "a.yaml:2:"),
        ("kind: Check\nkind: Rule\n", "a.yaml:2:1: "),
        ("a: *nowhere\n", "a.yaml:1:4: "),
    ] {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(place) && problems[0].contains("this is not YAML: "), "{problems:?}");
        assert!(!problems[0].contains('\n') && !problems[0].contains(" at line"), "{problems:?}");
    }
}

#[test]
fn wrong_syntax_is_named_in_plain_words() {
    for (when, expected) in [
        ("value > 90 and x", "4:18: when: this is not an expression: unexpected 'and'; write it like"),
        ("value >", "4:14: when: this is not an expression: unexpected end; write it like"),
        ("(value", "4:13: when: this is not an expression: missing ')' at end; write it like"),
    ] {
        let problems = problems(&format!("kind: Rule\nname: r\ncheck: c\nwhen: {when}\n"));
        assert!(problems[1].starts_with(&format!("a.yaml:{expected}")), "{problems:?}");
    }
    let duplicate = problems("kind: Check\nkind: Rule\n");
    assert_eq!(duplicate, ["a.yaml:2:1: this is not YAML: duplicate mapping key: kind"]);
}

#[test]
fn a_rule_may_refer_to_what_the_server_has_and_to_what_is_wrong_itself() {
    let rule = "kind: Rule\nname: r\ncheck: disk\nwhen: value > 1\nnotify: [ops]\n";
    let exists = |kind, name: &str| [(Kind::Check, "disk"), (Kind::Receiver, "ops")].contains(&(kind, name));
    assert!(documents::read(&[file("r.yaml", rule)], exists).is_ok());
    let wrong = "kind: Check\nname: disk\nevery: soon\nbuiltin: disk\n---\nkind: Receiver\nname: ops\n";
    let problems = documents::read(&[file("r.yaml", rule), file("w.yaml", wrong)], |_, _| false).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.path == "w.yaml"));
}

#[test]
fn bombs_and_floods_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let previous = format!("*a{}", n - 1);
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", [previous.as_str(); 9].join(", ")));
    }
    for text in [
        bomb,
        format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000)),
        format!("a:{}", "\n - ".repeat(3_000)),
        "---\nkind: x\n".repeat(11_000),
        "x".repeat(5 * 1024 * 1024),
    ] {
        assert!(problems(&text).len() <= 1_000);
    }
}

#[test]
fn g10_too_many_documents_are_refused_with_what_helps() {
    let many = |range: std::ops::Range<u32>| -> String {
        range.map(|n| format!("kind: Check\nname: c{n}\nevery: 1m\nbuiltin: cpu\n---\n")).collect()
    };
    let limit = u32::try_from(documents::DOCUMENTS).unwrap();
    let in_one = [file("one.yaml", &many(0..limit + 1))];
    let in_two = [file("a.yaml", &many(0..6_000)), file("b.yaml", &many(6_000..limit + 1_000))];
    for files in [&in_one[..], &in_two[..]] {
        let problems = documents::read(files, |_, _| true).unwrap_err();
        let wanted =
            "there are more than the 10000 documents that a server holds: what differs from host to host is";
        assert!(problems.len() == 1 && problems[0].message.starts_with(wanted), "{problems:?}");
    }
    assert_eq!(documents::read(&[file("x", &many(0..limit))], |_, _| true).unwrap().len(), 10_000);
}

#[test]
fn g10_of_ten_thousand_mistakes_the_first_thousand_are_told_and_no_further_document_is_read() {
    let wrong = |range: std::ops::Range<u32>| -> String {
        range.map(|n| format!("kind: Check\nname: c{n}\nevery: {n} x\nbuiltin: cpu\n---\n")).collect()
    };
    let last = "kind: Rule\nname: r\ncheck: c9999\nwhen: value > 1\n";
    let files = [file("a.yaml", last), file("b.yaml", &wrong(0..10_000))];
    let problems = documents::read(&files, |_, _| false).unwrap_err();
    assert_eq!(problems.len(), 1_000);
    // What was not read is nothing that a rule refers to in vain.
    assert!(problems.iter().all(|problem| problem.path == "b.yaml"), "{:?}", problems[0]);
    assert_eq!((problems[0].line, problems[999].line), (3, 999 * 5 + 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _either = documents::read(&[file("x", &text)], |_, _| true);
    }

    #[test]
    fn no_document_panics(
        lines in prop::collection::vec(
            "( {0,2}|- )(kind|name|every|timeout|command|builtin|variants|when|check|hosts|webhook|url|notify|for)(:|: )(Check|Rule|Receiver|a|1s|0|\\[a\\]|\\{a: b\\}|\"|'x|value > 1|&a|\\*a|\\||>-|~|!!int x|)",
            0..12,
        )
    ) {
        let _either = documents::read(&[file("x", &lines.join("\n"))], |_, _| true);
    }
}

#[test]
fn the_starter_documents_are_right() {
    let files = [
        file("checks.yaml", include_str!("../../examples/checks.yaml")),
        file("rules.yaml", include_str!("../../examples/rules.yaml")),
    ];
    let documents = documents::read(&files, |_, _| false).unwrap();
    let names: Vec<&str> = documents.iter().map(Document::name).collect();
    assert_eq!(names[..6], ["cpu", "memory", "load", "disk", "uptime", "os_updates"]);
    let Document::Check(updates) = &documents[5] else { panic!("{:?}", documents[5]) };
    assert_eq!(updates.variants.len(), 7);
    for variant in &updates.variants {
        let command = variant.work.command.as_ref().unwrap();
        let checked = std::process::Command::new("sh").args(["-n", "-c", command]).status().unwrap();
        assert!(checked.success() && !command.contains('\n'), "{command}");
    }
}

fn check(lines: &str) -> protocol::document::Check {
    let text = format!("kind: Check\nname: a\n{lines}");
    let mut documents = documents::read(&[file("a.yaml", &text)], |_, _| false).expect(lines);
    let Some(Document::Check(check)) = documents.pop() else { panic!("{text}") };
    let json = serde_json::to_string(&check).unwrap();
    assert_eq!(serde_json::from_str::<protocol::document::Check>(&json).unwrap(), *check, "{json}");
    *check
}

#[test]
fn what_a_check_runs_and_how_is_read() {
    for (lines, expected) in [
        ("every: 1m\ncommand: x", json!({"command": "x"})),
        ("every: 1m\nexec: [/bin/test, -e, 7, true]", json!({"exec": ["/bin/test", "-e", "7", "true"]})),
        (
            "every: 1m\nbuiltin: disk\nwith:\n  mounts: [/, /var]\n  deep: true\n  most: 7.5\n  what: x",
            json!({"builtin": "disk", "with": {"mounts": ["/", "/var"], "deep": true, "most": 7.5, "what": "x"}}),
        ),
        (
            "every: 1m\ncommand: x\nrun:\n  user: nagios\n  nice: -5\n  directory: /var/lib\n  stdin: a\n  environment: {A: 1, B: b}\n  pass_environment: [PATH]\n",
            json!({"command": "x", "run": {"user": "nagios", "nice": -5, "directory": "/var/lib", "stdin": "a",
                "environment": {"A": "1", "B": "b"}, "pass_environment": ["PATH"]}}),
        ),
        (
            "every: 1m\ncommand: x\nrun:\n  limits: {memory: 256MiB, cpu: 10s, open_files: 64, processes: 20, file_size: 1MiB, output: 4KiB}",
            json!({"command": "x", "run": {"limits": {"memory_bytes": 268_435_456, "cpu_ms": 10_000, "open_files": 64,
                "processes": 20, "file_size_bytes": 1_048_576, "output_bytes": 4_096}}}),
        ),
        (
            "every: 1m\ncommand: x\noutput: json\npointer: /a~1b/0\nmetric: m\nwarning: '> 5'",
            json!({"command": "x", "output": "json", "pointer": "/a~1b/0", "metric": "m", "warning": "> 5"}),
        ),
        (
            "every: 1m\ncommand: x\noutput: prometheus\nmetric: up{job=\"a\"}",
            json!({"command": "x", "output": "prometheus", "metric": "up{job=\"a\"}"}),
        ),
        (
            "every: 1m\ncommand: x\noutput: nagios\nmetric: rta",
            json!({"command": "x", "output": "nagios", "metric": "rta"}),
        ),
        (
            "every: 1m\ncommand: x\noutput: text\npattern: used (\\d+)\ncritical: 10:20",
            json!({"command": "x", "output": "text", "pattern": "used (\\d+)", "critical": "10:20"}),
        ),
        (
            "cron: '*/5 * * * mon-fri'\ntimezone: Europe/Berlin\nbuiltin: cpu",
            json!({"every": "5m", "cron": "*/5 * * * mon-fri", "timezone": "Europe/Berlin", "builtin": "cpu"}),
        ),
        (
            "cron: '@daily'\ntimeout: 1h\nbuiltin: cpu",
            json!({"every": "1day", "cron": "@daily", "timeout": "1h", "builtin": "cpu"}),
        ),
        (
            "cron: '* * * * *'\nbuiltin: cpu",
            json!({"every": "1m", "cron": "* * * * *", "timeout": "30s", "builtin": "cpu"}),
        ),
    ] {
        let mut found = serde_json::to_value(check(lines)).unwrap();
        let keys = found.as_object_mut().unwrap();
        keys.remove("name");
        // What was not asked for is at its default.
        let defaults = [("every", json!("1m")), ("timeout", json!("30s")), ("output", json!("number"))];
        for (key, default) in defaults {
            if expected.get(key).is_none() {
                assert_eq!(keys.remove(key), Some(default), "{key}: {lines}");
            }
        }
        assert_eq!(found, expected, "{lines}");
    }
}

#[test]
fn what_is_wrong_in_how_a_check_runs_is_named_with_its_place() {
    let many = format!("exec: [{}]", vec!["x"; 257].join(", "));
    let options = format!(
        "builtin: cpu\nwith: {{{}}}",
        (0..257).map(|n| format!("o{n}: 1")).collect::<Vec<_>>().join(", ")
    );
    let long = format!("command: x\nrun:\n  stdin: {}", "x".repeat(65_537));
    for (lines, expected) in [
        ("command: ' '", "a.yaml:4:10: command: it is empty or holds a NUL character"),
        ("exec: []", "a.yaml:4:7: exec: give the program and its arguments"),
        ("exec: ls -l", "a.yaml:4:7: \"exec\" is a list such as [a, b], not a text"),
        ("exec: [a, [b]]", "a.yaml:4:11: \"exec\" is a text, not a list"),
        (&many, "a.yaml:4:7: exec: it has more than 256 words"),
        ("builtin: a b", "a.yaml:4:10: builtin: give the name of a built-in check"),
        ("builtin: cpu\nwith: [a]", "a.yaml:5:7: with is a mapping"),
        (
            "builtin: cpu\nwith:\n  a: {b: c}",
            "a.yaml:6:6: with: an option is a text, a number, true, false, or a list",
        ),
        ("builtin: cpu\nwith:\n  a: [[b]]", "a.yaml:6:6: with: an option is"),
        (&options, "a.yaml:5:7: with: it has more than 256 options"),
        ("command: x\nrun: fast", "a.yaml:5:6: run is a mapping"),
        (
            "command: x\nrun: {usr: a}",
            "a.yaml:5:7: run has no key \"usr\" (did you mean \"user\"?); its keys are user, nice, directory, environment, pass_environment, stdin, limits",
        ),
        ("command: x\nrun: {user: -r}", "a.yaml:5:13: user: give the name of a user"),
        ("command: x\nrun: {nice: 20}", "a.yaml:5:13: nice: it is a whole number from -20 to 19"),
        ("command: x\nrun: {directory: tmp}", "a.yaml:5:18: directory: give a whole path"),
        (
            "command: x\nrun:\n  environment:\n    A-B: 1",
            "a.yaml:7:5: environment: a variable's name has letters",
        ),
        ("command: x\nrun:\n  environment:\n    A: [1]", "a.yaml:7:8: \"environment\" is a text, not a list"),
        (
            "command: x\nrun: {pass_environment: [A=B]}",
            "a.yaml:5:25: pass_environment: it is a list of variables' names",
        ),
        (&long, "a.yaml:6:10: stdin: it is longer than 65536 bytes"),
        ("command: x\nrun:\n  limits: {memory: 1MiB}", "a.yaml:6:20: memory: it is 4194304 bytes or more"),
        ("command: x\nrun:\n  limits: {memory: lots}", "a.yaml:6:20: memory: "),
        ("command: x\nrun:\n  limits: {cpu: 10ms}", "a.yaml:6:17: cpu: it is 1s or more"),
        (
            "command: x\nrun:\n  limits: {open_files: 0}",
            "a.yaml:6:24: open_files: it is a whole number from 1 to 1000000",
        ),
        ("command: x\nrun:\n  limits: {output: 1MiB}", "a.yaml:6:20: output: it is 65536 bytes or less"),
        ("command: x\nrun:\n  limits: {disk: 1}", "a.yaml:6:12: limits has no key \"disk\""),
        ("command: x\npointer: /a", "a.yaml:5:10: pointer: it goes with output: json"),
        ("command: x\npattern: a", "a.yaml:5:10: pattern: it goes with output: text"),
        ("command: x\nmetric: a", "a.yaml:5:9: metric: it goes with output: nagios, json and prometheus"),
        ("command: x\noutput: json\npointer: a.b", "a.yaml:6:10: pointer: write it like /queue/depth"),
        ("command: x\noutput: json\npointer: /a~b", "a.yaml:6:10: pointer: a ~ is written as ~0"),
        (
            "command: x\noutput: text\npattern: 'a('",
            "a.yaml:6:10: pattern: this is not a regular expression: ",
        ),
        (
            "command: x\noutput: text\nwarning: '> 5'",
            "a.yaml:6:10: warning: output: text has no number to judge",
        ),
    ] {
        let found = problems(&format!("kind: Check\nname: a\nevery: 1m\n{lines}\n"));
        // What cannot be read at all is missing as well.
        assert!(found.len() <= 2, "{lines}: {found:?}");
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{lines}: {found:?}");
    }
    for (lines, expected) in [
        ("every: 1m\ncron: '@daily'", "a.yaml:1:1: a Check has exactly one of \"every\" and \"cron\""),
        ("every: 1m\ntimezone: UTC", "a.yaml:5:11: timezone: it goes with \"cron\""),
        (
            "cron: '@daily'\ntimezone: Europe/Berln",
            "a.yaml:5:11: timezone: there is no time zone \"Europe/Berln\": give its IANA name",
        ),
        (
            "cron: 1 2 3",
            "a.yaml:4:7: cron: \"1 2 3\" is not a cron expression (it has not five fields): write minute, hour",
        ),
        ("cron: '61 * * * *'", "a.yaml:4:7: cron: \"61 * * * *\" is not a cron expression ("),
        ("cron: 0 0 30 2 *", "a.yaml:4:7: cron: \"0 0 30 2 *\" never comes"),
        ("cron: [a]", "a.yaml:4:7: \"cron\" is a text, not a list"),
        (
            "cron: 0 * * * *\ntimeout: 2h",
            "a.yaml:5:10: timeout: it is longer than 0s and shorter than the time between two runs (1h)",
        ),
    ] {
        let found = problems(&format!("kind: Check\nname: a\nbuiltin: cpu\n{lines}\n"));
        // What cannot be read at all is missing as well.
        assert!(found.len() <= 2, "{lines}: {found:?}");
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{lines}: {found:?}");
    }
}

#[test]
fn a_receiver_that_is_wrong_is_told_what_it_needs_and_no_secret_is_repeated() {
    for (text, expected) in [
        (
            "webhook: {url: http://x, format: slak}",
            "format: there is none of that name (did you mean \"slack\"?); they are dogwatch,",
        ),
        (
            "webhook: {format: slack}",
            "a webhook needs the key \"url\", or \"url_from\": {file: …} where the address is a secret",
        ),
        ("webhook: {format: telegram, to: 1}", "format telegram needs \"token\": {file: …}, the bot's token"),
        ("webhook: {format: ntfy}", "format ntfy needs \"to\": the topic"),
        ("webhook: {url: http://x, to: a}", "to: format dogwatch has none"),
        (
            "webhook: {url: http://x, bearer: s3cret}",
            "bearer: a secret stands in no document: write {file: NAME} or {env: DOGWATCH_SECRET_NAME}",
        ),
        (
            "webhook: {url: http://x, bearer: {file: ../s3cret}}",
            "bearer: it is the name of a file in the alerter's folder of secrets, without a path",
        ),
        (
            "webhook: {url: http://x, bearer: {env: HOME}}",
            "bearer: it is the name of a variable that begins with DOGWATCH_SECRET_",
        ),
        ("webhook: {url: http://x, headers: {Host: a}}", "headers: Host is set by dogwatch"),
        (
            "webhook: {url: http://x, format: template}",
            "format template needs \"body\": a MiniJinja template",
        ),
        (
            "webhook: {url: http://x, format: template, body: '{{ a ~ b }}'}",
            "body: line 1: a template has no '~'",
        ),
        ("webhook: {url: http://x, body: x}", "body: it goes with \"format: template\""),
        ("webhook: {url: http://x}\nfallback: a", "fallback: it is another receiver than this one"),
        ("email: {server: x, from: a@b, to: [c]}", "to: 1 to 32 addresses such as ops@example.com"),
        ("description: x", "a Receiver has exactly one of \"webhook\" and \"email\""),
    ] {
        let problems = problems(&format!("kind: Receiver\nname: a\n{text}\n"));
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
        assert!(!problems.concat().contains("s3cret"), "{problems:?}");
    }
}
