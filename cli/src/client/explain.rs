//! `dogwatch explain`: each expression that decided, and what it led to.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use protocol::{
    admin::{Explanation, Verdict},
    config::CheckSpec,
    duration,
};

use super::http::Client;
use crate::{
    args::{ExplainArgs, Format},
    output::{self, shown},
};

/// # Errors
/// [`super::http::ClientError`].
pub(crate) async fn explain(args: &ExplainArgs) -> anyhow::Result<()> {
    let query = [("agent", args.agent.to_string()), ("check", args.check.to_string())];
    let explanation: Explanation = Client::open(&args.common)?.get(&["api", "v1", "explain"], &query).await?;
    if args.common.output != Format::Table {
        return output::print(&[explanation], &[], args.common.output);
    }
    io::stdout().write_all(told(&explanation).as_bytes())?;
    Ok(())
}

fn told(explanation: &Explanation) -> String {
    let Explanation { agent, check, hosts, variants, runs } = explanation;
    // Writing to a string cannot fail, here and below.
    let mut text = match runs {
        Some(_) => format!("{agent} runs {check}\n"),
        None => format!("{agent} does not run {check}\n"),
    };
    let _infallible = writeln!(text, "hosts      {}", verdict(hosts));
    for (index, variant) in variants.iter().enumerate() {
        let _infallible = writeln!(text, "variant {}  {}", index + 1, verdict(variant));
    }
    if runs.is_none() && hosts.holds == Some(true) {
        text.push_str("because    no variant fits\n");
    }
    if let Some(runs) = runs {
        text.push_str(&what_runs(runs));
    }
    text
}

fn verdict(verdict: &Verdict) -> String {
    let Verdict { expression, holds, error } = verdict;
    let said = match (holds, error) {
        (_, Some(error)) => format!("fails: {}", shown(error)),
        (Some(true), None) => "yes".to_owned(),
        (Some(false), None) => "no".to_owned(),
        (None, None) => "not asked".to_owned(),
    };
    let expression = expression.as_deref().map_or_else(|| "every host".to_owned(), shown);
    format!("{said:9}  {expression}")
}

fn what_runs(spec: &CheckSpec) -> String {
    let time = |ms: u64| duration::format(Duration::from_millis(ms));
    let work = &spec.work;
    let what = match (&work.command, &work.exec, &work.builtin) {
        (Some(command), _, _) => shown(command),
        (_, Some(words), _) => shown(&words.join(" ")),
        (_, _, Some(builtin)) => format!("built-in {builtin}"),
        _ => "something that this program does not know".to_owned(),
    };
    let mut text = format!("runs       {what}\n");
    let when = spec.cron.clone().unwrap_or_else(|| time(spec.every_ms));
    let _infallible = writeln!(text, "every      {when}, for {} at most", time(spec.timeout_ms));
    for (name, threshold) in [("warning", &spec.warning), ("critical", &spec.critical)] {
        if let Some(threshold) = threshold {
            let _infallible = writeln!(text, "{name:9}  {}", threshold.as_str());
        }
    }
    text
}
