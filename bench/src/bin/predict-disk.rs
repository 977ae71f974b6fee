//! Hours until the disks of a folder are full.

use std::process::ExitCode;

fn main() -> ExitCode {
    prediction::program("predict-disk DIR PRED.csv", 2, |paths| match paths {
        [folder, out] => prediction::disk::run(folder, out),
        _ => Ok(String::new()),
    })
}
