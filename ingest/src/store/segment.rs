//! A file of blocks that is written once and then only read, until it is removed.
//!
//! ```text
//! magic · blocks, end to end · index: one Entry of 16 bytes for each block · Foot (32 bytes)
//! ```
//!
//! Blocks are in order of the series' numbers, those of one series in order of time. Each block has a checksum of its
//! own; the foot has one over index and foot. Which files count is written down elsewhere: a file alone is nothing.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::series::Resolution;

const MAGIC: &[u8; 8] = b"dwseg\0\0\x01";
const ENTRY: usize = 16;
const FOOT: usize = 32;
/// No time is known that far from the first: the block has to be looked at.
const FAR: u32 = u32::MAX;

/// What a segment holds, as the list of segments has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMeta {
    pub partition: Partition,
    pub min_at_ms: u64,
    pub max_at_ms: u64,
    /// When the youngest of its results was stored.
    pub stored_ms: u64,
    /// Results, or points.
    pub count: u64,
    pub bytes: u64,
    /// Whether the results in it are counted in segments of points. Always false for points.
    pub rolled_up: bool,
}

/// Segments of the same partition are merged, and go when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Partition {
    /// Results that were measured on one day since 1970.
    Day(u64),
    /// Results with a time far from that at which they were stored, by the day of storing.
    Stray(u64),
    /// Points; the number counts partitions since 1970.
    Points(Resolution, u64),
}

const DAY_MS: u64 = 86_400_000;

impl Partition {
    /// The partition of points that begin at this time. About 1,440 points of a series fill it.
    #[must_use]
    pub fn of_points(resolution: Resolution, at_ms: u64) -> Self {
        Self::Points(resolution, at_ms / Self::points_length(resolution))
    }

    const fn points_length(resolution: Resolution) -> u64 {
        match resolution {
            Resolution::FiveMinutes => 5 * DAY_MS,
            Resolution::Hour => 60 * DAY_MS,
        }
    }

    /// The moment after its last, in milliseconds since 1970.
    #[must_use]
    pub fn end_ms(self) -> u64 {
        let (number, length) = match self {
            Self::Day(day) | Self::Stray(day) => (day, DAY_MS),
            Self::Points(resolution, number) => (number, Self::points_length(resolution)),
        };
        number.saturating_add(1).saturating_mul(length)
    }
}

/// Where a block lies, and roughly its time.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub series: u32,
    len: u32,
    offset: u64,
    /// Seconds since the segment's first result, rounded down and up.
    first_s: u32,
    last_s: u32,
}

/// A segment that is being written.
#[derive(Debug)]
pub struct SegmentWriter {
    file: BufWriter<File>,
    meta: SegmentMeta,
    offset: u64,
    /// Series, length, first and last time.
    blocks: Vec<(u32, u32, u64, u64)>,
}

impl SegmentWriter {
    /// # Errors
    /// As the file system says.
    pub fn create(folder: &Path, number: u64, partition: Partition) -> io::Result<Self> {
        let path = path(folder, number);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let mut file = BufWriter::with_capacity(256 * 1024, file);
        file.write_all(MAGIC)?;
        let meta = SegmentMeta {
            partition,
            min_at_ms: u64::MAX,
            max_at_ms: 0,
            stored_ms: 0,
            count: 0,
            bytes: 0,
            rolled_up: false,
        };
        Ok(Self { file, meta, offset: MAGIC.len() as u64, blocks: Vec::new() })
    }

    /// Add a block. Series come in order of their numbers, blocks of one series in order of time.
    ///
    /// # Errors
    /// As the file system says.
    pub fn add(
        &mut self,
        series: u32,
        (first, last): (u64, u64),
        count: u64,
        block: &[u8],
    ) -> io::Result<()> {
        self.file.write_all(block)?;
        let len = u32::try_from(block.len()).map_err(|_| io::Error::other("a block is too long"))?;
        self.blocks.push((series, len, first, last));
        self.offset = self.offset.saturating_add(len.into());
        self.meta.min_at_ms = self.meta.min_at_ms.min(first);
        self.meta.max_at_ms = self.meta.max_at_ms.max(last);
        self.meta.count = self.meta.count.saturating_add(count);
        Ok(())
    }

    /// Make the file durable. `stored_ms` is when the youngest result was stored.
    ///
    /// # Errors
    /// As the file system says.
    pub fn finish(mut self, stored_ms: u64) -> io::Result<SegmentMeta> {
        let mut tail = Vec::with_capacity(self.blocks.len().saturating_mul(ENTRY).saturating_add(FOOT));
        let base = self.meta.min_at_ms;
        for (series, len, first, last) in &self.blocks {
            let seconds = |ms: u64| u32::try_from(ms).unwrap_or(FAR);
            let first_s = seconds(first.saturating_sub(base) / 1000);
            let last_s = seconds(last.saturating_sub(base).div_ceil(1000));
            for number in [*series, *len, first_s, last_s] {
                tail.extend_from_slice(&number.to_le_bytes());
            }
        }
        for number in [self.offset, self.blocks.len() as u64, base] {
            tail.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&tail);
        tail.extend_from_slice(&crc.to_le_bytes());
        tail.extend_from_slice(b"end\n");
        self.file.write_all(&tail)?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        self.meta.bytes = self.offset.saturating_add(tail.len() as u64);
        self.meta.stored_ms = stored_ms;
        Ok(self.meta)
    }
}

