//! Answers from values in hand, for tests of rules. Over real series ingest gives them, in the same way.

use documents::Prediction;
use predict::{
    Point,
    forecast::{Bounds, forecast},
    time_to::{Course, MAX_HORIZON_MS, Threshold, time_to},
};
use protocol::{duration::millis, predict::Limit};

use super::{Answer, Outcome, Question};

/// So much of the past counts, as for a forecast of some hours.
const RANGE_MS: u64 = 15 * 86_400_000;

/// What is predicted from these values, oldest first, of the check's own number.
pub fn foresee(question: &Question, values: &[Point]) -> Outcome {
    let Question::Series { agent, prediction, .. } = question else {
        return Err("a test has one host, and a group has more".to_owned());
    };
    if !prediction.metric().is_empty() {
        return Err("a test has values and no metrics".to_owned());
    }
    let newest_ms = values.last().map_or(0, |point| point.at_ms);
    let old = |point: &Point| point.at_ms.saturating_add(RANGE_MS) < newest_ms;
    let known = values.get(values.partition_point(old)..).unwrap_or(values);
    let answer = match prediction {
        Prediction::Forecast { after, .. } => {
            let made = forecast(known, millis(*after), Bounds::default());
            let why = made.explanation.to_string();
            let Some(last) = made.steps.last() else { return Err(why) };
            Answer { value: last.value, low: last.lower, high: last.upper, why }
        }
        Prediction::TimeTo { limit, .. } => {
            let threshold = match limit {
                Limit::Above(number) => Threshold::Above(*number),
                Limit::Below(number) => Threshold::Below(*number),
            };
            let made = time_to(known, threshold, MAX_HORIZON_MS);
            let why = made.explanation.to_string();
            if made.explanation.course == Course::Unknown {
                return Err(why);
            }
            let far = |hours: Option<f64>| hours.unwrap_or(f64::INFINITY);
            Answer { value: far(made.hours), low: far(made.earliest), high: far(made.latest), why }
        }
        Prediction::Anomaly { .. } | Prediction::Outlier { .. } => {
            return Err("it is not of one series".to_owned());
        }
    };
    Ok(vec![(agent.clone(), answer)])
}
