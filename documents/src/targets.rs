//! What can be wrong between groups, variables, and whatever asks for them.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    admin::{Problem, SourceFile},
    document::{Document, Kind},
};
use serde_json::Value;

use crate::{HostExpression, kinds::Read, resolve::in_order, template, tuning, yaml::Place};

/// Documents that there are besides, by kind and name.
pub(crate) type Beside<'a> = BTreeMap<(Kind, &'a str), &'a Document>;

/// Most documents that are named in one problem.
const NAMED: usize = 3;

pub(crate) fn check(
    files: &[SourceFile],
    read: &[(usize, Read)],
    beside: Option<&Beside<'_>>,
    found: &mut Vec<Problem>,
) {
    let given: BTreeSet<(Kind, &str)> = read
        .iter()
        .filter_map(|(_, read)| read.identity.as_ref().map(|(kind, name)| (*kind, name.as_str())))
        .collect();
    let none = Beside::new();
    let rest: Vec<&Document> = beside
        .unwrap_or(&none)
        .iter()
        .filter(|(key, _)| !given.contains(*key))
        .map(|(_, document)| *document)
        .collect();
    let mut problem = |index: usize, Place { line, column }: Place, message: String| {
        let path = files.get(index).map(|file| file.path.clone()).unwrap_or_default();
        found.push(Problem { path, line, column, message });
    };
    circles(read, &rest, &mut problem);
    let values = values(read, &rest);
    if let Some(beside) = beside {
        unknown(read, &values, &mut problem);
        taken_away(read, beside, &rest, &values, &mut problem);
    }
    wrong_values(read, &values, &mut problem);
}

/// Groups that ask for one another.
fn circles(read: &[(usize, Read)], rest: &[&Document], problem: &mut impl FnMut(usize, Place, String)) {
    let mut asks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut places: BTreeMap<(&str, &str), (usize, Place)> = BTreeMap::new();
    for (index, read) in read {
        let Some((Kind::Group, name)) = &read.identity else { continue };
        let of_group = asks.entry(name.clone()).or_default();
        for reference in &read.references {
            of_group.push(reference.name.clone());
            places.entry((name, &reference.name)).or_insert((*index, reference.place));
        }
    }
    if asks.is_empty() {
        return;
    }
    for document in rest {
        let Document::Group(group) = document else { continue };
        let compiled = group.hosts.as_deref().map(HostExpression::compile_for_group);
        let names = match &compiled {
            Some(Ok(hosts)) => hosts.uses().groups.iter().map(|(name, _)| name.clone()).collect(),
            _ => Vec::new(),
        };
        asks.insert(group.name.to_string(), names);
    }
    let of = |name: &String| asks.get(name).map(Vec::as_slice).unwrap_or_default();
    for circle in in_order(asks.keys(), of).1 {
        let next = circle.iter().cycle().skip(1);
        let place = circle.iter().zip(next).find_map(|(from, to)| places.get(&(from.as_str(), to.as_str())));
        let Some((index, place)) = place else { continue };
        let way: Vec<&str> = circle.iter().chain(circle.first()).map(String::as_str).collect();
        let message =
            format!("groups ask for one another in a circle: {}; take one of them out", way.join(" → "));
        problem(*index, *place, message);
    }
}

/// All values of each variable, and the documents that give them.
type Values<'v> = BTreeMap<&'v str, Vec<(&'v str, &'v Value)>>;

fn values<'v>(read: &'v [(usize, Read)], rest: &[&'v Document]) -> Values<'v> {
    let mut values = Values::new();
    let documents = read.iter().filter_map(|(_, read)| read.document.as_ref()).chain(rest.iter().copied());
    for document in documents {
        let Document::Variables(variables) = document else { continue };
        for (name, value) in &variables.vars {
            values.entry(name).or_default().push((variables.name.as_str(), value));
        }
    }
    // A document with another mistake still gives its variables.
    for (_, read) in read.iter().filter(|(_, read)| read.document.is_none()) {
        for (name, _) in &read.defined {
            values.entry(name).or_default();
        }
    }
    values
}

fn unknown(read: &[(usize, Read)], values: &Values<'_>, problem: &mut impl FnMut(usize, Place, String)) {
    for (index, read) in read {
        for (name, place) in &read.asked {
            if values.contains_key(name.as_str()) {
                continue;
            }
            let known: Vec<&str> = values.keys().copied().collect();
            let hint = crate::nearest::hint(name, &known);
            let message = format!(
                "no document gives the variable {name:?}{hint}: add it to one of kind Variables, or correct the name"
            );
            problem(*index, *place, message);
        }
    }
}

/// Variables that a document gave until now and that others go on asking for.
fn taken_away(
    read: &[(usize, Read)],
    beside: &Beside<'_>,
    rest: &[&Document],
    values: &Values<'_>,
    problem: &mut impl FnMut(usize, Place, String),
) {
    for (index, read) in read {
        let Some((Kind::Variables, name)) = &read.identity else { continue };
        let Some(Document::Variables(before)) = beside.get(&(Kind::Variables, name.as_str())) else {
            continue;
        };
        for var in before.vars.keys().filter(|var| !values.contains_key(var.as_str())) {
            let asks = |document: &&&Document| {
                let text = serde_json::to_string(document).unwrap_or_default();
                mentions(&text, &format!("vars.{var}")) || text.contains(&format!("vars[\\\"{var}\\\"]"))
            };
            let names: Vec<String> = rest
                .iter()
                .filter(asks)
                .take(NAMED)
                .map(|document| format!("{} {}", document.kind(), document.name()))
                .collect();
            if !names.is_empty() {
                let message = format!(
                    "the variable {var:?} is gone from here, and asked for by {}: change them in the same set",
                    names.join(", ")
                );
                problem(*index, read.place, message);
            }
        }
    }
}

/// Whether `word` stands in `text` and does not go on.
fn mentions(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let next = text.get(at + word.len()..).and_then(|rest| rest.chars().next());
        !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Schedules and thresholds that are none with a value that a document gives.
fn wrong_values(read: &[(usize, Read)], values: &Values<'_>, problem: &mut impl FnMut(usize, Place, String)) {
    for (index, read) in read {
        for (key, place, text) in &read.tuned {
            // With several variables, which values come together is known on a host.
            let names: BTreeSet<&str> = template::names(text).unwrap_or_default().into_iter().collect();
            let [name] = names.into_iter().collect::<Vec<_>>()[..] else { continue };
            for (document, value) in values.get(name).into_iter().flatten() {
                let vars = [(name.to_owned(), (*value).clone())].into();
                let filled = template::fill(text, &vars).map_err(|error| format!("{key}: {error}"));
                if let Err(error) = filled.and_then(|filled| tuning::check(key, &filled)) {
                    problem(*index, *place, format!("{error} (with {name} of the Variables {document:?})"));
                }
            }
        }
    }
}
