//! A block of roll-ups: the points of every metric of one check of one agent.

use serde::{Deserialize, Serialize};

use super::{BlockError, column, read_packed, write_packed};
use crate::store::{
    series::{Point, Sample},
    sketch::Sketch,
};

/// Most points of one metric in one block.
pub const MAX_POINTS: usize = 4_096;
const FLOATS: usize = 4;
/// Since format 3 sketches may come after them.
const COLUMNS: usize = 10;

/// A point as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Rolled {
    pub point: Point,
    /// Empty where the resolution has none, or the numbers were rolled up before format 3.
    pub sketch: Sketch,
}

/// The points of one metric, oldest first. The result's own value has the empty name.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricPoints {
    pub metric: String,
    pub points: Vec<Rolled>,
}

/// Which parts of points to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    Numbers,
    All,
}

#[derive(Serialize, Deserialize)]
struct Packed {
    metric: String,
    points: u32,
    columns: Vec<Vec<u8>>,
}

impl Rolled {
    #[must_use]
    pub fn new(at_ms: u64) -> Self {
        Self { point: Point::new(at_ms), sketch: Sketch::default() }
    }

    pub fn add(&mut self, sample: &Sample, sketched: bool) {
        self.point.add(sample);
        if sketched {
            self.sketch.add(sample.value);
        }
    }
}

/// The points in order of time, those of the same time made one.
#[must_use]
pub fn merged(mut points: Vec<Rolled>) -> Vec<Rolled> {
    points.sort_by_key(|rolled| rolled.point.at_ms);
    points.dedup_by(|later, rolled| {
        let same = later.point.at_ms == rolled.point.at_ms;
        if same {
            rolled.point.merge(&later.point);
            rolled.sketch.merge(&later.sketch);
        }
        same
    });
    points
}

/// # Errors
/// [`BlockError::TooMuch`] when a metric has more than [`MAX_POINTS`].
pub fn encode(metrics: &[MetricPoints]) -> Result<Vec<u8>, BlockError> {
    let mut all = Vec::new();
    for MetricPoints { metric, points } in metrics {
        if points.len() > MAX_POINTS {
            return Err(BlockError::TooMuch);
        }
        let ints = |of: &dyn Fn(&Point) -> u64| {
            let mut bytes = Vec::new();
            column::put_ints(&points.iter().map(|rolled| of(&rolled.point)).collect::<Vec<_>>(), &mut bytes);
            bytes
        };
        let floats = |of: fn(&Point) -> f64| {
            let mut bytes = Vec::new();
            let values: Vec<f64> = points.iter().map(|rolled| of(&rolled.point)).collect();
            column::put_floats(&values, &mut bytes);
            bytes
        };
        let mut columns = vec![ints(&|p| p.at_ms)];
        columns.extend([floats(|p| p.min), floats(|p| p.max), floats(|p| p.sum), floats(|p| p.last)]);
        columns.push(ints(&|p| p.count));
        for status in 0..4usize {
            columns.push(ints(&|p| p.statuses.get(status).copied().unwrap_or(0)));
        }
        if points.iter().any(|rolled| rolled.sketch.count() > 0) {
            let sketches: Vec<Vec<(i64, u64)>> = points.iter().map(|rolled| steps(&rolled.sketch)).collect();
            columns.push(postcard::to_stdvec(&sketches).map_err(|_| BlockError::Part("sketches"))?);
        }
        let points = u32::try_from(points.len()).unwrap_or(u32::MAX);
        all.push(Packed { metric: metric.clone(), points, columns });
    }
    let body = write_packed(&all)?;
    let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The bins of a sketch, each key as its distance from the one before.
fn steps(sketch: &Sketch) -> Vec<(i64, u64)> {
    let mut before = 0;
    let step = |(key, count): (i64, u64)| {
        let step = key.saturating_sub(before);
        before = key;
        (step, count)
    };
    sketch.bins().map(step).collect()
}

fn sketch(steps: &[(i64, u64)]) -> Sketch {
    let (mut sketch, mut key) = (Sketch::default(), 0i64);
    for (step, count) in steps {
        key = key.saturating_add(*step);
        sketch.add_to(key, *count);
    }
    sketch
}

/// The points of the metrics that `keep` wants.
///
/// # Errors
/// [`BlockError`] when the bytes are not what was written.
pub fn decode(
    bytes: &[u8],
    parts: Parts,
    keep: impl Fn(&str) -> bool,
) -> Result<Vec<MetricPoints>, BlockError> {
    let (crc, body) = bytes.split_first_chunk::<4>().ok_or(BlockError::Part("checksum"))?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
        return Err(BlockError::Checksum);
    }
    let all: Vec<Packed> = read_packed(body)?;
    all.into_iter().filter(|packed| keep(&packed.metric)).map(|packed| unpack(packed, parts)).collect()
}

