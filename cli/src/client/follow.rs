//! `dogwatch results --follow`: results as they come.

use std::io::{self, Write};

use protocol::CheckResult;
use reqwest::Method;
use serde::Deserialize;

use super::http::{Client, Lines};
use crate::{
    args::{Format, ResultsArgs},
    output::{note, shown, time},
};

/// What the server says when this program was too slow.
#[derive(Deserialize)]
struct Dropped {
    dropped: u64,
}

/// # Errors
/// [`super::http::ClientError`], and [`crate::Usage`] for a form that has no end.
pub(crate) async fn results(args: &ResultsArgs) -> anyhow::Result<()> {
    if args.common.output == Format::Yaml {
        return Err(crate::Usage("live results are shown as text or with -o json".to_owned()).into());
    }
    let client = Client::open(&args.common)?;
    let mut query = Vec::new();
    query.extend(args.agent.as_ref().map(|agent| ("agent", agent.to_string())));
    query.extend(args.check.as_ref().map(|check| ("check", check.to_string())));
    if !args.status.is_empty() {
        query.push(("status", args.status.join(",")));
    }
    // The server ends a stream after an hour.
    loop {
        let mut lines = client.lines(Method::GET, &["api", "v1", "results", "live"], &query).await?;
        show(&mut lines, args.common.output).await?;
    }
}

async fn show(lines: &mut Lines<'_>, format: Format) -> anyhow::Result<()> {
    let mut event = String::new();
    while let Some(line) = lines.line().await? {
        if let Some(name) = line.strip_prefix("event:") {
            name.trim().clone_into(&mut event);
        }
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
        match event.as_str() {
            "result" if format == Format::Json => writeln!(io::stdout(), "{data}")?,
            "result" => {
                let result: CheckResult = lines.read(data)?;
                writeln!(io::stdout(), "{}", row(&result))?;
            }
            "dropped" => {
                let Dropped { dropped } = lines.read(data)?;
                note(&format!("dogwatch: {dropped} results came too fast to be shown here"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn row(result: &CheckResult) -> String {
    let value = result.value.as_ref().map(ToString::to_string).unwrap_or_default();
    let value = format!("{value} {}", result.unit.as_deref().unwrap_or_default());
    let time = time(result.at_ms);
    let [agent, check] = [result.agent.as_str(), result.check.as_str()];
    let text = [time.as_str(), agent, check, result.status.as_str(), &shown(&value), &shown(&result.output)];
    text.join("  ")
}
