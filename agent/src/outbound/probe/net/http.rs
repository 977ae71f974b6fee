//! `http`, over one connection for each request.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::{
    Run,
    connect::{Connected, Stream, connect},
    handshake::handshake,
    now, said,
};
use crate::core::builtin::{
    Measured,
    net::{
        Fault, Peer,
        http::{Page, Phases, Plan, Request, show},
        http_body::{Content, Head},
    },
};

pub(super) async fn probe(run: &Run<'_>, plan: &Plan) -> Result<Measured, Fault> {
    let credentials = match &plan.auth_file {
        Some(path) => Some(credentials(run, path).await?),
        None => None,
    };
    let started = Instant::now();
    let mut asked = vec![plan.first.clone()];
    while let Some(request) = asked.last() {
        let credentials = credentials.as_deref().filter(|_| request.trusted);
        let mut answer = ask(run, plan, request, credentials).await?;
        let next = plan.follow(&asked, answer.head.status, answer.head.location.as_deref());
        if let Some(next) = next.map_err(Fault::Theirs)? {
            asked.push(next);
            continue;
        }
        run.doing(format!("reading the content of {}", show(&request.url)));
        let content = answer.content().await?;
        let total = started.elapsed();
        let (size, cut) = (content.bytes.len(), content.cut);
        let looking = plan.clone();
        let wrong = run.blocking(move || looking.misses(&content.bytes)).await?;
        let page = Page {
            status: answer.head.status,
            size,
            cut,
            redirects: u16::try_from(asked.len().saturating_sub(1)).unwrap_or(u16::MAX),
            peer: answer.peer,
            phases: Phases { total, ..answer.phases },
            wrong,
        };
        return Ok(plan.judge(&page, &request.url, now()));
    }
    Err(Fault::Ours("there is nothing to ask for".to_owned()))
}

async fn credentials(run: &Run<'_>, path: &str) -> Result<String, Fault> {
    let bytes = run.file(path).await?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default().trim();
    if line.len() > 1024 || !line.contains(':') || line.contains(char::is_control) {
        return Err(Fault::Ours(format!("the first line of {path} is not user:password")));
    }
    Ok(line.to_owned())
}

/// An answer, of which the head was read.
struct Answer {
    stream: Box<dyn Stream>,
    head: Head,
    /// The first bytes of the content.
    begun: Vec<u8>,
    peer: Option<Peer>,
    phases: Phases,
}

async fn ask(
    run: &Run<'_>,
    plan: &Plan,
    request: &Request,
    credentials: Option<&str>,
) -> Result<Answer, Fault> {
    let target = request.target(plan.family);
    let Connected { stream, dns, connect, .. } = connect(run, &target).await?;
    let mut phases = Phases { dns, connect, ..Phases::default() };
    let (mut stream, peer): (Box<dyn Stream>, _) = if request.is_tls() {
        let (stream, peer, took) = handshake(run, stream, &target.host, &plan.trust, &[b"http/1.1"]).await?;
        phases.tls = Some(took);
        if let Some(trouble) = peer.trouble.as_ref().filter(|_| plan.trust.verify) {
            // Nothing is sent to a server that may be another one.
            let expiry =
                peer.leaf.as_ref().map_or_else(String::new, |leaf| format!(" (it {})", leaf.expiry(now())));
            return Err(Fault::Theirs(format!("{}: {trouble}{expiry}", show(&request.url))));
        }
        (Box::new(stream), Some(peer))
    } else {
        (Box::new(stream), None)
    };
    run.doing(format!("waiting for the answer of {}", show(&request.url)));
    let sent = Instant::now();
    // A server may answer and close before it has read everything: what it said is looked at first.
    let sending = send(&mut stream, &request.bytes(credentials)).await;
    let failed = |said: String| Fault::Theirs(format!("{}: {said}", show(&request.url)));
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        let length = match stream.read(&mut buffer).await {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            Err(error) => {
                return Err(failed(format!(
                    "the connection broke: {}",
                    said(sending.as_ref().err().unwrap_or(&error))
                )));
            }
        };
        if length == 0 {
            return Err(failed(if bytes.is_empty() {
                "the connection was closed without an answer".to_owned()
            } else {
                "the connection was closed in the midst of the head".to_owned()
            }));
        }
        if phases.first_byte == Duration::ZERO {
            phases.first_byte = sent.elapsed();
        }
        let piece = buffer.get(..length).unwrap_or_default();
        bytes.extend_from_slice(piece);
        // A head can only have come to its end with a line.
        if !piece.contains(&b'\n')
            && bytes.len() > 8
            && bytes.len() < crate::core::builtin::net::http_body::HEAD
        {
            continue;
        }
        if let Some((head, start)) = Head::read(&bytes, &request.method).map_err(failed)? {
            let begun = bytes.split_off(start.min(bytes.len()));
            return Ok(Answer { stream, head, begun, peer, phases });
        }
    }
}

async fn send(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

impl Answer {
    async fn content(&mut self) -> Result<Content, Fault> {
        let mut content = Content::new(self.head.framing);
        let mut buffer = vec![0; 16 * 1024];
        content.add(&std::mem::take(&mut self.begun)).map_err(Fault::Theirs)?;
        while !content.is_complete() {
            match self.stream.read(&mut buffer).await {
                Ok(0) => content.close().map_err(Fault::Theirs)?,
                // Many servers close without the farewell of TLS.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    content.close().map_err(Fault::Theirs)?
                }
                Ok(length) => content.add(buffer.get(..length).unwrap_or_default()).map_err(Fault::Theirs)?,
                Err(error) => {
                    return Err(Fault::Theirs(format!(
                        "the connection broke in the midst of the content: {}",
                        said(&error)
                    )));
                }
            }
        }
        Ok(content)
    }
}
