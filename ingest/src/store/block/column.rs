//! A column of numbers in few bytes, kept to the bit.
//!
//! What is regular costs next to nothing: a constant, a straight line. Else the smaller of small differences and `pco`.
//! Floats that are all short decimals (83.5) are whole numbers with a scale. Times that are nearly regular are steps
//! and what is left over. An empty column of numbers is all zeros.

use pco::{
    ChunkConfig,
    data_types::Number,
    standalone::simple_decompress_into,
    wrapped::{FileCompressor, FileDecompressor},
};

use super::BlockError;

const CONSTANT: u8 = 1;
const LINE: u8 = 2;
const DIFFERENCES: u8 = 3;
/// A file of `pco`, with a head of its own: written up to format 2.
const PCO: u8 = 4;
const DECIMALS: u8 = 5;
const BITS: u8 = 6;
/// `pco` without that head. Whole numbers: bytes of the narrowest type that holds them, and the least of them, which is
/// taken off all; `pco` describes its bins in numbers of that type.
const NARROW: u8 = 7;
/// A step, a start, the number of steps and the rest of each.
const GRID: u8 = 8;
/// Fewer numbers than these are not worth the head of `pco`.
const WORTH_PCO: usize = 24;
/// Most digits after the point of a short decimal.
const MAX_SCALE: u8 = 4;

pub(super) fn put_ints(values: &[u64], out: &mut Vec<u8>) {
    let Some((first, rest)) = values.split_first() else { return };
    let step = rest.first().unwrap_or(first).wrapping_sub(*first);
    let mut before = *first;
    let is_line = rest.iter().all(|value| {
        let same = value.wrapping_sub(before) == step;
        before = *value;
        same
    });
    if is_line {
        out.push(if step == 0 { CONSTANT } else { LINE });
        put_varint(*first, out);
        if step != 0 {
            put_varint(zigzag(step), out);
        }
        return;
    }
    let mut shortest = vec![DIFFERENCES];
    let mut before = 0;
    for value in values {
        put_varint(zigzag(value.wrapping_sub(before)), &mut shortest);
        before = *value;
    }
    if let Some(narrow) = narrow(values).filter(|narrow| narrow.len() < shortest.len()) {
        shortest = narrow;
    }
    out.extend_from_slice(&shortest);
}

/// Times in order: what a schedule makes lies near a grid, and only the distance from it is news.
pub(super) fn put_times(values: &[u64], out: &mut Vec<u8>) {
    let mut plain = Vec::new();
    put_ints(values, &mut plain);
    match grid(values) {
        Some(grid) if grid.len() < plain.len() => out.extend_from_slice(&grid),
        _ => out.extend_from_slice(&plain),
    }
}

/// Schedules are in seconds.
const GRID_UNIT: u64 = 1_000;

fn grid(values: &[u64]) -> Option<Vec<u8>> {
    if values.len() < WORTH_PCO {
        return None;
    }
    let first = *values.first()?;
    let mut gaps: Vec<u64> =
        values.iter().zip(values.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a)).collect();
    let (_, median, _) = gaps.select_nth_unstable(values.len() / 2 - 1);
    let step = median.saturating_add(GRID_UNIT / 2) / GRID_UNIT * GRID_UNIT;
    if step == 0 {
        return None;
    }
    // How far the earliest comes before its place, seen from the first.
    let early = |value: &u64| {
        let rest = value.wrapping_sub(first) % step;
        if rest > step / 2 { step - rest } else { 0 }
    };
    let start = first.checked_sub(values.iter().map(early).max()?)?;
    let above = |value: &u64| value.wrapping_sub(start);
    let steps: Vec<u64> = values.iter().map(|value| above(value) / step).collect();
    let rests: Vec<u64> = values.iter().map(|value| above(value) % step).collect();
    let (mut out, mut inside) = (vec![GRID], Vec::new());
    put_varint(step, &mut out);
    put_varint(start, &mut out);
    put_ints(&steps, &mut inside);
    put_varint(inside.len() as u64, &mut out);
    out.extend_from_slice(&inside);
    put_ints(&rests, &mut out);
    Some(out)
}

