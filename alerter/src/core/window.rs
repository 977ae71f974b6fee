//! The recent values of one series, in bounded memory, and what windows over them say.
//!
//! Values stand in blocks, each with a summary. A window asks the summaries of the blocks that it holds whole and the
//! values of at most two others, so its cost hardly grows with its length; nothing is ever subtracted, so nothing drifts.

use std::collections::VecDeque;

use documents::{Call, Function};
use protocol::duration::millis;

/// Values in a block.
const BLOCK: usize = 32;
/// Most blocks of one series: 8,192 values and more.
const BLOCKS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    at_ms: u64,
    value: f64,
}

/// What is known of values in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Summary {
    count: f64,
    mean: f64,
    /// Sum of the squared distances from the mean.
    spread: f64,
    min: f64,
    max: f64,
    first: Sample,
    last: Sample,
    /// Rise from the first to the last, as a counter that begins again at 0 when it falls.
    rise: f64,
}

impl Summary {
    fn of(sample: Sample) -> Self {
        let Sample { value, .. } = sample;
        Self {
            count: 1.0,
            mean: value,
            spread: 0.0,
            min: value,
            max: value,
            first: sample,
            last: sample,
            rise: 0.0,
        }
    }

    /// With what follows.
    fn then(self, later: Self) -> Self {
        let count = self.count + later.count;
        let distance = later.mean - self.mean;
        let step = later.first.value - self.last.value;
        Self {
            count,
            mean: self.mean + distance * later.count / count,
            spread: self.spread + later.spread + distance * distance * self.count * later.count / count,
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            first: self.first,
            last: later.last,
            rise: self.rise + later.rise + if step < 0.0 { later.first.value } else { step },
        }
    }
}

/// By time; never empty.
#[derive(Debug, Clone)]
struct Block {
    samples: Vec<Sample>,
    summary: Summary,
}

impl Block {
    fn of(sample: Sample) -> Self {
        Self { samples: vec![sample], summary: Summary::of(sample) }
    }

    fn insert(&mut self, sample: Sample) {
        match self.samples.binary_search_by_key(&sample.at_ms, |other| other.at_ms) {
            // The same result again, or another of the same millisecond: one of them counts.
            Ok(_) => {}
            Err(place) if place == self.samples.len() => {
                self.samples.push(sample);
                self.summary = self.summary.then(Summary::of(sample));
            }
            Err(place) => {
                self.samples.insert(place, sample);
                if let Some(summary) = summary(&self.samples) {
                    self.summary = summary;
                }
            }
        }
    }
}

fn summary(samples: &[Sample]) -> Option<Summary> {
    samples.iter().copied().map(Summary::of).reduce(Summary::then)
}

/// Values by time.
#[derive(Debug, Clone, Default)]
pub struct Window {
    blocks: VecDeque<Block>,
}

impl Window {
    /// Take a value, wherever it belongs, and forget what is more than `keep_ms` older than the newest. `false`: values
    /// that a window still asks for were forgotten, since there are too many.
    pub fn push(&mut self, at_ms: u64, value: f64, keep_ms: u64) -> bool {
        if !value.is_finite() {
            return true;
        }
        let sample = Sample { at_ms, value };
        // The last block that does not begin after it.
        let index = self.blocks.iter().rposition(|block| block.summary.first.at_ms <= at_ms).unwrap_or(0);
        let (last, full) = match self.blocks.get(index) {
            Some(block) => (index + 1 == self.blocks.len(), block.samples.len() >= BLOCK),
            None => (true, true),
        };
        let newest = self.blocks.back().is_none_or(|block| block.summary.last.at_ms < at_ms);
        if full && last && newest {
            self.blocks.push_back(Block::of(sample));
        } else if let Some(block) = self.blocks.get_mut(index) {
            // Late values may let a block grow; twice its size is cut in two.
            block.insert(sample);
            if block.samples.len() > 2 * BLOCK {
                let rest = block.samples.split_off(BLOCK);
                if let (Some(front), Some(back)) = (summary(&block.samples), summary(&rest)) {
                    block.summary = front;
                    self.blocks.insert(index + 1, Block { samples: rest, summary: back });
                }
            }
        }
        self.forget(keep_ms)
    }

