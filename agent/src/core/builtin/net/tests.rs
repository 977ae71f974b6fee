//! Options as they are written, requests as they are sent, findings as people read them.

use std::time::Duration;

use proptest::prelude::*;
use protocol::Status;
use serde_json::{Value, json};

use super::{
    certificate::Certificate,
    http::{Page, Plan, Request},
    *,
};
use crate::core::builtin::Builtin;

fn http(with: Value) -> Result<Plan, String> {
    Plan::read(&options(&HTTP, with)?)
}

#[test]
fn what_can_never_work_is_found_when_the_options_are_read() {
    for (name, with, said) in [
        ("http", json!({"url": "ftp://a"}), "neither http:// nor https://"),
        ("http", json!({"url": "a.example"}), "option \"url\""),
        ("http", json!({"url": "http://me:secret@a.example"}), "auth_file"),
        ("http", json!({"url": "http://a", "auth_file": "/etc/shadow"}), "does not end in .auth"),
        ("http", json!({"url": "http://a", "method": "get"}), "in capitals"),
        ("http", json!({"url": "http://a", "status": "2xx"}), "\"2xx\" is neither"),
        ("http", json!({"url": "http://a", "status": ["200", "400-300"]}), "neither a status"),
        ("http", json!({"url": "http://a", "match": "("}), "is not a regular expression"),
        ("http", json!({"url": "http://a", "match": "(a{1000}){1000}"}), "is not a regular expression"),
        ("http", json!({"url": "http://a", "headers": "X: a\r\nY: b"}), "line break"),
        ("http", json!({"url": "http://a", "headers": "Content-Length: 3"}), "set by the agent"),
        ("http", json!({"url": "http://a", "redirects": 21}), "from 0 to 20"),
        ("tcp", json!({"host": "a b", "port": 1}), "neither a name nor an address"),
        ("tcp", json!({"host": "a", "port": 0}), "from 1 to 65535"),
        ("tcp", json!({"host": "a", "port": 1, "send": "\\q"}), "backslash"),
        ("tls", json!({"host": "a", "starttls": "ftp"}), "none of smtp"),
        ("tls", json!({"host": "a", "family": "5"}), "none of any, 4 and 6"),
        ("ping", json!({"host": "a", "count": 1.5}), "not a whole number"),
    ] {
        let builtin = Builtin::named(name).unwrap();
        let error = builtin.accepts(&options(builtin, with).unwrap()).unwrap_err();
        assert!(error.contains(said) && !error.contains("secret"), "{name}: {error}");
    }
    let tls = |with| tls::Plan::read(&options(&TLS, with).unwrap()).unwrap().target.to_string();
    assert_eq!(tls(json!({"host": "[::1]"})), "[::1]:443");
    assert_eq!(tls(json!({"host": "a", "starttls": "smtp"})), "a:25");
}

#[test]
fn requests_are_written_as_servers_expect_them() {
    let plan = http(json!({"url": "http://a.example:8080/x y?q=1#f", "method": "POST", "body": "hello", "headers": ["X-A: b", "User-Agent: me"]})).unwrap();
    let text = String::from_utf8(plan.first.bytes(Some("Aladdin:open sesame"))).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let lines: Vec<_> = head.split("\r\n").collect();
    assert_eq!((lines[0], body), ("POST /x%20y?q=1 HTTP/1.1", "hello"));
    for line in [
        "Host: a.example:8080",
        "Content-Length: 5",
        "X-A: b",
        "User-Agent: me",
        "Connection: close",
        "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    ] {
        assert!(lines.contains(&line), "{text}");
    }
    assert_eq!(text.matches("User-Agent").count(), 1);
    for (credentials, coded) in [("a:", "YTo="), ("a:b", "YTpi"), ("a:bc", "YTpiYw==")] {
        let text = String::from_utf8(plan.first.bytes(Some(credentials))).unwrap();
        assert!(text.contains(&format!("Basic {coded}\r\n")), "{text}");
    }
}

#[test]
fn redirects_are_followed_as_far_as_they_may_be() {
    let plan = http(json!({"url": "https://a.example/x", "method": "POST", "body": "b", "headers": "X-Key: k", "redirects": 2})).unwrap();
    let first = plan.first.clone();
    let follow = |asked: &[Request], status, to: &str| plan.follow(asked, status, Some(to));
    let next = follow(std::slice::from_ref(&first), 302, "/y?z").unwrap().unwrap();
    assert_eq!(
        (next.url.as_str(), next.method.as_str(), next.trusted),
        ("https://a.example/y?z", "GET", true)
    );
    let text = String::from_utf8(next.bytes(None)).unwrap();
    assert!(text.contains("X-Key: k") && text.ends_with("\r\n\r\n"), "{text}");
    let kept = follow(std::slice::from_ref(&first), 307, "/y").unwrap().unwrap();
    assert_eq!(kept.method, "POST");
    // Another server, port or scheme gets nothing of ours, not even on the way back.
    for to in ["https://b.example/", "https://a.example:444/", "http://a.example/", "//u:p@b.example"] {
        let next = follow(std::slice::from_ref(&first), 307, to).unwrap().unwrap();
        let text = String::from_utf8(next.bytes(None)).unwrap();
        assert!(
            !next.trusted
                && !text.contains("X-Key")
                && !text.ends_with('b')
                && next.url.username().is_empty(),
            "{text}"
        );
        let back = follow(&[first.clone(), next], 302, "https://a.example/z").unwrap().unwrap();
        assert!(!back.trusted);
    }
    for (asked, to, said) in [
        (vec![first.clone(), next.clone()], "/y?z", "in a circle"),
        (
            vec![first.clone(), next.clone(), kept],
            "/z?secret",
            "more than 2 redirects, the last one to \"/z\"",
        ),
        (vec![first.clone()], "file:///etc/passwd", "no address of a page"),
        (vec![first.clone()], "http://me:secret@[", "leads to \"http://[\""),
    ] {
        let error = follow(&asked, 302, to).unwrap_err();
        assert!(error.contains(said) && !error.contains("secret"), "{error}");
    }
    assert_eq!(follow(std::slice::from_ref(&first), 304, "/y"), Ok(None));
    assert_eq!(plan.follow(&[first], 302, None), Ok(None));
}

