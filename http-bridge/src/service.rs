use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use service_kit::Context;
use tokio::net::TcpListener;

use crate::{
    inbound::{self, App},
    settings::Settings,
};

/// Serve HTTP on both addresses until the service stops. Returns once both are listened on.
///
/// # Errors
/// When an address cannot be listened on.
pub async fn start(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let http = listen(settings.http, "--http", "DOGWATCH_HTTP").await?;
    let submit = listen(settings.submit, "--submit", "DOGWATCH_SUBMIT").await?;
    let app = Arc::new(App::new(&settings, &ctx));
    inbound::serve("http", http, inbound::everything(&app, &ctx), settings.connections, &ctx.tasks);
    inbound::serve("submit", submit, inbound::submissions(&app, &ctx), settings.connections, &ctx.tasks);
    let token = ctx.tasks.token();
    ctx.tasks.spawn("limits", async move {
        while token.run_until_cancelled(tokio::time::sleep(Duration::from_secs(10))).await.is_some() {
            app.limits.sweep();
        }
        Ok(())
    });
    tracing::info!(http = %settings.http, submit = %settings.submit, "serving HTTP");
    Ok(())
}

async fn listen(address: SocketAddr, flag: &str, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}: stop the program that uses port {}, or choose another address \
             with {flag} ({variable})",
            address.port()
        )
    })
}
