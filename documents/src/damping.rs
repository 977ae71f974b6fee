//! What keeps an alert from coming and going: attempts, a clear condition, flap detection.

use std::{fmt::Display, str::FromStr};

use protocol::{RuleName, document::Flapping};

use crate::{
    RuleExpression,
    fields::{self, Fields, Problems},
    kinds::Read,
};

pub(crate) struct Damping {
    pub(crate) attempts: u32,
    pub(crate) clear_when: Option<String>,
    pub(crate) flapping: Option<Flapping>,
    pub(crate) depends_on: Vec<RuleName>,
}

pub(crate) fn read(fields: &mut Fields, read: &mut Read, problems: &mut Problems<'_>) -> Damping {
    let attempts = number(fields, "attempts", 1, 1_000, problems).unwrap_or(1);
    let clear_when = read.expression(fields, "clear_when", RuleExpression::compile, problems);
    let place = fields.place();
    let flapping = fields.map("flapping", "flapping", problems).and_then(|mut fields| {
        let start = number(&mut fields, "start", 1, 100, problems).unwrap_or(30);
        let stop = number(&mut fields, "stop", 0, 100, problems).unwrap_or(start.min(25));
        fields.finish(problems);
        if stop > start {
            problems.add(place, "flapping: stop is at most start");
            return None;
        }
        Some(Flapping { start, stop })
    });
    // A check has a rule of its own under its name, so these are not held against the rules that there are.
    let depends_on = fields.list("depends_on", problems).into_iter();
    let depends_on = depends_on.filter_map(|item| fields::parse("depends_on", item, problems)).collect();
    Damping { attempts, clear_when, flapping, depends_on }
}

/// `false` when absent.
pub(crate) fn truth(fields: &mut Fields, key: &'static str, problems: &mut Problems<'_>) -> bool {
    let Some((place, text)) = fields.text(key, problems) else { return false };
    text.parse().unwrap_or_else(|_| {
        problems.add(place, format!("{key}: it is true or false"));
        false
    })
}

fn number<T: FromStr + PartialOrd + Display>(
    fields: &mut Fields,
    key: &'static str,
    least: T,
    most: T,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let (place, text) = fields.text(key, problems)?;
    let number = text.parse().ok().filter(|number| (&least..=&most).contains(&number));
    if number.is_none() {
        problems.add(place, format!("{key}: it is a whole number from {least} to {most}"));
    }
    number
}
