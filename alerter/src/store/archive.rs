//! All that the store holds, as entries of an archive, and back.

use protocol::{archive::Line, operate::Silence};
use serde::de::DeserializeOwned;
use sled::{Batch, Tree};

use super::{
    Delivery, OutboxRecord, ResolvedRecord, Store, StoreError,
    disk::{Failure, Trees, decode},
    record,
};
use crate::core::Tracker;

/// Entries written at once.
const BATCH: usize = 1_000;

/// One entry of one table.
#[derive(Debug, Clone)]
pub struct Entry {
    table: Table,
    key: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Trackers,
    Outbox,
    Deliveries,
    Resolved,
    Silences,
}

impl Table {
    const ALL: [Self; 5] = [Self::Trackers, Self::Outbox, Self::Deliveries, Self::Resolved, Self::Silences];

    fn name(self) -> &'static str {
        match self {
            Self::Trackers => "trackers",
            Self::Outbox => "outbox",
            Self::Deliveries => "deliveries",
            Self::Resolved => "resolved",
            Self::Silences => "silences",
        }
    }

    fn tree(self, trees: &Trees) -> &Tree {
        match self {
            Self::Trackers => &trees.trackers,
            Self::Outbox => &trees.outbox,
            Self::Deliveries => &trees.deliveries,
            Self::Resolved => &trees.resolved,
            Self::Silences => &trees.silences,
        }
    }
}

impl Entry {
    /// An entry that this version can read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(table: &str, key: &str, value: &serde_json::Value) -> Result<Self, String> {
        let table = Table::ALL.into_iter().find(|one| one.name() == table);
        let table = table.ok_or("the alerter has no such table")?;
        let key = protocol::codec::unhex(key).ok_or("a key that is not in hexadecimal digits")?;
        let value = protocol::encode(value).map_err(|error| error.to_string())?;
        fn reads<T: DeserializeOwned>(value: &[u8]) -> Result<(), String> {
            serde_json::from_slice::<T>(value).map(|_| ()).map_err(|error| error.to_string())
        }
        match table {
            Table::Trackers => {
                record::key_from(&key).ok_or("a key that is no alert")?;
                reads::<Tracker>(&value)?;
            }
            Table::Outbox => {
                <[u8; 8]>::try_from(key.as_slice()).map_err(|_| "a key that is no number")?;
                reads::<OutboxRecord>(&value)?;
            }
            Table::Deliveries => reads::<Delivery>(&value)?,
            Table::Resolved => reads::<ResolvedRecord>(&value)?,
            Table::Silences => reads::<Silence>(&value)?,
        }
        Ok(Self { table, key, value })
    }
}

impl Store {
    /// Every entry, as it is at one moment.
    ///
    /// # Errors
    /// [`StoreError`], also when `each` fails to write.
    pub fn export(&self, mut each: impl FnMut(&Line) -> std::io::Result<()>) -> Result<(), StoreError> {
        self.0.with(|trees| {
            for table in Table::ALL {
                for entry in table.tree(trees) {
                    let (key, value) = entry?;
                    let value = decode(table.name(), &value)?;
                    each(&Line::Alerter { table: table.name().to_owned(), key: protocol::hex(&key), value })?;
                }
            }
            Ok(())
        })
    }

    /// Hold these entries and nothing else. Done in parts: after a crash it has to be said again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn import(&self, entries: impl Iterator<Item = Result<Entry, String>>) -> Result<(), StoreError> {
        self.0.with(|trees| {
            for table in Table::ALL {
                table.tree(trees).clear()?;
            }
            let mut batches: Vec<(Table, Batch)> =
                Table::ALL.into_iter().map(|table| (table, Batch::default())).collect();
            let mut waiting = 0;
            for entry in entries {
                let Entry { table, key, value } =
                    entry.map_err(|reason| Failure::Damaged("archive", reason))?;
                let Some((_, batch)) = batches.iter_mut().find(|(of, _)| *of == table) else { continue };
                match table {
                    // What comes later has to come behind it. Entries stand in their order.
                    Table::Outbox => batch.insert(&trees.db.generate_id()?.to_be_bytes(), value),
                    _ => batch.insert(key, value),
                }
                waiting += 1;
                if waiting == BATCH {
                    write(trees, &mut batches)?;
                    waiting = 0;
                }
            }
            write(trees, &mut batches)?;
            trees.sync()
        })
    }
}

fn write(trees: &Trees, batches: &mut [(Table, Batch)]) -> Result<(), Failure> {
    for (table, batch) in batches {
        table.tree(trees).apply_batch(std::mem::take(batch))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_comes_back_and_takes_the_place_of_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let silence = |name: &str| -> Silence {
            let text = format!("{{\"name\":\"{name}\",\"comment\":\"x\"}}");
            serde_json::from_str(&text).unwrap()
        };
        let old = Store::open(&folder.path().join("old")).unwrap();
        old.put_silence(&silence("kept")).unwrap();
        let mut lines = Vec::new();
        old.export(|line| {
            lines.push(line.clone());
            Ok(())
        })
        .unwrap();
        let new = Store::open(&folder.path().join("new")).unwrap();
        new.put_silence(&silence("gone")).unwrap();
        let entries = || {
            lines.iter().map(|line| match line {
                Line::Alerter { table, key, value } => Entry::new(table, key, value),
                other => Err(format!("{other:?}")),
            })
        };
        new.import(entries()).unwrap();
        new.import(entries()).unwrap();
        assert_eq!(new.silences().unwrap(), [silence("kept")]);
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_refused_before_anything_is_written() {
        let value = serde_json::json!({});
        for (table, key, expected) in [
            ("wages", "00", "no such table"),
            ("silences", "0", "hexadecimal"),
            ("silences", "00", "missing field"),
            ("trackers", "00", "no alert"),
            ("outbox", "00", "no number"),
        ] {
            let error = Entry::new(table, key, &value).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