fn unpack(packed: Packed, parts: Parts) -> Result<MetricPoints, BlockError> {
    let count = usize::try_from(packed.points).unwrap_or(usize::MAX);
    if count > MAX_POINTS {
        return Err(BlockError::Part("points"));
    }
    let (numbers, sketches) = packed.columns.split_at_checked(COLUMNS).ok_or(BlockError::Part("points"))?;
    let mut columns = numbers.iter();
    let missing = || BlockError::Part("points");
    let times = column::ints(columns.next().ok_or_else(missing)?, count)?;
    let mut floats = Vec::new();
    for _ in 0..FLOATS {
        floats.push(column::floats(columns.next().ok_or_else(missing)?, count)?.into_iter());
    }
    let mut ints = Vec::new();
    for bytes in columns {
        ints.push(column::ints(bytes, count)?.into_iter());
    }
    let sketches: Vec<Vec<(i64, u64)>> = match sketches.first().filter(|_| parts == Parts::All) {
        None => Vec::new(),
        Some(bytes) => postcard::from_bytes(bytes).map_err(|_| BlockError::Part("sketches"))?,
    };
    let mut sketches = sketches.iter().map(|steps| sketch(steps));
    let mut points = Vec::with_capacity(count);
    for at_ms in times {
        let mut float = floats.iter_mut().map(|column| column.next().unwrap_or(f64::NAN));
        let mut next_float = || float.next().unwrap_or(f64::NAN);
        let (min, max, sum, last) = (next_float(), next_float(), next_float(), next_float());
        let mut int = ints.iter_mut().map(|column| column.next().unwrap_or(0));
        let mut next_int = || int.next().unwrap_or(0);
        let count = next_int();
        let statuses = [next_int(), next_int(), next_int(), next_int()];
        let point = Point { at_ms, min, max, sum, last, count, statuses };
        points.push(Rolled { point, sketch: sketches.next().unwrap_or_default() });
    }
    Ok(MetricPoints { metric: packed.metric, points })
}

#[cfg(test)]
mod tests {
    use protocol::Status;

    use super::*;

    #[test]
    fn points_are_read_back() {
        let mut points = Vec::<Rolled>::new();
        for n in 0..3000u32 {
            let value = if n % 100 == 7 { f64::NAN } else { f64::from(n % 37) / 10.0 };
            let status = if n % 50 == 0 { Status::Critical } else { Status::Ok };
            let start = u64::from(n / 60) * 3_600_000;
            if points.last().is_none_or(|last| last.point.at_ms != start) {
                points.push(Rolled::new(start));
            }
            let sample = Sample { at_ms: u64::from(n) * 60_000, value, status };
            points.last_mut().unwrap().add(&sample, true);
        }
        let all: Vec<MetricPoints> = ["", "a"]
            .into_iter()
            .map(|metric| MetricPoints { metric: metric.to_owned(), points: points.clone() })
            .collect();
        let bytes = encode(&all).unwrap();
        assert_eq!(decode(&bytes, Parts::All, |_| true).unwrap(), all);
        assert_eq!(decode(&bytes, Parts::All, |name| name == "a").unwrap(), all[1..]);
        let numbers = decode(&bytes, Parts::Numbers, |_| true).unwrap();
        assert!(
            numbers[0].points.iter().zip(&points).all(|(a, b)| a.point == b.point && a.sketch.count() == 0)
        );
        for at in [0, 4, bytes.len() / 2, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad, Parts::All, |_| true), Err(BlockError::Checksum));
        }
        let twice = merged([points.clone(), points.clone()].concat());
        assert_eq!(twice.len(), points.len());
        assert_eq!(twice[3].sketch.count(), 2 * points[3].sketch.count());
        assert_eq!(twice[3].point.count, 2 * points[3].point.count);
    }
}
