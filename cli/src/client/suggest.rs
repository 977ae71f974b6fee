//! `dogwatch suggest`: rules for checks that have none, as documents for `plan`. Applies nothing.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    time::Duration,
};

use protocol::{
    CheckName, RuleName,
    admin::DocumentList,
    document::{Document, Rule},
    duration,
    predict::{Suggestion, Suggestions},
};
use serde::Serialize;

use super::http::Client;
use crate::{
    args::{Format, SuggestArgs},
    output,
};

/// One suggestion as a row for programs.
#[derive(Serialize)]
struct Row {
    check: CheckName,
    #[serde(flatten)]
    suggestion: Suggestion,
    rule: Rule,
}

/// # Errors
/// [`super::http::ClientError`], or when stdout is closed.
pub(crate) async fn suggest(args: &SuggestArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let checks = match &args.check {
        Some(check) => vec![check.clone()],
        None => {
            let list: DocumentList = client.get(&["api", "v1", "documents"], &[]).await?;
            unwatched(&list)
        }
    };
    let mut rows = Vec::new();
    let mut text = String::new();
    for check in checks {
        let over = duration::millis(args.range).to_string();
        let query = [("check", check.to_string()), ("over_ms", over)];
        let found: Result<Suggestions, _> = client.get(&["api", "v1", "query", "suggest"], &query).await;
        let found = match found {
            Ok(found) => found,
            // One check that nobody measures yet says nothing of the others.
            Err(error) if args.check.is_none() => {
                output::note(&format!("{check}: {error}"));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if found.suggestions.is_empty() {
            output::note(&format!("{check}: too little was measured to suggest anything"));
        }
        for suggestion in &found.suggestions {
            let Some(rule) = rule(&check, suggestion) else { continue };
            if !text.is_empty() {
                text.push_str("---\n");
            }
            text.push_str(&comment(&check, &found, suggestion, args.range));
            text.push_str(&documents::write(&Document::Rule(rule.clone()))?);
            rows.push(Row { check: check.clone(), suggestion: suggestion.clone(), rule });
        }
    }
    if args.common.output == Format::Json {
        return output::print(&rows, &[], Format::Json);
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Checks with neither thresholds nor rules, in order.
fn unwatched(list: &DocumentList) -> Vec<CheckName> {
    let mut watched = BTreeSet::new();
    let mut checks = BTreeSet::new();
    for document in &list.documents {
        match document {
            Document::Rule(rule) => {
                watched.insert(&rule.check);
            }
            Document::Check(check) if check.warning.is_none() && check.critical.is_none() => {
                checks.insert(&check.name);
            }
            _ => {}
        }
    }
    checks.difference(&watched).map(|check| (*check).clone()).collect()
}

/// `None`: the check's name leaves no room for one.
fn rule(check: &CheckName, suggestion: &Suggestion) -> Option<Rule> {
    let name = format!("{check}_{}", suggestion.name);
    let keep = if suggestion.name == "unusual" { 30 * 60 } else { 0 };
    Some(Rule {
        name: RuleName::new(&name).ok()?,
        description: suggestion.why.clone(),
        check: check.clone(),
        hosts: None,
        when: suggestion.when.clone(),
        hold: Duration::ZERO,
        keep_firing_for: Duration::from_secs(keep),
        attempts: 1,
        clear_when: None,
        flapping: None,
        depends_on: Vec::new(),
        severity: suggestion.severity,
        notify: Vec::new(),
    })
}

fn comment(check: &CheckName, found: &Suggestions, suggestion: &Suggestion, range: Duration) -> String {
    let Suggestions { hosts, of, values, .. } = found;
    let Suggestion { fired, fired_hosts, .. } = suggestion;
    let range = duration::format(range);
    format!(
        "# {check}: would have fired {fired} times, on {fired_hosts} of {hosts} hosts (of {of}), in {range} \
         ({values} values)\n"
    )
}

#[cfg(test)]
mod tests {
    use protocol::admin::SourceFile;

    use super::*;

    #[test]
    fn what_is_suggested_is_a_document_that_can_be_read() {
        let check = CheckName::new("queue").unwrap();
        let found = Suggestions { hosts: 2, of: 2, values: 300, suggestions: Vec::new() };
        for (name, when) in [
            ("high", "value > 120"),
            ("unusual", "anomaly() > 0.9"),
            ("filling", "time_to(\"> 95\") < 24"),
            ("other", "value != 1"),
        ] {
            let suggestion = Suggestion {
                name: name.to_owned(),
                when: when.to_owned(),
                severity: Default::default(),
                fired: 2,
                fired_hosts: 1,
                why: "999 of 1000 values were below 96: all".to_owned(),
            };
            let rule = rule(&check, &suggestion).unwrap();
            let mut text = comment(&check, &found, &suggestion, Duration::from_secs(3_600));
            assert_eq!(
                text,
                "# queue: would have fired 2 times, on 1 of 2 hosts (of 2), in 1h (300 values)\n"
            );
            text.push_str(&documents::write(&Document::Rule(rule.clone())).unwrap());
            let file = SourceFile { path: "a.yaml".to_owned(), text: text.clone() };
            let read =
                documents::read(&[file], |_, _| true).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!(read, [Document::Rule(rule)]);
        }
    }
}
