//! One row of the hot log: the results of one batch that were measured in the same hour.
//!
//! ```text
//! format:u8  crc32 of the rest:u32le  Header (postcard)  lz4( entries (postcard) · the JSON of each, end to end )
//! ```
//!
//! A reader skips a row by its header alone: by time, and by hashes of the agents and series in it. A hash that two
//! names share costs a look inside, never a wrong answer.

use protocol::{AgentId, CheckName, CheckResult, limits};
use serde::{Deserialize, Serialize};

use super::NewResult;

const FORMAT: u8 = 1;
/// No row that was written is larger inside: a batch is bounded far below it.
const MAX_INSIDE: usize = 256 * 1024 * 1024;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("format {0} is not known")]
    Format(u8),
    #[error("its checksum does not match")]
    Checksum,
    #[error("its {0} cannot be read")]
    Part(&'static str),
}

/// What a reader needs to know to skip a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub stored_ms: u64,
    pub min_at_ms: u64,
    pub max_at_ms: u64,
    pub results: u32,
    /// Sorted hashes.
    agents: Vec<u32>,
    /// Sorted hashes of agent and check.
    series: Vec<u32>,
    inside: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Entry {
    at_ms: u64,
    series: u32,
    len: u32,
}

/// A row as it lies in the store, its checksum proven.
#[derive(Debug)]
pub struct Row<'a> {
    pub header: Header,
    body: &'a [u8],
}

/// One result in a row.
#[derive(Debug, PartialEq, Eq)]
pub struct Inside<'a> {
    pub at_ms: u64,
    pub json: &'a [u8],
    series: u32,
}

impl Inside<'_> {
    /// # Errors
    /// [`RowError`] when its JSON is no result.
    pub fn decode(&self) -> Result<CheckResult, RowError> {
        protocol::decode(self.json, limits::RESULT).map_err(|_| RowError::Part("result"))
    }

    /// Hash of its agent and check.
    #[must_use]
    pub fn series(&self) -> u32 {
        self.series
    }
}

/// # Errors
/// [`RowError::Part`] when there is more than a row can hold.
pub fn encode(stored_ms: u64, results: &[&NewResult<'_>]) -> Result<Vec<u8>, RowError> {
    let mut entries = Vec::new();
    let (mut agents, mut series) = (Vec::new(), Vec::new());
    let (mut min_at_ms, mut max_at_ms) = (u64::MAX, 0);
    for result in results {
        let len = u32::try_from(result.json.len()).map_err(|_| RowError::Part("length"))?;
        let NewResult { result, .. } = result;
        let hash = series_hash(&result.agent, &result.check);
        entries.push(Entry { at_ms: result.at_ms, series: hash, len });
        agents.push(agent_hash(&result.agent));
        series.push(hash);
        min_at_ms = min_at_ms.min(result.at_ms);
        max_at_ms = max_at_ms.max(result.at_ms);
    }
    for hashes in [&mut agents, &mut series] {
        hashes.sort_unstable();
        hashes.dedup();
    }
    let mut inside = postcard::to_stdvec(&entries).map_err(|_| RowError::Part("entries"))?;
    results.iter().for_each(|result| inside.extend_from_slice(result.json));
    if inside.len() > MAX_INSIDE {
        return Err(RowError::Part("length"));
    }
    let header = Header {
        stored_ms,
        min_at_ms,
        max_at_ms,
        results: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        agents,
        series,
        inside: u32::try_from(inside.len()).unwrap_or(u32::MAX),
    };
    let mut row = vec![FORMAT, 0, 0, 0, 0];
    row = postcard::to_extend(&header, row).map_err(|_| RowError::Part("header"))?;
    row.extend_from_slice(&lz4_flex::block::compress(&inside));
    let crc = crc32fast::hash(row.get(5..).unwrap_or_default());
    if let Some(place) = row.get_mut(1..5) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    Ok(row)
}

impl<'a> Row<'a> {
    /// # Errors
    /// [`RowError`] when the bytes are not what was written.
    pub fn open(bytes: &'a [u8]) -> Result<Self, RowError> {
        let (format, rest) = bytes.split_first().ok_or(RowError::Part("format"))?;
        if *format != FORMAT {
            return Err(RowError::Format(*format));
        }
        let (crc, rest) = rest.split_first_chunk::<4>().ok_or(RowError::Part("checksum"))?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(rest) {
            return Err(RowError::Checksum);
        }
        let (header, body) = postcard::take_from_bytes(rest).map_err(|_| RowError::Part("header"))?;
        Ok(Self { header, body })
    }

    /// Whether the row may hold results of the agent and check.
    #[must_use]
    pub fn may_hold(&self, wanted: &Wanted) -> bool {
        wanted.agent.is_none_or(|hash| self.header.agents.binary_search(&hash).is_ok())
            && wanted.series.is_none_or(|hash| self.header.series.binary_search(&hash).is_ok())
    }

    /// # Errors
    /// [`RowError`] when the body cannot be read.
    pub fn unpack(&self) -> Result<Vec<u8>, RowError> {
        let size = usize::try_from(self.header.inside).unwrap_or(usize::MAX);
        if size > MAX_INSIDE {
            return Err(RowError::Part("length"));
        }
        lz4_flex::block::decompress(self.body, size).map_err(|_| RowError::Part("body"))
    }

    /// All results, in the order in which they came.
    ///
    /// # Errors
    /// [`RowError`] when one of them cannot be read.
    pub fn decoded(&self) -> Result<Vec<CheckResult>, RowError> {
        let unpacked = self.unpack()?;
        results(&unpacked)?.iter().map(Inside::decode).collect()
    }
}

/// The results of an unpacked row, in the order in which they came.
///
/// # Errors
/// [`RowError`] when they cannot be read.
pub fn results(unpacked: &[u8]) -> Result<Vec<Inside<'_>>, RowError> {
    let (entries, mut json): (Vec<Entry>, _) =
        postcard::take_from_bytes(unpacked).map_err(|_| RowError::Part("entries"))?;
    entries
        .into_iter()
        .map(|entry| {
            let len = usize::try_from(entry.len).unwrap_or(usize::MAX);
            let (own, rest) = json.split_at_checked(len).ok_or(RowError::Part("results"))?;
            json = rest;
            Ok(Inside { at_ms: entry.at_ms, json: own, series: entry.series })
        })
        .collect()
}

