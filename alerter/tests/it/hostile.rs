//! Receivers that are gone, elsewhere, endless, slow, busy, or want to know who calls.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::document::Document;
use serde_json::json;
use testkit::{WebhookSink, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    fixture::{Bed, LIMIT, documents, received, receiver, receiver_of, result, rule},
    receivers::{letters, reason, try_receiver},
};

#[tokio::test]
async fn a_receiver_that_is_gone_is_disabled_until_a_test_succeeds_or_its_document_changes() {
    let sink = WebhookSink::start().await;
    sink.answer(&[410]);
    let bed = Bed::new(documents(&sink)).await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    let why = reason(&bed).await;
    assert!(why.contains("the receiver answered 410; it is gone for good"), "{why}");
    bed.publish(&result(2, 5.0)).await;
    let list = letters(&bed, 2).await;
    assert!(list.notifications[1].reason.as_ref().unwrap().contains("it is disabled since"), "{list:?}");
    // Over a restart too.
    alerter.stop().await;
    let _alerter = bed.alerter().await;
    bed.publish(&result(3, 95.0)).await;
    letters(&bed, 3).await;
    assert_eq!(sink.received().len(), 1);

    assert!(try_receiver(&bed, "ops").await.ok);
    bed.publish(&result(4, 5.0)).await;
    let told = received(&sink, 3).await;
    assert_eq!(told[2].body["state"], "resolved");

    sink.answer(&[410]);
    bed.publish(&result(5, 95.0)).await;
    letters(&bed, 4).await;
    bed.apply(vec![Document::Rule(rule("full")), receiver("ops", &format!("{}new", sink.url()))]).await;
    let seq = AtomicU64::new(6);
    eventually("it is told again", LIMIT, || async {
        let seq = seq.fetch_add(2, Ordering::Relaxed);
        bed.publish(&result(seq, 5.0)).await;
        bed.publish(&result(seq + 1, 95.0)).await;
        if sink.received().iter().any(|one| one.path == "/new") { Ok(()) } else { Err("not yet") }
    })
    .await;
}

#[tokio::test]
async fn redirects_are_not_followed_not_even_in_circles() {
    let target = WebhookSink::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let to = target.url();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer =
                format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            let _sent = stream.write_all(answer.as_bytes()).await;
            let _read = stream.read(&mut [0; 4096]).await;
        }
    });
    let bed =
        Bed::new(vec![Document::Rule(rule("full")), receiver("ops", &format!("http://{address}/"))]).await;
    let _alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    let why = reason(&bed).await;
    assert!(why.contains("the receiver answered 307; redirects are not followed"), "{why}");
    assert_eq!(target.received().len(), 0);
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_never_called() {
    let sink = WebhookSink::start().await;
    let port = sink.url().rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let bed = Bed::new(vec![
        Document::Rule(rule("full")),
        receiver("ops", &format!("http://localhost:{port}/")),
        receiver("literal", &sink.url()),
    ])
    .await;
    let alerter = bed.alerter_with(&["--receiver-networks", "public,private"]).await;
    alerter.ready().await;
    for name in ["ops", "literal"] {
        let tested = try_receiver(&bed, name).await;
        assert!(!tested.ok && tested.answer.contains("is a loopback address"), "{tested:?}");
    }
    assert_eq!(sink.received().len(), 0);
}

/// 429 with `Retry-After`, an endless body, a body byte by byte: none of them holds up the end of an attempt.
#[tokio::test]
async fn answers_that_are_long_or_slow_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let path = String::from_utf8_lossy(&head[..read]).into_owned();
                if path.starts_with("POST /large") {
                    let _sent =
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n").await;
                    let piece = vec![b'x'; 64 * 1024];
                    while stream.write_all(&piece).await.is_ok() {}
                } else if path.starts_with("POST /head") {
                    // Never a whole head.
                    let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
                    let mut byte = tokio::time::interval(Duration::from_millis(50));
                    loop {
                        byte.tick().await;
                        if stream.write_all(b"x").await.is_err() {
                            break;
                        }
                    }
                } else {
                    let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
                    let mut byte = tokio::time::interval(Duration::from_millis(50));
                    loop {
                        byte.tick().await;
                        if stream.write_all(b"x").await.is_err() {
                            break;
                        }
                    }
                }
            });
        }
    });
    let of = |path: &str| {
        let url = format!("http://{address}/{path}");
        receiver_of(path, json!({"webhook": {"url": url, "timeout": "2s"}}))
    };
    let bed = Bed::new(vec![of("large"), of("head"), of("body")]).await;
    let _alerter = bed.alerter().await;
    let large = try_receiver(&bed, "large").await;
    assert!(large.ok && large.answer.len() <= 4096, "{}", large.answer.len());
    let head = try_receiver(&bed, "head").await;
    assert!(!head.ok && head.answer.contains("does not answer"), "{head:?}");
    let body = try_receiver(&bed, "body").await;
    assert!(body.ok, "the status counts: {body:?}");
    for tested in [large, head, body] {
        assert!(tested.took_ms < 15_000, "{tested:?}");
    }
}

