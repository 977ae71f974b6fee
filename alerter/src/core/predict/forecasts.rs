//! Forecasts, times to a limit and outlier hosts: asked of ingest on a schedule, looked up when a rule is judged.
//!
//! A question is asked from the first result on whose rule needs it, then again in each interval, spread over it. An
//! answer that is too old is none. All times are a steady clock's.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use documents::{Edge, Prediction};
use protocol::{AgentId, CheckName, GroupName, duration};

use super::per_series::PerSeries;

/// A question that no result asked for this long is not asked any more: as long as a series is remembered.
const WANTED_FOR_MS: u64 = 2 * 86_400_000;
/// A question without an answer is asked again after this time, or the interval where that is shorter.
const AGAIN_MS: u64 = 30_000;
/// Longest reason that is kept, in characters.
const REASON: usize = 400;

/// How often, how long and how many.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Each question is asked anew so often.
    pub every_ms: u64,
    /// Older answers are none.
    pub max_age_ms: u64,
    /// Most questions.
    pub most: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every_ms: 600_000, max_age_ms: 3_600_000, most: 20_000 }
    }
}

/// What ingest is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    Series { agent: AgentId, check: CheckName, prediction: Prediction },
    Group { group: GroupName, check: CheckName, metric: Arc<str> },
}

/// What was predicted: a value (hours to a limit, a score of a host) with its band, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub why: String,
}

/// What became of a question: answers by host, one for a series; or why there is none.
pub type Outcome = Result<Vec<(AgentId, Answer)>, String>;

/// When a question is asked, and what came of it.
#[derive(Debug)]
struct Slot {
    wanted_ms: u64,
    due_ms: u64,
    asked: bool,
    made_ms: u64,
    failed: Option<String>,
}

impl Slot {
    fn new(now_ms: u64) -> Self {
        Self { wanted_ms: now_ms, due_ms: now_ms, asked: false, made_ms: 0, failed: None }
    }
}

#[derive(Debug)]
struct OfSeries {
    prediction: Prediction,
    slot: Slot,
    answer: Option<Answer>,
}

#[derive(Debug)]
struct OfGroup {
    check: CheckName,
    group: GroupName,
    metric: Arc<str>,
    slot: Slot,
    answers: HashMap<AgentId, Answer>,
}

/// A question that is to be asked.
enum Due<'a> {
    Series(&'a AgentId, &'a CheckName, &'a OfSeries),
    Group(&'a OfGroup),
}

impl Due<'_> {
    fn question(&self) -> Question {
        match *self {
            Self::Series(agent, check, one) => Question::Series {
                agent: agent.clone(),
                check: check.clone(),
                prediction: one.prediction.clone(),
            },
            Self::Group(one) => Question::Group {
                group: one.group.clone(),
                check: one.check.clone(),
                metric: Arc::clone(&one.metric),
            },
        }
    }
}

/// All questions with their answers.
#[derive(Debug, Default)]
pub struct Forecasts {
    series: PerSeries<OfSeries>,
    groups: Vec<OfGroup>,
    pace: Pace,
    /// Questions refused since this was last asked, there being too many.
    refused: u64,
}

/// The three lines of a forecast are one question.
pub(super) fn slot_of(prediction: &Prediction) -> Prediction {
    match prediction.clone() {
        Prediction::Forecast { after, metric, .. } => {
            Prediction::Forecast { after, edge: Edge::Expected, metric }
        }
        other => other,
    }
}

fn same(slot: &Prediction, asked: &Prediction) -> bool {
    match (slot, asked) {
        (
            Prediction::Forecast { after, metric, .. },
            Prediction::Forecast { after: of, metric: named, .. },
        ) => after == of && metric == named,
        (slot, asked) => slot == asked,
    }
}

