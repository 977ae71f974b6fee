//! A set of files as one: every document, or every problem.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    admin::{Problem, SourceFile},
    document::{Document, Kind},
    limits,
};

use crate::{
    fields::Problems,
    kinds::{self, Read},
    targets::{self, Beside},
    yaml,
};

/// Most documents in one set, and on one server.
pub const DOCUMENTS: usize = 10_000;
/// What helps where there are too many.
pub(crate) const FEWER: &str =
    "what differs from host to host is better told by `variants`, `overrides` and variables of one Check";
/// Longest path of a file, in bytes: it stands in front of each problem.
const PATH: usize = 1_024;
/// Most problems that are reported at once.
pub(crate) const PROBLEMS: usize = 1_000;

/// The documents of a set of files, in the order in which they stand there. `exists` says which documents there are
/// besides: a rule may refer to those. Their variables are not known, so any variable may be used.
///
/// # Errors
/// All problems of all files, in order of files and lines (the first thousand).
pub fn read(
    files: &[SourceFile],
    exists: impl Fn(Kind, &str) -> bool,
) -> Result<Vec<Document>, Vec<Problem>> {
    read_all(files, &exists, None)
}

/// As [`read`], beside documents that are known.
///
/// # Errors
/// As [`read`]; besides, variables that no document gives.
pub fn read_beside<'a>(
    files: &[SourceFile],
    beside: impl IntoIterator<Item = &'a Document>,
) -> Result<Vec<Document>, Vec<Problem>> {
    let beside: Beside<'_> =
        beside.into_iter().map(|document| ((document.kind(), document.name()), document)).collect();
    read_all(files, &|kind, name| beside.contains_key(&(kind, name)), Some(&beside))
}

fn read_all(
    files: &[SourceFile],
    exists: &dyn Fn(Kind, &str) -> bool,
    beside: Option<&Beside<'_>>,
) -> Result<Vec<Document>, Vec<Problem>> {
    let size: usize = files.iter().map(|file| file.path.len() + file.text.len()).sum();
    if size > limits::MESSAGE {
        let path = files.first().map(|file| file.path.chars().take(100).collect()).unwrap_or_default();
        let limit = limits::MESSAGE;
        let message =
            format!("the files have {size} bytes together, more than the {limit} allowed: apply fewer");
        return Err(vec![Problem { path, line: 1, column: 1, message }]);
    }
    let mut found = Vec::new();
    let mut read: Vec<(usize, Read)> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        if file.path.len() > PATH {
            let path = file.path.chars().take(100).collect();
            let message = format!("the path has more than the {PATH} bytes allowed: shorten it");
            found.push(Problem { path, line: 1, column: 1, message });
            continue;
        }
        let lines: Vec<_> = file.text.lines().collect();
        let mut problems = Problems { path: &file.path, text: &file.text, lines: &lines, found: &mut found };
        match yaml::documents(&file.text) {
            Ok(nodes) => {
                for node in nodes {
                    read.extend(kinds::read(node, &mut problems).map(|document| (index, document)));
                    if problems.found.len() >= PROBLEMS {
                        // Nobody reads on, and what was not read may be what others refer to.
                        return Err(in_order_of(files, found));
                    }
                }
            }
            Err((place, message)) => problems.add(place, message),
        }
    }
    across(files, &read, exists, &mut found);
    targets::check(files, &read, beside, &mut found);
    if found.is_empty() {
        return Ok(read.into_iter().filter_map(|(_, read)| read.document).collect());
    }
    Err(in_order_of(files, found))
}

fn in_order_of(files: &[SourceFile], mut found: Vec<Problem>) -> Vec<Problem> {
    let order: BTreeMap<&str, usize> =
        files.iter().enumerate().rev().map(|(index, file)| (file.path.as_str(), index)).collect();
    found.sort_by_key(|problem| (order.get(problem.path.as_str()).copied(), problem.line, problem.column));
    found.truncate(PROBLEMS);
    found
}

/// What can be wrong between documents: too many, the same name twice, names that nobody has.
fn across(
    files: &[SourceFile],
    read: &[(usize, Read)],
    exists: &dyn Fn(Kind, &str) -> bool,
    found: &mut Vec<Problem>,
) {
    let path = |index: usize| files.get(index).map_or("", |file| &file.path);
    let mut first: BTreeMap<(Kind, &str), String> = BTreeMap::new();
    for (count, (index, document)) in read.iter().enumerate() {
        let (path, place) = (path(*index), document.place);
        let mut problem = |message: String| {
            found.push(Problem { path: path.to_owned(), line: place.line, column: place.column, message });
        };
        if count == DOCUMENTS {
            problem(format!("there are more than the {DOCUMENTS} documents that a server holds: {FEWER}"));
        }
        let Some((kind, name)) = &document.identity else { continue };
        let here = format!("{path}:{}", place.line);
        if let Some(there) = first.get(&(*kind, name)) {
            problem(format!("the {kind} {name:?} is already defined at {there}: remove or rename one"));
        } else {
            first.insert((*kind, name), here);
        }
    }
    let defined: BTreeSet<(Kind, &str)> = first.into_keys().collect();
    for (index, document) in read {
        for reference in &document.references {
            let (kind, name, place) = (reference.kind, &reference.name, reference.place);
            if defined.contains(&(kind, name)) || exists(kind, name) {
                continue;
            }
            if found.len() > PROBLEMS {
                // Nobody reads on, and each looks for a name that is near.
                return;
            }
            let names: Vec<&str> =
                defined.iter().filter(|(defined, _)| *defined == kind).map(|(_, name)| *name).collect();
            let hint = crate::nearest::hint(name, &names);
            let message =
                format!("there is no {kind} {name:?}{hint}: apply it with this set, or correct the name");
            let path = path(*index).to_owned();
            found.push(Problem { path, line: place.line, column: place.column, message });
        }
    }
}
