//! Forecasts of the series of an M4 file.

use std::process::ExitCode;

fn main() -> ExitCode {
    prediction::program("predict-m4 DATA.csv[.gz] OUT_DIR", 2, |paths| match paths {
        [data, out] => prediction::m4::run(data, out),
        _ => Ok(String::new()),
    })
}
