//! `cargo xtask up | test | check | bench | compose`: everything that is done to this repository, by one name each.

mod compose;
mod deps;
mod nats;
mod run;
mod tidy;

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use run::{installed, output, run, step};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and measure dogwatch")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build dogwatch and run all of it here in the foreground
    Up {
        /// Build with optimisation (takes minutes the first time)
        #[arg(long)]
        release: bool,
        /// Arguments of `dogwatch up`, such as --data DIR
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run every check and every test
    Test,
    /// Format, lints, dependency direction and house rules only
    Check,
    /// Run the benchmarks, optimised: [NAME…] [--json] [--quick]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Prove docker-compose.yml with a real container engine (Linux, root)
    Compose,
}

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<()> {
    std::env::set_current_dir(root())?;
    match Args::parse().task {
        Task::Up { release, args } => up(release, &args),
        Task::Test => test(),
        Task::Check => check(),
        Task::Bench { args } => bench(&args),
        Task::Compose => compose::prove(),
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn up(release: bool, args: &[String]) -> Result<()> {
    step("nats-server");
    let nats = nats::ensure()?;
    step("build dogwatch");
    let mut build = cargo();
    build.args(["build", "--package", "cli"]);
    if release {
        build.arg("--release");
    }
    run(&mut build)?;
    let program = root().join("target").join(if release { "release" } else { "debug" }).join("dogwatch");
    // Replace this process: signals and the terminal belong to dogwatch from here on.
    let error = Command::new(&program).arg("up").arg("--nats-server").arg(nats).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

fn check() -> Result<()> {
    step("format");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    step("lints");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
    step("dependency direction");
    deps::check()?;
    step("house rules");
    tidy::check()?;
    step("licences and advisories");
    if !installed("cargo-deny") {
        println!("cargo-deny is not installed: NOT CHECKED (cargo install cargo-deny)");
        return Ok(());
    }
    run(cargo().args(["deny", "--offline", "check", "licenses", "bans", "sources"]))?;
    // The advisories themselves come from the network.
    if output(cargo().args(["deny", "fetch", "db"])).is_err() {
        println!("the advisory database cannot be fetched: advisories NOT CHECKED");
        return Ok(());
    }
    run(cargo().args(["deny", "check", "advisories"]))
}

fn test() -> Result<()> {
    let nats = nats::ensure()?;
    check()?;
    step("build the programs");
    run(cargo().args(["build", "--workspace", "--bins"]))?;
    step("tests");
    let mut tests = cargo();
    if installed("cargo-nextest") {
        tests.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        tests.args(["test", "--workspace", "--no-fail-fast"]);
    }
    run(tests.env("DOGWATCH_NATS_SERVER", &nats))?;
    step("benchmark harness");
    run(cargo()
        .args(["run", "--quiet", "--package", "bench", "--", "--quick", "--json"])
        .env("DOGWATCH_NATS_SERVER", &nats))?;
    step("docker-compose.yml with a real engine");
    match compose::engine() {
        Ok(()) => compose::prove(),
        Err(reason) => {
            println!("\n*** docker-compose.yml was NOT TESTED: {reason} ***\n");
            Ok(())
        }
    }
}

fn bench(args: &[String]) -> Result<()> {
    let nats = nats::ensure()?;
    // The agent is measured as it is shipped.
    run(cargo().args(["build", "--quiet", "--profile", "agent", "--package", "agent"]))?;
    let mut bench = cargo();
    bench.args(["run", "--quiet", "--release", "--package", "bench", "--"]).args(args);
    bench.env("DOGWATCH_BENCH_AGENT", root().join("target/agent/dogwatch-agent"));
    let status = bench.env("DOGWATCH_NATS_SERVER", &nats).status()?;
    if !status.success() {
        bail!("the benchmark ended with {status}");
    }
    Ok(())
}
