//! `tcp`.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{
    Run,
    connect::{Connected, Stream, connect},
    handshake::handshake,
    said,
};
use crate::core::builtin::{
    Measured,
    net::{
        Fault,
        tcp::{ANSWER, Plan, Seen},
    },
};

/// After such a pause, what came so far is looked at.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn probe(run: &Run<'_>, plan: &Plan) -> Result<Measured, Fault> {
    let Connected { stream, address, connect, .. } = connect(run, &plan.target).await?;
    let mut seen = Seen { connect, ..Seen::default() };
    let mut stream: Box<dyn Stream> = match &plan.tls {
        None => Box::new(stream),
        Some((name, trust)) => {
            let (stream, peer, took) = handshake(run, stream, name, trust, &[]).await?;
            let refused = peer.trouble.is_some() && trust.verify;
            seen.tls = Some((peer, took));
            if refused {
                return Ok(plan.judge(&seen));
            }
            Box::new(stream)
        }
    };
    run.doing(format!("waiting for what {address} says"));
    let sent = Instant::now();
    let sending = async {
        stream.write_all(&plan.send).await?;
        stream.flush().await
    };
    let sending = if plan.send.is_empty() { Ok(()) } else { sending.await };
    if plan.expect.is_some() {
        listen(run, plan, &mut stream, sent, &mut seen).await?;
    } else if let Err(error) = sending {
        return Err(Fault::Theirs(format!("cannot send to {address}: {}", said(&error))));
    }
    Ok(plan.judge(&seen))
}

/// Until the expected text came, or nothing more will.
async fn listen(
    run: &Run<'_>,
    plan: &Plan,
    stream: &mut Box<dyn Stream>,
    sent: Instant,
    seen: &mut Seen,
) -> Result<(), Fault> {
    let mut buffer = vec![0; 8 * 1024];
    // Matching is done anew from the start: not for each byte of a server that sends single ones.
    let (mut arrived, mut looked_at, mut look_from) = (sent, 0, 1);
    loop {
        let fresh = seen.answer.len() > looked_at;
        let limit = if fresh { PAUSE } else { run.left() * 2 };
        let read = timeout(limit, stream.read(&mut buffer)).await;
        let over = match read {
            Err(_) => false,
            Ok(Ok(0) | Err(_)) => true,
            Ok(Ok(length)) => {
                arrived = Instant::now();
                let room = ANSWER.saturating_sub(seen.answer.len());
                seen.answer.extend_from_slice(buffer.get(..length.min(room)).unwrap_or_default());
                if seen.answer.len() < look_from {
                    continue;
                }
                length >= room
            }
        };
        let expect = plan.expect.clone();
        let text = String::from_utf8_lossy(&seen.answer).into_owned();
        looked_at = seen.answer.len();
        look_from = looked_at * 2;
        if run.blocking(move || expect.is_some_and(|expect| expect.is_match(&text))).await? {
            seen.response = Some(arrived.saturating_duration_since(sent));
            return Ok(());
        }
        if over {
            return Ok(());
        }
    }
}
