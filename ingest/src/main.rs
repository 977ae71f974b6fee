use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::process::main("ingest", ingest::start)
}
