//! The documents that a newcomer starts with, applied on the first start and never again.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use async_nats::Client;
use protocol::{
    ErrorCode,
    admin::{Applied, ApplyRequest, SourceFile},
    signed::SigningKey,
    subject,
};
use service_kit::{
    files::write_private,
    request::{self, RequestError},
};

use crate::signing;

const FILES: [(&str, &str); 2] = [
    ("examples/checks.yaml", include_str!("../../../examples/checks.yaml")),
    ("examples/rules.yaml", include_str!("../../../examples/rules.yaml")),
];

/// Says that the first start is over, so that documents which an operator changed do not come back.
const MARK: &str = "starter-documents";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the first start is over.
pub(crate) fn is_over(folder: &Path) -> bool {
    folder.join(MARK).exists()
}

/// # Errors
/// When they cannot be applied. Applying them twice, after a crash in between, changes nothing.
pub(crate) async fn apply_once(
    folder: &Path,
    empty: bool,
    key: Option<&SigningKey>,
    client: &Client,
) -> anyhow::Result<()> {
    let mark = folder.join(MARK);
    if is_over(folder) {
        return Ok(());
    }
    if !empty {
        let files = FILES.map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
        let mut request = ApplyRequest {
            actor: "dogwatch up".to_owned(),
            message: "starter documents".to_owned(),
            ..ApplyRequest::of(files.into())
        };
        let apply = async |request: &ApplyRequest| -> Result<Applied, RequestError> {
            request::request(client, subject::ADMIN_APPLY, request, TIMEOUT).await
        };
        let failed = "cannot apply the starter documents; --empty leaves them out";
        let mut tries = 1;
        while let Some(key) = key {
            request.dry_run = true;
            let planned = apply(&request).await.context(failed)?;
            request.signatures = signing::of_files(key, &request.files, &planned, false)?;
            request.dry_run = false;
            match apply(&request).await {
                // The first key of all may come in between.
                Err(RequestError::Refused(error))
                    if error.code == ErrorCode::Conflict && tries < signing::TRIES =>
                {
                    request.signatures.clear();
                    tries += 1;
                }
                applied => {
                    applied.context(failed)?;
                    break;
                }
            }
        }
        if key.is_none() {
            apply(&request).await.context(failed)?;
        }
    }
    let text: &[u8] = if empty { b"left out\n" } else { b"applied\n" };
    write_private(&mark, text).with_context(|| format!("cannot write {}", mark.display()))
}
