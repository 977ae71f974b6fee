//! Rows as Parquet. They are held until a row group is full, so memory is bounded by one group.

use std::{io::Write as _, sync::Arc};

use parquet::{
    basic::Compression,
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use protocol::CheckResult;

use super::{
    Out, Table,
    row::{Row, origin, rows},
};

/// Rows of one group, and bytes of the texts in it, about.
const GROUP_ROWS: usize = 100_000;
const GROUP_BYTES: usize = 32 * 1024 * 1024;

const SCHEMA: &str = "message results {
    required int64 at (TIMESTAMP(MILLIS,true));
    required binary agent (STRING);
    required binary check (STRING);
    optional binary metric (STRING);
    optional double value;
    optional binary text (STRING);
    optional binary unit (STRING);
    required binary status (STRING);
    optional binary output (STRING);
    optional int32 exit_code;
    required int64 duration_ms;
    required int64 revision;
    required int64 epoch;
    required int64 seq;
    required boolean replayed;
    required binary origin (STRING);
}";

pub(super) struct Parquet {
    file: SerializedFileWriter<Out>,
    group: Group,
    bytes: usize,
}

/// The columns of the schema, in its order.
#[derive(Default)]
struct Group {
    at: Vec<i64>,
    agent: Vec<ByteArray>,
    check: Vec<ByteArray>,
    metric: Vec<Option<ByteArray>>,
    value: Vec<Option<f64>>,
    text: Vec<Option<ByteArray>>,
    unit: Vec<Option<ByteArray>>,
    status: Vec<ByteArray>,
    output: Vec<Option<ByteArray>>,
    exit_code: Vec<Option<i32>>,
    duration_ms: Vec<i64>,
    revision: Vec<i64>,
    epoch: Vec<i64>,
    seq: Vec<i64>,
    replayed: Vec<bool>,
    origin: Vec<ByteArray>,
}

impl Parquet {
    pub(super) fn new(out: Out) -> anyhow::Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        Ok(Self { file, group: Group::default(), bytes: 0 })
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let group = std::mem::take(&mut self.group);
        self.bytes = 0;
        if group.at.is_empty() {
            return Ok(());
        }
        let mut writer = self.file.next_row_group()?;
        group.write(&mut writer)?;
        writer.close().map(drop)
    }
}

impl Table for Parquet {
    fn write(&mut self, result: &CheckResult) -> anyhow::Result<()> {
        for row in rows(result) {
            self.bytes = self.bytes.saturating_add(self.group.push(&row));
        }
        if self.group.at.len() >= GROUP_ROWS || self.bytes >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        self.flush()?;
        self.file.finish()?;
        Ok(self.file.inner_mut().flush()?)
    }
}

impl Group {
    /// Returns how many bytes of text the row brings.
    fn push(&mut self, row: &Row<'_>) -> usize {
        let (result, number) = (row.result, |number: u64| i64::try_from(number).unwrap_or(i64::MAX));
        let optional = |text: Option<&str>| text.map(ByteArray::from);
        self.at.push(number(result.at_ms));
        self.agent.push(result.agent.as_str().into());
        self.check.push(result.check.as_str().into());
        self.metric.push(optional(row.metric));
        self.value.push(row.value);
        self.text.push(optional(row.text));
        self.unit.push(optional(row.unit));
        self.status.push(result.status.as_str().into());
        self.output.push(optional(row.output));
        self.exit_code.push(result.exit_code);
        self.duration_ms.push(number(result.duration_ms));
        self.revision.push(number(result.revision));
        self.epoch.push(number(result.epoch));
        self.seq.push(number(result.seq));
        self.replayed.push(result.replayed);
        self.origin.push(origin(result).into());
        [row.metric, row.text, row.unit, row.output].into_iter().flatten().map(str::len).sum()
    }

    fn write(self, group: &mut SerializedRowGroupWriter<'_, Out>) -> Result<(), ParquetError> {
        required::<Int64Type>(group, &self.at)?;
        required::<ByteArrayType>(group, &self.agent)?;
        required::<ByteArrayType>(group, &self.check)?;
        optional::<ByteArrayType>(group, self.metric)?;
        optional::<DoubleType>(group, self.value)?;
        optional::<ByteArrayType>(group, self.text)?;
        optional::<ByteArrayType>(group, self.unit)?;
        required::<ByteArrayType>(group, &self.status)?;
        optional::<ByteArrayType>(group, self.output)?;
        optional::<Int32Type>(group, self.exit_code)?;
        required::<Int64Type>(group, &self.duration_ms)?;
        required::<Int64Type>(group, &self.revision)?;
        required::<Int64Type>(group, &self.epoch)?;
        required::<Int64Type>(group, &self.seq)?;
        required::<BoolType>(group, &self.replayed)?;
        required::<ByteArrayType>(group, &self.origin)
    }
}

fn required<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Out>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    column::<T>(group, values, None)
}

fn optional<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Out>,
    values: Vec<Option<T::T>>,
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let there: Vec<T::T> = values.into_iter().flatten().collect();
    column::<T>(group, &there, Some(&levels))
}

/// The next column of the schema.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Out>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let none = || ParquetError::General("the schema has fewer columns than the rows".to_owned());
    let mut column = group.next_column()?.ok_or_else(none)?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}
