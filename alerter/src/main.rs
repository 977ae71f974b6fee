//! The program `dogwatch-alerter`.

fn main() -> std::process::ExitCode {
    service_kit::process::main("alerter", alerter::start)
}
