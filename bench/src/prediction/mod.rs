//! Runs the crate `predict` over files of the public layouts, and scores what it says. The four programs
//! `predict-nab`, `predict-m4`, `predict-hosts` and `predict-disk` and the benchmark `predict` share it.

pub mod disk;
pub mod files;
pub mod hosts;
pub mod m4;
pub mod nab;
pub mod score;
pub mod time;

use std::{io::Write, process::ExitCode};

/// The whole of a program with path arguments: says on stderr what is wrong, and how it is used.
pub fn program(
    usage: &str,
    paths: usize,
    run: impl FnOnce(&[std::path::PathBuf]) -> anyhow::Result<String>,
) -> ExitCode {
    let given: Vec<std::path::PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let (text, code) = if given.len() == paths {
        match run(&given) {
            Ok(done) => (done, ExitCode::SUCCESS),
            Err(error) => (format!("{error:#}"), ExitCode::FAILURE),
        }
    } else {
        (format!("usage: {usage}"), ExitCode::from(2))
    };
    let _lost = writeln!(std::io::stderr(), "{text}");
    code
}
