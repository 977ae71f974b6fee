use std::process::ExitCode;

fn main() -> ExitCode {
    // Ahead of the settings of the service, since it needs none of them.
    if std::env::args_os().nth(1).is_some_and(|first| first == "check") {
        return agent::by_hand::main(std::env::args_os().skip(1));
    }
    let settings = match settings() {
        Ok(settings) => settings,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    if let Some(mode) = settings.try_it.mode() {
        return agent::try_it::main(settings, mode);
    }
    service_kit::process::main_with("agent", settings, agent::program::start)
}

/// On a thread of its own: what its stack took is given back at once, while that of this thread stays.
fn settings() -> std::thread::Result<agent::Settings> {
    std::thread::spawn(service_kit::settings::load::<agent::Settings>).join()
}
