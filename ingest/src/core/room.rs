//! Is there room on the disk? Said early, and again only when it changes.

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Enough,
    /// Somebody should make room.
    Low,
    /// Nothing is written, and so nothing acknowledged, until there is more.
    Full,
}

/// Judges one disk, measure by measure.
#[derive(Debug, Clone)]
pub struct Room {
    /// Fewer bytes are low.
    warn: u64,
    /// Fewer bytes are too few to write.
    keep: u64,
    level: Level,
}

impl Room {
    #[must_use]
    pub fn new(warn: u64, keep: u64) -> Self {
        Self { warn: warn.max(keep), keep, level: Level::Enough }
    }

    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// So many bytes are free now. Returns the level when it is another than before. A level is left only with a
    /// sixteenth more than it begins at, so that a disk at the edge does not speak each second.
    pub fn judge(&mut self, free: u64) -> Option<Level> {
        let above = |limit: u64, was: bool| {
            let margin = if was { limit / 16 } else { 0 };
            free >= limit.saturating_add(margin)
        };
        let level = if !above(self.keep, self.level == Level::Full) {
            Level::Full
        } else if !above(self.warn, self.level != Level::Enough) {
            Level::Low
        } else {
            Level::Enough
        };
        (level != self.level).then(|| {
            self.level = level;
            level
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_told_once_and_left_with_a_margin() {
        let mut room = Room::new(1_600, 160);
        let said: Vec<_> = [9_000, 1_600, 1_599, 1_600, 1_650, 1_700, 1_000, 159, 160, 169, 170, 0, 9_000]
            .map(|free| room.judge(free))
            .into();
        use Level::{Enough, Full, Low};
        let expected = [
            None,
            None,
            Some(Low),
            None,
            None,
            Some(Enough),
            Some(Low),
            Some(Full),
            None,
            None,
            Some(Low),
            Some(Full),
            Some(Enough),
        ];
        assert_eq!(said, expected);
        let mut without = Room::new(0, 0);
        assert_eq!((without.judge(0), without.level()), (None, Enough));
    }
}
