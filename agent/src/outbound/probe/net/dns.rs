//! `dns`, over UDP, and over TCP for what is too long.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout},
};

use super::{Run, said};
use crate::core::builtin::{
    Measured,
    net::{
        Fault,
        dns::{Answer, Plan, Reply, system_server},
    },
};

/// How often the question is asked; packets get lost.
const TRIES: u32 = 3;
/// The longest wait for an answer before it is asked again.
const AGAIN: Duration = Duration::from_secs(3);

pub(super) async fn probe(run: &Run<'_>, plan: &Plan) -> Result<Measured, Fault> {
    let (address, port) = match plan.server {
        Some(server) => server,
        None => {
            let conf = run.file("/etc/resolv.conf").await?;
            system_server(&String::from_utf8_lossy(&conf))
        }
    };
    let server = SocketAddr::new(address, port);
    let shown = if port == 53 { address.to_string() } else { server.to_string() };
    run.doing(format!("waiting for the answer of {shown}"));
    let started = Instant::now();
    let answer = match over_udp(run, plan, server, &shown).await? {
        Some(answer) => answer,
        None => over_tcp(plan, server, &shown).await?,
    };
    Ok(plan.judge(&answer, &shown, started.elapsed()))
}

/// `None` when the answer was cut.
async fn over_udp(
    run: &Run<'_>,
    plan: &Plan,
    server: SocketAddr,
    shown: &str,
) -> Result<Option<Answer>, Fault> {
    let failed = |error: io::Error| Fault::Theirs(format!("cannot ask {shown}: {}", said(&error)));
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    // From now on only this server is heard, and that nothing listens there is told.
    socket.connect(server).await.map_err(failed)?;
    let (mut buffer, mut foreign) = (vec![0; 65_536], 0_u64);
    for left in (1..=TRIES).rev() {
        let id = rand::random();
        let question =
            plan.question(id).ok_or_else(|| Fault::Ours("the name cannot be asked for".to_owned()))?;
        socket.send(&question).await.map_err(failed)?;
        // The last wait ends before the check does, so that there is time to say what happened.
        let wait = (run.left() * 9 / 10 / left).min(AGAIN);
        let asked = Instant::now();
        while let Ok(received) = timeout(wait.saturating_sub(asked.elapsed()), socket.recv(&mut buffer)).await
        {
            let length = received.map_err(failed)?;
            match plan.understand(id, buffer.get(..length).unwrap_or_default()) {
                Reply::Answer(answer) => return Ok(Some(answer)),
                Reply::Truncated => return Ok(None),
                Reply::Garbage => return Err(garbage(shown)),
                Reply::Foreign => foreign += 1,
            }
        }
    }
    let foreign = if foreign == 0 {
        String::new()
    } else {
        format!(", but {foreign} packets that answer something else")
    };
    Err(Fault::Theirs(format!("no answer from {shown} to {TRIES} questions{foreign}")))
}

async fn over_tcp(plan: &Plan, server: SocketAddr, shown: &str) -> Result<Answer, Fault> {
    let failed = |error: io::Error| Fault::Theirs(format!("cannot ask {shown} over TCP: {}", said(&error)));
    let mut stream = TcpStream::connect(server).await.map_err(failed)?;
    let id = rand::random();
    let question = plan.question(id).ok_or_else(|| Fault::Ours("the name cannot be asked for".to_owned()))?;
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).await.map_err(failed)?;
    let mut reply = vec![0; usize::from(stream.read_u16().await.map_err(failed)?)];
    stream.read_exact(&mut reply).await.map_err(failed)?;
    match plan.understand(id, &reply) {
        Reply::Answer(answer) => Ok(answer),
        Reply::Truncated | Reply::Garbage | Reply::Foreign => Err(garbage(shown)),
    }
}

fn garbage(shown: &str) -> Fault {
    Fault::Theirs(format!("the answer of {shown} cannot be understood"))
}
