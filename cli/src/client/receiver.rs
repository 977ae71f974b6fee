//! `receiver test`.

use std::io::{self, Write as _};

use protocol::{ReceiverName, letter::ReceiverTested};
use serde::Serialize;

use super::http::Client;
use crate::{
    args::{Common, Format},
    output,
};

/// Nothing has to be said besides the name.
#[derive(Serialize)]
struct Nothing {}

pub(crate) async fn test(name: &ReceiverName, common: &Common) -> anyhow::Result<()> {
    let path = ["api", "v1", "receivers", name.as_str(), "test"];
    let tested: ReceiverTested = Client::open(common)?.post(&path, &Nothing {}).await?;
    if common.output == Format::Table {
        io::stdout().write_all(shown(&tested).as_bytes())?;
    } else {
        output::print(std::slice::from_ref(&tested), &[], common.output)?;
    }
    anyhow::ensure!(tested.ok, "receiver {name} did not accept the test");
    Ok(())
}

/// The request and the answer as they went over the wire.
fn shown(tested: &ReceiverTested) -> String {
    let ReceiverTested { method, url, headers, body, status, answer, took_ms, .. } = tested;
    let mut text = format!("{method} {url}\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\n"));
    }
    let status = status.map_or("no answer".to_owned(), |status| status.to_string());
    text.push_str(&format!(
        "\n{}\n\n--- {status} after {took_ms} ms\n{}\n",
        body.trim_end(),
        answer.trim_end()
    ));
    text
}