#[test]
fn pages_are_judged_by_status_content_and_certificate() {
    let leaf = Certificate { not_after: 10 * 86_400, ..Certificate::default() };
    let page = Page {
        status: 200,
        size: 2048,
        redirects: 1,
        peer: Some(Peer { leaf: Some(leaf), ..Peer::default() }),
        phases: http::Phases { total: Duration::from_millis(45), ..http::Phases::default() },
        ..Page::default()
    };
    let url = "https://a.example/x?token=secret";
    let judged = |with: Value, page: &Page| {
        let mut all = json!({"url": url});
        all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let plan = http(all).unwrap();
        let page = Page { wrong: plan.misses(b"Hello \xff world"), ..page.clone() };
        plan.judge(&page, &plan.first.url, 0)
    };
    let fine = judged(json!({"match": "(?i)hello.*world", "no_match": "error"}), &page);
    assert_eq!(fine.at_least, None);
    assert_eq!(
        fine.text,
        "https://a.example/x answers 200 with 2.0 KiB in 45 ms, after 1 redirects; its certificate expires on 1970-01-11, in 10 days"
    );
    for (with, status, said) in [
        (json!({"match": "bye"}), 200, ": \"bye\" is not found in it"),
        (json!({"no_match": "w.rld"}), 200, ": \"w.rld\" is found in it"),
        (json!({}), 503, ": the status should be 200-399"),
        (json!({"status": ["200", "201-204"]}), 301, ": the status should be 200 or 201-204"),
    ] {
        let failed = judged(with, &Page { status, ..page.clone() });
        assert_eq!(failed.at_least, Some(Status::Critical));
        assert!(failed.text.ends_with(said) && !failed.text.contains("secret"), "{}", failed.text);
    }
    let days = |measured: &Measured| {
        measured.numbers.iter().find(|number| number.name == "certificate_days").map(|number| number.judged)
    };
    assert_eq!(days(&fine), Some(Judged::Below { warning: Some(7.0), critical: None }));
    assert_eq!(
        days(&judged(json!({"certificate_days": 0}), &page)),
        Some(Judged::Below { warning: None, critical: None })
    );
}

#[test]
fn a_certificate_alerts_before_it_expires() {
    let plan = tls::Plan::read(&options(&TLS, json!({"host": "a.example"})).unwrap()).unwrap();
    for (days, trouble, status) in [
        (22, None, Status::Ok),
        (20, None, Status::Warning),
        (6, None, Status::Critical),
        (60, Some("the issuer of its certificate is not trusted"), Status::Critical),
    ] {
        let leaf = Certificate { not_after: days * 86_400, issuer: "R3".into(), ..Certificate::default() };
        let peer = Peer { leaf: Some(leaf), trouble: trouble.map(str::to_owned), version: "TLS 1.3".into() };
        let found = crate::core::builtin::tests::judged("tls", Ok(plan.judge(&peer, Duration::ZERO, 0)));
        assert_eq!(found.status, status, "{}", found.output);
        assert!(found.output.contains(&format!("in {days} days, issued by R3, TLS 1.3")), "{}", found.output);
        assert_eq!(found.metrics[0].warn.as_deref(), Some("< 21"));
    }
}

#[test]
fn lost_packets_are_counted() {
    let plan =
        ping::Plan::read(&options(&PING, json!({"host": "127.0.0.1", "rtt_warning": 5})).unwrap()).unwrap();
    let trips = [Duration::from_millis(4), Duration::from_millis(8)];
    for (sent, trips, refused, status, said) in [
        (
            2,
            &trips[..],
            None,
            Status::Warning,
            "PING WARNING - 127.0.0.1 answered 2 of 2, 0% lost, 6.00 ms on average",
        ),
        (
            2,
            &trips[..1],
            None,
            Status::Warning,
            "PING WARNING - 127.0.0.1 answered 1 of 2, 50% lost, 4.00 ms on average",
        ),
        (2, &[], Some("no route"), Status::Critical, "PING CRITICAL - 127.0.0.1 answered 0 of 2: no route"),
    ] {
        let address = "127.0.0.1".parse().unwrap();
        let found =
            crate::core::builtin::tests::judged("ping", Ok(plan.judge(address, sent, trips, refused)));
        assert_eq!((found.status, found.output.as_str()), (status, said));
    }
}

proptest! {
    #[test]
    fn no_options_panic(url in "\\PC{0,40}", pattern in "\\PC{0,20}", location in "\\PC{0,40}", header in "\\PC{0,20}") {
        let _either = http(json!({"url": url, "match": pattern, "headers": header, "status": pattern}));
        let plan = http(json!({"url": "http://a.example/b"})).unwrap();
        let _either = plan.follow(std::slice::from_ref(&plan.first), 302, Some(&location));
        let _either = tcp::Plan::read(&options(&TCP, json!({"host": url, "port": 5, "send": location})).unwrap());
    }
}
