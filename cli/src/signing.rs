//! Signing keys, and signing documents with them: always here, never in a service (G3).

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nkeys::KeyPair;
use protocol::{
    admin::{Applied, Change, DocumentSignature, SourceFile},
    document::Document,
    signed::{self, PublicKey, SignatureError, SignedDocument, SigningKey, is_signed},
};
use service_kit::files::{sync_folder, write_private};

/// As much of a key file as is read, in bytes.
const KEY_FILE: u64 = 4096;
/// How often a change is signed anew because revisions moved on without touching its documents.
pub(crate) const TRIES: usize = 8;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    #[error("cannot read the signing key from {path}: check the path and its permissions")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "others can read the signing key in {path} (mode {mode:o}): chmod 600 it, and think of it as known"
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("{path}")]
    Key { path: PathBuf, source: SignatureError },
    #[error("cannot write {path}: a key that is there is never overwritten")]
    Write { path: PathBuf, source: io::Error },
    #[error("the system gave no random key: {0}")]
    Random(String),
    #[error("the service says that it would change {0}, which is not in these files: nothing was signed")]
    NotGiven(String),
    #[error("{0} cannot be signed anew: {1}; apply the files of that revision instead")]
    NotProven(String, String),
    #[error("these files are read otherwise here than by the service: use a `dogwatch` of its version")]
    Differs,
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Make a key and write it to a file of mode 0600 that was not there before.
///
/// # Errors
/// [`SigningError`].
pub(crate) fn create(path: &Path) -> Result<SigningKey, SigningError> {
    let failed = |source| SigningError::Write { path: path.to_owned(), source };
    let seed = KeyPair::new_operator().seed().map_err(|error| SigningError::Random(error.to_string()))?;
    let key = SigningKey::from_seed(&seed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    write_private(&temporary, format!("{seed}\n").as_bytes()).map_err(failed)?;
    // Whole or not there, and never over another: a link does what a rename cannot.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).and(linked).map_err(failed)?;
    sync_folder(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    Ok(key)
}

/// # Errors
/// [`SigningError`] when it cannot be read, others can read it, or it holds no key.
pub(crate) fn load(path: &Path) -> Result<SigningKey, SigningError> {
    let failed = |source| SigningError::Read { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        return Err(SigningError::Open { path: path.to_owned(), mode: mode & 0o7777 });
    }
    let mut text = String::new();
    file.take(KEY_FILE).read_to_string(&mut text).map_err(failed)?;
    SigningKey::from_seed(&text).map_err(|source| SigningError::Key { path: path.to_owned(), source })
}

/// Sign what an apply of `files` is to change, for the revision after the planned one. What is signed is what the files
/// say, read here; the service says only which of it is new. With `again`, what stays as it is too.
///
/// # Errors
/// [`SigningError`] when the service names what the files do not hold.
pub(crate) fn of_files(
    key: &SigningKey,
    files: &[SourceFile],
    planned: &Applied,
    again: bool,
) -> Result<Vec<DocumentSignature>, SigningError> {
    let documents = documents::read(files, |_, _| true).map_err(|_| SigningError::Differs)?;
    let mut signatures = Vec::new();
    for change in planned.changes.iter().filter(|change| is_signed(change.kind)) {
        match change.change {
            Change::Created | Change::Changed => {}
            Change::Unchanged if again => {}
            Change::Unchanged | Change::Deleted => continue,
        }
        let is_it = |document: &&Document| document.kind() == change.kind && document.name() == change.name;
        let document = documents.iter().find(is_it);
        let document =
            document.ok_or_else(|| SigningError::NotGiven(format!("{} {}", change.kind, change.name)))?;
        let signature = key.sign(&signed::json(document)?, planned.revision + 1, change.revision)?;
        signatures.push(DocumentSignature { kind: change.kind, name: change.name.clone(), signature });
    }
    Ok(signatures)
}

/// Sign anew what a rollback to `revision` is to put back: only what was signed then, by this key or by one of `trusted`.
///
/// # Errors
/// [`SigningError`] for a document that nothing proves.
pub(crate) fn of_past(
    key: &SigningKey,
    trusted: &[PublicKey],
    revision: u64,
    planned: &Applied,
) -> Result<Vec<DocumentSignature>, SigningError> {
    let mut signatures = Vec::new();
    for SignedDocument { document, signature } in &planned.documents {
        let text = |field: &str| document.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
        let what = format!("{} {}", text("kind"), text("name"));
        let not_proven = |reason: &str| SigningError::NotProven(what.clone(), reason.to_owned());
        let then = signature.as_ref().ok_or_else(|| not_proven("it was not signed then"))?;
        if then.key != key.public() && !trusted.contains(&then.key) {
            let id = then.key.id();
            return Err(not_proven(&format!("it was signed by key {id}, which --trusted-key does not name")));
        }
        then.verify(document).map_err(|error| not_proven(&error.to_string()))?;
        if then.revision > revision {
            return Err(not_proven("what the service gives is newer than that"));
        }
        let change = planned
            .changes
            .iter()
            .find(|change| change.kind.as_str() == text("kind") && change.name == text("name"));
        let change = change.ok_or_else(|| not_proven("it is no part of the change"))?;
        let signature = key.sign(document, planned.revision + 1, change.revision)?;
        signatures.push(DocumentSignature { kind: change.kind, name: change.name.clone(), signature });
    }
    Ok(signatures)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use protocol::{admin::DocumentChange, document::Kind};

    use super::*;

    fn planned(changes: &[(&str, Change, Option<u64>)], documents: Vec<SignedDocument>) -> Applied {
        let changes = changes.iter().map(|(name, change, revision)| DocumentChange {
            kind: Kind::Check,
            name: (*name).to_owned(),
            change: *change,
            revision: *revision,
            fields: Vec::new(),
        });
        Applied { revision: 7, changes: changes.collect(), effects: None, documents, rollout: None }
    }

    fn key() -> SigningKey {
        SigningKey::from_seed(&KeyPair::new_operator().seed().unwrap()).unwrap()
    }

    #[test]
    fn g3_only_what_the_files_say_is_signed() {
        let text = "kind: Check\nname: a\nevery: 1m\ncommand: df\n---\nkind: Check\nname: b\nevery: 1m\ncommand: du\n";
        let files = [SourceFile { path: "x".to_owned(), text: text.to_owned() }];
        let key = key();
        let plan = planned(&[("a", Change::Changed, Some(3)), ("b", Change::Unchanged, None)], Vec::new());
        let signatures = of_files(&key, &files, &plan, false).unwrap();
        let [only] = signatures.as_slice() else { panic!("{signatures:?}") };
        assert_eq!((only.signature.revision, only.signature.fallback), (8, Some(3)));
        let documents = documents::read(&files, |_, _| true).unwrap();
        only.signature.verify(&signed::json(&documents[0]).unwrap()).unwrap();
        assert_eq!(of_files(&key, &files, &plan, true).unwrap().len(), 2);
        let foreign = planned(&[("c", Change::Created, None)], Vec::new());
        let error = of_files(&key, &files, &foreign, false).unwrap_err().to_string();
        assert!(error.contains("Check c, which is not in these files"), "{error}");
    }

    #[test]
    fn g3_a_rollback_signs_nothing_that_no_operator_signed_before() {
        let document = serde_json::json!({"kind": "Check", "name": "a", "command": "df"});
        let (own, other) = (key(), key());
        let past = |key: &SigningKey, revision| SignedDocument {
            signature: Some(key.sign(&document, revision, None).unwrap()),
            document: document.clone(),
        };
        let try_it = |trusted: &[PublicKey], document| {
            let plan = planned(&[("a", Change::Changed, Some(6))], vec![document]);
            of_past(&own, trusted, 4, &plan).map_err(|error| error.to_string())
        };
        let signed = try_it(&[], past(&own, 4)).unwrap();
        assert_eq!((signed[0].signature.revision, signed[0].signature.fallback), (8, Some(6)));
        assert!(try_it(&[other.public()], past(&other, 3)).is_ok());
        let mut tampered = past(&own, 3);
        tampered.document["command"] = "rm".into();
        let mut foreign = past(&own, 3);
        foreign.document["name"] = "b".into();
        foreign.signature = Some(own.sign(&foreign.document, 3, None).unwrap());
        for (document, expected) in [
            (past(&other, 3), "which --trusted-key does not name"),
            (SignedDocument { signature: None, ..past(&own, 3) }, "was not signed then"),
            (tampered, "does not fit the document"),
            (past(&own, 5), "newer than that"),
            (foreign, "no part of the change"),
        ] {
            let error = try_it(&[], document).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_read_only_where_nobody_else_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        let key = create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&path).unwrap().public(), key.public());
        assert!(create(&path).unwrap_err().to_string().contains("never overwritten"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("(mode 640)"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "junk").unwrap();
        let error = load(&path).unwrap_err();
        assert!(matches!(error, SigningError::Key { .. }), "{error}");
    }
}
