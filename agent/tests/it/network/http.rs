//! `http`, in clear and in TLS.

use std::sync::{Arc, Mutex, atomic::Ordering};

use protocol::Status;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{
    HASTY, expect, metric, run,
    servers::{Authority, answering, https, request, say, tcp},
};

#[tokio::test]
async fn pages_are_read_as_they_are_framed() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world and more",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5;a=b\r\nworld\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nhello world",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Made\r\n\r\nhello world",
    ] {
        let server = answering(answer).await;
        let with = json!({"url": server.url("/"), "match": "^hello world$"});
        let ran = expect("http", with.clone(), Status::Ok, "HTTP OK - http://127.0.0.1:").await;
        assert_eq!(metric(&ran, "size"), Some(11.0), "{answer}");
        for name in ["total", "dns", "connect", "first_byte", "status", "redirects"] {
            assert!(metric(&ran, name).is_some_and(|value| value >= 0.0), "{name}");
        }
        assert_eq!(ran.finding.value.clone().unwrap().as_f64(), metric(&ran, "total"));
        assert!(metric(&ran, "tls").is_none() && ran.finding.unit.as_deref() == Some("ms"));

        // The same, byte by byte.
        let drop_by_drop = tcp(move |mut stream| async move {
            request(&mut stream).await;
            for byte in answer.bytes() {
                say(&mut stream, &[byte]).await;
                tokio::task::yield_now().await;
            }
        })
        .await;
        let with = json!({"url": drop_by_drop.url("/"), "match": "^hello world$"});
        expect("http", with, Status::Ok, "HTTP OK").await;
    }
}

#[tokio::test]
async fn g10_bad_servers_are_described_and_not_waited_for() {
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: b\r\n".repeat(500));
    for (answer, said) in [
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "the answer is not HTTP: \"SSH-2.0-OpenSSH_9.2\""),
        ("\0\x01\x02binary\n".to_owned(), "the answer is not HTTP"),
        (String::new(), "the connection was closed without an answer"),
        ("HTTP/1.1 200 OK\r\nX: y".to_owned(), "closed in the midst of the head"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_owned(),
            "midst of the content, after 5 bytes",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n".to_owned(),
            "chunks of the answer are malformed",
        ),
        ("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_owned(), "answers 500 with 0.0 B"),
        (many_headers, "too many headers"),
    ] {
        let server = answering(answer.clone()).await;
        expect("http", json!({"url": server.url("/")}), Status::Critical, said).await;
    }
    // Those that never end are cut off.
    for (begin, status, said) in [
        ("HTTP/1.1 200 OK\r\nX: ", Status::Critical, "the head of the answer is longer than 64 KiB"),
        ("HTTP/1.1 200 OK\r\n\r\n", Status::Ok, "answers 200 with more than 1.0 MiB"),
    ] {
        let server = tcp(move |mut stream| async move {
            request(&mut stream).await;
            say(&mut stream, begin.as_bytes()).await;
            while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
        })
        .await;
        expect("http", json!({"url": server.url("/")}), status, said).await;
    }
}

#[tokio::test]
async fn a_server_that_is_silent_is_critical() {
    for (begin, said) in [
        ("", "while waiting for the answer of"),
        ("HTTP/1.1 200 OK\r\n\r\nhel", "while reading the content of"),
    ] {
        let server = tcp(move |mut stream| async move {
            request(&mut stream).await;
            say(&mut stream, begin.as_bytes()).await;
            std::future::pending::<()>().await;
        })
        .await;
        let ran = run("http", json!({"url": server.url("/")}), json!({"timeout_ms": HASTY})).await;
        let output = ran.finding.output;
        assert!(ran.timed_out && ran.finding.status == Status::Critical, "{output}");
        assert!(
            output.starts_with("HTTP CRITICAL - timed out after 700ms") && output.contains(said),
            "{output}"
        );
    }
}

