//! The results of one check from several segments, in order of time, without holding more than a block of each.

use std::slice;

use protocol::{AgentId, CheckName, CheckResult};

use crate::store::{
    StoreError,
    block::Block,
    engine::Fjall,
    segment::{Entry, Segment},
};

/// Results of the same moment come in the order in which they were stored.
pub(in crate::store) struct Merged<'a> {
    store: &'a Fjall,
    agent: AgentId,
    check: CheckName,
    /// In the order of storing.
    sources: Vec<Source<'a>>,
    damaged: Damaged,
}

/// What becomes of a block that cannot be read. It is counted and left out in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Damaged {
    /// Its segment stays.
    Passed,
    /// Its segment goes: its bytes are kept in a file beside.
    Kept,
}

/// The blocks of one segment: in order of time themselves.
struct Source<'a> {
    segment: &'a Segment,
    blocks: slice::Iter<'a, Entry>,
    next: Option<CheckResult>,
    /// The rest of the block in hand.
    results: std::vec::IntoIter<CheckResult>,
    /// Memory of that block.
    size: usize,
}

impl<'a> Merged<'a> {
    pub(in crate::store) fn new(
        store: &'a Fjall,
        (agent, check): (AgentId, CheckName),
        blocks: &[(&'a Segment, &'a [Entry])],
        damaged: Damaged,
    ) -> Result<Self, StoreError> {
        let source = |(segment, blocks): &(&'a Segment, &'a [Entry])| Source {
            segment,
            blocks: blocks.iter(),
            next: None,
            results: Vec::new().into_iter(),
            size: 0,
        };
        let sources = blocks.iter().map(source).collect();
        let mut merged = Self { store, agent, check, sources, damaged };
        for at in 0..merged.sources.len() {
            merged.advance(at)?;
        }
        Ok(merged)
    }

    /// The next result, and the segment that it lies in.
    pub(in crate::store) fn next(&mut self) -> Result<Option<(&'a Segment, CheckResult)>, StoreError> {
        let times = self.sources.iter().enumerate();
        let first = times.filter_map(|(at, source)| Some((source.next.as_ref()?.at_ms, at))).min();
        let Some((_, at)) = first else { return Ok(None) };
        let taken = self.sources.get_mut(at).and_then(|source| Some((source.segment, source.next.take()?)));
        self.advance(at)?;
        Ok(taken)
    }

    /// Memory of the blocks in hand, about.
    fn in_hand(&self) -> usize {
        self.sources.iter().map(|source| source.size).sum()
    }

    fn advance(&mut self, at: usize) -> Result<(), StoreError> {
        loop {
            let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
            source.next = source.results.next();
            if source.next.is_some() {
                return Ok(());
            }
            source.size = 0;
            let Some(entry) = source.blocks.next() else { return Ok(()) };
            let bytes = self.store.read_block(source.segment, entry)?;
            match Block::open(&bytes).and_then(|block| block.results(&self.agent, &self.check, |_| true)) {
                Ok(results) => {
                    source.size = results.iter().map(size).sum();
                    source.results = results.into_iter();
                }
                Err(error) => {
                    self.store.damaged_block(source.segment, entry, &error);
                    if self.damaged == Damaged::Kept {
                        self.store.keep_block(source.segment, entry, &bytes)?;
                    }
                }
            }
            self.store.took_in_hand(self.in_hand());
        }
    }
}

/// Memory that a result takes, about.
pub(super) fn size(result: &CheckResult) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let metrics = result.metrics.iter().map(|metric| {
        size_of_val(metric) + metric.name.len() + text(&metric.unit) + text(&metric.warn) + text(&metric.crit)
    });
    size_of_val(result) + result.output.len() + text(&result.unit) + metrics.sum::<usize>()
}
