//! Wires the parts.

use std::{sync::Arc, time::Duration};

use protocol::{duration::millis, subject};
use service_kit::{Backoff, Context, now_ms, report};
use tokio::sync::{Notify, watch};

use crate::{
    core::RuleBook,
    engine::{Engine, Shared},
    inbound::{archive, attend, clock, documents::Reader, letters, queries, results},
    metrics::Metrics,
    outbound::{
        ledger::Ledger,
        notifier::{self, DisabledReceivers, Notifier, SLOTS},
        outbox::Outbox,
        sender::Sender,
        turns::Turns,
    },
    settings::Settings,
    store::Store,
};

/// How often what is over is forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);
/// Name of the readiness condition.
const RULES: &str = "alerter rules";

/// Start the alerter. It answers questions and publishes what was left at once; results and notifications wait until
/// config-service has given rules and receivers, which the readiness says.
///
/// # Errors
/// When the data folder cannot be used, TLS cannot be set up, or the broker does not take the subscriptions.
pub async fn start(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let metrics = Metrics::register(&ctx);
    let wake = Arc::new(Notify::new());
    let (data, freshness) = (settings.data.clone(), millis(settings.freshness));
    let (counted, waking) = (metrics.clone(), Arc::clone(&wake));
    let opened = tokio::task::spawn_blocking(move || {
        let store = Arc::new(Store::open(&data)?);
        archive::finish(&store, &data)?;
        let engine = Engine::new(Arc::clone(&store), freshness, counted, waking)?;
        let disabled = DisabledReceivers::open(&store)?;
        anyhow::Ok((store, engine, disabled))
    });
    let (store, engine, disabled) = opened.await??;
    let engine = Shared::new(engine);
    let (book, receivers) = watch::channel(Arc::<RuleBook>::default());
    let notifier = Arc::new(Notifier {
        store: Arc::clone(&store),
        ledger: Ledger::start(&ctx, Arc::clone(&store)),
        book: receivers,
        sender: Sender::new(settings.receiver_networks, settings.secrets),
        metrics: metrics.clone(),
        retry_for: settings.retry_for,
        turns: Turns::new(settings.webhook_concurrency, SLOTS),
        disabled,
        wake: Arc::clone(&wake),
        stop: ctx.tasks.token(),
    });
    queries::answer(&ctx, engine.clone()).await?;
    attend::answer(&ctx, &engine).await?;
    letters::answer(&ctx, &notifier).await?;
    archive::answer(&ctx, &engine, &store, &settings.data).await?;
    let nudges = ctx.nats.subscribe(subject::CONFIG_REVISION).await?;

    let outbox = Outbox { ctx: ctx.clone(), store, wake, metrics: metrics.clone() };
    ctx.tasks.spawn("outbox", outbox.run());
    ctx.tasks.spawn("sweep", sweep(ctx.clone(), engine.clone()));
    ctx.ready.unmet(RULES, "waiting for config-service");
    let reader = Reader {
        ctx: ctx.clone(),
        engine,
        book,
        metrics,
        poll: settings.poll,
        freshness: settings.freshness,
    };
    let work = Work { reader, notifier };
    ctx.tasks.spawn("rules and hosts", work.run(nudges));
    Ok(())
}

/// What begins once the rules are known.
struct Work {
    reader: Reader,
    notifier: Arc<Notifier>,
}

impl Work {
    async fn run(self, nudges: async_nats::Subscriber) -> anyhow::Result<()> {
        let ctx = &self.reader.ctx;
        // Without rules a result would be acknowledged unjudged, without receivers a notification given up.
        if !self.until(|| self.reader.read(), "waiting for config-service").await {
            return Ok(());
        }
        let engine = &self.reader.engine;
        if !self.until(|| results::consume(ctx, engine.clone()), "cannot consume results").await {
            return Ok(());
        }
        let notify = || notifier::consume(ctx, Arc::clone(&self.notifier));
        if !self.until(notify, "cannot consume notifications").await {
            return Ok(());
        }
        ctx.ready.met(RULES);
        ctx.tasks.spawn("clock", clock::run(ctx.clone(), engine.clone()));
        self.reader.follow(nudges).await
    }

    /// Try until it succeeds; `false` when the service stops before. Meanwhile the readiness says what is missing.
    async fn until<F: Future<Output = anyhow::Result<()>>>(
        &self,
        attempt: impl Fn() -> F,
        what: &str,
    ) -> bool {
        let ctx = &self.reader.ctx;
        let token = ctx.tasks.token();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut logged = String::new();
        loop {
            let attempted = tokio::select! {
                attempted = attempt() => attempted,
                () = token.cancelled() => return false,
            };
            let Err(error) = attempted else { return true };
            let reason = report(error.as_ref());
            ctx.ready.unmet(RULES, format!("{what}: {reason}"));
            if reason != logged {
                tracing::warn!(reason, "{what}");
                logged = reason;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = token.cancelled() => return false,
            }
        }
    }
}

async fn sweep(ctx: Context, engine: Shared) -> anyhow::Result<()> {
    let token = ctx.tasks.token();
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_EVERY) => {}
            () = token.cancelled() => return Ok(()),
        }
        if let Err(error) = engine.run(|engine| engine.sweep(now_ms())).await? {
            tracing::warn!(error = report(&error), "what is over could not be forgotten");
        }
    }
}