impl Forecasts {
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, ..Self::default() }
    }

    /// Number of questions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len() + self.groups.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A rule of this series asks.
    pub fn want(&mut self, agent: &AgentId, check: &CheckName, prediction: &Prediction, now_ms: u64) {
        let full = self.len() >= self.pace.most;
        match prediction {
            Prediction::Anomaly { .. } => return,
            Prediction::Outlier { group, metric } => {
                let mut groups = self.groups.iter_mut();
                let known =
                    groups.find(|one| one.check == *check && one.group == *group && one.metric == *metric);
                if let Some(known) = known {
                    known.slot.wanted_ms = now_ms;
                    return;
                }
                if !full {
                    let (check, group) = (check.clone(), group.clone());
                    let (metric, slot) = (Arc::clone(metric), Slot::new(now_ms));
                    self.groups.push(OfGroup { check, group, metric, slot, answers: HashMap::new() });
                    return;
                }
            }
            Prediction::Forecast { .. } | Prediction::TimeTo { .. } => {
                let known = self.series.of_mut(agent, check).find(|one| same(&one.prediction, prediction));
                if let Some(known) = known {
                    known.slot.wanted_ms = now_ms;
                    return;
                }
                if !full {
                    let prediction = slot_of(prediction);
                    let one = OfSeries { prediction, slot: Slot::new(now_ms), answer: None };
                    self.series.add(agent, check, one);
                    return;
                }
            }
        }
        self.refused += 1;
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&CheckName, &Prediction) -> bool) {
        self.series.retain(|_, check, one| keep(check, &one.prediction));
        self.groups.retain(|one| {
            let (group, metric) = (one.group.clone(), Arc::clone(&one.metric));
            keep(&one.check, &Prediction::Outlier { group, metric })
        });
    }

    pub(super) fn without_hosts(&mut self, gone: &HashSet<AgentId>) {
        self.series.retain(|agent, _, _| !gone.contains(agent));
    }

    /// At most `limit` questions that are due, longest first. They are under way from now on.
    pub fn due(&mut self, now_ms: u64, limit: usize) -> Vec<Question> {
        let unwanted = |slot: &Slot| slot.wanted_ms.saturating_add(WANTED_FOR_MS) < now_ms;
        if self.series.all().any(|(.., one)| unwanted(&one.slot)) {
            self.series.retain(|_, _, one| !unwanted(&one.slot));
        }
        self.groups.retain(|one| !unwanted(&one.slot));
        // References first: there may be many, and few are taken.
        let series = self.series.all().filter(|(.., one)| one.slot.due_ms <= now_ms);
        let series = series.map(|(agent, check, one)| (one.slot.due_ms, Due::Series(agent, check, one)));
        let groups = self.groups.iter().filter(|one| one.slot.due_ms <= now_ms);
        let mut due: Vec<_> = series.chain(groups.map(|one| (one.slot.due_ms, Due::Group(one)))).collect();
        due.sort_by_key(|(due_ms, _)| *due_ms);
        due.truncate(limit);
        let due: Vec<Question> = due.into_iter().map(|(_, due)| due.question()).collect();
        let again = now_ms.saturating_add(self.pace.every_ms);
        for question in &due {
            if let Some(slot) = self.slot(question) {
                slot.due_ms = again;
            }
        }
        due
    }

    fn slot(&mut self, question: &Question) -> Option<&mut Slot> {
        match question {
            Question::Series { agent, check, prediction } => {
                let mut of = self.series.of_mut(agent, check);
                of.find(|one| same(&one.prediction, prediction)).map(|one| &mut one.slot)
            }
            Question::Group { group, check, metric } => {
                let mut groups = self.groups.iter_mut();
                let one =
                    groups.find(|one| one.check == *check && one.group == *group && one.metric == *metric);
                one.map(|one| &mut one.slot)
            }
        }
    }

    /// What came of a question. One that nobody asks any more is left out.
    pub fn answered(&mut self, question: &Question, outcome: Outcome, now_ms: u64) {
        let Pace { every_ms, .. } = self.pace;
        let Some(slot) = self.slot(question) else { return };
        match outcome {
            Err(reason) => {
                slot.failed = Some(reason.chars().take(REASON).collect());
                slot.due_ms = now_ms.saturating_add(AGAIN_MS.min(every_ms));
            }
            Ok(answers) => {
                // The first round is spread over half of the interval; from then on each keeps its place.
                let wait = if slot.asked { every_ms } else { every_ms / 2 + spread(question, every_ms / 2) };
                (slot.asked, slot.failed) = (true, None);
                (slot.made_ms, slot.due_ms) = (now_ms, now_ms.saturating_add(wait));
                self.keep(question, answers);
            }
        }
    }

    fn keep(&mut self, question: &Question, answers: Vec<(AgentId, Answer)>) {
        match question {
            Question::Series { agent, check, prediction } => {
                let mut of = self.series.of_mut(agent, check);
                if let Some(one) = of.find(|one| same(&one.prediction, prediction)) {
                    one.answer = answers.into_iter().next().map(|(_, answer)| answer);
                }
            }
            Question::Group { group, check, metric } => {
                let mut groups = self.groups.iter_mut();
                let one =
                    groups.find(|one| one.check == *check && one.group == *group && one.metric == *metric);
                if let Some(one) = one {
                    one.answers = answers.into_iter().collect();
                }
            }
        }
    }

    fn find(
        &self,
        agent: &AgentId,
        check: &CheckName,
        prediction: &Prediction,
    ) -> Option<(&Slot, Option<&Answer>)> {
        match prediction {
            Prediction::Outlier { group, metric } => {
                let mut groups = self.groups.iter();
                let one =
                    groups.find(|one| one.check == *check && one.group == *group && one.metric == *metric)?;
                Some((&one.slot, one.answers.get(agent)))
            }
            _ => {
                let mut of = self.series.of(agent, check);
                of.find(|one| same(&one.prediction, prediction)).map(|one| (&one.slot, one.answer.as_ref()))
            }
        }
    }

    /// `None`: there is no answer, or none that is young enough.
    #[must_use]
    pub fn number(
        &self,
        agent: &AgentId,
        check: &CheckName,
        prediction: &Prediction,
        now_ms: u64,
    ) -> Option<f64> {
        let (slot, answer) = self.find(agent, check, prediction)?;
        let answer = answer?;
        let age_ms = now_ms.saturating_sub(slot.made_ms);
        if age_ms > self.pace.max_age_ms {
            return None;
        }
        Some(match prediction {
            Prediction::Forecast { edge: Edge::Low, .. } => answer.low,
            Prediction::Forecast { edge: Edge::High, .. } => answer.high,
            // Time passes on the way there.
            Prediction::TimeTo { .. } => (answer.value - hours(age_ms)).max(0.0),
            _ => answer.value,
        })
    }

    /// Why the number is as it is, or why there is none.
    #[must_use]
    pub fn why(&self, agent: &AgentId, check: &CheckName, prediction: &Prediction, now_ms: u64) -> String {
        let Some((slot, answer)) = self.find(agent, check, prediction) else {
            return "none yet: no result came since the rule asks for it".to_owned();
        };
        let failed = slot.failed.as_deref();
        let age_ms = now_ms.saturating_sub(slot.made_ms);
        let ago = || duration::format(Duration::from_secs(age_ms / 1_000));
        match (answer, failed) {
            (Some(answer), _) if age_ms <= self.pace.max_age_ms => {
                let Answer { low, high, why, .. } = answer;
                match prediction {
                    Prediction::Forecast { .. } => {
                        format!("between {low:.4} and {high:.4}, made {} ago: {why}", ago())
                    }
                    _ => format!("{why}; {} ago", ago()),
                }
            }
            (Some(_), Some(reason)) => format!("the last is {} old, too old; since then: {reason}", ago()),
            (Some(_), None) => format!("the last is {} old, too old", ago()),
            (None, Some(reason)) => format!("none yet: {reason}"),
            (None, None) if slot.asked => "none: it is not among the hosts that are compared".to_owned(),
            (None, None) => "none yet: it is being made".to_owned(),
        }
    }

    /// Questions refused since this was last asked.
    pub fn refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

fn hours(ms: u64) -> f64 {
    ms as f64 / 3_600_000.0
}

/// The same for the same question, anywhere below `over_ms`.
fn spread(question: &Question, over_ms: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    match question {
        Question::Series { agent, check, prediction } => {
            (agent, check, prediction.to_string()).hash(&mut hasher);
        }
        Question::Group { group, check, metric } => (group, check, metric).hash(&mut hasher),
    }
    hasher.finish() % over_ms.max(1)
}
