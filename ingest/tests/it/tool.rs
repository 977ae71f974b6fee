//! `dogwatch-ingest store …`, as an operator runs it.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use ingest::{
    core::plan::Accounts,
    store::{Commit, Fjall, NewResult, ResultStore},
};
use prometheus_client::metrics::counter::Counter;
use protocol::{CheckResult, limits};

use crate::fixture::json;

const DAY: u64 = 86_400_000;
const START: u64 = 20_000 * DAY;

/// Two checks of two agents, a result a minute, sealed.
fn filled(folder: &Path) -> Fjall {
    let store = Fjall::new(folder, 0, Counter::default()).unwrap();
    store.recover().unwrap();
    let names = [("web-01", "disk"), ("web-01", "load"), ("web-02", "disk"), ("web-02", "load")];
    let texts: Vec<String> = (0..400u64)
        .map(|n| {
            let (agent, check) = names[usize::try_from(n % 4).unwrap()];
            json(agent, check, n + 1, START + n / 4 * 60_000)
        })
        .collect();
    let results: Vec<CheckResult> =
        texts.iter().map(|text| protocol::decode(text.as_bytes(), limits::RESULT).unwrap()).collect();
    let new = results.iter().zip(&texts).map(|(result, json)| NewResult { result, json: json.as_bytes() });
    let (accounts, ids) = (&Accounts::new(), &HashSet::new());
    store.commit(&Commit { now_ms: START, results: new.collect(), accounts, ids }).unwrap();
    store.compact(START, &mut |_, _| {}).unwrap();
    store
}

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dogwatch-ingest"));
    command.env_remove("DOGWATCH_INGEST_DATA").arg("store").args(args).arg("--data").arg(folder);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_sound_store_is_told_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let check = run(folder.path(), &["check"]);
    assert_eq!(check.status.code(), Some(0));
    assert_eq!(text(&check.stdout), "0 rows and 4 blocks checked, 0 damaged\n");
    let stats = run(folder.path(), &["stats", "-o", "json"]);
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!(
        (&stats["checks"], &stats["sealed_results"], &stats["segments"]),
        (&4.into(), &400.into(), &1.into())
    );
    let stats = text(&run(folder.path(), &["compact"]).stdout);
    assert!(
        stats.lines().any(|line| line.starts_with("results in blocks") && line.contains("400")),
        "{stats}"
    );

    let seqs = |args: &[&str]| {
        let export = run(folder.path(), args);
        assert_eq!(export.status.code(), Some(0), "{}", text(&export.stderr));
        let read = |line: &str| serde_json::from_str::<CheckResult>(line).unwrap().seq;
        text(&export.stdout).lines().map(read).collect::<Vec<u64>>()
    };
    assert_eq!(seqs(&["export"]).len(), 400);
    let own = ["export", "--agent", "web-02", "--check", "disk"];
    assert_eq!(seqs(&own)[..3], [3, 7, 11]);
    // 2024-10-04 is day 20,000.
    let range = ["--from", "2024-10-04T00:10:00Z", "--until", "2024-10-04T00:12:00Z"];
    assert_eq!(seqs(&[&own[..], &range[..]].concat()), [43, 47]);
}

#[test]
fn a_store_in_use_and_a_folder_without_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path());
    for command in ["check", "compact", "stats", "export"] {
        let refused = run(folder.path(), &[command]);
        assert_eq!(refused.status.code(), Some(1), "{command}");
        let reason = text(&refused.stderr);
        assert!(reason.contains("is in use by another process: stop that one"), "{command}: {reason}");
    }
    drop(store);
    let empty = tempfile::tempdir().unwrap();
    let refused = run(empty.path(), &["stats"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("there is no store in"), "{}", text(&refused.stderr));
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "nothing was made there");
    assert_eq!(run(folder.path(), &["burn"]).status.code(), Some(2));
}

#[test]
fn a_damaged_block_is_found_and_named_and_the_rest_serves() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let file = fs::read_dir(folder.path().join("blocks")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    // Within the first block, which stands right behind the file's first 8 bytes.
    bytes[40] ^= 1;
    fs::write(&file, bytes).unwrap();

    let check = run(folder.path(), &["check"]);
    assert_eq!(check.status.code(), Some(1));
    let told = text(&check.stdout);
    assert!(
        told.contains("series 0, web-01 disk, 2024-10-04T00:00:00Z to 2024-10-04T01:39:00Z: its checksum"),
        "{told}"
    );
    assert!(told.ends_with("0 rows and 4 blocks checked, 1 damaged\n"), "{told}");
    let check = run(folder.path(), &["check", "--output", "json"]);
    let findings: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    let damage = &findings["damaged"][0];
    assert_eq!((&damage["agent"], &damage["check"]), (&"web-01".into(), &"disk".into()));
    assert_eq!((&damage["from_ms"], &damage["until_ms"]), (&START.into(), &(START + 99 * 60_000).into()));

    let export = run(folder.path(), &["export"]);
    assert_eq!((export.status.code(), text(&export.stdout).lines().count()), (Some(1), 300));
    assert_eq!(
        text(&export.stderr),
        "1 damaged parts of the store were left out: `store check` names them\n"
    );
    assert_eq!(run(folder.path(), &["check"]).stdout, told.as_bytes(), "nothing was changed");
}
