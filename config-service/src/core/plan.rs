//! What an apply would change, and whether it may.

use std::collections::BTreeMap;

use protocol::{
    ErrorCode, ErrorReply,
    admin::{ApplyRequest, Change, DocumentChange},
    document::{Document, Kind},
    limits,
    log::LogChange,
};

pub(crate) type Documents = BTreeMap<(Kind, String), Document>;

/// All documents together, as JSON: every answer that holds them must fit into one message.
const TOTAL: usize = limits::MESSAGE - limits::MESSAGE / 8;

/// # Errors
/// `invalid` with every problem of the files at once, or `too_large` when all documents together are.
pub(crate) fn apply(
    request: &ApplyRequest,
    documents: &Documents,
) -> Result<(Vec<LogChange>, Vec<DocumentChange>), ErrorReply> {
    for (field, text, limit) in [("actor", &request.actor, 256), ("message", &request.message, 4096)] {
        if text.len() > limit {
            return Err(ErrorReply::invalid(format!("{field} has more than {limit} bytes")).at(field));
        }
    }
    let exists = |kind: Kind, name: &str| documents.contains_key(&(kind, name.to_owned()));
    let given = documents::read(&request.files, exists).map_err(|problems| {
        let message = match problems.as_slice() {
            [only] => only.to_string(),
            all => format!("{} problems, nothing is applied", all.len()),
        };
        ErrorReply { problems, ..ErrorReply::invalid(message).at("files") }
    })?;
    let mut changes = Vec::new();
    let mut told = Vec::new();
    let mut all = documents.clone();
    for document in given {
        let (kind, name) = (document.kind(), document.name().to_owned());
        let change = match documents.get(&(kind, name.clone())) {
            None => Change::Created,
            Some(before) if *before == document => Change::Unchanged,
            Some(_) => Change::Changed,
        };
        if change != Change::Unchanged {
            all.insert((kind, name.clone()), document.clone());
            changes.push(LogChange::DocumentPut { document });
        }
        told.push(DocumentChange { kind, name, change });
    }
    let too_large = |message: String| Err(ErrorReply::new(ErrorCode::TooLarge, message).at("files"));
    if all.len() > documents::DOCUMENTS {
        let (count, limit) = (all.len(), documents::DOCUMENTS);
        return too_large(format!("this makes {count} documents, more than the {limit} allowed"));
    }
    let size: usize =
        all.values().map(|document| protocol::encode(document).map_or(0, |json| json.len())).sum();
    if size > TOTAL {
        return too_large(format!("all documents together take {size} bytes, more than the {TOTAL} allowed"));
    }
    Ok((changes, told))
}
