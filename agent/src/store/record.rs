//! One record of a spool segment: `length u32 | crc32 u32 | index u64 | at_ms u64 | payload`, little endian.
//!
//! `length` counts what follows the checksum, and the checksum covers it.

use protocol::limits;

/// Bytes before the payload.
pub const HEADER: usize = 24;
const PREFIX: usize = 8;
/// Longest payload that a record may have.
pub const PAYLOAD: usize = limits::RESULT;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Place in the spool; it grows by one from record to record of a segment.
    pub index: u64,
    /// When it was appended, in milliseconds since 1970.
    pub at_ms: u64,
    pub payload: &'a [u8],
}

/// What stands at the front of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole record and its length with header.
    Record(Record<'a>, usize),
    /// Nothing, or the beginning of a record: more bytes are needed, or the write of it was cut off.
    Partial,
    /// Not a record.
    Damaged,
}

/// Add `record` to `bytes`. `None` when its payload is longer than [`PAYLOAD`].
#[must_use]
pub fn encode(record: &Record<'_>, bytes: &mut Vec<u8>) -> Option<()> {
    if record.payload.len() > PAYLOAD {
        return None;
    }
    let length = u32::try_from(HEADER - PREFIX + record.payload.len()).ok()?;
    let (index, at_ms) = (record.index.to_le_bytes(), record.at_ms.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    [&index, &at_ms, record.payload].into_iter().for_each(|part| crc.update(part));
    for part in [&length.to_le_bytes(), &crc.finalize().to_le_bytes(), &index[..], &at_ms, record.payload] {
        bytes.extend_from_slice(part);
    }
    Some(())
}

#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Parsed::Partial };
    let length = u32::from_le_bytes(*length) as usize;
    if !(HEADER - PREFIX..=HEADER - PREFIX + PAYLOAD).contains(&length) {
        return Parsed::Damaged;
    }
    let Some((crc, rest)) = rest.split_first_chunk::<4>() else { return Parsed::Partial };
    let Some(body) = rest.get(..length) else { return Parsed::Partial };
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Parsed::Damaged;
    }
    let record = body.split_first_chunk::<8>().and_then(|(index, rest)| {
        let (at_ms, payload) = rest.split_first_chunk::<8>()?;
        Some(Record { index: u64::from_le_bytes(*index), at_ms: u64::from_le_bytes(*at_ms), payload })
    });
    record.map_or(Parsed::Damaged, |record| Parsed::Record(record, PREFIX + length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_payload_that_is_too_long_is_refused() {
        let record = Record { index: 1, at_ms: 1, payload: &vec![0; PAYLOAD + 1] };
        assert_eq!(encode(&record, &mut Vec::new()), None);
    }

    proptest! {
        #[test]
        fn a_record_is_read_back_and_a_part_of_it_is_not(
            index in any::<u64>(), at_ms in any::<u64>(), payload in proptest::collection::vec(any::<u8>(), 0..300),
            part in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(),
        ) {
            let record = Record { index, at_ms, payload: &payload };
            let mut bytes = Vec::new();
            encode(&record, &mut bytes).unwrap();
            let length = bytes.len();
            prop_assert_eq!(parse(&bytes), Parsed::Record(record, length));
            prop_assert_eq!(parse(&bytes[..part.index(length)]), Parsed::Partial);
            bytes[flip.index(length)] ^= 1;
            prop_assert!(!matches!(parse(&bytes), Parsed::Record(..)));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(!matches!(parse(&bytes), Parsed::Record(..)));
        }
    }
}