#[tokio::test]
async fn bad_tls_is_said_in_plain_words() {
    let sink = WebhookSink::start().await;
    let url = sink.url().replace("http://", "https://");
    let bed = Bed::new(vec![receiver("ops", &url)]).await;
    let _alerter = bed.alerter().await;
    let tested = try_receiver(&bed, "ops").await;
    assert!(!tested.ok && tested.answer.contains("does not answer"), "{tested:?}");
    assert!(tested.answer.to_lowercase().contains("tls") || tested.answer.contains("message"), "{tested:?}");
    assert!(!tested.url.contains("s3cret"));
}

/// `Retry-After` holds for all of a receiver's notifications.
#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let attempts: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&attempts);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _read = stream.read(&mut [0; 8192]).await;
            let first = {
                let mut seen = seen.lock().unwrap();
                seen.push(Instant::now());
                seen.len() == 1
            };
            let answer = if first {
                "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            };
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    let other = protocol::document::Rule { when: "value > 98".into(), ..rule("other") };
    let bed = Bed::new(vec![
        Document::Rule(rule("full")),
        Document::Rule(other),
        receiver("ops", &format!("http://{address}/")),
    ])
    .await;
    let alerter = bed.alerter().await;
    bed.publish(&result(1, 95.0)).await;
    eventually("it asks for time", LIMIT, || async {
        if alerter.metric("attempts_failed_total") == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    bed.publish(&result(2, 99.0)).await;
    eventually("both are told", LIMIT, || async {
        if alerter.metric("notifications_delivered_total") == 2 { Ok(()) } else { Err("not yet") }
    })
    .await;
    let attempts = attempts.lock().unwrap().clone();
    assert_eq!(attempts.len(), 3);
    assert!(attempts[1].duration_since(attempts[0]) >= Duration::from_millis(2_900), "{attempts:?}");
}

/// The server asks for a certificate of its own authority.
#[tokio::test]
async fn who_calls_is_shown_by_a_certificate() {
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let issued = || {
        use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ServerAuth, ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate, key)
    };
    let ((server, server_key), (client, client_key)) = (issued(), issued());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _read = stream.read(&mut [0; 8192]).await;
            let _sent =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            let _closed = stream.shutdown().await;
        }
    });
    let url = format!("https://localhost:{port}/");
    let with = |tls: serde_json::Value| json!({"webhook": {"url": url, "tls": tls}});
    let bed = Bed::new(vec![
        receiver_of(
            "known",
            with(json!({"ca": {"file": "ca"}, "certificate": {"file": "cert"}, "key": {"file": "key"}})),
        ),
        receiver_of("nobody", with(json!({"ca": {"file": "ca"}}))),
        receiver_of("untrusting", with(json!({}))),
        receiver_of("broken", with(json!({"ca": {"file": "broken"}}))),
    ])
    .await;
    bed.secret("ca", &authority.pem());
    bed.secret("cert", &client.pem());
    bed.secret("key", &client_key.serialize_pem());
    bed.secret("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----");
    let _alerter = bed.alerter().await;
    let known = try_receiver(&bed, "known").await;
    assert!(known.ok, "{known:?}");
    for (name, expected) in
        [("nobody", "does not answer"), ("untrusting", "certificate"), ("broken", "localhost")]
    {
        let tested = try_receiver(&bed, name).await;
        assert!(!tested.ok && tested.answer.contains(expected), "{name}: {tested:?}");
    }
}
