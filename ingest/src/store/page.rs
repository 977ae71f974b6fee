//! Pages of results: where one begins, and which results belong on it.

use std::{collections::BinaryHeap, fmt, str::FromStr};

use protocol::{CheckResult, query::ResultPage};

/// Place of a result in the order of all: by time of measurement, then by number, then by content. It says nothing of
/// where the result lies, so a cursor stays good while results are sealed and merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub at_ms: u64,
    pub seq: u64,
    pub index: u64,
}

impl Position {
    #[must_use]
    pub fn at(at_ms: u64) -> Self {
        Self { at_ms, ..Self::default() }
    }

    /// `json` is the result's own.
    #[must_use]
    pub fn of(result: &CheckResult, json: &[u8]) -> Self {
        // Room for those that are equal in all.
        let index = u64::from(crc32fast::hash(json)) << 16;
        Self { at_ms: result.at_ms, seq: result.seq, index }
    }

    fn next(self) -> Self {
        Self { index: self.index.saturating_add(1), ..self }
    }
}

/// The cursor of a page, opaque to whoever asks.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.at_ms, self.seq, self.index)
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: give the `next` of the page before, or none")]
pub struct NotACursor;

impl FromStr for Position {
    type Err = NotACursor;
    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let mut numbers = text.splitn(3, '.').map(|part| part.parse::<u64>().map_err(|_| NotACursor));
        let mut number = || numbers.next().unwrap_or(Err(NotACursor));
        Ok(Self { at_ms: number()?, seq: number()?, index: number()? })
    }
}

/// Collects the first results, in order, from rows that come in any order; never holds more than a page.
pub struct Collector {
    limit: usize,
    max_bytes: usize,
    bytes: usize,
    held: BinaryHeap<Held>,
    /// The lowest position that had to go, or was turned away: the page ends before it.
    end: Option<Position>,
}

struct Held {
    position: Position,
    size: usize,
    result: CheckResult,
}

impl Collector {
    #[must_use]
    pub fn new(limit: usize, max_bytes: usize) -> Self {
        Self { limit: limit.max(1), max_bytes, bytes: 0, held: BinaryHeap::new(), end: None }
    }

    /// Whether a result at this position may belong on the page.
    #[must_use]
    pub fn wants(&self, position: Position) -> bool {
        self.end.is_none_or(|end| position < end)
    }

    /// Nothing from here on was looked at.
    pub fn stop_at(&mut self, position: Position) {
        self.end = Some(self.end.map_or(position, |end| end.min(position)));
    }

    /// `size` is that of its JSON.
    pub fn offer(&mut self, position: Position, size: usize, result: CheckResult) {
        if !self.wants(position) {
            return;
        }
        self.bytes = self.bytes.saturating_add(size);
        self.held.push(Held { position, size, result });
        // One result always fits, or a page could be empty for ever.
        while self.held.len() > self.limit || (self.bytes > self.max_bytes && self.held.len() > 1) {
            let Some(last) = self.held.pop() else { break };
            self.bytes = self.bytes.saturating_sub(last.size);
            self.stop_at(last.position);
        }
    }

    /// Where the page ends within what was looked at, if it does.
    #[must_use]
    pub fn end(&self) -> Option<Position> {
        self.end
    }

    #[must_use]
    pub fn into_page(self) -> ResultPage {
        let held = self.held.into_sorted_vec();
        let next = self.end.map(|end| held.last().map_or(end, |last| last.position.next()).to_string());
        ResultPage { results: held.into_iter().map(|held| held.result).collect(), next }
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.position.cmp(&other.position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let position = Position { at_ms: u64::MAX, seq: 0, index: 7 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "1", "1.2", "1.2.x", "1.2.3.4", "-1.0.0", "99999999999999999999.0.0"] {
            assert_eq!(bad.parse::<Position>(), Err(NotACursor), "{bad}");
        }
    }

    fn result(seq: u64) -> CheckResult {
        let json = format!(r#"{{"v":1,"agent":"a","check":"c","seq":{seq},"at_ms":1,"status":"ok"}}"#);
        protocol::decode(json.as_bytes(), 1000).unwrap()
    }

    proptest! {
        /// Page after page, each result comes once and in order, whatever the sizes and the order of reading.
        #[test]
        fn pages_hold_every_result_once_and_in_order(
            sizes in proptest::collection::vec(1usize..50, 0..80), limit in 1usize..10, max_bytes in 1usize..200, turn in 0usize..80,
        ) {
            let mut all: Vec<(Position, usize)> = sizes.iter().enumerate().map(|(i, size)| {
                (Position { at_ms: i as u64 / 3, seq: i as u64, index: 0 }, *size)
            }).collect();
            let expected: Vec<u64> = (0..all.len() as u64).collect();
            if !all.is_empty() {
                let turn = turn % all.len();
                all.rotate_left(turn);
            }
            let (mut from, mut seen) = (Position::default(), Vec::new());
            for _ in 0..=sizes.len() {
                let mut collector = Collector::new(limit, max_bytes);
                for (position, size) in all.iter().filter(|(position, _)| *position >= from) {
                    collector.offer(*position, *size, result(position.seq));
                }
                let page = collector.into_page();
                prop_assert!(page.results.len() <= limit);
                seen.extend(page.results.iter().map(|result| result.seq));
                match page.next {
                    Some(next) => from = next.parse().unwrap(),
                    None => break,
                }
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
