//! `dogwatch run`: a configured check of a host, now.

use std::io::{self, IsTerminal, Write};

use protocol::{
    CheckResult, Status, duration,
    run::{OutputStream, RunEvent, RunReply},
};

use super::http::Client;
use crate::{
    NotOk,
    args::{Format, RunArgs},
    output,
};

/// The most of a value that the summary shows, in characters: a text may be as long as the output.
const VALUE: usize = 100;

/// # Errors
/// [`super::http::ClientError`], and [`NotOk`] when the check did not run or is not ok.
pub(crate) async fn run(args: &RunArgs) -> anyhow::Result<()> {
    if args.common.output == Format::Yaml {
        return Err(crate::Usage("a run is shown as text or with -o json".to_owned()).into());
    }
    let client = Client::open(&args.common)?;
    let query: Vec<_> =
        args.wait.map(|wait| ("wait_ms", duration::millis(wait).to_string())).into_iter().collect();
    let path = ["api", "v1", "hosts", args.host.as_str(), "checks", args.check.as_str(), "run"];
    let mut lines = client.post_for_lines(&path, &query).await?;
    let mut shown = Shown { plain: io::stdout().is_terminal(), ..Shown::default() };
    while let Some((line, RunReply { event, .. })) = lines.next::<RunReply>().await? {
        if args.common.output == Format::Json {
            writeln!(io::stdout(), "{line}")?;
        }
        match event {
            RunEvent::Output { stream, text } if args.common.output == Format::Table => {
                shown.output(stream, &text)?;
            }
            RunEvent::Ended { result, dropped } => {
                if !shown.something && args.common.output == Format::Table && !result.output.is_empty() {
                    // A built-in prints nothing on its way.
                    shown.output(OutputStream::Stdout, &format!("{}\n", result.output.trim_end()))?;
                }
                shown.end()?;
                if dropped > 0 {
                    output::note(&format!("dogwatch: {dropped} bytes of output were too many to be shown"));
                }
                output::note(&summary(&result));
                return if result.status == Status::Ok { Ok(()) } else { Err(NotOk.into()) };
            }
            RunEvent::Refused { reason, .. } => anyhow::bail!("{} on {}: {reason}", args.check, args.host),
            _ => {}
        }
    }
    anyhow::bail!("the answer ended before the check did; its result will be among the results")
}

fn summary(result: &CheckResult) -> String {
    let value = result.value.as_ref().map(|value| {
        let unit = result.unit.as_deref().unwrap_or_default();
        let value = value.to_string();
        let shown: String = value.chars().take(VALUE).collect();
        let cut = if shown.len() < value.len() { "…" } else { "" };
        format!(", value {shown}{cut}{}{unit}", if unit.is_empty() { "" } else { " " })
    });
    let ended = match (result.exit_code, result.signal) {
        (_, Some(signal)) => format!(", ended by signal {signal}"),
        (Some(code), _) => format!(", exit code {code}"),
        _ => String::new(),
    };
    let took = duration::format(std::time::Duration::from_millis(result.duration_ms));
    let why = result.output.lines().next().filter(|_| result.status == Status::Unknown);
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let text = format!(
        "{} {}: {} after {took}{}{ended}{why}",
        result.agent,
        result.check,
        result.status,
        value.unwrap_or_default()
    );
    clean(&text, true)
}

/// What was written so far.
#[derive(Default)]
struct Shown {
    /// For a person's terminal, which what a host sends must not control.
    plain: bool,
    mid_line: bool,
    something: bool,
}

impl Shown {
    fn output(&mut self, stream: OutputStream, text: &str) -> io::Result<()> {
        let text = clean(text, self.plain);
        self.something = true;
        self.mid_line = !text.ends_with('\n');
        match stream {
            OutputStream::Stdout => {
                io::stdout().write_all(text.as_bytes())?;
                io::stdout().flush()
            }
            OutputStream::Stderr => io::stderr().write_all(text.as_bytes()),
        }
    }

    /// What follows begins on a line of its own.
    fn end(&mut self) -> io::Result<()> {
        if self.plain && self.mid_line {
            io::stdout().write_all(b"\n")?;
        }
        Ok(())
    }
}

fn clean(text: &str, plain: bool) -> String {
    let harmless = |c: &char| !plain || !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_controlled_and_a_pipe_gets_everything() {
        assert_eq!(clean("a\u{1b}[31mb\n\tc\u{7}", true), "a[31mb\n\tc");
        assert_eq!(clean("a\u{1b}b", false), "a\u{1b}b");
    }

    #[test]
    fn the_summary_says_what_became_of_it() {
        let result = serde_json::json!({"v": 1, "agent": "web-01", "check": "disk", "at_ms": 1, "status": "warning",
            "value": 83.5, "unit": "%", "exit_code": 1, "duration_ms": 1500});
        let mut result: CheckResult = serde_json::from_value(result).unwrap();
        assert_eq!(summary(&result), "web-01 disk: warning after 1s 500ms, value 83.5 %, exit code 1");
        (result.value, result.exit_code, result.signal) = (None, None, Some(9));
        assert_eq!(summary(&result), "web-01 disk: warning after 1s 500ms, ended by signal 9");
        result.value = serde_json::from_value("ä".repeat(60_000).into()).unwrap();
        let shown = format!(", value {}… %, ended", "ä".repeat(VALUE));
        assert!(summary(&result).contains(&shown), "{}", summary(&result));
    }
}
