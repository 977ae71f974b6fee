//! The values seen so far, in a small fixed space: one bit for each cell of a range that grows with them.

use serde::{Deserialize, Serialize};

use super::constants::{CELLS, DAY_PARTS, WORDS};
use crate::numeric::count;

/// Enough to double the smallest width a number can have to the largest.
const MAX_DOUBLINGS: usize = 2200;

/// Equal cells over a range that doubles when a value falls outside it. Without a width all values so far were equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Scale {
    base: f64,
    width: f64,
    lowest: f64,
    highest: f64,
}

/// What must happen to the cells when the range doubles: all go into its lower or its upper half.
#[derive(Clone, Copy)]
enum Doubled {
    IntoLower,
    IntoUpper,
}

impl Scale {
    fn range(&self) -> f64 {
        self.highest - self.lowest
    }

    /// Place of a value in cells, not whole and perhaps outside.
    fn place(&self, value: f64) -> f64 {
        (value - self.base) / self.width
    }

    fn cell(&self, value: f64, cells: usize) -> usize {
        crate::numeric::whole(self.place(value), 0, cells - 1)
    }

    /// Makes room for `value`.
    fn take(&mut self, value: f64, cells: usize, mut doubled: impl FnMut(Doubled)) {
        self.lowest = self.lowest.min(value);
        self.highest = self.highest.max(value);
        for _ in 0..MAX_DOUBLINGS {
            let place = self.place(value);
            if !place.is_finite() || (0.0..count(cells)).contains(&place) {
                return;
            }
            if place < 0.0 {
                doubled(Doubled::IntoUpper);
                self.base -= self.width * count(cells);
            } else {
                doubled(Doubled::IntoLower);
            }
            self.width *= 2.0;
        }
    }

    /// The first two values that differ make the width: room on both sides, and fine enough between them.
    fn begin(&mut self, value: f64, cells: usize) {
        let width = (value - self.lowest).abs() / (count(cells) / 4.0);
        if width > 0.0 {
            self.width = width;
            self.base = self.lowest.min(value) - width * count(cells) / 8.0;
        }
    }
}

/// Whether values like this one were seen. Remembers one to two generations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    scale: Scale,
    any: bool,
    young: [u64; WORDS],
    old: [u64; WORDS],
}

impl Default for Seen {
    fn default() -> Self {
        Self { scale: Scale::default(), any: false, young: [0; WORDS], old: [0; WORDS] }
    }
}

impl Seen {
    /// How far the nearest value seen is, as a share of the range seen (more than 1 beyond twice that range);
    /// 0 for the first value ever, 1 for the first that differs.
    pub(crate) fn novelty(&self, value: f64) -> f64 {
        let scale = &self.scale;
        let range = scale.range();
        if !self.any || value == scale.lowest || value == scale.highest {
            return 0.0;
        }
        if range <= 0.0 || scale.width <= 0.0 {
            return 1.0;
        }
        if value < scale.lowest {
            return (scale.lowest - value) / range;
        }
        if value > scale.highest {
            return (value - scale.highest) / range;
        }
        let cells = nearest(scale.cell(value, CELLS), |word| {
            self.young.get(word).copied().unwrap_or_default()
                | self.old.get(word).copied().unwrap_or_default()
        });
        if cells == 0 { 0.0 } else { (count(cells) - 0.5) * scale.width / range }
    }

    /// Novelty of a value that is learned at once.
    pub(crate) fn meet(&mut self, value: f64) -> f64 {
        let novelty = self.novelty(value);
        self.add(value);
        novelty
    }

    pub(crate) fn add(&mut self, value: f64) {
        if !self.any {
            self.any = true;
            self.scale = Scale { base: value, width: 0.0, lowest: value, highest: value };
            return;
        }
        if self.scale.width <= 0.0 || !self.scale.width.is_finite() {
            let first = self.scale.lowest;
            self.scale.begin(value, CELLS);
            if self.scale.width <= 0.0 {
                return;
            }
            self.mark(first);
        }
        let (young, old) = (&mut self.young, &mut self.old);
        self.scale.take(value, CELLS, |doubled| {
            *young = halved(young, doubled);
            *old = halved(old, doubled);
        });
        self.mark(value);
    }

