use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use ingest::tool::{self, Outcome, StoreArgs};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.by_ref().nth(1).is_some_and(|word| word == "store") {
        return store(&StoreArgs::parse_from(std::iter::once("store".into()).chain(args)));
    }
    service_kit::process::main("ingest", ingest::start)
}

/// Exit code 0 when all is well, 1 when something is damaged or failed.
fn store(args: &StoreArgs) -> ExitCode {
    match tool::run(&args.command, &mut io::stdout().lock(), &mut io::stderr()) {
        Ok(Outcome::Well) => ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => ExitCode::FAILURE,
        // Whoever reads the output has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_closed) => ExitCode::SUCCESS,
        Err(error) => {
            let _shown = writeln!(io::stderr(), "dogwatch-ingest: {}", service_kit::report(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
