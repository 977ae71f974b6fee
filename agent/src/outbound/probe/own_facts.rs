//! All facts of this host: those that are detected, and those of the facts folder.
//!
//! A file `*.json` is an object, `*.txt` and `*.env` are lines `name=value`; what is executable is run and prints either.
//! What is wrong with one of them costs the facts of that one, and is told.

use std::{
    collections::BTreeMap,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use protocol::Facts;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::{io::AsyncReadExt, process::Command};

use super::facts;
use crate::{
    core::own_facts::{Format, merge, read},
    store::policy::trusted,
};

/// Most files in the folder, and largest file or output in bytes.
const FILES: usize = 64;
const SIZE: u64 = 64 * 1024;
/// How long a program may take, how many run at once, and how often they run at most.
const TIMEOUT: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 8;
const AGAIN: Duration = Duration::from_secs(600);
/// The kernel's boot time moves with each correction of the clock. Less than this is no news, in seconds.
const BOOT_SLACK: u64 = 60;

type Sources = BTreeMap<String, Result<Facts, String>>;

/// Looks at the host again and again.
#[derive(Debug, Default)]
pub struct HostFacts {
    boot_time: Option<u64>,
    ran: Sources,
    ran_at: Option<Instant>,
}

impl HostFacts {
    /// The facts, and what could not be taken, and why. Programs run at the first call, later every ten minutes at
    /// most; or now, with `anew`.
    pub async fn look(&mut self, folder: &Path, anew: bool) -> (Facts, Vec<String>) {
        let path = folder.to_owned();
        let looked = tokio::task::spawn_blocking(move || (facts::detect(), list(&path))).await;
        let (mut detected, (mut own, programs)) = looked.unwrap_or_default();
        if let Some(time) = detected.get("boot_time").and_then(Value::as_u64) {
            let known = *self.boot_time.get_or_insert(time);
            let steady = if known.abs_diff(time) < BOOT_SLACK { known } else { time };
            self.boot_time = Some(steady);
            detected.insert("boot_time".to_owned(), steady.into());
        }
        if anew || self.ran_at.is_none_or(|at| at.elapsed() >= AGAIN) {
            let runs = programs.into_iter().map(async |(name, path)| (name, run(&path).await));
            self.ran = futures_util::stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
            self.ran_at = Some(Instant::now());
        }
        own.extend(self.ran.clone());
        merge(detected, &own)
    }
}

/// What the files say, and the programs.
fn list(folder: &Path) -> (Sources, Vec<(String, PathBuf)>) {
    let (mut sources, mut programs) = (Sources::new(), Vec::new());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (sources, programs),
        Err(error) => {
            sources.insert(folder.display().to_string(), Err(format!("cannot be listed: {error}")));
            return (sources, programs);
        }
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Of editors and package managers.
        if name.starts_with('.') || name.ends_with('~') || name.contains(".dpkg-") || name.contains(".rpm") {
            continue;
        }
        if sources.len() + programs.len() >= FILES {
            sources.insert(name, Err(format!("this and what follows is left out: more than {FILES} files")));
            break;
        }
        let meta = std::fs::metadata(&path);
        if meta.as_ref().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0) {
            match meta.map_err(|error| error.to_string()).and_then(|meta| trusted(&meta)) {
                Ok(()) => programs.push((name, path)),
                Err(reason) => drop(sources.insert(name, Err(reason))),
            }
            continue;
        }
        let given = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => file(&path, Format::Json),
            Some("txt" | "env") => file(&path, Format::Lines),
            _ => Err("neither executable nor .json, .txt or .env".to_owned()),
        };
        sources.insert(name, given);
    }
    (sources, programs)
}

fn file(path: &Path, format: Format) -> Result<Facts, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("not a file".to_owned());
    }
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SIZE + 1).read_to_string(&mut text))
        .map_err(cannot)?;
    bounded(&text)?;
    read(&text, format)
}

fn bounded(text: &str) -> Result<(), String> {
    if text.len() as u64 > SIZE { Err(format!("more than {SIZE} bytes")) } else { Ok(()) }
}