    /// What was not seen again for a whole generation is forgotten.
    pub(crate) fn next_generation(&mut self) {
        self.old = std::mem::replace(&mut self.young, [0; WORDS]);
        let cells = || {
            (0..CELLS).filter(|cell| self.old.get(cell / 64).is_some_and(|word| word >> (cell % 64) & 1 == 1))
        };
        if let (Some(first), Some(last)) = (cells().next(), cells().next_back()) {
            let edge = |cell: usize| self.scale.base + self.scale.width * count(cell);
            self.scale.lowest = self.scale.lowest.max(edge(first));
            self.scale.highest = self.scale.highest.min(edge(last + 1)).max(self.scale.lowest);
        }
    }

    fn mark(&mut self, value: f64) {
        let cell = self.scale.cell(value, CELLS);
        if let Some(word) = self.young.get_mut(cell / 64) {
            *word |= 1 << (cell % 64);
        }
    }
}

/// Distance in cells to the nearest one set; `CELLS` when none is.
fn nearest(cell: usize, word: impl Fn(usize) -> u64) -> usize {
    let (own, bit) = (cell / 64, cell % 64);
    let here = word(own);
    if here >> bit & 1 == 1 {
        return 0;
    }
    let highest = |w: usize, bits: u64| (bits != 0).then(|| w * 64 + 63 - bits.leading_zeros() as usize);
    let lowest = |w: usize, bits: u64| (bits != 0).then(|| w * 64 + bits.trailing_zeros() as usize);
    let below =
        highest(own, here & ((1 << bit) - 1)).or_else(|| (0..own).rev().find_map(|w| highest(w, word(w))));
    let above = lowest(own, here >> bit << bit).or_else(|| (own + 1..WORDS).find_map(|w| lowest(w, word(w))));
    let distance = |other: Option<usize>| other.map_or(CELLS, |other| other.abs_diff(cell));
    distance(below).min(distance(above))
}

/// Each pair of cells becomes one.
fn halved(words: &[u64; WORDS], doubled: Doubled) -> [u64; WORDS] {
    let mut out = [0; WORDS];
    let shift = match doubled {
        Doubled::IntoLower => 0,
        Doubled::IntoUpper => WORDS / 2,
    };
    for (i, pair) in words.chunks(2).enumerate() {
        let bits = pair.iter().rev().fold(0, |bits, word| bits << 32 | squeezed(*word));
        if let Some(word) = out.get_mut(i + shift) {
            *word = bits;
        }
    }
    out
}

/// 64 bits to 32: each the union of two neighbours.
fn squeezed(word: u64) -> u64 {
    let mut bits = (word | word >> 1) & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits
}

/// Which values were seen at which part of the day: 64 levels for each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeenByHour {
    scale: Scale,
    any: bool,
    /// Parts of the day, in two halves: longer arrays cannot be saved.
    levels: [[u64; DAY_PARTS / 2]; 2],
}

const LEVELS: usize = 64;

impl SeenByHour {
    /// How far the nearest value seen is, in level (as a share of the range) or time of day (as a share of the day),
    /// whichever is more.
    pub(crate) fn novelty(&self, part: usize, value: f64) -> f64 {
        let range = self.scale.range();
        if !self.any || (range <= 0.0 && value == self.scale.lowest) {
            return 0.0;
        }
        if range <= 0.0 || self.scale.width <= 0.0 {
            return 1.0;
        }
        let place = self.scale.place(value);
        let mut best = 1.0;
        for away in 0..=DAY_PARTS / 2 {
            let late = count(away) / count(DAY_PARTS);
            if late >= best {
                break;
            }
            for other in [(part + away) % DAY_PARTS, (part + DAY_PARTS - away) % DAY_PARTS] {
                let off = off(self.at(other), place) * self.scale.width / range;
                best = best.min(off.max(late));
            }
        }
        best
    }

