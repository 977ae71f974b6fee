//! House rules that a compiler does not know, each with what to do instead.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::root;

struct Rule {
    applies: fn(&str) -> bool,
    /// Texts that must not stand in a line of code.
    banned: &'static [&'static str],
    instead: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        applies: is_pure,
        banned: &[
            "SystemTime::now",
            "Instant::now",
            "std::fs",
            "std::net",
            "tokio::",
            "async_nats",
            "async fn",
            "rand::",
        ],
        instead: "pure code takes `now` and does no I/O: pass the value in",
    },
    Rule {
        applies: |path| {
            !path.starts_with("protocol/") && !path.starts_with("xtask/") && !path.contains("/tests/")
        },
        banned: &["\"dogwatch.v1.", "$JS.API"],
        instead: "subjects live in protocol/src/subject.rs",
    },
    Rule {
        applies: |path| {
            !path.starts_with("service-kit/") && !path.contains("/tests/") && !path.starts_with("bench/")
        },
        banned: &["AckKind", ".double_ack", ".ack_with("],
        instead: "only service-kit settles messages: return a verdict",
    },
    Rule {
        applies: |path| {
            !path.contains("/store/") && !path.contains("/store.rs") && !path.starts_with("xtask/")
        },
        banned: &["sled::", "fjall::"],
        instead: "only a service's store/ names its storage engine",
    },
    Rule {
        applies: |path| path.contains("/tests/"),
        banned: &["sleep(", "#[ignore"],
        instead: "tests wait for a condition by testkit::eventually, and all of them run",
    },
];

/// Where decisions are made, without a clock and without I/O.
fn is_pure(path: &str) -> bool {
    path.contains("/src/core/")
        || ["protocol/src/", "documents/src/", "predict/src/"].iter().any(|pure| path.starts_with(pure))
}

pub fn check() -> Result<()> {
    let (mut broken, mut files) = (Vec::new(), 0);
    let root = root().canonicalize()?;
    for file in rust_files(&root)? {
        files += 1;
        let path = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
        if text.lines().count() > 1_000 {
            broken.push(format!("{path}: more than 1,000 lines: split it by what its parts are for"));
        }
        for rule in RULES.iter().filter(|rule| (rule.applies)(&path)) {
            // What stands under `mod tests` is test code.
            for (number, line) in
                text.lines().enumerate().take_while(|(_, line)| !line.starts_with("mod tests"))
            {
                let code = line.split("//").next().unwrap_or_default();
                if let Some(found) = rule.banned.iter().find(|banned| code.contains(**banned)) {
                    broken.push(format!("{path}:{}: {found:?}: {}", number + 1, rule.instead));
                }
            }
        }
    }
    if !broken.is_empty() {
        bail!("house rules are broken:\n  {}", broken.join("\n  "));
    }
    println!("{files} files follow the rules in xtask/src/tidy.rs");
    Ok(())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir()
                && !name.starts_with('.')
                && !["target", "node_modules", "xtask"].contains(&&*name)
            {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
