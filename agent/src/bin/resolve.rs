//! `dogwatch-resolve`: a question on stdin, what comes of it on stdout. The agent runs it when its configuration changes;
//! it needs no rights, no settings and no network.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use agent::{core::resolve::resolve, outbound::resolver::LIMIT};

fn main() -> ExitCode {
    let (mut text, mut stderr) = (Vec::new(), std::io::stderr());
    let answered = std::io::stdin().take(LIMIT).read_to_end(&mut text).and_then(|_| {
        let question = serde_json::from_slice(&text)?;
        std::io::stdout().write_all(&serde_json::to_vec(&resolve(&question))?)
    });
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _told = writeln!(stderr, "dogwatch-resolve: {error}; it is run by dogwatch-agent");
            ExitCode::FAILURE
        }
    }
}
