//! A block of roll-ups: the points of every metric of one check of one agent.

use serde::{Deserialize, Serialize};

use super::{BlockError, column, read_packed, write_packed};
use crate::store::series::Point;

/// Most points of one metric in one block.
pub const MAX_POINTS: usize = 4_096;
const FLOATS: usize = 4;
const COLUMNS: usize = 10;

/// The points of one metric, oldest first. The result's own value has the empty name.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricPoints {
    pub metric: String,
    pub points: Vec<Point>,
}

#[derive(Serialize, Deserialize)]
struct Packed {
    metric: String,
    points: u32,
    columns: Vec<Vec<u8>>,
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
            column::put_ints(&points.iter().map(of).collect::<Vec<_>>(), &mut bytes);
            bytes
        };
        let floats = |of: fn(&Point) -> f64| {
            let mut bytes = Vec::new();
            column::put_floats(&points.iter().map(of).collect::<Vec<_>>(), &mut bytes);
            bytes
        };
        let mut columns = vec![ints(&|p| p.at_ms)];
        columns.extend([floats(|p| p.min), floats(|p| p.max), floats(|p| p.sum), floats(|p| p.last)]);
        columns.push(ints(&|p| p.count));
        for status in 0..4usize {
            columns.push(ints(&|p| p.statuses.get(status).copied().unwrap_or(0)));
        }
        let points = u32::try_from(points.len()).unwrap_or(u32::MAX);
        all.push(Packed { metric: metric.clone(), points, columns });
    }
    let body = write_packed(&all)?;
    let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The points of the metrics that `keep` wants.
///
/// # Errors
/// [`BlockError`] when the bytes are not what was written.
pub fn decode(bytes: &[u8], keep: impl Fn(&str) -> bool) -> Result<Vec<MetricPoints>, BlockError> {
    let (crc, body) = bytes.split_first_chunk::<4>().ok_or(BlockError::Part("checksum"))?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
        return Err(BlockError::Checksum);
    }
    let all: Vec<Packed> = read_packed(body)?;
    all.into_iter().filter(|packed| keep(&packed.metric)).map(unpack).collect()
}

fn unpack(packed: Packed) -> Result<MetricPoints, BlockError> {
    let count = usize::try_from(packed.points).unwrap_or(usize::MAX);
    if count > MAX_POINTS || packed.columns.len() != COLUMNS {
        return Err(BlockError::Part("points"));
    }
    let mut columns = packed.columns.iter();
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
    let mut points = Vec::with_capacity(count);
    for at_ms in times {
        let mut float = floats.iter_mut().map(|column| column.next().unwrap_or(f64::NAN));
        let mut next_float = || float.next().unwrap_or(f64::NAN);
        let (min, max, sum, last) = (next_float(), next_float(), next_float(), next_float());
        let mut int = ints.iter_mut().map(|column| column.next().unwrap_or(0));
        let mut next_int = || int.next().unwrap_or(0);
        let count = next_int();
        let statuses = [next_int(), next_int(), next_int(), next_int()];
        points.push(Point { at_ms, min, max, sum, last, count, statuses });
    }
    Ok(MetricPoints { metric: packed.metric, points })
}

#[cfg(test)]
mod tests {
    use protocol::Status;

    use super::*;
    use crate::store::series::{Resolution, Sample, points};

    #[test]
    fn points_are_read_back() {
        let samples: Vec<Sample> = (0..3000u32)
            .map(|n| {
                let value = if n % 100 == 7 { f64::NAN } else { f64::from(n % 37) / 10.0 };
                let status = if n % 50 == 0 { Status::Critical } else { Status::Ok };
                Sample { at_ms: u64::from(n) * 60_000, value, status }
            })
            .collect();
        let all: Vec<MetricPoints> = ["", "a"]
            .into_iter()
            .map(|metric| MetricPoints {
                metric: metric.to_owned(),
                points: points(&samples, Resolution::FiveMinutes),
            })
            .collect();
        let bytes = encode(&all).unwrap();
        assert_eq!(decode(&bytes, |_| true).unwrap(), all);
        assert_eq!(decode(&bytes, |name| name == "a").unwrap(), all[1..]);
        for at in [0, 4, bytes.len() / 2, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad, |_| true), Err(BlockError::Checksum));
        }
    }
}
