//! What an apply or a rollback would change, and whether it may.

use std::collections::BTreeMap;

use protocol::{
    ErrorCode, ErrorReply,
    admin::{ApplyRequest, DocumentChange},
    document::{Document, Kind},
    limits,
    log::LogChange,
};

use super::difference::{self, Told};

pub(crate) type Documents = BTreeMap<(Kind, String), Document>;

/// All documents together, as JSON: every answer that holds them must fit into one message.
const TOTAL: usize = limits::MESSAGE - limits::MESSAGE / 8;

/// All variables together: a host that has every one of them is still told in one message.
const VARIABLES: usize = limits::MESSAGE / 4;

/// What is to be logged, and what is told of it.
pub(crate) type Planned = (Vec<LogChange>, Vec<DocumentChange>);

/// # Errors
/// `invalid` with every problem of the files at once, or `too_large` when all documents together are.
pub(crate) fn apply(request: &ApplyRequest, documents: &Documents) -> Result<Planned, ErrorReply> {
    who_and_why(&request.actor, &request.message)?;
    // What is about to go is nothing to refer to.
    let beside = (!request.prune).then(|| documents.values()).into_iter().flatten();
    let given = documents::read_beside(&request.files, beside).map_err(|problems| {
        let message = match problems.as_slice() {
            [only] => only.to_string(),
            all => format!("{} problems, nothing is applied", all.len()),
        };
        ErrorReply { problems, ..ErrorReply::invalid(message).at("files") }
    })?;
    if request.prune && given.is_empty() {
        let message =
            "there is no document in these files, and to prune would delete every one that there is";
        return Err(ErrorReply::invalid(message).at("files"));
    }
    let mut told = Told::default();
    for document in &given {
        told.put(documents.get(&key(document)), document);
    }
    let mut after = if request.prune { Documents::new() } else { documents.clone() };
    after.extend(given.into_iter().map(|document| (key(&document), document)));
    for document in documents.iter().filter(|(key, _)| !after.contains_key(key)).map(|(_, document)| document)
    {
        told.deleted(document);
    }
    fits(&after)?;
    Ok((changes(documents, &after), told.changes()))
}

/// Make the documents what they were.
///
/// # Errors
/// `invalid` for what is said beside it.
pub(crate) fn rollback(
    (actor, message): (&str, &str),
    documents: &Documents,
    target: &Documents,
) -> Result<Planned, ErrorReply> {
    who_and_why(actor, message)?;
    Ok((changes(documents, target), difference::between(documents, target)))
}

fn who_and_why(actor: &str, message: &str) -> Result<(), ErrorReply> {
    for (field, text, limit) in [("actor", actor, 256), ("message", message, 4096)] {
        if text.len() > limit {
            return Err(ErrorReply::invalid(format!("{field} has more than {limit} bytes")).at(field));
        }
    }
    Ok(())
}

fn key(document: &Document) -> (Kind, String) {
    (document.kind(), document.name().to_owned())
}

/// # Errors
/// `too_large`.
fn fits(documents: &Documents) -> Result<(), ErrorReply> {
    let too_large = |message: String| Err(ErrorReply::new(ErrorCode::TooLarge, message).at("files"));
    if documents.len() > documents::DOCUMENTS {
        let (count, limit) = (documents.len(), documents::DOCUMENTS);
        return too_large(format!(
            "this makes {count} documents, more than the {limit} that a server holds: what differs from host to host is \
             better told by `variants`, `overrides` and variables of one Check"
        ));
    }
    let size: usize =
        documents.values().map(|document| protocol::encode(document).map_or(0, |json| json.len())).sum();
    let variables = documents.values().filter(|document| document.kind() == Kind::Variables);
    let of_variables: usize =
        variables.map(|document| protocol::encode(document).map_or(0, |json| json.len())).sum();
    if of_variables > VARIABLES {
        return too_large(format!(
            "all variables together take {of_variables} bytes, more than the {VARIABLES} allowed"
        ));
    }
    if size > TOTAL {
        return too_large(format!("all documents together take {size} bytes, more than the {TOTAL} allowed"));
    }
    Ok(())
}

/// What leads from one state to another.
pub(crate) fn changes(before: &Documents, after: &Documents) -> Vec<LogChange> {
    let put = after
        .iter()
        .filter(|(key, document)| before.get(*key) != Some(*document))
        .map(|(_, document)| LogChange::DocumentPut { document: document.clone(), signature: None });
    let deleted = before
        .keys()
        .filter(|key| !after.contains_key(*key))
        .map(|(kind, name)| LogChange::DocumentDeleted { kind: *kind, name: name.clone() });
    put.chain(deleted).collect()
}
