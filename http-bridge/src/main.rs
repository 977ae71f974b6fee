use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::process::main("http-bridge", http_bridge::start)
}
