use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::process::main("agent", agent::service::start)
}
