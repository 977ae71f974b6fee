//! The documents that a newcomer starts with, applied on the first start and never again.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use async_nats::Client;
use protocol::{
    admin::{Applied, ApplyRequest, SourceFile},
    subject,
};
use service_kit::{files::write_private, request};

const FILES: [(&str, &str); 2] = [
    ("examples/checks.yaml", include_str!("../../../examples/checks.yaml")),
    ("examples/rules.yaml", include_str!("../../../examples/rules.yaml")),
];

/// Says that the first start is over, so that documents which an operator changed do not come back.
const MARK: &str = "starter-documents";
const TIMEOUT: Duration = Duration::from_secs(10);

/// # Errors
/// When they cannot be applied. Applying them twice, after a crash in between, changes nothing.
pub(crate) async fn apply_once(folder: &Path, empty: bool, client: &Client) -> anyhow::Result<()> {
    let mark = folder.join(MARK);
    if mark.exists() {
        return Ok(());
    }
    if !empty {
        let files = FILES.map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
        let request = ApplyRequest {
            actor: "dogwatch up".to_owned(),
            message: "starter documents".to_owned(),
            ..ApplyRequest::of(files.into())
        };
        let _applied: Applied = request::request(client, subject::ADMIN_APPLY, &request, TIMEOUT)
            .await
            .context("cannot apply the starter documents; --empty leaves them out")?;
    }
    let text: &[u8] = if empty { b"left out\n" } else { b"applied\n" };
    write_private(&mark, text).with_context(|| format!("cannot write {}", mark.display()))
}