#[tokio::test]
async fn redirects_are_followed_and_circles_found() {
    let server = tcp(|mut stream| async move {
        let asked = request(&mut stream).await;
        let path = asked.split(' ').nth(1).unwrap_or_default().to_owned();
        let to = match path.as_str() {
            "/a" => "b?q=1",
            "/b?q=1" => "/c",
            "/turn" => "/back",
            "/back" => "/turn",
            "/away" => "gopher://x/",
            number if number.starts_with("/far") => &format!("{number}x"),
            _ => return say(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nhere").await,
        };
        say(&mut stream, format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n").as_bytes()).await;
    })
    .await;
    let with = |path: &str, redirects: u32| json!({"url": server.url(path), "redirects": redirects});
    let ran = expect("http", with("/a", 5), Status::Ok, "/c answers 200 with 4.0 B").await;
    assert_eq!(metric(&ran, "redirects"), Some(2.0));
    expect("http", with("/a", 0), Status::Ok, "/a answers 302").await;
    expect("http", with("/a", 1), Status::Critical, "more than 1 redirects, the last one to \"/c\"").await;
    expect("http", with("/turn", 5), Status::Critical, "the redirects go round in a circle, back to").await;
    expect("http", with("/far", 20), Status::Critical, "more than 20 redirects").await;
    expect("http", with("/away", 5), Status::Critical, "which is no address of a page").await;
}

#[tokio::test]
async fn credentials_go_to_their_own_server_only() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let server = |location: Option<String>| {
        let requests = Arc::clone(&requests);
        tcp(move |mut stream| {
            let (requests, location) = (Arc::clone(&requests), location.clone());
            async move {
                let asked = request(&mut stream).await;
                requests.lock().unwrap().push(asked);
                let answer = location.map_or_else(
                    || "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
                    |location| format!("HTTP/1.1 307 There\r\nLocation: {location}\r\n\r\n"),
                );
                say(&mut stream, answer.as_bytes()).await;
            }
        })
    };
    let other = server(None).await;
    let first = server(Some(other.url("/login"))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.auth");
    std::fs::write(&file, "me:pass word\n").unwrap();
    let with = json!({"url": first.url("/"), "auth_file": file, "headers": ["X-Key: 17"]});
    let ran = expect("http", with, Status::Ok, "after 1 redirects").await;
    assert!(!format!("{ran:?}").contains("pass"));
    let requests = requests.lock().unwrap().clone();
    assert!(
        requests[0].contains("Authorization: Basic bWU6cGFzcyB3b3Jk\r\n")
            && requests[0].contains("X-Key: 17\r\n")
    );
    assert!(!requests[1].contains("Authorization") && !requests[1].contains("X-Key"), "{}", requests[1]);
    // A file that cannot be used says nothing about the server, and nothing of what is in it.
    std::fs::write(&file, "secret").unwrap();
    let with = json!({"url": first.url("/"), "auth_file": file});
    let ran = expect("http", with, Status::Unknown, "is not user:password").await;
    assert!(!ran.finding.output.contains("secret"));
    let with = json!({"url": first.url("/"), "auth_file": "/no/such.auth"});
    expect("http", with, Status::Unknown, "cannot read /no/such.auth: No such file").await;
}

#[tokio::test]
async fn a_server_that_does_not_prove_itself_gets_no_request() {
    const PAGE: &str = "HTTP/1.1 200 OK\r\n\r\nhello";
    let (authority, other) = (Authority::new(), Authority::new());
    let url = |port: u16| format!("https://localhost:{port}/");
    let with = |port: u16| json!({"url": url(port), "ca_file": authority.ca_file(), "family": "4"});

    let (server, requests) = https(authority.sign("localhost", 2020, 2999), PAGE).await;
    let ran = expect("http", with(server.port()), Status::Ok, "its certificate expires on 2999-01-01").await;
    assert!(
        metric(&ran, "tls").is_some()
            && metric(&ran, "certificate_days").is_some_and(|days| days > 300_000.0)
    );
    assert_eq!(requests.load(Ordering::SeqCst), 1);

    for (tls, said) in [
        (authority.sign("localhost", 2010, 2020), "has expired (it expired on 2020-01-01)"),
        (authority.sign("localhost", 2998, 2999), "its certificate is not valid yet"),
        (authority.sign("other.example", 2020, 2999), "its certificate is not for localhost"),
        (other.sign("localhost", 2020, 2999), "from an authority that is not trusted"),
    ] {
        let (server, requests) = https(tls, PAGE).await;
        expect("http", with(server.port()), Status::Critical, said).await;
        assert_eq!((server.seen(), requests.load(Ordering::SeqCst)), (1, 0));
        let unverified =
            json!({"url": url(server.port()), "verify": false, "family": "4", "certificate_days": 0});
        expect("http", unverified, Status::Ok, "answers 200").await;
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }

    let plain = tcp(|mut stream| async move { say(&mut stream, PAGE.as_bytes()).await }).await;
    expect("http", with(plain.port()), Status::Critical, "no TLS with localhost").await;
    let clear = json!({"url": server.url("/")});
    expect("http", clear, Status::Critical, "http://127.0.0.1:").await;
    let missing = json!({"url": url(server.port()), "ca_file": "/no/such.pem", "family": "4"});
    expect("http", missing, Status::Unknown, "cannot read /no/such.pem").await;
}
