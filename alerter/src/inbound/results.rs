//! Results from stream RESULTS, in order, acknowledged after what follows from them is durable (G2).

use std::time::Duration;

use protocol::{CheckResult, limits, stream, subject};
use service_kit::{
    Context, Delivery,
    consume::{self, AsyncBatchHandler, BatchLimits, ConsumerSpec, Rejected},
    now_ms, report,
};

use super::documents::fetch_hosts;
use crate::{core::Incoming, engine::Shared};

/// Name of the readiness condition.
const STORE: &str = "alerter store";

/// # Errors
/// When the stream or the consumer cannot be made.
pub async fn consume(ctx: &Context, engine: Shared) -> anyhow::Result<()> {
    let spec = ConsumerSpec {
        stream: stream::RESULTS,
        name: stream::consumer::ALERTER,
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 5_000,
        ack_all: true,
    };
    let limits = BatchLimits { messages: 1_000, bytes: 8 * 1024 * 1024 };
    let handler = Handler { ctx: ctx.clone(), engine };
    consume::batches(ctx, spec, limits, handler).await
}

struct Handler {
    ctx: Context,
    engine: Shared,
}

impl AsyncBatchHandler for Handler {
    async fn handle(&mut self, batch: &[Delivery]) -> anyhow::Result<Rejected> {
        let mut rejected = Rejected::new();
        let mut results = Vec::with_capacity(batch.len());
        for (index, delivery) in batch.iter().enumerate() {
            match read(delivery.subject(), delivery.payload()) {
                Ok(result) => results.push(Incoming {
                    result,
                    published_ms: delivery.published_ms,
                    stream: delivery.sequence,
                }),
                Err(reason) => {
                    rejected.insert(index, reason);
                }
            }
        }
        let (results, unknown) = self
            .engine
            .run(move |engine| {
                let unknown = engine.unknown_hosts(&results, now_ms());
                (results, unknown)
            })
            .await?;
        let hosts = fetch_hosts(&self.ctx.nats, unknown).await;
        let evaluated = self
            .engine
            .run(move |engine| {
                engine.add_hosts(hosts);
                engine.evaluate(&results, now_ms())
            })
            .await?;
        match &evaluated {
            Ok(()) => self.ctx.ready.met(STORE),
            Err(error) => self.ctx.ready.unmet(STORE, report(error)),
        }
        evaluated?;
        Ok(rejected)
    }
}

/// The broker enforces who may publish on a subject, so a body that names another agent or check is a lie.
fn read(subject: &str, payload: &[u8]) -> Result<CheckResult, String> {
    let (agent, check) =
        subject::result_parts(subject).ok_or_else(|| format!("{subject:?} names no agent and check"))?;
    let result: CheckResult = protocol::decode(payload, limits::RESULT).map_err(|error| error.to_string())?;
    if result.agent != agent || result.check != check {
        return Err(format!(
            "the body is a result of {}/{}, the subject is that of {agent}/{check}",
            result.agent, result.check
        ));
    }
    if result.metrics.len() > limits::METRICS {
        return Err(format!("{} metrics, more than the {} allowed", result.metrics.len(), limits::METRICS));
    }
    Ok(result)
}
