//! What can be wrong between groups, variables, and whatever asks for them.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    admin::{Problem, SourceFile},
    document::{Document, Kind},
};
use serde_json::Value;

use crate::{HostExpression, kinds::Read, resolve::in_order, set::PROBLEMS, template, tuning, yaml::Place};

/// Documents that there are besides, by kind and name.
pub(crate) type Beside<'a> = BTreeMap<(Kind, &'a str), &'a Document>;

/// Most documents that are named in one problem.
const NAMED: usize = 3;
/// Most groups of a circle that are named.
const SHOWN: usize = 10;
/// Most values that are tried; what is wrong with others shows on the hosts that have them.
const TRIED: usize = 100_000;

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
        let mut way: Vec<&str> = circle.iter().take(SHOWN).map(String::as_str).collect();
        way.extend((circle.len() > SHOWN).then_some("…"));
        way.extend(circle.first().map(String::as_str));
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
    let known: Vec<&str> = values.keys().copied().collect();
    let mut count = 0;
    for (index, read) in read {
        for (name, place) in &read.asked {
            if values.contains_key(name.as_str()) {
                continue;
            }
            count += 1;
            let hint = if count <= PROBLEMS { crate::nearest::hint(name, &known) } else { String::new() };
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
    let replaced = |(_, read): &(usize, Read)| matches!(&read.identity, Some((Kind::Variables, name)) if beside.contains_key(&(Kind::Variables, name.as_str())));
    if !read.iter().any(replaced) {
        return;
    }
    let mentioned = mentioned(rest);
    for (index, read) in read {
        let Some((Kind::Variables, name)) = &read.identity else { continue };
        let Some(Document::Variables(before)) = beside.get(&(Kind::Variables, name.as_str())) else {
            continue;
        };
        let gone = before.vars.keys().filter(|var| !values.contains_key(var.as_str()));
        for (var, asking) in gone.filter_map(|var| Some((var, mentioned.get(var)?))) {
            let message = format!(
                "the variable {var:?} is gone from here, and asked for by {}: change them in the same set",
                asking.join(", ")
            );
            problem(*index, read.place, message);
        }
    }
}

/// The first documents that ask for each variable, whatever they are.
fn mentioned(documents: &[&Document]) -> BTreeMap<String, Vec<String>> {
    let mut mentioned: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for document in documents {
        let text = serde_json::to_string(document).unwrap_or_default();
        for opening in ["vars.", "vars[\\\""] {
            for (at, _) in text.match_indices(opening) {
                let rest = text.get(at + opening.len()..).unwrap_or_default();
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                let asking = mentioned.entry(rest.get(..end).unwrap_or_default().to_owned()).or_default();
                let name = format!("{} {}", document.kind(), document.name());
                if asking.len() < NAMED && !asking.contains(&name) {
                    asking.push(name);
                }
            }
        }
    }
    mentioned
}

/// Schedules and thresholds that are none with a value that a document gives.
fn wrong_values(read: &[(usize, Read)], values: &Values<'_>, problem: &mut impl FnMut(usize, Place, String)) {
    let mut left = TRIED;
    for (index, read) in read {
        for (key, place, text) in &read.tuned {
            // With several variables, which values come together is known on a host.
            let names: BTreeSet<&str> = template::names(text).unwrap_or_default().into_iter().collect();
            let [name] = names.into_iter().collect::<Vec<_>>()[..] else { continue };
            for (document, value) in values.get(name).into_iter().flatten().take(left) {
                left -= 1;
                let vars = [(name.to_owned(), (*value).clone())].into();
                let filled = template::fill(text, &vars).map_err(|error| format!("{key}: {error}"));
                if let Err(error) = filled.and_then(|filled| tuning::check(key, &filled)) {
                    problem(*index, *place, format!("{error} (with {name} of the Variables {document:?})"));
                }
            }
        }
    }
}
