use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::process::main("config-service", config_service::start)
}
