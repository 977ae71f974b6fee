//! A block: results of one check of one agent, in order of time, each field a column of its own.
//!
//! ```text
//! crc32 of the rest:u32le  Header (postcard)  sections, end to end
//! ```
//!
//! What two results share but for their numbers, their texts and their time is one [`shape::Shape`], kept once. Texts
//! of output are kept once each. A reader decodes only the columns that it needs. Reading gives back what was written,
//! to the bit.

mod column;
pub mod rollup;
mod shape;

use std::collections::HashMap;

use protocol::{AgentId, CheckName, CheckResult};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::series::Sample;
use shape::{Shape, Split};

/// Most results in one block.
pub const MAX_RESULTS: usize = 2_880;
/// No block that was written is larger inside.
const MAX_TEXTS: usize = 256 * 1024 * 1024;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("its checksum does not match")]
    Checksum,
    #[error("form {0} of a column is not known")]
    Form(u8),
    #[error("its {0} cannot be read")]
    Part(&'static str),
    #[error("it has more than a block can hold")]
    TooMuch,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    results: u32,
    /// Names of metrics; each has a section after the fixed ones.
    names: Vec<String>,
    /// Length of each section.
    sections: Vec<u32>,
}

/// The fixed sections, in this order.
#[derive(Clone, Copy)]
enum Section {
    Times,
    Sequence,
    Durations,
    Shapes,
    ShapeOf,
    Outputs,
    OutputOf,
    Values,
    Cpu,
    Memory,
    /// That of the first metric.
    Metrics,
}

/// # Errors
/// [`BlockError::TooMuch`] when there are more than [`MAX_RESULTS`], or their texts are too long.
pub fn encode(results: &[CheckResult]) -> Result<Vec<u8>, BlockError> {
    if results.len() > MAX_RESULTS {
        return Err(BlockError::TooMuch);
    }
    let (mut shapes, mut outputs) = (Dictionary::default(), Dictionary::default());
    let (mut names, mut columns) = (HashMap::<&str, u32>::new(), Vec::<(&str, Vec<f64>)>::new());
    let (mut values, mut cpu, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for result in results {
        let split = Split::of(result, |name| {
            *names.entry(name).or_insert_with(|| {
                columns.push((name, Vec::new()));
                u32::try_from(columns.len() - 1).unwrap_or(u32::MAX)
            })
        });
        for (column, metric) in split.shape.metric_columns().zip(&result.metrics) {
            if let Some((_, values)) = columns.get_mut(column) {
                values.push(metric.value);
            }
        }
        shapes.add(&postcard::to_stdvec(&split.shape).map_err(|_| BlockError::Part("shape"))?);
        outputs.add(result.output.as_bytes());
        values.extend(split.value);
        cpu.extend(result.usage.map(|usage| usage.cpu_us));
        memory.extend(result.usage.map(|usage| usage.memory_bytes));
    }
    let of = |number: fn(&CheckResult) -> u64| results.iter().map(number).collect::<Vec<u64>>();
    let mut body = Sections::default();
    body.times(&of(|result| result.at_ms));
    body.ints(&of(|result| result.seq));
    body.ints(&of(|result| result.duration_ms));
    body.dictionary(&shapes)?;
    body.dictionary(&outputs)?;
    body.floats(&values);
    body.ints(&cpu);
    body.ints(&memory);
    let mut metric_names = Vec::new();
    for (name, values) in &columns {
        metric_names.push((*name).to_owned());
        body.floats(values);
    }
    body.finish(results.len(), metric_names)
}

/// A block as it lies in a file, its checksum proven.
#[derive(Debug)]
pub struct Block<'a> {
    header: Header,
    body: &'a [u8],
}

impl<'a> Block<'a> {
    /// # Errors
    /// [`BlockError`] when the bytes are not what was written.
    pub fn open(bytes: &'a [u8]) -> Result<Self, BlockError> {
        let (crc, rest) = bytes.split_first_chunk::<4>().ok_or(BlockError::Part("checksum"))?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(rest) {
            return Err(BlockError::Checksum);
        }
        let (header, body): (Header, _) =
            postcard::take_from_bytes(rest).map_err(|_| BlockError::Part("header"))?;
        if usize::try_from(header.results).unwrap_or(usize::MAX) > MAX_RESULTS {
            return Err(BlockError::TooMuch);
        }
        Ok(Self { header, body })
    }

