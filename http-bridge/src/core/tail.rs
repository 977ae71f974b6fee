//! What waits for one reader of the live tail: the newest, within bounds. What does not fit pushes out the oldest.

use std::collections::VecDeque;

/// What a reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    Item(T),
    /// So many items that should stand here were pushed out.
    Dropped(u64),
}

/// Most items and most bytes that wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Tail<T> {
    bounds: Bounds,
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
    dropped: u64,
}

impl<T> Tail<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, waiting: VecDeque::new(), bytes: 0, dropped: 0 }
    }

    /// Returns how many were pushed out for it, itself included when it alone is too large.
    pub(crate) fn push(&mut self, item: T, bytes: usize) -> u64 {
        self.waiting.push_back((item, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        let mut out: u64 = 0;
        while self.waiting.len() > self.bounds.items || self.bytes > self.bounds.bytes {
            let Some((_, bytes)) = self.waiting.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(bytes);
            out = out.saturating_add(1);
        }
        self.dropped = self.dropped.saturating_add(out);
        out
    }

    /// What was pushed out is told before what came after it.
    pub(crate) fn pop(&mut self) -> Option<Next<T>> {
        if self.dropped > 0 {
            return Some(Next::Dropped(std::mem::take(&mut self.dropped)));
        }
        let (item, bytes) = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(Next::Item(item))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_go_and_their_number_is_told_where_they_stood() {
        let mut tail = Tail::new(Bounds { items: 2, bytes: 100 });
        assert_eq!([1, 2, 3, 4].map(|item| tail.push(item, 1)), [0, 0, 1, 1]);
        assert_eq!(tail.pop(), Some(Next::Dropped(2)));
        assert_eq!((tail.pop(), tail.pop(), tail.pop()), (Some(Next::Item(3)), Some(Next::Item(4)), None));
        assert_eq!(tail.push(5, 101), 1, "too large alone");
        assert_eq!((tail.pop(), tail.pop()), (Some(Next::Dropped(1)), None));
    }

    proptest! {
        #[test]
        fn g10_every_item_comes_in_order_or_is_counted_and_bounds_hold(
            moves in prop::collection::vec(prop_oneof![Just(None), (0usize..40).prop_map(Some)], 0..200)
        ) {
            let mut tail = Tail::new(Bounds { items: 5, bytes: 60 });
            let (mut pushed, mut next) = (0u64, 0u64);
            let mut take = |tail: &mut Tail<u64>| match tail.pop() {
                Some(Next::Item(item)) => { assert_eq!(item, next); next += 1; true }
                Some(Next::Dropped(count)) => { next += count; true }
                None => false,
            };
            for step in moves {
                match step {
                    Some(bytes) => { tail.push(pushed, bytes); pushed += 1; }
                    None => { take(&mut tail); }
                }
                prop_assert!(tail.waiting.len() <= 5 && tail.bytes <= 60);
            }
            while take(&mut tail) {}
            prop_assert_eq!(next, pushed);
        }
    }
}
