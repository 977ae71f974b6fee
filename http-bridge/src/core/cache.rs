//! Answers kept for a short time, in a bounded number.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

pub(crate) struct Cache<K, V> {
    entries: HashMap<K, (Instant, V)>,
    ttl: Duration,
    capacity: usize,
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    pub(crate) fn new(ttl: Duration, capacity: usize) -> Self {
        Self { entries: HashMap::new(), ttl, capacity }
    }

    /// The value, while it is fresh.
    pub(crate) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let (at, value) = self.entries.get(key)?;
        (now.saturating_duration_since(*at) < self.ttl).then(|| value.clone())
    }

    /// The value, however old.
    pub(crate) fn get_stale(&self, key: &K) -> Option<V> {
        self.entries.get(key).map(|(_, value)| value.clone())
    }

    pub(crate) fn put(&mut self, key: K, value: V, now: Instant) {
        if self.entries.len() >= self.capacity {
            let ttl = self.ttl;
            self.entries.retain(|_, (at, _)| now.saturating_duration_since(*at) < ttl);
        }
        // Full of fresh entries: forgetting all of them costs one question each, and no bookkeeping.
        if self.entries.len() >= self.capacity {
            self.entries.clear();
        }
        self.entries.insert(key, (now, value));
    }

    pub(crate) fn remove_if(&mut self, gone: impl Fn(&V) -> bool) {
        self.entries.retain(|_, (_, value)| !gone(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_expire_and_never_exceed_the_capacity() {
        let (start, ttl) = (Instant::now(), Duration::from_secs(5));
        let mut cache = Cache::new(ttl, 3);
        cache.put(1, "a", start);
        assert_eq!(cache.get(&1, start + ttl / 2), Some("a"));
        assert_eq!(cache.get(&1, start + ttl), None);
        assert_eq!(cache.get_stale(&1), Some("a"));
        for key in 2..100 {
            cache.put(key, "b", start);
            assert!(cache.entries.len() <= 3);
        }
        cache.remove_if(|value| *value == "b");
        assert!(cache.entries.is_empty());
    }
}