pub(super) fn ints(bytes: &[u8], count: usize) -> Result<Vec<u64>, BlockError> {
    let Some((&GRID, mut rest)) = bytes.split_first() else { return plain_ints(bytes, count) };
    let (step, start) = (varint(&mut rest)?, varint(&mut rest)?);
    let len = usize::try_from(varint(&mut rest)?).unwrap_or(usize::MAX);
    let (steps, rests) = rest.split_at_checked(len).ok_or(BlockError::Part("column"))?;
    let (steps, rests) = (plain_ints(steps, count)?, plain_ints(rests, count)?);
    let value = |(steps, rest): (u64, u64)| start.wrapping_add(steps.wrapping_mul(step)).wrapping_add(rest);
    Ok(steps.into_iter().zip(rests).map(value).collect())
}

fn plain_ints(mut bytes: &[u8], count: usize) -> Result<Vec<u64>, BlockError> {
    let Some((form, rest)) = bytes.split_first() else { return Ok(vec![0; count]) };
    bytes = rest;
    match *form {
        CONSTANT => Ok(vec![varint(&mut bytes)?; count]),
        LINE => {
            let (first, step) = (varint(&mut bytes)?, unzigzag(varint(&mut bytes)?));
            Ok((0..count as u64).map(|n| first.wrapping_add(n.wrapping_mul(step))).collect())
        }
        DIFFERENCES => {
            let mut value = 0u64;
            (0..count)
                .map(|_| {
                    value = value.wrapping_add(unzigzag(varint(&mut bytes)?));
                    Ok(value)
                })
                .collect()
        }
        PCO => unpacked(bytes, count),
        NARROW => {
            let (width, mut rest) = bytes.split_first().ok_or(BlockError::Part("column"))?;
            let least = varint(&mut rest)?;
            let above: Vec<u64> = match *width {
                2 => unpage::<u16>(rest, count)?.into_iter().map(u64::from).collect(),
                4 => unpage::<u32>(rest, count)?.into_iter().map(u64::from).collect(),
                8 => unpage::<u64>(rest, count)?,
                width => return Err(BlockError::Form(width)),
            };
            Ok(above.into_iter().map(|value| least.wrapping_add(value)).collect())
        }
        form => Err(BlockError::Form(form)),
    }
}

pub(super) fn put_floats(values: &[f64], out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    if let Some((scale, whole)) = decimals(values) {
        let least = whole.iter().copied().min().unwrap_or(0);
        out.extend_from_slice(&[DECIMALS, scale]);
        put_varint(zigzag(least.cast_unsigned()), out);
        let above: Vec<u64> = whole.iter().map(|value| value.wrapping_sub(least).cast_unsigned()).collect();
        put_ints(&above, out);
        return;
    }
    let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
    if bits.windows(2).all(|pair| pair.first() == pair.last()) {
        out.push(BITS);
        put_ints(&bits, out);
        return;
    }
    let mut packed = vec![NARROW];
    match page(values, &mut packed) {
        Some(()) if packed.len() < values.len().saturating_mul(8) => out.extend_from_slice(&packed),
        _ => {
            out.push(BITS);
            put_ints(&bits, out);
        }
    }
}

pub(super) fn floats(bytes: &[u8], count: usize) -> Result<Vec<f64>, BlockError> {
    let Some((form, mut rest)) = bytes.split_first() else {
        return if count == 0 { Ok(Vec::new()) } else { Err(BlockError::Part("column")) };
    };
    match *form {
        DECIMALS => {
            let (scale, after) = rest.split_first().ok_or(BlockError::Part("column"))?;
            rest = after;
            let divisor = divisor(*scale).ok_or(BlockError::Part("scale"))?;
            let least = unzigzag(varint(&mut rest)?);
            let above = ints(rest, count)?;
            Ok(above
                .into_iter()
                .map(|value| float(value.wrapping_add(least).cast_signed()) / divisor)
                .collect())
        }
        BITS => Ok(ints(rest, count)?.into_iter().map(f64::from_bits).collect()),
        PCO => unpacked(rest, count),
        NARROW => unpage(rest, count),
        form => Err(BlockError::Form(form)),
    }
}

