//! Signatures of documents: taken with a change, kept with the document, sent to agents that ask for them.
//!
//! They prove nothing here, since agents believe nobody but the operators' keys that they pin. What is checked on the way
//! in is that agents will understand it: the right document, the right revision.

use std::collections::BTreeMap;

use documents::{Outcome, Outcomes};
use protocol::{
    ErrorCode, ErrorReply,
    admin::{DocumentChange, DocumentSignature},
    document::{Document, Kind},
    log::LogChange,
    signed::{self, Signature, SignedDocument, is_signed},
};

use super::plan::Documents;

/// The documents that are signed, ready to be sent.
pub(crate) type Signed = BTreeMap<(Kind, String), SignedDocument>;

/// A document with its signature, if it has one.
pub(crate) fn signed(document: &Document, signature: Option<&Signature>) -> Option<SignedDocument> {
    let signature = signature?.clone();
    // Wire types always encode; were one not to, it would count as not signed.
    Some(SignedDocument { document: signed::json(document).ok()?, signature: Some(signature) })
}

/// Put the signatures of a request to the changes of `revision` that they are for. One of a document that stays as it is
/// becomes a change of its own.
///
/// # Errors
/// `conflict` when they were made for another revision, `invalid` when one does not fit its document.
pub(crate) fn attach(
    changes: &mut Vec<LogChange>,
    signatures: &[DocumentSignature],
    documents: &Documents,
    revision: u64,
) -> Result<(), ErrorReply> {
    let refused = |message: String| Err(ErrorReply::invalid(message).at("signatures"));
    for DocumentSignature { kind, name, signature } in signatures {
        if signature.revision != revision {
            let message = format!(
                "signed for revision {}, and this is to be revision {revision}: sign it anew",
                signature.revision
            );
            return Err(ErrorReply::new(ErrorCode::Conflict, message).at("signatures"));
        }
        if changes.iter().any(|change| deletes(change, *kind, name)) {
            return refused(format!("{kind} {name} is signed and deleted at once"));
        }
        if !changes.iter().any(|change| puts(change, *kind, name)) {
            let Some(document) = documents.get(&(*kind, name.clone())) else {
                return refused(format!("there is no {kind} {name} for the signature of it"));
            };
            changes.push(LogChange::DocumentPut { document: document.clone(), signature: None });
        }
        for change in changes.iter_mut().filter(|change| puts(change, *kind, name)) {
            let LogChange::DocumentPut { document, signature: place } = change else { continue };
            let own = signed(document, Some(signature));
            if own.is_none_or(|own| signature.verify(&own.document).is_err()) {
                return refused(format!(
                    "the signature of {kind} {name} does not fit the document as it is read here: use a `dogwatch` of \
                     the server's version"
                ));
            }
            *place = Some(signature.clone());
        }
    }
    Ok(())
}

fn puts(change: &LogChange, kind: Kind, name: &str) -> bool {
    matches!(change, LogChange::DocumentPut { document, .. } if document.kind() == kind && document.name() == name)
}

fn deletes(change: &LogChange, kind: Kind, name: &str) -> bool {
    matches!(change, LogChange::DocumentDeleted { kind: k, name: n } if *k == kind && n == name)
}

/// Say of each change for which revision the version that there is was signed.
pub(crate) fn tell(told: &mut [DocumentChange], signed: &Signed) {
    for change in told {
        let there = signed.get(&(change.kind, change.name.clone()));
        change.revision = there.and_then(|there| there.signature.as_ref()).map(|s| s.revision);
    }
}

/// The documents of `changes` that are to be signed, with their signatures of then, for whoever signs them anew.
pub(crate) fn to_sign(changes: &[LogChange], then: &Signed) -> Vec<SignedDocument> {
    let puts = changes.iter().filter_map(|change| match change {
        LogChange::DocumentPut { document, .. } if is_signed(document.kind()) => Some(document),
        _ => None,
    });
    let with_signature = |document: &Document| {
        let own = SignedDocument { document: signed::json(document).ok()?, signature: None };
        let before = then.get(&(document.kind(), document.name().to_owned()));
        Some(before.filter(|before| before.document == own.document).cloned().unwrap_or(own))
    };
    puts.filter_map(with_signature).collect()
}

/// What a host that checks signatures needs to find out by itself what it runs.
pub(crate) fn needed<'a>(
    outcomes: &'a Outcomes,
    signed: &'a Signed,
) -> impl Iterator<Item = &'a SignedDocument> {
    let checks = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Runs(_)));
    let checks = checks.filter_map(|(name, _)| signed.get(&(Kind::Check, name.to_string())));
    checks.chain(signed.iter().filter(|((kind, _), _)| steers(*kind)).map(|(_, document)| document))
}

/// Whether documents of this kind are part of what every host needs to know.
fn steers(kind: Kind) -> bool {
    matches!(kind, Kind::Group | Kind::Variables)
}
