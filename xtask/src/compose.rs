//! Proves `docker-compose.yml` and `Dockerfile`, as they are, with a real engine.
//!
//! No image need be pulled. The images that the files name are built here from what this machine has: the programs
//! that cargo built stand in for the build stage, Debian's own binaries for the base, and the nats-server of the tests
//! for the `nats` image. The engine is one of its own, with its own socket and storage, gone afterwards.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo, nats, root,
    run::{find, installed, output, run, step},
};

const PROGRAMS: [&str; 7] = [
    "dogwatch",
    "dogwatch-agent",
    "dogwatch-resolve",
    "dogwatch-config-service",
    "dogwatch-ingest",
    "dogwatch-alerter",
    "dogwatch-http-bridge",
];

/// Whether an engine can be started here.
pub fn engine() -> Result<(), String> {
    for program in ["dockerd", "docker", "docker-compose"] {
        if !installed(program) {
            return Err(format!(
                "{program} is not installed (Debian: apt-get install docker.io docker-compose)"
            ));
        }
    }
    match output(Command::new("id").arg("-u")) {
        Ok(uid) if uid.trim() == "0" => Ok(()),
        _ => Err("starting dockerd needs root".to_owned()),
    }
}

pub fn prove() -> Result<()> {
    engine().map_err(anyhow::Error::msg)?;
    run(cargo().args(["build", "--workspace", "--bins"]))?;
    let engine = Engine::start()?;
    step("local images under the names that the files use");
    engine.base_image()?;
    engine.build_image()?;
    engine.nats_image()?;
    step("docker-compose up");
    let outcome = engine.compose_proof();
    if outcome.is_err() {
        run(&mut engine.compose(&["ps"])).ok();
        run(&mut engine.compose(&["logs", "--no-color", "--tail", "40"])).ok();
    }
    run(&mut engine.compose(&["down", "--volumes", "--timeout", "15"])).ok();
    outcome
}

struct Engine {
    folder: PathBuf,
    daemon: Child,
}

impl Engine {
    fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("dogwatch-compose-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let log = std::fs::File::create(folder.join("dockerd.log"))?;
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", folder.join("sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dockerd")?;
        let engine = Self { folder, daemon };
        wait("dockerd answers", Duration::from_secs(60), || {
            output(engine.docker(&["info"]).stderr(Stdio::null())).map(drop)
        })
        .with_context(|| std::fs::read_to_string(engine.folder.join("dockerd.log")).unwrap_or_default())?;
        Ok(engine)
    }

    fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", format!("unix://{}", self.folder.join("sock").display()));
        // The classic builder resolves FROM against local images and needs no plugin.
        command.env("DOCKER_BUILDKIT", "0");
        command
    }

    fn compose(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        command.args(["--project-name", "dogwatch-proof"]).args(args);
        command.env("DOCKER_HOST", format!("unix://{}", self.folder.join("sock").display()));
        command.env("DOCKER_BUILDKIT", "0").env("COMPOSE_DOCKER_CLI_BUILD", "0");
        command
    }

    /// Make an image of files of this machine, each with the libraries that it is linked with.
    fn image(&self, name: &str, files: &[(PathBuf, String)], extra: &str) -> Result<()> {
        let tree = self.folder.join("image");
        if tree.exists() {
            std::fs::remove_dir_all(&tree)?;
        }
        for folder in ["etc", "tmp", "var/lib", "usr/local/bin", "usr/bin", "usr/share", "usr/lib"] {
            std::fs::create_dir_all(tree.join(folder))?;
        }
        // As Debian has it since bookworm.
        for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            std::os::unix::fs::symlink(target, tree.join(link))?;
        }
        for (from, to) in files {
            // A program without a place of its own only brings its libraries.
            if !to.is_empty() {
                copy(from, &tree.join(to.trim_start_matches('/')))?;
            }
            let linked = Command::new("ldd")
                .arg(from)
                .output()
                .map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
            for library in linked.unwrap_or_default().split_whitespace().filter(|word| word.starts_with('/'))
            {
                let place = library.trim_start_matches('/');
                let place = if place.starts_with("usr/") { place.to_owned() } else { format!("usr/{place}") };
                let to = tree.join(place);
                if !to.exists() {
                    copy(Path::new(library), &to)?;
                }
            }
        }
        std::fs::write(
            tree.join("etc/passwd"),
            "root:x:0:0:root:/:/bin/sh\ndogwatch:x:10001:10001::/:/bin/sh\n",
        )?;
        std::fs::copy("/etc/os-release", tree.join("etc/os-release"))?;
        let archive = self.folder.join("image.tar");
        run(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg("."))?;
        let mut import = self.docker(&["import", "--change", extra]);
        run(import.arg(&archive).arg(name).stdout(Stdio::null()))?;
        println!("{name}");
        Ok(())
    }

    fn base_image(&self) -> Result<()> {
        let tools =
            ["sh", "mkdir", "chown", "cat", "cp", "ls", "true", "df", "wc", "grep", "sed", "head", "id"];
        let mut files = of_this_machine(&tools)?;
        // Debian's base has the C runtime that Rust programs are linked with.
        files.push((root().join("target/debug/dogwatch"), String::new()));
        self.image("debian:bookworm-slim", &files, "CMD [\"sh\"]")
    }

    /// The build stage: a `cargo` that hands over the programs that were built outside.
    fn build_image(&self) -> Result<()> {
        let mut files = of_this_machine(&["sh", "mkdir", "cp", "ls"])?;
        let built = root().join("target/debug");
        for program in PROGRAMS {
            files.push((built.join(program), format!("/prebuilt/{program}")));
        }
        let cargo = self.folder.join("cargo");
        let folders = "target/release target/agent";
        let copy = format!("#!/bin/sh\nfor f in {folders}; do mkdir -p $f; cp /prebuilt/* $f/; done\n");
        std::fs::write(&cargo, copy)?;
        run(Command::new("chmod").arg("755").arg(&cargo))?;
        files.push((cargo, "/usr/local/bin/cargo".to_owned()));
        let trusted = "/etc/ssl/certs/ca-certificates.crt";
        files.push((trusted.into(), trusted.to_owned()));
        self.image("rust:1.95-bookworm", &files, "ENV PATH=/usr/local/bin:/usr/bin")
    }

    fn nats_image(&self) -> Result<()> {
        let mut files = of_this_machine(&["sh", "wget"])?;
        files.push((nats::ensure()?, "/usr/local/bin/nats-server".to_owned()));
        self.image("nats:2.15.1-alpine", &files, "ENTRYPOINT [\"/usr/local/bin/nats-server\"]")
    }

    /// Up, all healthy, a check applied, results of the agent stored; down and up again, and they are still there.
    fn compose_proof(&self) -> Result<()> {
        run(&mut self.compose(&["up", "--build", "--detach"]))?;
        let parts = ["nats", "config-service", "ingest", "alerter", "http-bridge", "agent"];
        for part in parts {
            wait(&format!("{part} is healthy"), Duration::from_secs(90), || self.healthy(part))?;
            println!("{part} is healthy");
        }
        let user = output(&mut self.exec(&["id", "-u"]))?;
        if user.trim() != "10001" {
            bail!("the containers run as user {}, not as 10001", user.trim());
        }
        run(&mut self.exec(&["dogwatch", "apply", "/usr/share/dogwatch/examples", "--yes"]))?;
        let stored = || {
            let rows =
                output(&mut self.exec(&["dogwatch", "results", "--agent", "docker-agent", "-o", "json"]))?;
            if rows.trim().is_empty() { bail!("no results yet") } else { Ok(rows.lines().count()) }
        };
        let count = wait("results of the agent are stored", Duration::from_secs(60), stored)?;
        println!("{count} results stored");
        run(&mut self.compose(&["down", "--timeout", "15"]))?;
        run(&mut self.compose(&["up", "--detach"]))?;
        wait("http-bridge is healthy again", Duration::from_secs(120), || self.healthy("http-bridge"))?;
        let after = wait("results are answered again", Duration::from_secs(30), stored)?;
        if after < count {
            bail!("{count} results before the restart, {after} after it");
        }
        println!("after a restart {after} results: nothing was lost");
        Ok(())
    }

    fn exec(&self, command: &[&str]) -> Command {
        let mut exec = self.compose(&["exec", "-T", "http-bridge"]);
        exec.args(command);
        exec
    }

    fn healthy(&self, part: &str) -> Result<()> {
        let id = output(&mut self.compose(&["ps", "--quiet", part]))?;
        let health =
            output(&mut self.docker(&["inspect", "--format", "{{.State.Health.Status}}", id.trim()]))?;
        if health.trim() == "healthy" { Ok(()) } else { bail!("{part} is {}", health.trim()) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = self.daemon.id().to_string();
        let stopped = Command::new("kill").arg(&pid).status().is_ok() && self.daemon.wait().is_ok();
        if !stopped || std::fs::remove_dir_all(&self.folder).is_err() {
            println!("left behind: {}", self.folder.display());
        }
    }
}

fn of_this_machine(tools: &[&str]) -> Result<Vec<(PathBuf, String)>> {
    let place = |tool: &&str| {
        let path = find(tool).with_context(|| format!("this machine has no {tool}"))?;
        Ok((path.canonicalize()?, format!("/usr/bin/{tool}")))
    };
    tools.iter().map(place).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Try again until it succeeds; after `limit` its last error is the reason.
fn wait<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what}: not within {limit:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}
