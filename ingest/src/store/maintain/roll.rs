//! From results into roll-ups: what they tell of each metric in five minutes and in an hour.

use std::collections::BTreeMap;

use protocol::CheckResult;

use super::Writers;
use crate::store::{
    Resolution, Sample, StoreError,
    block::rollup::{MetricPoints, Rolled},
    read::push_samples,
    segment::Partition,
};

/// The points of one check, while its results come in order of time.
#[derive(Default)]
pub(super) struct Roller {
    metrics: BTreeMap<String, [Vec<Rolled>; 2]>,
    /// Of one result.
    own: Vec<Sample>,
}

/// A sketch of five minutes would mostly be larger than the results that it stands for.
pub(in crate::store) fn is_sketched(resolution: Resolution) -> bool {
    resolution == Resolution::Hour
}

impl Roller {
    pub(super) fn add(&mut self, result: &CheckResult) {
        self.own.clear();
        push_samples(result, None, &mut self.own);
        let own = self.own.pop();
        if let Some(sample) = own {
            self.add_sample("", &sample);
        }
        for metric in &result.metrics {
            // A metric without a name has no series of its own.
            if !metric.name.is_empty() {
                let sample = Sample { at_ms: result.at_ms, value: metric.value, status: result.status };
                self.add_sample(&metric.name, &sample);
            }
        }
    }

    fn add_sample(&mut self, metric: &str, sample: &Sample) {
        if !self.metrics.contains_key(metric) {
            self.metrics.insert(metric.to_owned(), Default::default());
        }
        let Some(points) = self.metrics.get_mut(metric) else { return };
        for (resolution, points) in Resolution::ALL.into_iter().zip(points) {
            add(points, resolution, sample);
        }
    }

    /// Write the points of what was added.
    pub(super) fn finish(self, series: u32, writers: &mut Writers<'_>) -> Result<(), StoreError> {
        let mut parts = BTreeMap::<Partition, Vec<MetricPoints>>::new();
        for (metric, points) in self.metrics {
            for (resolution, points) in Resolution::ALL.into_iter().zip(points) {
                for rolled in points {
                    let part = parts.entry(Partition::of_points(resolution, rolled.point.at_ms)).or_default();
                    match part.last_mut() {
                        Some(own) if own.metric == metric => own.points.push(rolled),
                        _ => part.push(MetricPoints { metric: metric.clone(), points: vec![rolled] }),
                    }
                }
            }
        }
        for (partition, metrics) in parts {
            writers.add_points(partition, series, &metrics)?;
        }
        Ok(())
    }
}

/// Count the sample, which is no older than those before.
pub(in crate::store) fn add(points: &mut Vec<Rolled>, resolution: Resolution, sample: &Sample) {
    let (start, sketched) = (resolution.start(sample.at_ms), is_sketched(resolution));
    match points.last_mut() {
        Some(last) if last.point.at_ms == start => last.add(sample, sketched),
        _ => {
            let mut rolled = Rolled::new(start);
            rolled.add(sample, sketched);
            points.push(rolled);
        }
    }
}