async fn run(path: &Path) -> Result<Facts, String> {
    let mut command = Command::new(path);
    let search = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/usr/sbin:/bin:/sbin".into());
    command.current_dir("/").env_clear().env("PATH", search).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let started = command.process_group(0).kill_on_drop(true).spawn();
    let mut child = started.map_err(|error| format!("could not be started: {error}"))?;
    let _group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let work = async {
        let mut printed = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(SIZE + 1).read_to_end(&mut printed).await.map_err(|error| error.to_string())?;
        }
        let text = String::from_utf8(printed).map_err(|_| "printed no UTF-8 text".to_owned())?;
        bounded(&text)?;
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if status.success() { read(&text, Format::Either) } else { Err(format!("ended with {status}")) }
    };
    let late = |_| Err(format!("did not end within {}", protocol::duration::format(TIMEOUT)));
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or_else(late)
}

/// Kills what a program left behind, however it ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // As a rule it is gone already.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn program(path: &Path, text: &str) {
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn g10_files_and_programs_give_facts_and_bad_ones_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.json"), r#"{"rack": "b7", "power": 2}"#).unwrap();
        fs::write(path("b.env"), "team='the web team'\n").unwrap();
        fs::write(path("bad.json"), "{").unwrap();
        fs::write(path("large.txt"), "x".repeat(70_000)).unwrap();
        fs::write(path("readme.md"), "hello").unwrap();
        fs::write(path(".hidden"), "x").unwrap();
        fs::create_dir(path("d.json")).unwrap();
        program(&path("lines"), "echo runs=$(cat \"$0.count\" 2>/dev/null | wc -l); echo x >> \"$0.count\"");
        program(&path("object.sh"), "echo '{\"power\": 3}'");
        program(&path("fails"), "echo a=1; exit 3");
        program(&path("hangs"), "sleep 300 & wait");
        program(&path("floods"), "yes | head -c 1000000");
        program(&path("others"), "echo b=1");
        fs::set_permissions(path("others"), Permissions::from_mode(0o777)).unwrap();

        let mut host = HostFacts::default();
        let started = Instant::now();
        let (facts, problems) = host.look(folder.path(), false).await;
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
        let get = |name: &str| facts.get(name).map(ToString::to_string).unwrap_or_default();
        assert_eq!((get("rack"), get("team")), ("\"b7\"".into(), "\"the web team\"".into()));
        assert_eq!((get("power"), get("runs")), ("3".into(), "\"0\"".into()), "the later name wins");
        assert!(facts.contains_key("os") && !facts.contains_key("a") && !facts.contains_key("b"));
        let problems: Vec<&str> = problems.iter().map(String::as_str).collect();
        for (source, reason) in [
            ("bad.json", "not a JSON object"),
            ("d.json", "not a file"),
            ("fails", "ended with exit status: 3"),
            ("floods", "more than 65536 bytes"),
            ("hangs", "did not end within 5s"),
            ("large.txt", "more than 65536 bytes"),
            ("others", "chmod go-w"),
            ("readme.md", "neither executable nor"),
        ] {
            let told = |problem: &&str| problem.starts_with(source) && problem.contains(reason);
            assert!(problems.iter().any(told), "{source}: {problems:?}");
        }

        // Files are read each time, programs are not run each time.
        fs::remove_file(path("hangs")).unwrap();
        fs::write(path("a.json"), r#"{"rack": "c1"}"#).unwrap();
        let (facts, _) = host.look(folder.path(), false).await;
        assert_eq!((facts.get("rack"), facts.get("runs")), (Some(&"c1".into()), Some(&"0".into())));
        let (facts, problems) = host.look(folder.path(), true).await;
        assert_eq!(facts.get("runs"), Some(&"1".into()));
        assert!(!problems.iter().any(|problem| problem.starts_with("hangs")));
        assert_eq!(HostFacts::default().look(&path("none"), false).await.1, Vec::<String>::new());
    }
}
