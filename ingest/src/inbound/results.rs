//! Results from the stream, batch by batch, to the writer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use protocol::{CheckResult, stream};
use service_kit::{
    Context, Delivery,
    consume::{self, AsyncBatchHandler, BatchLimits, ConsumerSpec, Rejected},
};

use crate::{
    core::{
        accept::{Accepted, Refused, accept},
        clock::{Clocks, Turn},
        times::Times,
    },
    counters::Counters,
    writer::{Batch, Writer},
};

/// Longer than a write may take; what is offered again before it is done is dropped as a repeat.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// Condition of readiness.
const STORE: &str = "store of results";

/// # Errors
/// When the stream or its consumer cannot be made.
pub async fn consume(ctx: &Context, limits: BatchLimits, entry: Entry) -> anyhow::Result<()> {
    let spec = ConsumerSpec {
        stream: stream::RESULTS,
        name: stream::consumer::INGEST,
        ack_wait: ACK_WAIT,
        // A batch in hand and the next ones on their way.
        max_ack_pending: i64::try_from(limits.messages).unwrap_or(i64::MAX).saturating_mul(4),
        ack_all: true,
    };
    consume::batches(ctx, spec, limits, Handler { entry, ctx: ctx.clone() }).await
}

/// What a result meets on its way in.
pub struct Entry {
    pub writer: Writer,
    pub times: Times,
    pub clocks: Arc<Mutex<Clocks>>,
    pub counters: Counters,
}

struct Handler {
    entry: Entry,
    ctx: Context,
}

impl Entry {
    fn accept(&self, delivery: &Delivery) -> Result<Accepted, Refused> {
        let accepted = accept(delivery.subject(), delivery.message_id(), delivery.payload())?;
        // Before its time is judged: a clock that is far off is the one to tell of.
        if delivery.attempt == 1 {
            self.measure(&accepted.result, delivery.published_ms);
        }
        self.times.check(accepted, delivery.published_ms)
    }

    fn measure(&self, result: &CheckResult, published_ms: u64) {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Turn { ahead_ms, wrong }) = clocks.note(result, published_ms) else { return };
        self.counters.wrong_clocks.set(i64::try_from(clocks.wrong()).unwrap_or(i64::MAX));
        let agent = &result.agent;
        if wrong {
            tracing::warn!(%agent, ahead_ms, "the clock of a host is wrong: its results lie at wrong times; set it, best by NTP");
        } else {
            tracing::info!(%agent, ahead_ms, "the clock of a host is right again");
        }
    }
}

impl AsyncBatchHandler for Handler {
    async fn handle(&mut self, batch: &[Delivery]) -> anyhow::Result<Rejected> {
        let messages = batch.iter().map(|delivery| self.entry.accept(delivery)).collect();
        let bodies = batch.iter().map(|delivery| delivery.payload().clone()).collect();
        let written = self.entry.writer.write(Batch { messages, bodies }).await;
        match &written {
            Ok(_) => self.ctx.ready.met(STORE),
            Err(error) => self.ctx.ready.unmet(STORE, service_kit::report(error)),
        }
        let rejected = written?;
        if self.ctx.name == "ingest" {
            crate::fail_point("ingest_after_write");
        }
        Ok(rejected)
    }
}
