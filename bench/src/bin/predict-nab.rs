//! Anomaly scores of every series of a folder.

use std::process::ExitCode;

fn main() -> ExitCode {
    prediction::program("predict-nab DATA_DIR OUT_DIR", 2, |paths| match paths {
        [folder, out] => prediction::nab::run(folder, out),
        _ => Ok(String::new()),
    })
}
