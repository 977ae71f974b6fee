//! What rules know of predictions: detectors of unusual values, which learn from each result, and forecasts and
//! comparisons, which come from ingest's history on a schedule and are only looked up here.

mod detectors;
mod forecasts;
mod foresee;
mod per_series;

use std::collections::HashSet;

use documents::Prediction;
use protocol::{AgentId, CheckName, attend};

pub use detectors::{DetectorKey, Detectors, Learned, MOST_DETECTORS};
pub use forecasts::{Answer, Forecasts, Outcome, Pace, Question};
pub use foresee::foresee;

use super::{alert::Position, evaluate::Incoming, rules::RuleBook};

/// Longest explanation in a summary, in characters.
const WHY: usize = 300;

/// What is known of all series.
#[derive(Debug, Default)]
pub struct Predictions {
    pub detectors: Detectors,
    pub forecasts: Forecasts,
}

impl Predictions {
    /// Forget what no rule asks for any more.
    pub fn keep_asked(&mut self, book: &RuleBook) {
        self.detectors.retain(|_, check, metric| {
            book.of_check(check).is_some_and(|rules| rules.detects.contains(metric))
        });
        self.forecasts.retain(|check, prediction| {
            let rules = book.of_check(check).into_iter().flat_map(|rules| &rules.rules);
            rules.flat_map(|rule| rule.predictions()).any(|asked| forecasts::slot_of(asked) == *prediction)
        });
    }

    /// Forget all that is of these hosts.
    pub fn without_hosts(&mut self, gone: &HashSet<AgentId>) {
        if !gone.is_empty() {
            self.detectors.retain(|agent, _, _| !gone.contains(agent));
            self.forecasts.without_hosts(gone);
        }
    }

    /// Take a result in whose place is after all before it.
    pub fn learn(&mut self, metrics: &[std::sync::Arc<str>], incoming: &Incoming, steady_ms: u64) {
        for metric in metrics {
            self.detectors.learn(metric, incoming, steady_ms);
        }
    }
}

/// The moment that a rule is judged at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// A result came.
    Result(Position),
    /// None came.
    Silence,
    /// Somebody asks.
    Now,
}

/// The predictions for one check of one host.
#[derive(Debug, Clone, Copy)]
pub struct Predicted<'a> {
    pub all: &'a Predictions,
    pub agent: &'a AgentId,
    pub check: &'a CheckName,
    pub moment: Moment,
    pub steady_ms: u64,
}

impl Predicted<'_> {
    /// `None`: there is no answer (yet).
    #[must_use]
    pub fn number(&self, prediction: &Prediction) -> Option<f64> {
        let Self { all, agent, check, moment, steady_ms } = *self;
        match prediction {
            Prediction::Anomaly { metric } => {
                let learned = all.detectors.get(agent, check, metric)?;
                let counts = match moment {
                    Moment::Result(position) => learned.last == position,
                    Moment::Silence => false,
                    Moment::Now => true,
                };
                counts.then(|| learned.score.calibrated())
            }
            _ => all.forecasts.number(agent, check, prediction, steady_ms),
        }
    }

    /// The same with its reason, or why there is none.
    #[must_use]
    pub fn explained(&self, prediction: &Prediction) -> attend::Predicted {
        let Self { all, agent, check, steady_ms, .. } = *self;
        let value = self.number(prediction);
        let why = match prediction {
            Prediction::Anomaly { metric } => match all.detectors.get(agent, check, metric) {
                Some(learned) if value.is_some() => learned.score.explanation.to_string(),
                Some(_) => "the result has no number to judge".to_owned(),
                None => "none yet: no number came since the rule asks for it".to_owned(),
            },
            _ => all.forecasts.why(agent, check, prediction, steady_ms),
        };
        // JSON has no infinity.
        let value = value.filter(|value| value.is_finite());
        attend::Predicted { call: prediction.to_string(), value, why }
    }

    /// What to say of `predictions` beside an alert: `anomaly() is 0.93: 97 is above all …`. Nothing without an answer.
    #[must_use]
    pub fn because<'b>(&self, predictions: impl Iterator<Item = &'b Prediction>) -> String {
        let mut text = String::new();
        for prediction in predictions {
            let Some(number) = self.number(prediction) else { continue };
            let why: String = self.explained(prediction).why.chars().take(WHY).collect();
            let value = match prediction {
                Prediction::TimeTo { .. } if number.is_infinite() => "not within 14 days".to_owned(),
                Prediction::TimeTo { .. } => format!("in {number:.1} h"),
                Prediction::Anomaly { .. } | Prediction::Outlier { .. } => format!("{number:.2}"),
                Prediction::Forecast { .. } => format!("{number:.4}"),
            };
            text.push_str(&format!("; {prediction} is {value}: {why}"));
        }
        text
    }
}
