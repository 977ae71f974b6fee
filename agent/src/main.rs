use std::process::ExitCode;

fn main() -> ExitCode {
    // Ahead of the settings of the service, since it needs none of them.
    if std::env::args_os().nth(1).is_some_and(|first| first == "check") {
        return agent::by_hand::main(std::env::args_os().skip(1));
    }
    service_kit::process::main("agent", agent::service::start)
}