fn narrow(values: &[u64]) -> Option<Vec<u8>> {
    let least = *values.iter().min()?;
    let above = || values.iter().map(|value| value.wrapping_sub(least));
    let mut out = vec![NARROW, 0];
    put_varint(least, &mut out);
    let width = if let Ok(narrow) = above().map(u16::try_from).collect::<Result<Vec<_>, _>>() {
        page(&narrow, &mut out)?;
        2
    } else if let Ok(narrow) = above().map(u32::try_from).collect::<Result<Vec<_>, _>>() {
        page(&narrow, &mut out)?;
        4
    } else {
        page(&above().collect::<Vec<u64>>(), &mut out)?;
        8
    };
    *out.get_mut(1)? = width;
    Some(out)
}

/// What `pco` needs to read the numbers again, but for their count. `None` when there are too few.
fn page<T: Number>(values: &[T], out: &mut Vec<u8>) -> Option<()> {
    if values.len() < WORTH_PCO {
        return None;
    }
    let file = FileCompressor::default();
    file.write_header(&mut *out).ok()?;
    let mut chunk = file.chunk_compressor(values, &ChunkConfig::default()).ok()?;
    chunk.write_meta(&mut *out).ok()?;
    for page in 0..chunk.n_per_page().len() {
        chunk.write_page(page, &mut *out).ok()?;
    }
    Some(())
}

fn unpage<T: Number + Default>(bytes: &[u8], count: usize) -> Result<Vec<T>, BlockError> {
    let mut values = vec![T::default(); count];
    let read = |values: &mut [T]| {
        let (file, rest) = FileDecompressor::new(bytes)?;
        let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest)?;
        chunk.page_decompressor(rest, count)?.read(values)
    };
    match read(&mut values) {
        Ok(progress) if progress.n_processed == count && progress.finished => Ok(values),
        _ => Err(BlockError::Part("column")),
    }
}

/// As format 2 has it.
fn unpacked<T: Number + Default>(bytes: &[u8], count: usize) -> Result<Vec<T>, BlockError> {
    let mut values = vec![T::default(); count];
    let progress = simple_decompress_into(bytes, &mut values).map_err(|_| BlockError::Part("column"))?;
    if progress.n_processed == count && progress.finished {
        Ok(values)
    } else {
        Err(BlockError::Part("column"))
    }
}

/// The values as whole numbers of 1, 0.1, 0.01, …, when each of them is exactly that.
fn decimals(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    (0..=MAX_SCALE).find_map(|scale| {
        let divisor = divisor(scale)?;
        let whole: Option<Vec<i64>> = values.iter().map(|value| whole(*value, divisor)).collect();
        Some((scale, whole?))
    })
}

fn whole(value: f64, divisor: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let scaled = (value * divisor).round();
    if scaled.is_nan() || scaled.abs() >= EXACT {
        return None;
    }
    #[allow(clippy::cast_possible_truncation)] // whole and below 2^53: exact
    let whole = scaled as i64;
    // To the bit: -0.0 is not 0.
    ((float(whole) / divisor).to_bits() == value.to_bits()).then_some(whole)
}

#[allow(clippy::cast_precision_loss)] // below 2^53: exact
fn float(whole: i64) -> f64 {
    whole as f64
}

fn divisor(scale: u8) -> Option<f64> {
    [1.0, 10.0, 100.0, 1000.0, 10_000.0].get(usize::from(scale)).copied()
}

