//! `dogwatch keygen`, and where commands that change documents find the key to sign them with.

use std::{
    io::{self, Write},
    path::Path,
};

use protocol::{
    admin::{Applied, Change},
    signed::{SigningKey, is_signed},
};
use reqwest::StatusCode;

use super::http::{Client, ClientError};
use crate::{
    args::{KeygenArgs, SigningArgs},
    output::note,
    signing,
    up::local,
};

/// # Errors
/// [`signing::SigningError`].
pub(crate) fn keygen(args: &KeygenArgs) -> anyhow::Result<()> {
    let key = if args.public { signing::load(&args.file)? } else { signing::create(&args.file)? };
    if !args.public {
        note(&format!("signing key in {}: keep it where operators are, and a copy", args.file.display()));
        note("agents that get its public key by --trusted-key run only what it signed:");
    }
    writeln!(io::stdout(), "{}", key.public())?;
    Ok(())
}

/// The key that is named, or that of the `up` that runs in this folder.
///
/// # Errors
/// [`signing::SigningError`].
pub(crate) fn key(args: &SigningArgs, client: &Client) -> anyhow::Result<Option<SigningKey>> {
    let path = match &args.signing_key {
        Some(path) => path.clone(),
        None if client.is_local() => local::signing_key(Path::new(local::FOLDER)),
        None => return Ok(None),
    };
    if args.signing_key.is_none() && !path.exists() {
        return Ok(None);
    }
    Ok(Some(signing::load(&path)?))
}

/// Say that agents may refuse what is not signed.
pub(crate) fn warn_unsigned(key: Option<&SigningKey>, planned: &Applied) {
    let signs = |kind, change| is_signed(kind) && matches!(change, Change::Created | Change::Changed);
    if key.is_none() && planned.changes.iter().any(|change| signs(change.kind, change.change)) {
        note("not signed, since there is no key (--signing-key FILE): agents that pin keys will not run it");
    }
}

/// Whether a change was refused only since revisions moved on after it was signed.
pub(crate) fn signed_too_late(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<ClientError>(),
        Some(ClientError::Refused { status: StatusCode::CONFLICT, problem })
            if problem.field.as_deref() == Some("signatures")
    )
}
