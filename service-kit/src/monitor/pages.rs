//! The pages at an address of their own. They are three short texts, and the agent, which has them too, stands on every
//! host: a whole HTTP server would be a good part of its memory.

use std::time::Duration;

use httparse::{EMPTY_HEADER, Request, Status};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Metrics, PLAIN, Page, page};
use crate::Readiness;

/// Answered at once; others wait until one has gone.
const CONNECTIONS: usize = 16;
/// Longest question, in bytes.
const QUESTION: u64 = 16 * 1024;
const HEADERS: usize = 64;
/// For question and answer together.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the answers that are under way when the service stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// After a connection could not be taken (too many open files).
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    ready: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            taken = listener.accept(), if connections.len() < CONNECTIONS => match taken {
                Ok((stream, _)) => {
                    let (metrics, ready) = (metrics.clone(), ready.clone());
                    connections.spawn(async move {
                        // Who is too slow, or gone, asks again.
                        let _gone = timeout(PATIENCE, converse(stream, &metrics, &ready)).await;
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection to --monitor cannot be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    let _cut_off = timeout(LAST_ANSWERS, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// One question and its answer.
async fn converse(mut stream: TcpStream, metrics: &Metrics, ready: &Readiness) -> std::io::Result<()> {
    let mut question = Vec::with_capacity(1024);
    let answer = loop {
        let more = (&mut stream).take(QUESTION - question.len() as u64).read_buf(&mut question).await?;
        match answer(&question, metrics, ready) {
            Some(answer) => break answer,
            None if more == 0 && question.is_empty() => return Ok(()),
            None if more == 0 => break text("400 Bad Request", "the request is cut off or too long\n"),
            None => {}
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// `None` when the question has not been read to its end.
fn answer(question: &[u8], metrics: &Metrics, ready: &Readiness) -> Option<String> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut request = Request::new(&mut headers);
    let (method, target) = match request.parse(question) {
        Ok(Status::Partial) => return None,
        Ok(Status::Complete(_)) => (request.method.unwrap_or_default(), request.path.unwrap_or_default()),
        Err(error) => return Some(text("400 Bad Request", &format!("this is no HTTP request: {error}\n"))),
    };
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let Some(page) = page(path, metrics, ready) else {
        return Some(text("404 Not Found", "here are /livez, /readyz and /metrics\n"));
    };
    let status = if page.fine { "200 OK" } else { "503 Service Unavailable" };
    match method {
        "GET" => Some(head(status, &page, "") + &page.text),
        "HEAD" => Some(head(status, &page, "")),
        _ => {
            let page = Page { text: String::new(), ..page };
            Some(head("405 Method Not Allowed", &page, "allow: GET, HEAD\r\n"))
        }
    }
}

fn text(status: &str, text: &str) -> String {
    let page = Page { fine: false, kind: PLAIN, text: text.to_owned() };
    head(status, &page, "") + text
}

fn head(status: &str, page: &Page, more: &str) -> String {
    let (kind, length) = (page.kind, page.text.len());
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{more}connection: close\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(question: &str) -> Option<String> {
        let ready = Readiness::default();
        ready.unmet("part", "starting");
        answer(question.as_bytes(), &Metrics::default(), &ready)
    }

    #[test]
    fn each_question_has_its_answer() {
        for (question, status, body) in [
            ("GET /livez HTTP/1.1\r\nhost: a\r\n\r\n", "200 OK", "alive\n"),
            ("GET /livez?x=1 HTTP/1.0\r\n\r\n", "200 OK", "alive\n"),
            ("HEAD /livez HTTP/1.1\r\n\r\n", "200 OK", ""),
            ("GET /readyz HTTP/1.1\r\n\r\n", "503 Service Unavailable", "part: starting\n"),
            ("POST /livez HTTP/1.1\r\ncontent-length: 0\r\n\r\n", "405 Method Not Allowed", ""),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found", "here are /livez, /readyz and /metrics\n"),
        ] {
            let answer = ask(question).unwrap();
            let (head, text) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{question}: {head}");
            assert_eq!(text, body, "{question}");
            if !body.is_empty() {
                assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
            }
        }
        assert!(ask("GET /metrics HTTP/1.1\r\n\r\n").unwrap().ends_with("# EOF\n"));
        assert_eq!(ask("GET /metrics HTTP/1.1\r\nhost:"), None, "more is to come");
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        for question in ["\0\0\0\0", "GET /livez HTTP/9.9\r\n\r\n", &many] {
            assert!(ask(question).unwrap().starts_with("HTTP/1.1 400 Bad Request\r\n"), "{question:?}");
        }
    }

    #[tokio::test]
    async fn a_question_without_end_is_cut_and_others_are_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Metrics::default(), Readiness::default(), stop.clone()));
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET /li").await.unwrap();
        for (question, status) in [
            ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), "200"),
            (format!("GET /{}", "a".repeat(16_379)), "400"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(question.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
