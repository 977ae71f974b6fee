//! Whether the broker is there, as a number: 0 while it is away, else which connection it is, from 1.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::connection::State;
use service_kit::Context;
use tokio::sync::watch;

/// The client tells of its connection by events, which it drops when there are many: look now and then as well.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// While it is there: its loss is noticed by whoever sends, too.
const CONNECTED_LOOK_EVERY: Duration = Duration::from_secs(30);
/// It tells a moment before its state changes.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Follow the connection until the process ends.
#[must_use]
pub fn follow(ctx: &Context) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    let (client, ready) = (ctx.nats.clone(), ctx.ready.clone());
    // Not a task of the service: while it stops, others still need to know. It ends with the last receiver.
    tokio::spawn(async move {
        let (statistics, mut told) = (client.statistics(), ready.follow());
        let mut wait = LOOK_AGAIN;
        loop {
            let connected = client.connection_state() == State::Connected;
            let number = if connected { statistics.connects.load(Ordering::Relaxed).max(1) } else { 0 };
            sender.send_if_modified(|known| std::mem::replace(known, number) != number);
            tokio::select! {
                () = sender.closed() => return,
                // An error would mean that `ready` is gone, which this task holds.
                _ = told.changed() => wait = LOOK_AGAIN,
                () = tokio::time::sleep(wait) => wait = if connected { CONNECTED_LOOK_EVERY } else { LOOK_EVERY },
            }
        }
    });
    receiver
}
