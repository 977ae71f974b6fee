//! Whether the broker is there, as a number: 0 while it is away, else which connection it is, from 1.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::connection::State;
use service_kit::Context;
use tokio::sync::watch;

/// The client has no other way to learn of a reconnect than to look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Follow the connection until the process ends.
#[must_use]
pub fn follow(ctx: &Context) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    let client = ctx.nats.clone();
    // Not a task of the service: while it stops, others still need to know. It ends with the last receiver.
    tokio::spawn(async move {
        let statistics = client.statistics();
        while !sender.is_closed() {
            let connected = client.connection_state() == State::Connected;
            let number = if connected { statistics.connects.load(Ordering::Relaxed).max(1) } else { 0 };
            sender.send_if_modified(|known| std::mem::replace(known, number) != number);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    receiver
}
