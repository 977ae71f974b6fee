//! Results from the stream, batch by batch, to the writer.

use std::time::Duration;

use protocol::stream;
use service_kit::{
    Context, Delivery,
    consume::{self, AsyncBatchHandler, BatchLimits, ConsumerSpec, Rejected},
};

use crate::{
    core::accept::accept,
    writer::{Batch, Writer},
};

/// Longer than a write may take; what is offered again before it is done is dropped as a repeat.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// Condition of readiness.
const STORE: &str = "store of results";

/// # Errors
/// When the stream or its consumer cannot be made.
pub async fn consume(ctx: &Context, limits: BatchLimits, writer: Writer) -> anyhow::Result<()> {
    let spec = ConsumerSpec {
        stream: stream::RESULTS,
        name: stream::consumer::INGEST,
        ack_wait: ACK_WAIT,
        // A batch in hand and the next ones on their way.
        max_ack_pending: i64::try_from(limits.messages).unwrap_or(i64::MAX).saturating_mul(4),
        ack_all: true,
    };
    consume::batches(ctx, spec, limits, Handler { writer, ctx: ctx.clone() }).await
}

struct Handler {
    writer: Writer,
    ctx: Context,
}

impl AsyncBatchHandler for Handler {
    async fn handle(&mut self, batch: &[Delivery]) -> anyhow::Result<Rejected> {
        let accept =
            |delivery: &Delivery| accept(delivery.subject(), delivery.message_id(), delivery.payload());
        let messages = batch.iter().map(accept).collect();
        let bodies = batch.iter().map(|delivery| delivery.payload().clone()).collect();
        let written = self.writer.write(Batch { messages, bodies }).await;
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
