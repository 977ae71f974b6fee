//! `dogwatch explain`: each expression that decided, and what it led to.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use protocol::{
    admin::{Explanation, ValueOrigin, VariableOrigin, Verdict},
    config::CheckSpec,
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
    let Explanation { agent, check, hosts, variants, overrides, groups, vars, values, unfit, runs } =
        explanation;
    // Writing to a string cannot fail, here and below.
    let mut text = match runs {
        Some(_) => format!("{agent} runs {check}\n"),
        None => format!("{agent} does not run {check}\n"),
    };
    let _infallible = writeln!(text, "hosts      {}", verdict(hosts));
    for (index, variant) in variants.iter().enumerate() {
        let _infallible = writeln!(text, "variant {}  {}", index + 1, verdict(variant));
    }
    for (index, one) in overrides.iter().enumerate() {
        let _infallible = writeln!(text, "override {} {}", index + 1, verdict(one));
    }
    if !groups.is_empty() {
        let names: Vec<&str> = groups.iter().map(AsRef::as_ref).collect();
        let _infallible = writeln!(text, "groups     {}", names.join(", "));
    }
    for var in vars {
        let _infallible =
            writeln!(text, "vars.{} = {}, {}", var.name, shown(&var.value.to_string()), given_by(var));
    }
    if let Some(reason) = unfit {
        let _infallible = writeln!(text, "because    {}", shown(reason));
    }
    if let Some(runs) = runs {
        text.push_str(&what_runs(runs));
        values.iter().for_each(|value| text.push_str(&origin(value)));
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
    let work = &spec.work;
    let what = match (&work.command, &work.exec, &work.builtin) {
        (Some(command), _, _) => shown(command),
        (_, Some(words), _) => shown(&words.join(" ")),
        (_, _, Some(builtin)) => format!("built-in {builtin}"),
        _ => "something that this program does not know".to_owned(),
    };
    format!("runs       {what}\n")
}

/// The document that gives a variable, what that is for, and those that lost against it.
fn given_by(var: &VariableOrigin) -> String {
    let scope = match (&var.host, &var.group) {
        (Some(host), _) => format!("host {host}"),
        (None, Some(group)) => format!("group {group}"),
        (None, None) => "all hosts".to_owned(),
    };
    let hidden: Vec<&str> = var.hidden.iter().map(AsRef::as_ref).collect();
    let instead =
        if hidden.is_empty() { String::new() } else { format!(", instead of {}", hidden.join(", ")) };
    format!("by {} for {scope}{instead}", var.document)
}

fn origin(value: &ValueOrigin) -> String {
    let from = value.by_override.map(|number| format!("override {number}"));
    let written = value.written.as_deref().filter(|written| Some(*written) != value.value.as_deref());
    let parts: Vec<String> =
        from.into_iter().chain(written.map(|written| format!("from {}", shown(written)))).collect();
    let parts = if parts.is_empty() { String::new() } else { format!("  ({})", parts.join(", ")) };
    format!("{:9}  {}{parts}\n", value.field, value.value.as_deref().unwrap_or("none"))
}