/// Hashes of what a reader looks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    agent: Option<u32>,
    series: Option<u32>,
}

impl Wanted {
    #[must_use]
    pub fn new(agent: Option<&AgentId>, check: Option<&CheckName>) -> Self {
        let series = agent.zip(check).map(|(agent, check)| series_hash(agent, check));
        Self { agent: agent.map(agent_hash), series }
    }

    /// Whether the result may be wanted; only its JSON tells for sure.
    #[must_use]
    pub fn may_be(&self, result: &Inside<'_>) -> bool {
        self.series.is_none_or(|hash| hash == result.series)
    }
}

fn agent_hash(agent: &AgentId) -> u32 {
    crc32fast::hash(agent.as_str().as_bytes())
}

pub(super) fn series_hash(agent: &AgentId, check: &CheckName) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(agent.as_str().as_bytes());
    hasher.update(b".");
    hasher.update(check.as_str().as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        let result = |agent, at_ms| {
            let json = format!(r#"{{"v":1,"agent":"{agent}","check":"c","at_ms":{at_ms},"status":"ok"}}"#);
            protocol::decode::<protocol::CheckResult>(json.as_bytes(), 1000).unwrap()
        };
        let (b, a) = (result("b", 9), result("a", 7));
        let all = [&NewResult { result: &b, json: b"{\"b\":1}" }, &NewResult { result: &a, json: b"{}" }];
        encode(5, &all).unwrap()
    }

    #[test]
    fn a_row_is_read_back_and_skipped_by_its_header() {
        let bytes = sample();
        let row = Row::open(&bytes).unwrap();
        assert_eq!((row.header.stored_ms, row.header.min_at_ms, row.header.max_at_ms), (5, 7, 9));
        let unpacked = row.unpack().unwrap();
        let inside = results(&unpacked).unwrap();
        assert_eq!(inside.iter().map(|r| r.json).collect::<Vec<_>>(), [&b"{\"b\":1}"[..], b"{}"]);
        let (agent, other) = (AgentId::new("a").unwrap(), AgentId::new("x").unwrap());
        let (check, none) = (CheckName::new("c").unwrap(), CheckName::new("d").unwrap());
        assert!(row.may_hold(&Wanted::new(Some(&agent), Some(&check))));
        assert!(row.may_hold(&Wanted::new(None, Some(&none))), "checks alone are not listed");
        assert!(!row.may_hold(&Wanted::new(Some(&other), None)));
        assert!(!row.may_hold(&Wanted::new(Some(&agent), Some(&none))));
    }

    #[test]
    fn damage_is_found() {
        let good = sample();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Row::open(&bad).is_err(), "byte {at}");
            assert!(Row::open(&good[..at]).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // With a valid frame, so that the inside is reached.
            let mut framed = vec![FORMAT];
            framed.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
            framed.extend_from_slice(&bytes);
            if let Ok(row) = Row::open(&framed) && row.header.inside < 1_000_000 {
                let _unpacked = row.unpack();
            }
            let _inside = results(&bytes);
        }
    }
}
