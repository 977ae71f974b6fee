//! `tls`, with the talk that comes before it in some protocols.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Run,
    connect::{Connected, connect},
    handshake::handshake,
    now, said,
};
use crate::core::builtin::{
    Measured,
    net::{
        Fault, tame,
        tls::{Plan, StartTls},
    },
};

/// The longest line, in bytes, and most lines of one answer.
const LINE: usize = 4096;
const LINES: usize = 100;

pub(super) async fn probe(run: &Run<'_>, plan: &Plan) -> Result<Measured, Fault> {
    let Connected { mut stream, address, .. } = connect(run, &plan.target).await?;
    if let Some(start) = plan.start {
        run.doing(format!("asking {address} for TLS"));
        ask(&mut stream, start).await.map_err(|said| Fault::Theirs(format!("{address}: {said}")))?;
    }
    let (_stream, peer, took) = handshake(run, stream, &plan.server_name, &plan.trust, &[]).await?;
    Ok(plan.judge(&peer, took, now()))
}

async fn ask(stream: &mut TcpStream, start: StartTls) -> Result<(), String> {
    for (request, expected) in start.talk() {
        let broke = |error: std::io::Error| format!("the connection broke: {}", said(&error));
        stream.write_all(request.as_bytes()).await.map_err(broke)?;
        let mut last = String::new();
        for _ in 0..LINES {
            last = line(stream).await?;
            if start.ends(&last, expected) {
                break;
            }
        }
        if !last.starts_with(expected) {
            let asked = if request.is_empty() { "the greeting" } else { request.trim() };
            return Err(format!("to {asked} it says {:?}", tame(last.as_bytes(), 100)));
        }
    }
    Ok(())
}

/// Byte for byte, so that nothing behind the last line is taken from TLS.
async fn line(stream: &mut TcpStream) -> Result<String, String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => return Ok(String::from_utf8_lossy(&line).into_owned()),
            Ok(byte) if line.len() < LINE => line.push(byte),
            Ok(_) => return Err("it says a line without end".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err("it closed the connection before TLS began".to_owned());
            }
            Err(error) => return Err(format!("the connection broke: {}", said(&error))),
        }
    }
}
