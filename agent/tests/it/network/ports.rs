//! `tcp`, `tls` and `ping`.

use std::time::Duration;

use protocol::Status;
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};

use super::{
    HASTY, expect, metric, run,
    servers::{Authority, acceptor, request, say, tcp},
};

/// A port of this host on which nobody listens.
async fn closed_port() -> u16 {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test]
async fn ports_answer_or_say_why_not() {
    let silent = tcp(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let ran =
        expect("tcp", json!({"host": "127.0.0.1", "port": silent.port()}), Status::Ok, "answers in").await;
    assert!(metric(&ran, "connect").is_some() && metric(&ran, "response").is_none());
    for builtin in ["tcp", "tls"] {
        let with = json!({"host": "127.0.0.1", "port": closed_port().await});
        expect(builtin, with, Status::Critical, "Connection refused").await;
        // A label that is too long for any name server: nobody is asked.
        let with = json!({"host": format!("{}.invalid", "x".repeat(64)), "port": 5});
        expect(builtin, with, Status::Critical, "cannot look up xxx").await;
        let with = json!({"host": "127.0.0.1", "port": 5, "family": "6"});
        expect(builtin, with, Status::Critical, "has no address of IP version 6").await;
    }
    let with = json!({"host": "127.0.0.1", "port": silent.port(), "expect": "."});
    let ran = run("tcp", with, json!({"timeout_ms": HASTY})).await;
    assert!(ran.timed_out && ran.finding.status == Status::Critical);
    assert!(ran.finding.output.contains("while waiting for what 127.0.0.1:"), "{}", ran.finding.output);
}

#[tokio::test]
async fn a_black_hole_is_critical() {
    // The kernel answers nobody while the queue of a listener is full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address)).await
    {
        queue.push(connected.unwrap());
        assert!(queue.len() < 100, "the queue has no end");
    }
    let with = json!({"host": "127.0.0.1", "port": address.port()});
    let ran = run("tcp", with, json!({"timeout_ms": HASTY})).await;
    let said = format!("TCP CRITICAL - timed out after 700ms while connecting to {address}");
    assert_eq!((ran.finding.output, ran.timed_out), (said, true));
}

#[tokio::test]
async fn what_a_port_says_is_held_against_what_is_expected() {
    let server = tcp(|mut stream| async move {
        // In pieces, after what was sent, and without closing.
        let asked = request(&mut stream).await;
        for piece in ["220 ", "mail", ".example", " ready\r\n", &asked] {
            say(&mut stream, piece.as_bytes()).await;
            tokio::task::yield_now().await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let with = |expect: &str| json!({"host": "127.0.0.1", "port": server.port(), "send": "hello\\r\\n\\r\\n", "expect": expect});
    let ran =
        expect("tcp", with("(?s)^220 .*example ready.*hello"), Status::Ok, "says what is expected").await;
    assert!(metric(&ran, "response").is_some());

    // A little that comes long after much, from a server that then waits.
    let slow = tcp(|mut stream| async move {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        for piece in ["x".repeat(1000).as_str(), "\n", "ready\n"] {
            tick.tick().await;
            say(&mut stream, piece.as_bytes()).await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let with = json!({"host": "127.0.0.1", "port": slow.port(), "expect": "ready"});
    expect("tcp", with, Status::Ok, "says what is expected").await;

    let closing = tcp(|mut stream| async move { say(&mut stream, b"go \x1b[31maway\r\n").await }).await;
    let with = json!({"host": "127.0.0.1", "port": closing.port(), "expect": "welcome"});
    expect("tcp", with, Status::Critical, "but \"go  [31maway\"").await;
    let mute = tcp(|stream| async move { drop(stream) }).await;
    let with = json!({"host": "127.0.0.1", "port": mute.port(), "expect": "welcome"});
    expect("tcp", with, Status::Critical, "it said nothing of what is expected").await;
    // More than is looked at.
    let endless = tcp(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let with = json!({"host": "127.0.0.1", "port": endless.port(), "expect": "welcome"});
    expect("tcp", with, Status::Critical, "it did not say what is expected, but \"xxx").await;
}

#[tokio::test]
async fn certificates_are_described_whatever_is_wrong_with_them() {
    let (authority, other) = (Authority::new(), Authority::new());
    let serve = |tls: tokio_rustls::TlsAcceptor| {
        tcp(move |stream| {
            let tls = tls.clone();
            async move {
                let Ok(mut stream) = tls.accept(stream).await else { return };
                say(&mut stream, b"* OK ready\r\n").await;
                request(&mut stream).await;
            }
        })
    };
    let with = |port: u16| json!({"host": "127.0.0.1", "port": port, "server_name": "a.example", "ca_file": authority.ca_file()});
    let good = serve(authority.sign("a.example", 2020, 2999)).await;
    let said = "TLS OK - certificate of a.example expires on 2999-01-01, in ";
    let ran = expect("tls", with(good.port()), Status::Ok, said).await;
    assert!(ran.finding.output.ends_with("issued by Test Authority, TLS 1.3"), "{}", ran.finding.output);
    assert_eq!((metric(&ran, "trusted"), ran.finding.unit.as_deref()), (Some(1.0), Some("d")));
    assert_eq!(ran.finding.metrics[0].crit.as_deref(), Some("< 7"));
    let ran = run("tls", with(good.port()), json!({"warning": "< 1000000"})).await;
    assert_eq!(ran.finding.status, Status::Warning);

    for (tls, said) in [
        (
            authority.sign("a.example", 2010, 2020),
            "has expired; certificate of a.example expired on 2020-01-01",
        ),
        (other.sign("a.example", 2020, 2999), "from an authority that is not trusted; certificate"),
        (
            other.sign("b.example", 2020, 2999),
            "not trusted, and its certificate is not for a.example; certificate",
        ),
    ] {
        let server = serve(tls).await;
        let ran = expect("tls", with(server.port()), Status::Critical, said).await;
        assert_eq!(metric(&ran, "trusted"), Some(0.0));
        let mut speaking = with(server.port());
        speaking["tls"] = true.into();
        expect("tcp", speaking.clone(), Status::Critical, "but its certificate").await;
        speaking["verify"] = false.into();
        speaking["expect"] = "OK".into();
        expect("tcp", speaking, Status::Ok, "says what is expected").await;
    }

    // One that signs itself is trusted when it is given.
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.pem");
    std::fs::write(&file, own.pem()).unwrap();
    let server = serve(acceptor(&own, &key)).await;
    let mut with = with(server.port());
    expect("tls", with.clone(), Status::Critical, "from an authority that is not trusted").await;
    with["ca_file"] = file.to_str().into();
    expect("tls", with.clone(), Status::Ok, "TLS OK").await;
    std::fs::write(&file, "nothing").unwrap();
    expect("tls", with, Status::Unknown, "holds no certificate in PEM form").await;
}

#[tokio::test]
async fn tls_begins_after_the_talk_of_other_protocols() {
    let authority = Authority::new();
    let tls = authority.sign("127.0.0.1", 2020, 2999);
    for (protocol, greeting, talk) in [
        (
            "smtp",
            "220-mail\r\n220 ready\r\n",
            vec![
                ("EHLO dogwatch.invalid", "250-mail\r\n250-STARTTLS\r\n250 HELP\r\n"),
                ("STARTTLS", "220 go on\r\n"),
            ],
        ),
        ("imap", "* OK ready\r\n", vec![("a1 STARTTLS", "* BYE the way\r\na1 OK begin\r\n")]),
        ("pop3", "+OK ready\r\n", vec![("STLS", "+OK begin\r\n")]),
    ] {
        let tls = tls.clone();
        let server = tcp(move |mut stream| {
            let (tls, talk) = (tls.clone(), talk.clone());
            async move {
                say(&mut stream, greeting.as_bytes()).await;
                for (expected, answer) in talk {
                    assert_eq!(line(&mut stream).await, expected);
                    say(&mut stream, answer.as_bytes()).await;
                }
                let _shaken = tls.accept(stream).await;
            }
        })
        .await;
        let with = json!({"host": "127.0.0.1", "port": server.port(), "starttls": protocol, "ca_file": authority.ca_file()});
        expect("tls", with, Status::Ok, "expires on 2999-01-01").await;
    }
    for (greeting, said) in [
        ("554 go away\r\n", "to the greeting it says \"554 go away\""),
        ("220 ready\r\n502 EHLO?\r\n", "to EHLO dogwatch.invalid it says \"502 EHLO?\""),
        ("220 ready\r\n250 fine\r\n454 no TLS today\r\n", "to STARTTLS it says \"454 no TLS today\""),
        ("220 ready\r\n250 fine\r\n220 go on\r\nnonsense\r\n", "no TLS with 127.0.0.1"),
    ] {
        let server = tcp(move |mut stream| async move {
            say(&mut stream, greeting.as_bytes()).await;
            request(&mut stream).await;
        })
        .await;
        let with = json!({"host": "127.0.0.1", "port": server.port(), "starttls": "smtp", "ca_file": authority.ca_file()});
        expect("tls", with, Status::Critical, said).await;
    }
    let endless = tcp(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        while stream.write_all(&[b'2'; 4096]).await.is_ok() {}
    })
    .await;
    let with = json!({"host": "127.0.0.1", "port": endless.port(), "starttls": "smtp"});
    expect("tls", with, Status::Critical, "a line without end").await;
}

async fn line(stream: &mut TcpStream) -> String {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        match byte {
            b'\n' => break,
            b'\r' => {}
            byte => line.push(byte),
        }
    }
    String::from_utf8(line).unwrap()
}

#[tokio::test]
async fn this_host_answers_a_ping() {
    for (host, family) in [("127.0.0.1", "any"), ("::1", "6")] {
        let with = json!({"host": host, "family": family, "count": 3, "interval": "20ms"});
        let ran = run("ping", with, json!({})).await;
        let output = &ran.finding.output;
        if ran.finding.status == Status::Unknown {
            assert!(
                output.contains("net.ipv4.ping_group_range") || output.contains("Address family"),
                "{output}"
            );
            println!("NOT TESTED: ping {host}: {output}");
            continue;
        }
        if host == "::1" && output.contains("cannot reach") {
            println!("NOT TESTED: ping {host}: {output}");
            continue;
        }
        assert_eq!((ran.finding.status, metric(&ran, "loss")), (Status::Ok, Some(0.0)), "{output}");
        let rtt = |name| metric(&ran, name).unwrap();
        assert!(rtt("rtt_min") <= rtt("rtt_avg") && rtt("rtt_avg") <= rtt("rtt_max"), "{output}");
        assert!(output.contains("answered 3 of 3, 0% lost"), "{output}");
    }
}
