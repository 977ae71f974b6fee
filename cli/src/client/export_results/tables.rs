//! Text: comma-separated rows, and results as JSON lines.

use std::io::Write as _;

use protocol::{CheckResult, timestamp};

use super::{
    Out, Table,
    row::{origin, rows},
};

const HEAD: [&str; 16] = [
    "at",
    "agent",
    "check",
    "metric",
    "value",
    "text",
    "unit",
    "status",
    "output",
    "exit_code",
    "duration_ms",
    "revision",
    "epoch",
    "seq",
    "replayed",
    "origin",
];

/// RFC 4180, in UTF-8, with a head.
pub(super) struct Csv(csv::Writer<Out>);

impl Csv {
    pub(super) fn new(out: Out) -> anyhow::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(HEAD)?;
        Ok(Self(writer))
    }
}

impl Table for Csv {
    fn write(&mut self, result: &CheckResult) -> anyhow::Result<()> {
        let at = timestamp::format(result.at_ms);
        for row in rows(result) {
            let value = row.value.map(|value| value.to_string()).unwrap_or_default();
            self.0.write_record([
                at.as_str(),
                result.agent.as_str(),
                result.check.as_str(),
                row.metric.unwrap_or_default(),
                &value,
                row.text.unwrap_or_default(),
                row.unit.unwrap_or_default(),
                result.status.as_str(),
                row.output.unwrap_or_default(),
                &result.exit_code.map(|code| code.to_string()).unwrap_or_default(),
                &result.duration_ms.to_string(),
                &result.revision.to_string(),
                &result.epoch.to_string(),
                &result.seq.to_string(),
                if result.replayed { "true" } else { "false" },
                origin(result),
            ])?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}

/// Each result whole, one object a line.
pub(super) struct Ndjson(Out);

impl Ndjson {
    pub(super) fn new(out: Out) -> Self {
        Self(out)
    }
}

impl Table for Ndjson {
    fn write(&mut self, result: &CheckResult) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.0, result)?;
        Ok(self.0.write_all(b"\n")?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}