/// A segment open for reading. Its file may be removed meanwhile; what is open stays readable.
#[derive(Debug)]
pub struct Segment {
    pub number: u64,
    pub meta: SegmentMeta,
    file: File,
    base_ms: u64,
    entries: Vec<Entry>,
}

impl Segment {
    /// # Errors
    /// When the file is not there or is not what was written.
    pub fn open(folder: &Path, number: u64, meta: SegmentMeta) -> io::Result<Self> {
        let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut file = File::open(path(folder, number))?;
        let mut magic = [0; 8];
        file.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(damaged("it does not begin as a segment of this version"));
        }
        let len = file.metadata()?.len();
        let at = len.checked_sub(FOOT as u64).ok_or_else(|| damaged("it is cut off"))?;
        let mut foot = [0; FOOT];
        file.read_exact_at(&mut foot, at)?;
        let word = |place: usize| {
            let bytes = foot.get(place..).and_then(|rest| rest.first_chunk::<8>());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let (offset, count, base_ms) = (word(0), word(8), word(16));
        let index_len = count.checked_mul(ENTRY as u64).ok_or_else(|| damaged("its index is too long"))?;
        if offset.checked_add(index_len) != Some(at) {
            return Err(damaged("its index does not fit"));
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut index = vec![0; usize::try_from(index_len).map_err(|_| damaged("its index is too long"))?];
        file.read_exact(&mut index)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&index);
        crc.update(foot.get(..24).unwrap_or_default());
        if foot.get(24..28) != Some(&crc.finalize().to_le_bytes()) {
            return Err(damaged("the checksum of its index does not match"));
        }
        let mut place = MAGIC.len() as u64;
        let (chunks, _) = index.as_chunks::<ENTRY>();
        let entries = chunks.iter().map(|chunk| {
            let number = |at: usize| {
                let bytes = chunk.get(at..).and_then(|rest| rest.first_chunk::<4>());
                bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
            };
            let entry = Entry {
                series: number(0),
                len: number(4),
                offset: place,
                first_s: number(8),
                last_s: number(12),
            };
            place = place.saturating_add(entry.len.into());
            entry
        });
        let entries = entries.collect();
        Ok(Self { number, meta, file, base_ms, entries })
    }

    /// The blocks of all series, in order of their numbers.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The blocks of one series, oldest first.
    #[must_use]
    pub fn of_series(&self, series: u32) -> &[Entry] {
        let start = self.entries.partition_point(|entry| entry.series < series);
        let end = self.entries.partition_point(|entry| entry.series <= series);
        self.entries.get(start..end).unwrap_or_default()
    }

    /// Whether the block may hold something from `from_ms` to `last_ms`.
    #[must_use]
    pub fn may_hold(&self, entry: &Entry, from_ms: u64, last_ms: u64) -> bool {
        let at = |seconds: u32| self.base_ms.saturating_add(u64::from(seconds).saturating_mul(1000));
        (entry.last_s == FAR || at(entry.last_s) >= from_ms)
            && (entry.first_s == FAR || at(entry.first_s) <= last_ms)
    }

    /// When the block begins and ends, to the second, in milliseconds since 1970.
    #[must_use]
    pub fn span(&self, entry: &Entry) -> (u64, u64) {
        let at = |seconds: u32| match seconds {
            FAR => u64::MAX,
            seconds => self.base_ms.saturating_add(u64::from(seconds).saturating_mul(1000)),
        };
        (at(entry.first_s), at(entry.last_s))
    }

    /// # Errors
    /// As the file system says.
    pub fn read(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(entry.len).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, entry.offset)?;
        Ok(bytes)
    }
}

/// The file of a segment.
#[must_use]
pub fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.seg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_series_and_damage_of_the_index_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::create(folder.path(), 7, Partition::Day(1)).unwrap();
        writer.add(3, (DAY_MS, DAY_MS + 10), 2, b"abc").unwrap();
        writer.add(3, (DAY_MS + 5000, DAY_MS + 7001), 1, b"d").unwrap();
        writer.add(9, (DAY_MS, u64::MAX), 1, b"efgh").unwrap();
        let meta = writer.finish(42).unwrap();
        assert_eq!((meta.count, meta.min_at_ms, meta.max_at_ms, meta.stored_ms), (4, DAY_MS, u64::MAX, 42));
        let segment = Segment::open(folder.path(), 7, meta.clone()).unwrap();
        let [first, second] = segment.of_series(3) else { panic!("two blocks") };
        assert_eq!(
            (segment.read(first).unwrap(), segment.read(second).unwrap()),
            (b"abc".to_vec(), b"d".to_vec())
        );
        assert!(
            segment.may_hold(second, DAY_MS + 7001, u64::MAX)
                && !segment.may_hold(second, DAY_MS + 9000, u64::MAX)
        );
        assert!(!segment.may_hold(second, 0, DAY_MS + 4999));
        assert!(segment.may_hold(&segment.of_series(9)[0], u64::MAX, u64::MAX));
        assert!(segment.of_series(4).is_empty());

        let file = path(folder.path(), 7);
        let good = std::fs::read(&file).unwrap();
        assert_eq!(good.len() as u64, meta.bytes);
        for at in (0..8).chain(good.len() - FOOT - ENTRY..good.len() - 4) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&file, &bad).unwrap();
            assert!(Segment::open(folder.path(), 7, meta.clone()).is_err(), "byte {at}");
            std::fs::write(&file, &good[..at]).unwrap();
            assert!(Segment::open(folder.path(), 7, meta.clone()).is_err(), "cut at {at}");
        }
    }
}
