//! Scores of the hosts of every group of a folder.

use std::process::ExitCode;

fn main() -> ExitCode {
    prediction::program("predict-hosts DIR PRED.csv", 2, |paths| match paths {
        [folder, out] => prediction::hosts::run(folder, out),
        _ => Ok(String::new()),
    })
}
