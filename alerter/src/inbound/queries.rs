//! Answers to `dogwatch.v1.query.alerts`.

use protocol::{
    ErrorCode, ErrorReply,
    query::{AlertList, AlertQuery},
    subject,
};
use service_kit::{Context, report, respond};

use crate::engine::Shared;

/// # Errors
/// When the subscription cannot be made.
pub async fn answer(ctx: &Context, engine: Shared) -> anyhow::Result<()> {
    let handler = move |_, query: AlertQuery| {
        let engine = engine.clone();
        async move {
            let listed = engine.run(move |engine| engine.list(&query)).await;
            match listed {
                Ok(Ok(alerts)) => Ok(AlertList { alerts }),
                Ok(Err(error)) => Err(ErrorReply::new(ErrorCode::Unavailable, report(&error))),
                Err(error) => Err(ErrorReply::new(ErrorCode::Internal, report(error.as_ref()))),
            }
        }
    };
    respond::respond(ctx, subject::QUERY_ALERTS, respond::Limits::default(), handler).await
}