    fn forget(&mut self, keep_ms: u64) -> bool {
        let newest = self.blocks.back().map_or(0, |block| block.summary.last.at_ms);
        let over = |block: &Block| block.summary.last.at_ms.saturating_add(keep_ms) <= newest;
        // The last one is what `delta` and the next value are held against.
        while self.blocks.len() > 1 && self.blocks.front().is_some_and(over) {
            self.blocks.pop_front();
        }
        let fits = self.blocks.len() <= BLOCKS;
        while self.blocks.len() > BLOCKS {
            self.blocks.pop_front();
        }
        fits
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// What `call` says of the values after `to_ms - over` and up to `to_ms`. `None`: they are too few.
    #[must_use]
    pub fn answer(&self, call: &Call, to_ms: u64) -> Option<f64> {
        let from_ms = to_ms.checked_sub(millis(call.over));
        let inside = |at_ms: u64| at_ms <= to_ms && from_ms.is_none_or(|from| at_ms > from);
        if let Function::Percentile(rank) = call.function {
            let samples = self.blocks.iter().flat_map(|block| &block.samples);
            let values = samples.filter(|sample| inside(sample.at_ms)).map(|sample| sample.value);
            return percentile(values.collect(), rank);
        }
        let mut whole: Option<Summary> = None;
        for block in &self.blocks {
            let (first, last) = (block.summary.first.at_ms, block.summary.last.at_ms);
            let part = if inside(first) && inside(last) {
                Some(block.summary)
            } else if first > to_ms || from_ms.is_some_and(|from| last <= from) {
                None
            } else {
                let samples = block.samples.iter().filter(|sample| inside(sample.at_ms));
                samples.copied().map(Summary::of).reduce(Summary::then)
            };
            whole = match (whole, part) {
                (Some(whole), Some(part)) => Some(whole.then(part)),
                (whole, part) => whole.or(part),
            };
        }
        let Some(all) = whole else {
            return matches!(call.function, Function::Count).then_some(0.0);
        };
        let two = all.last.at_ms > all.first.at_ms;
        match call.function {
            Function::Avg => Some(all.mean),
            Function::Min => Some(all.min),
            Function::Max => Some(all.max),
            Function::Sum => Some(all.mean * all.count),
            Function::Count => Some(all.count),
            Function::Stddev => Some((all.spread / all.count).max(0.0).sqrt()),
            Function::Delta => two.then_some(all.last.value - all.first.value),
            #[allow(clippy::cast_precision_loss)] // milliseconds of a day
            Function::Rate => two.then(|| all.rise * 1_000.0 / (all.last.at_ms - all.first.at_ms) as f64),
            Function::Percentile(_) | Function::Absent | Function::Changed | Function::Prediction(_) => None,
        }
    }
}

/// Between the neighbours of its place, in proportion.
fn percentile(mut values: Vec<f64>, rank: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let most = values.len().checked_sub(1)?;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // at most some thousand values, and a rank from 0 to 100
    let (place, below) = {
        let place = most as f64 * rank / 100.0;
        (place, place.floor() as usize)
    };
    let low = values.get(below.min(most))?;
    let high = values.get((below + 1).min(most))?;
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn call(function: Function, seconds: u64) -> Call {
        Call { function, over: Duration::from_secs(seconds) }
    }

    fn filled(values: &[(u64, f64)]) -> Window {
        let mut window = Window::default();
        for (second, value) in values {
            assert!(window.push(second * 1_000, *value, 3_600_000));
        }
        window
    }

    #[test]
    fn windows_answer_as_they_are_described() {
        let window = filled(&[(10, 4.0), (20, 8.0), (30, 2.0), (40, 6.0)]);
        for (function, seconds, expected) in [
            (Function::Avg, 60, Some(5.0)),
            (Function::Avg, 20, Some(4.0)), // after 20 s: 2 and 6
            (Function::Min, 60, Some(2.0)),
            (Function::Max, 15, Some(6.0)),
            (Function::Sum, 60, Some(20.0)),
            (Function::Count, 60, Some(4.0)),
            (Function::Delta, 60, Some(2.0)),
            (Function::Delta, 5, None),
            (Function::Rate, 60, Some((4.0 + 2.0 + 4.0) / 30.0)), // begins again at 0 when it falls
            (Function::Stddev, 60, Some(5.0_f64.sqrt())),
            (Function::Percentile(0.0), 60, Some(2.0)),
            (Function::Percentile(50.0), 60, Some(5.0)),
            (Function::Percentile(100.0), 60, Some(8.0)),
            (Function::Percentile(95.0), 60, Some(6.0 + 2.0 * 0.85)),
        ] {
            let found = window.answer(&call(function.clone(), seconds), 40_000);
            let fits = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                (found, expected) => found == expected,
            };
            assert!(fits, "{function:?} over {seconds} s: {found:?}, not {expected:?}");
        }
        assert_eq!(window.answer(&call(Function::Avg, 60), 500_000), None);
        assert_eq!(window.answer(&call(Function::Count, 60), 500_000), Some(0.0));
    }