    /// How many results.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.header.results).unwrap_or(usize::MAX)
    }

    /// When each was measured.
    ///
    /// # Errors
    /// [`BlockError`] when it cannot be read.
    pub fn times(&self) -> Result<Vec<u64>, BlockError> {
        self.ints(Section::Times, self.count())
    }

    /// The samples of one metric, or of the results' own values, from `from_ms` to `last_ms`.
    ///
    /// # Errors
    /// [`BlockError`] when they cannot be read.
    pub fn samples(
        &self,
        metric: Option<&str>,
        (from_ms, last_ms): (u64, u64),
        samples: &mut Vec<Sample>,
    ) -> Result<(), BlockError> {
        let column = match metric {
            None => None,
            Some(name) => match self.header.names.iter().position(|known| known == name) {
                Some(column) => Some(column),
                None => return Ok(()),
            },
        };
        let (times, of) = (self.times()?, self.ints(Section::ShapeOf, self.count())?);
        let shapes = self.shapes()?;
        // How many numbers of the column each result took.
        let taken: Vec<usize> = shapes.iter().map(|shape| shape.numbers(column)).collect();
        let pick = |index: &u64| usize::try_from(*index).ok().filter(|index| *index < shapes.len());
        let picked: Option<Vec<usize>> = of.iter().map(pick).collect();
        let picked = picked.ok_or(BlockError::Part("shape"))?;
        let count = picked.iter().filter_map(|index| taken.get(*index)).sum();
        let mut numbers = match column {
            None => self.floats(self.section(Section::Values, 0)?, count)?,
            Some(column) => self.floats(self.section(Section::Metrics, column)?, count)?,
        }
        .into_iter();
        for (at_ms, index) in times.into_iter().zip(picked) {
            let (Some(shape), Some(taken)) = (shapes.get(index), taken.get(index)) else { continue };
            let wanted = (from_ms..=last_ms).contains(&at_ms);
            let status = shape.status;
            for _ in 0..*taken {
                let value = numbers.next().ok_or(BlockError::Part("values"))?;
                if wanted {
                    samples.push(Sample { at_ms, value, status });
                }
            }
            if column.is_none() && *taken == 0 && wanted {
                samples.push(Sample { at_ms, value: shape.fixed_value(), status });
            }
        }
        Ok(())
    }

    /// The texts of output, each once.
    ///
    /// # Errors
    /// [`BlockError`] when they cannot be read.
    pub fn outputs(&self) -> Result<Vec<Vec<u8>>, BlockError> {
        self.texts(Section::Outputs)
    }

    /// The results that `keep` wants by their time, whole.
    ///
    /// # Errors
    /// [`BlockError`] when they cannot be read.
    pub fn results(
        &self,
        agent: &AgentId,
        check: &CheckName,
        mut keep: impl FnMut(u64) -> bool,
    ) -> Result<Vec<CheckResult>, BlockError> {
        let count = self.count();
        let times = self.times()?;
        let wanted: Vec<bool> = times.iter().map(|at_ms| keep(*at_ms)).collect();
        if !wanted.contains(&true) {
            return Ok(Vec::new());
        }
        let (shapes, of) = (self.shapes()?, self.ints(Section::ShapeOf, count)?);
        let outputs = self.texts(Section::Outputs)?;
        let output_of = self.ints(Section::OutputOf, count)?;
        let (sequence, durations) =
            (self.ints(Section::Sequence, count)?, self.ints(Section::Durations, count)?);
        let shape_of = |index: u64| usize::try_from(index).ok().and_then(|index| shapes.get(index));
        let own: Option<Vec<&Shape>> = of.into_iter().map(shape_of).collect();
        let own = own.ok_or(BlockError::Part("shape"))?;
        let sum = |column| own.iter().map(|shape| shape.numbers(column)).sum::<usize>();
        let usages = own.iter().filter(|shape| shape.usage).count();
        let mut values = self.floats(self.section(Section::Values, 0)?, sum(None))?.into_iter();
        let mut cpu = self.ints(Section::Cpu, usages)?.into_iter();
        let mut memory = self.ints(Section::Memory, usages)?.into_iter();
        let mut metrics = Vec::new();
        for column in 0..self.header.names.len() {
            metrics
                .push(self.floats(self.section(Section::Metrics, column)?, sum(Some(column)))?.into_iter());
        }
        let mut results = Vec::new();
        let numbers = times.into_iter().zip(sequence).zip(durations).zip(output_of).zip(wanted);
        for (shape, ((((at_ms, seq), duration_ms), output), wanted)) in own.into_iter().zip(numbers) {
            // Taken in any case, so that the columns stay in step.
            let value = if shape.numbers(None) > 0 { values.next() } else { None };
            let usage = if shape.usage { cpu.next().zip(memory.next()) } else { None };
            let mut metric_values = Vec::new();
            for column in shape.metric_columns() {
                let value = metrics.get_mut(column).and_then(Iterator::next);
                metric_values.push(value.ok_or(BlockError::Part("metrics"))?);
            }
            if !wanted {
                continue;
            }
            let output = usize::try_from(output).ok().and_then(|index| outputs.get(index));
            let output = output.ok_or(BlockError::Part("output"))?;
            let output = std::str::from_utf8(output).map_err(|_| BlockError::Part("output"))?.to_owned();
            let split = shape::Numbers { at_ms, seq, duration_ms, value, usage, metrics: &metric_values };
            results.push(shape.join((agent, check), &split, output, &self.header.names)?);
        }
        Ok(results)
    }

    fn shapes(&self) -> Result<Vec<Shape>, BlockError> {
        let texts = self.texts(Section::Shapes)?;
        texts.iter().map(|text| postcard::from_bytes(text).map_err(|_| BlockError::Part("shape"))).collect()
    }

    fn section(&self, section: Section, more: usize) -> Result<&'a [u8], BlockError> {
        let at = section as usize + more;
        let size = |len: &u32| usize::try_from(*len).unwrap_or(usize::MAX);
        let missing = BlockError::Part("section");
        let lengths = self.header.sections.get(..=at).ok_or(missing)?;
        let end = lengths.iter().fold(0usize, |sum, len| sum.saturating_add(size(len)));
        let start = end.saturating_sub(lengths.last().map_or(0, size));
        self.body.get(start..end).ok_or(BlockError::Part("section"))
    }

    fn ints(&self, section: Section, count: usize) -> Result<Vec<u64>, BlockError> {
        column::ints(self.section(section, 0)?, count)
    }

    fn floats(&self, bytes: &[u8], count: usize) -> Result<Vec<f64>, BlockError> {
        column::floats(bytes, count)
    }

    fn texts(&self, section: Section) -> Result<Vec<Vec<u8>>, BlockError> {
        match self.section(section, 0)? {
            [] => Ok(vec![Vec::new()]),
            bytes => read_packed(bytes),
        }
    }
}

