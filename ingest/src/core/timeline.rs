//! In which status a check was, and from when until when.

use protocol::{Status, series::StatusRun};

use super::history::hold;
use crate::store::Sample;

/// The runs of equal status within the range, without gaps. `samples` are in order and may begin before it.
#[must_use]
pub fn runs(samples: &[Sample], (from_ms, until_ms): (u64, u64)) -> Vec<StatusRun> {
    let hold = hold(samples);
    let mut runs: Vec<StatusRun> = Vec::new();
    let mut done = from_ms;
    let ends = samples.iter().skip(1).map(|sample| sample.at_ms).chain([until_ms]);
    for (sample, next) in samples.iter().zip(ends) {
        let start = sample.at_ms.clamp(from_ms, until_ms);
        let end = next.min(sample.at_ms.saturating_add(hold)).min(until_ms);
        if end <= start {
            continue;
        }
        extend(&mut runs, None, (done, start), 0);
        let inside = u64::from(sample.at_ms >= from_ms);
        extend(&mut runs, Some(sample.status), (start, end), inside);
        done = end;
    }
    extend(&mut runs, None, (done, until_ms), 0);
    runs
}

fn extend(runs: &mut Vec<StatusRun>, status: Option<Status>, (from_ms, until_ms): (u64, u64), results: u64) {
    if until_ms <= from_ms {
        return;
    }
    match runs.last_mut() {
        Some(last) if last.status == status => {
            last.until_ms = until_ms;
            last.results = last.results.saturating_add(results);
        }
        _ => runs.push(StatusRun { status, from_ms, until_ms, results }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_verdicts_are_one_run() {
        use Status::{Critical, Ok};
        let sample = |(at_ms, status): &(u64, Status)| Sample { at_ms: *at_ms, value: 1.0, status: *status };
        let of =
            [(0, Ok), (10, Ok), (20, Critical), (30, Critical), (40, Ok), (50, Ok), (200, Ok), (210, Ok)];
        let samples: Vec<Sample> = of.iter().map(sample).collect();
        let found: Vec<_> = runs(&samples, (5, 230))
            .into_iter()
            .map(|run| (run.status, run.from_ms, run.until_ms, run.results))
            .collect();
        assert_eq!(
            found,
            [
                (Some(Ok), 5, 20, 1),
                (Some(Critical), 20, 40, 2),
                // The last one before the gap holds three times ten.
                (Some(Ok), 40, 80, 2),
                (None, 80, 200, 0),
                (Some(Ok), 200, 230, 2),
            ]
        );
        assert_eq!(runs(&[], (5, 9)).len(), 1, "a time without results is one run that was not measured");
    }
}