fn zigzag(value: u64) -> u64 {
    (value << 1) ^ (value.cast_signed() >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn varint(bytes: &mut &[u8]) -> Result<u64, BlockError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(BlockError::Part("number"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(BlockError::Part("number"))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    fn float_bytes(values: &[f64]) -> Vec<u8> {
        let mut out = Vec::new();
        put_floats(values, &mut out);
        assert_eq!(bits(&floats(&out, values.len()).unwrap()), bits(values));
        out
    }

    fn int_bytes(values: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        put_ints(values, &mut out);
        assert_eq!(ints(&out, values.len()).unwrap(), values);
        out
    }

    #[test]
    fn extreme_numbers_are_kept_to_the_bit() {
        let payload = f64::from_bits(0x7ff8_0000_dead_beef);
        let extremes = [
            f64::NAN,
            payload,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            1e308,
            -1e308,
            5e-324,
            9_007_199_254_740_993.0,
            -9_007_199_254_740_992.0,
            0.1 + 0.2,
            83.5,
        ];
        float_bytes(&extremes);
        for one in extremes {
            float_bytes(&[one]);
            float_bytes(&[one; 100]);
            float_bytes(&[&[one][..], &[1.5; 60]].concat());
        }
        let many: Vec<f64> = extremes.iter().copied().cycle().take(200).collect();
        float_bytes(&many);
        int_bytes(&[u64::MAX, 0, u64::MAX, 1]);
        int_bytes(&[u64::MAX; 3]);
    }

    fn time_bytes(values: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        put_times(values, &mut out);
        assert_eq!(ints(&out, values.len()).unwrap(), values);
        out
    }

    #[test]
    fn times_near_a_grid_cost_their_distance_from_it() {
        let near = |n: u64| 1_795_200_000_000 + n * 60_000 + n * 7919 % 50;
        // log2(50) bits each are 1,016 bytes.
        assert!(time_bytes(&(0..1440).map(near).collect::<Vec<_>>()).len() < 1_060);
        // A host that was off twice.
        let gaps: Vec<u64> = (0..1440).filter(|n| !(300..380).contains(n) && *n != 900).map(near).collect();
        assert!(time_bytes(&gaps).len() < 1_150);
        time_bytes(&[u64::MAX; 30]);
        time_bytes(&(0..100).chain([u64::MAX - 1, u64::MAX]).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_regular_costs_next_to_nothing() {
        let line: Vec<u64> = (0..1440).map(|n| 1_795_200_000_000 + n * 60_000).collect();
        assert!(int_bytes(&line).len() < 12);
        assert!(int_bytes(&[7; 1440]).len() < 4);
        assert!(float_bytes(&[83.5; 1440]).len() < 10);
    }

    proptest! {
        #[test]
        fn whole_numbers_are_read_back(values in vec(any::<u64>(), 0..200), near in vec(0u64..1000, 0..2000)) {
            int_bytes(&values);
            int_bytes(&near);
        }

        #[test]
        fn times_are_read_back(gaps in vec(prop_oneof![20 => 59_900u64..60_100, 1 => any::<u64>()], 0..400), first in any::<u64>()) {
            let times: Vec<u64> = gaps.iter().scan(first, |at, gap| { *at = at.saturating_add(*gap); Some(*at) }).collect();
            time_bytes(&times);
        }

        #[test]
        fn floats_are_read_back(
            any_bits in vec(any::<u64>(), 0..200), tenths in vec(-5000i32..5000, 0..2000), scale in 0u8..7,
        ) {
            let any: Vec<f64> = any_bits.iter().map(|bits| f64::from_bits(*bits)).collect();
            float_bytes(&any);
            let decimals: Vec<f64> = tenths.iter().map(|n| f64::from(*n) / 10f64.powi(scale.into())).collect();
            float_bytes(&decimals);
        }

        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200), count in 0usize..3000) {
            let _ints = ints(&bytes, count);
            let _floats = floats(&bytes, count);
        }
    }
}
