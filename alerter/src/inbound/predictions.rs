//! What ingest predicts from its history, and what detectors learned: asked and saved now and then, beside the results.

use std::{collections::HashMap, time::Duration};

use documents::Prediction as Asked;
use futures_util::future::join_all;
use protocol::{
    AgentId,
    duration::millis,
    predict::{OutlierList, OutlierQuery, PredictQuery, Prediction},
    subject,
};
use service_kit::{Context, report, request};
use tokio::time::Instant;

use crate::{
    core::predict::{Answer, Outcome, Question},
    engine::Shared,
};

/// How often is looked whether something is due.
const EVERY: Duration = Duration::from_secs(1);
/// A lane rests for so many times as long as an answer took: it takes a quarter of a core at most.
const REST: u32 = 3;
/// Rest of a lane when nobody answers.
const AWAY: Duration = Duration::from_secs(1);
/// How long an answer may take: a large group takes a while to read.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Ask ingest what is due, `at_once` questions at a time, until the service stops.
pub async fn ask(ctx: Context, engine: Shared, at_once: usize) -> anyhow::Result<()> {
    let token = ctx.tasks.token();
    loop {
        let due = engine.run(move |engine| engine.questions(at_once)).await?;
        let idle = due.is_empty();
        let lanes = join_all(due.into_iter().map(|question| lane(&ctx, &engine, question)));
        tokio::select! {
            done = lanes => done.into_iter().collect::<anyhow::Result<()>>()?,
            () = token.cancelled() => return Ok(()),
        }
        if idle {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = token.cancelled() => return Ok(()),
            }
        }
    }
}

async fn lane(ctx: &Context, engine: &Shared, question: Question) -> anyhow::Result<()> {
    let began = Instant::now();
    let (outcome, away) = answer(ctx, engine, &question).await?;
    let rest = if away { AWAY } else { began.elapsed() * REST };
    engine.run(move |engine| engine.answered(&question, outcome)).await?;
    tokio::time::sleep(rest).await;
    Ok(())
}

/// The outcome, and whether nobody was there to ask.
async fn answer(ctx: &Context, engine: &Shared, question: &Question) -> anyhow::Result<(Outcome, bool)> {
    let client = &ctx.nats;
    match question {
        Question::Series { agent, check, prediction } => {
            let (horizon_ms, limit) = match prediction {
                Asked::Forecast { after, .. } => (millis(*after), None),
                Asked::TimeTo { limit, .. } => (0, Some(*limit)),
                Asked::Anomaly { .. } | Asked::Outlier { .. } => {
                    return Ok((Err("it is not of one series".to_owned()), false));
                }
            };
            let metric = prediction.metric().to_string();
            let (agent, check) = (agent.clone(), check.clone());
            let query = PredictQuery { agent, check, metric, horizon_ms, limit, history_ms: 0 };
            let asked = request::request(client, subject::QUERY_PREDICT, &query, TIMEOUT).await;
            Ok(match asked {
                Ok(prediction) => (of_series(query.agent, prediction), false),
                Err(error) => (Err(report(&error)), true),
            })
        }
        Question::Group { group, check, metric } => {
            let (of, named) = (group.clone(), check.clone());
            let agents = engine.run(move |engine| engine.members(&of, &named)).await?;
            if agents.is_empty() {
                return Ok((Err(format!("no host of group {group} has the check")), false));
            }
            let query = OutlierQuery { agents, check: check.clone(), metric: metric.to_string(), over_ms: 0 };
            let asked = request::request(client, subject::QUERY_OUTLIERS, &query, TIMEOUT).await;
            Ok(match asked {
                Ok(list) => (Ok(of_group(list)), false),
                Err(error) => (Err(report(&error)), true),
            })
        }
    }
}

fn of_series(agent: AgentId, prediction: Prediction) -> Outcome {
    if let Some(time_to) = prediction.time_to {
        if time_to.unknown {
            return Err(time_to.why);
        }
        let far = |hours: Option<f64>| hours.unwrap_or(f64::INFINITY);
        let value = far(time_to.hours);
        let (low, high) = (far(time_to.earliest), far(time_to.latest));
        return Ok(vec![(agent, Answer { value, low, high, why: time_to.why })]);
    }
    let Some(forecast) = prediction.forecast else { return Err("the answer holds no forecast".to_owned()) };
    let Some(last) = forecast.steps.last() else { return Err(forecast.why) };
    let answer = Answer { value: last.value, low: last.lower, high: last.upper, why: forecast.why };
    Ok(vec![(agent, answer)])
}

fn of_group(list: OutlierList) -> Vec<(AgentId, Answer)> {
    let answers = list.hosts.into_iter().map(|host| {
        let why = match host.way {
            Some(way) => format!("{way}: {}", host.why),
            None => host.why,
        };
        (host.agent, Answer { value: host.score, low: host.score, high: host.score, why })
    });
    answers.collect::<HashMap<_, _>>().into_iter().collect()
}

/// Save what detectors learned, bit by bit, and the rest when the service stops.
pub async fn save(ctx: Context, engine: Shared) -> anyhow::Result<()> {
    let token = ctx.tasks.token();
    let mut failed = false;
    loop {
        let last = tokio::select! {
            () = tokio::time::sleep(EVERY) => false,
            () = token.cancelled() => true,
        };
        let saved = engine.run(move |engine| engine.save_detectors(last)).await?;
        match saved {
            Ok(true) if last => continue,
            Ok(_) => failed = false,
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(error = report(&error), "what detectors learned cannot be saved");
                }
            }
        }
        if last {
            return Ok(());
        }
    }
}