/// Texts that are kept once each, and which of them each result has.
#[derive(Default)]
struct Dictionary {
    known: HashMap<Vec<u8>, u64>,
    texts: Vec<Vec<u8>>,
    of: Vec<u64>,
}

impl Dictionary {
    fn add(&mut self, text: &[u8]) {
        let next = self.texts.len() as u64;
        let number = self.known.get(text).copied().unwrap_or(next);
        if number == next {
            self.known.insert(text.to_vec(), next);
            self.texts.push(text.to_vec());
        }
        self.of.push(number);
    }
}

/// The sections of a block while it is written.
#[derive(Default)]
struct Sections {
    lengths: Vec<u32>,
    body: Vec<u8>,
}

impl Sections {
    fn ints(&mut self, values: &[u64]) {
        self.section(|body| column::put_ints(values, body));
    }

    fn times(&mut self, values: &[u64]) {
        self.section(|body| column::put_times(values, body));
    }

    fn floats(&mut self, values: &[f64]) {
        self.section(|body| column::put_floats(values, body));
    }

    /// Texts, then which of them each result has. Nothing at all when there is but the empty text.
    fn dictionary(&mut self, dictionary: &Dictionary) -> Result<(), BlockError> {
        let packed = match dictionary.texts.as_slice() {
            [only] if only.is_empty() => Vec::new(),
            texts => write_packed(&texts)?,
        };
        self.section(|body| body.extend_from_slice(&packed));
        self.section(|body| {
            if dictionary.texts.len() > 1 {
                column::put_ints(&dictionary.of, body);
            }
        });
        Ok(())
    }

    fn section(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.body.len();
        write(&mut self.body);
        self.lengths.push(u32::try_from(self.body.len() - before).unwrap_or(u32::MAX));
    }

    fn finish(self, results: usize, names: Vec<String>) -> Result<Vec<u8>, BlockError> {
        let results = u32::try_from(results).map_err(|_| BlockError::TooMuch)?;
        if u32::try_from(self.body.len()).is_err() {
            return Err(BlockError::TooMuch);
        }
        let header = Header { results, names, sections: self.lengths };
        let mut bytes = postcard::to_extend(&header, vec![0; 4]).map_err(|_| BlockError::Part("header"))?;
        bytes.extend_from_slice(&self.body);
        let crc = crc32fast::hash(bytes.get(4..).unwrap_or_default());
        if let Some(place) = bytes.first_chunk_mut::<4>() {
            *place = crc.to_le_bytes();
        }
        Ok(bytes)
    }
}

/// The value in postcard, compressed when that is shorter: length inside, or 0 for plain bytes, then the bytes.
fn write_packed<T: Serialize>(value: &T) -> Result<Vec<u8>, BlockError> {
    let plain = postcard::to_stdvec(value).map_err(|_| BlockError::Part("texts"))?;
    if plain.len() > MAX_TEXTS {
        return Err(BlockError::TooMuch);
    }
    let packed = lz4_flex::block::compress(&plain);
    let shorter = packed.len() + 4 < plain.len();
    let (inside, bytes) = if shorter { (plain.len(), &packed) } else { (0, &plain) };
    let mut out = postcard::to_stdvec(&inside).map_err(|_| BlockError::Part("texts"))?;
    out.extend_from_slice(bytes);
    Ok(out)
}

fn read_packed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BlockError> {
    let part = |_| BlockError::Part("texts");
    let (inside, rest): (usize, _) = postcard::take_from_bytes(bytes).map_err(part)?;
    if inside > MAX_TEXTS {
        return Err(BlockError::TooMuch);
    }
    if inside == 0 {
        return postcard::from_bytes(rest).map_err(part);
    }
    let plain = lz4_flex::block::decompress(rest, inside).map_err(|_| BlockError::Part("texts"))?;
    postcard::from_bytes(&plain).map_err(part)
}

#[cfg(test)]
mod tests;