    pub(crate) fn add(&mut self, part: usize, value: f64) {
        if !self.any {
            self.any = true;
            self.scale = Scale { base: value, width: 0.0, lowest: value, highest: value };
        } else if self.scale.width <= 0.0 || !self.scale.width.is_finite() {
            let first = self.scale.lowest;
            self.scale.begin(value, LEVELS);
            let cell = self.scale.cell(first, LEVELS);
            for level in self.levels.iter_mut().flatten().filter(|level| **level != 0) {
                *level = 1 << cell;
            }
        }
        if self.scale.width > 0.0 {
            let levels = &mut self.levels;
            self.scale.take(value, LEVELS, |doubled| {
                for level in levels.iter_mut().flatten() {
                    *level = match doubled {
                        Doubled::IntoLower => squeezed(*level),
                        Doubled::IntoUpper => squeezed(*level) << 32,
                    };
                }
            });
        }
        let cell = if self.scale.width > 0.0 { self.scale.cell(value, LEVELS) } else { 0 };
        if let Some(level) = self.levels.iter_mut().flatten().nth(part) {
            *level |= 1 << cell;
        }
    }

    fn at(&self, part: usize) -> u64 {
        let (half, rest) = (part / (DAY_PARTS / 2), part % (DAY_PARTS / 2));
        self.levels.get(half).and_then(|half| half.get(rest)).copied().unwrap_or_default()
    }
}

/// Distance in levels from a place to the nearest level set.
fn off(levels: u64, place: f64) -> f64 {
    if levels == 0 {
        return f64::INFINITY;
    }
    // Outside the levels all are on one side.
    let cell = if place < 0.0 { None } else { Some(crate::numeric::whole(place, 0, LEVELS)) };
    let below = match cell {
        None => 0,
        Some(LEVELS) => levels,
        Some(cell) if levels >> cell & 1 == 1 => return 0.0,
        Some(cell) => levels & ((1 << cell) - 1),
    };
    let above = levels & !below;
    let down = if below == 0 { f64::INFINITY } else { place - f64::from(64 - below.leading_zeros()) };
    let up = if above == 0 { f64::INFINITY } else { f64::from(above.trailing_zeros()) - place };
    down.min(up).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_not_new() {
        let mut seen = Seen::default();
        assert_eq!(seen.novelty(5.0), 0.0);
        seen.add(5.0);
        assert_eq!((seen.novelty(5.0), seen.novelty(6.0)), (0.0, 1.0));
        seen.add(15.0);
        for (value, new) in [(5.0, 0.0), (15.0, 0.0), (10.0, 0.5), (25.0, 1.0), (-5.0, 1.0), (7.0, 0.2)] {
            assert!((seen.novelty(value) - new).abs() < 0.01, "{value}: {}", seen.novelty(value));
        }
    }

    #[test]
    fn the_range_grows_without_forgetting() {
        let mut seen = Seen::default();
        for value in [0.0, 1.0, 1000.0, -1000.0, 500.0] {
            seen.add(value);
        }
        for value in [0.0, 1000.0, -1000.0, 500.0] {
            assert!(seen.novelty(value) < 0.002, "{value}: {}", seen.novelty(value));
        }
        assert!((seen.novelty(-500.0) - 0.25).abs() < 0.01);
    }

    #[test]
    fn after_two_generations_it_is_new_again() {
        let mut seen = Seen::default();
        for value in [0.0, 10.0, 5.0] {
            seen.add(value);
        }
        for _ in 0..2 {
            seen.next_generation();
            for value in [0.0, 10.0] {
                seen.add(value);
            }
        }
        assert!(seen.novelty(5.0) > 0.4, "{}", seen.novelty(5.0));
    }

    #[test]
    fn squeezing_joins_neighbours() {
        assert_eq!(squeezed(0b1001_0000_0011), 0b11_0001);
        assert_eq!(squeezed(u64::MAX), u64::from(u32::MAX));
        assert_eq!(squeezed(1 << 63), 1 << 31);
    }

    #[test]
    fn an_ordinary_value_at_an_odd_hour_is_new() {
        let mut seen = SeenByHour::default();
        for part in 0..24 {
            seen.add(part, 10.0);
            seen.add(part + 24, 90.0);
        }
        assert_eq!((seen.novelty(12, 10.0), seen.novelty(36, 90.0)), (0.0, 0.0));
        assert!(seen.novelty(12, 90.0) > 0.2);
        assert!((seen.novelty(12, 170.0) - 1.0).abs() < 0.1);
    }
}
