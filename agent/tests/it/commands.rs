//! Commands as processes: limits, endings, and what they leave behind.

use std::{collections::BTreeMap, path::Path, time::Duration, time::Instant};

use agent::{
    core::check::Check,
    outbound::probe::{Prober, Ran},
};
use protocol::{
    Status, limits,
    work::{Output, OutputFormat},
};
use tokio_util::sync::CancellationToken;

use crate::rig;

async fn run(command: &str, timeout_ms: u64, format: OutputFormat) -> Ran {
    let output = Output { format, ..Output::default() };
    let spec = protocol::config::CheckSpec { timeout_ms, output, ..rig::check("c", 1_000, command) };
    Prober::default().run(&Check::from(spec), &CancellationToken::new()).await.unwrap()
}

/// Wait until the process in the file is gone (a zombie of a dead parent counts as gone).
async fn gone(file: &Path) {
    let pid = std::fs::read_to_string(file).unwrap().trim().to_owned();
    testkit::eventually("the process is gone", Duration::from_secs(5), async || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = state.rsplit(") ").next().unwrap_or_default().chars().next();
        if state.is_none_or(|state| state == 'Z') { Ok(()) } else { Err(format!("{pid}: {state:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let command = format!("echo so far; sleep 300 & echo $! > {}; wait", file.display());
    let ran = run(&command, 300, OutputFormat::Number).await;
    assert!(ran.timed_out);
    assert_eq!(ran.finding.output, "timed out after 300ms: so far");
    assert_eq!((ran.finding.status, ran.finding.exit_code), (Status::Unknown, None));
    gone(&file).await;
}

#[tokio::test]
async fn what_ignores_term_is_killed_after_the_grace_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let command = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", file.display());
    let started = Instant::now();
    let ran = run(&command, 200, OutputFormat::Number).await;
    assert!(ran.timed_out && started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    gone(&file).await;
}

#[tokio::test]
async fn what_a_command_leaves_in_the_background_neither_hangs_nor_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let started = Instant::now();
    let command = format!("sleep 300 & echo $! > {}; echo 5", file.display());
    let ran = run(&command, 30_000, OutputFormat::Number).await;
    assert_eq!(ran.finding.value.and_then(|value| value.as_f64()), Some(5.0));
    gone(&file).await;
    // An escaped child cannot be killed, and does not delay the result for long.
    let ran = run("setsid sleep 8 & echo 6", 30_000, OutputFormat::Number).await;
    assert_eq!(ran.finding.value.and_then(|value| value.as_f64()), Some(6.0));
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
}

#[tokio::test]
async fn g10_output_is_capped_and_marked() {
    let ran = run("yes 0123456789 | head -c 5000000; echo end >&2", 30_000, OutputFormat::Text).await;
    let output = ran.finding.output;
    assert!(output.ends_with("[cut]"), "{}", &output[output.len() - 50..]);
    assert!((limits::OUTPUT..limits::OUTPUT + 10).contains(&output.len()), "{}", output.len());
    assert_eq!(ran.finding.exit_code, Some(0));
}

#[tokio::test]
async fn commands_run_in_a_plain_environment() {
    let ran = run("echo \"$LC_ALL $(pwd)\"; cat", 5_000, OutputFormat::Text).await;
    assert_eq!(ran.finding.output, "C /");
    let ran = run("kill -9 $$", 5_000, OutputFormat::Nagios).await;
    assert_eq!((ran.finding.status, ran.finding.output.as_str()), (Status::Unknown, "ended by signal 9"));
    let ran = run("printf 'a\\0b\\377c\\n'; no-such-program", 5_000, OutputFormat::Nagios).await;
    let missing = "a program that it needs does not exist (exit code 127): ab\u{fffd}c";
    assert!(ran.finding.output.starts_with(missing), "{}", ran.finding.output);
}

#[tokio::test]
async fn a_cancelled_command_is_gone_and_has_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let check =
        Check::from(rig::check("c", 1_000, &format!("echo $$ > {}; sleep 300; echo 1", file.display())));
    let cancel = CancellationToken::new();
    let (prober, stop) = (Prober::default(), cancel.clone());
    let running = tokio::spawn(async move { prober.run(&check, &stop).await.is_none() });
    testkit::eventually("it runs", rig::LIMIT, async || std::fs::metadata(&file)).await;
    cancel.cancel();
    assert!(running.await.unwrap());
    gone(&file).await;
}

/// The keys of each example check of the manual that has a command: `key: value`, one on each line.
fn examples(manual: &str) -> Vec<BTreeMap<&str, String>> {
    let blocks = manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let plain = |value: &str| {
        let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
        quoted('\'').or_else(|| quoted('"')).unwrap_or(value).to_owned()
    };
    let keys = |block| {
        let pairs = str::lines(block).filter_map(|line| line.split_once(": "));
        pairs.map(|(key, value)| (key, plain(value))).collect()
    };
    blocks.map(keys).filter(|keys: &BTreeMap<_, _>| keys.contains_key("command")).collect()
}

#[tokio::test]
async fn the_examples_of_the_manual_give_what_it_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/AGENT.md");
    let manual = std::fs::read_to_string(path).unwrap();
    let examples = examples(&manual);
    for (name, value, status, metrics) in [
        ("etc_files", "", Status::Ok, &[][..]),
        ("queue", "7", Status::Warning, &["jobs", "oldest"]),
        ("queue_depth", "7", Status::Ok, &["depth", "oldest.age", "open"]),
        (
            "server_errors",
            "3",
            Status::Warning,
            &["http_requests_total{code=\"500\"}", "http_requests_total{code=\"200\"}", "up"],
        ),
        ("kernel", "", Status::Ok, &[]),
        ("pool_used", "77", Status::Warning, &[]),
        ("cleaned_up", "", Status::Ok, &[]),
    ] {
        let keys = examples.iter().find(|keys| keys["name"] == name).expect(name);
        let key = |key: &str| keys.get(key).cloned();
        let format = key("output").map(serde_json::Value::from).map(serde_json::from_value::<OutputFormat>);
        let output = Output {
            format: format.transpose().unwrap().unwrap_or_default(),
            pointer: key("pointer"),
            pattern: key("pattern"),
            metric: key("metric"),
        };
        let spec = protocol::config::CheckSpec {
            output,
            cron: key("cron"),
            timezone: key("timezone"),
            warning: key("warning").map(|text| text.parse().unwrap()),
            critical: key("critical").map(|text| text.parse().unwrap()),
            ..rig::check("c", 60_000, &keys["command"])
        };
        let ran = Prober::default().run(&Check::from(spec), &CancellationToken::new()).await.unwrap();
        let finding = ran.finding;
        let named: Vec<&str> = finding.metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!((finding.status, named.as_slice()), (status, metrics), "{name}: {finding:?}");
        let found = serde_json::to_string(&finding.value.unwrap()).unwrap();
        assert!(value.is_empty() || found == value, "{name}: {found}");
    }
}