    #[test]
    fn memory_is_bounded_by_age_and_by_number() {
        let mut window = Window::default();
        for second in 0..100_000 {
            window.push(second * 1_000, 1.0, 60_000);
        }
        assert!(window.blocks.len() <= 4, "{}", window.blocks.len());
        let mut window = Window::default();
        let told = (0..20_000).filter(|at_ms| !window.push(*at_ms, 1.0, u64::MAX)).count();
        assert!(told > 100 && window.blocks.len() <= BLOCKS);
    }

    proptest! {
        /// In whatever order they come, and again, the answers are those of all values looked at one by one.
        #[test]
        fn summaries_say_what_all_values_say(
            values in prop::collection::vec((0..2_000_u64, -1e6..1e6_f64), 1..300), over in 1..2_500_u64, to in 0..2_500_u64,
        ) {
            let mut window = Window::default();
            let mut plain = std::collections::BTreeMap::new();
            for (second, value) in &values {
                window.push(second * 1_000, *value, 3_600_000);
                plain.entry(*second).or_insert(*value);
            }
            let inside: Vec<f64> = plain.iter()
                .filter(|(second, _)| **second <= to && **second + over > to).map(|(_, value)| *value).collect();
            let ask = |function| window.answer(&call(function, over), to * 1_000);
            prop_assert_eq!(ask(Function::Count), Some(inside.len() as f64));
            if inside.is_empty() {
                prop_assert_eq!(ask(Function::Avg), None);
                return Ok(());
            }
            let mean = inside.iter().sum::<f64>() / inside.len() as f64;
            let close = |found: Option<f64>, expected: f64| found.is_some_and(|found| (found - expected).abs() < 1e-3);
            prop_assert!(close(ask(Function::Avg), mean));
            let spread = inside.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / inside.len() as f64;
            prop_assert!(close(ask(Function::Stddev), spread.sqrt()));
            prop_assert_eq!(ask(Function::Max), inside.iter().copied().reduce(f64::max));
            prop_assert_eq!(ask(Function::Min), inside.iter().copied().reduce(f64::min));
            prop_assert_eq!(ask(Function::Percentile(0.0)), ask(Function::Min));
            if inside.len() > 1 {
                prop_assert!(close(ask(Function::Delta), inside[inside.len() - 1] - inside[0]));
            }
        }
    }
}
