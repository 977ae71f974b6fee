//! An editor that is limited to some hosts.

use protocol::{
    ErrorCode, ErrorReply,
    admin::{Applied, ApplyRequest, HostList, HostQuery, RollbackRequest, SourceFile},
    config::ConfigRequest,
    subject,
};
use testkit::NatsServer;

use crate::harness::*;

const DB: &str = "labels.team == \"db\"";

async fn scoped(client: &async_nats::Client, text: &str) -> Result<Applied, ErrorReply> {
    let file = SourceFile { path: "a.yaml".to_owned(), text: text.to_owned() };
    let request = ApplyRequest { within: Some(DB.to_owned()), ..ApplyRequest::of(vec![file]) };
    ask(client, subject::ADMIN_APPLY, &request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_editor_changes_its_own_hosts_and_no_others() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let _replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    for (name, team) in [("db-01", "db"), ("web-01", "web"), ("web-02", "web")] {
        let labels = [("team".to_owned(), team.to_owned())].into();
        full(&client, name, &ConfigRequest { labels, ..request() }).await;
    }
    apply(&client, "kind: Check\nname: all\nbuiltin: cpu\nevery: 1m\n").await.unwrap();
    let check = |name: &str, hosts: &str, every: &str| {
        let hosts = if hosts.is_empty() { String::new() } else { format!("hosts: '{hosts}'\n") };
        format!("kind: Check\nname: {name}\nbuiltin: cpu\nevery: {every}\n{hosts}")
    };
    scoped(&client, &check("own", DB, "1m")).await.unwrap();
    scoped(&client, &check("own", &format!("{DB} && facts.os == \"linux\""), "2m")).await.unwrap();
    let own = full(&client, "db-01", &request_of("db")).await;
    assert_eq!(names(&own), ["all", "own"]);

    for (text, expected) in [
        (
            check("wide", "", "1m"),
            "other hosts run than those of the key (labels.team == \"db\"): web-01, web-02;",
        ),
        (check("all", DB, "1m"), "web-01, web-02"),
        (check("all", "", "9m"), "web-01, web-02"),
        (
            check("late", "agent != \"web-01\" && agent != \"web-02\"", "1m"),
            "the check late would also run on other hosts",
        ),
        (
            "kind: Receiver\nname: r\nwebhook: {url: \"http://x\"}\n".to_owned(),
            "changes checks only, not Receiver r",
        ),
    ] {
        let error = scoped(&client, &text).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Forbidden);
        assert!(error.message.contains(expected), "{}", error.message);
    }
    // Back before the others' check: that concerns them.
    let (actor, message, within) = (String::new(), String::new(), Some(DB.to_owned()));
    let rollback = RollbackRequest {
        revision: 0,
        actor,
        message,
        dry_run: false,
        base: None,
        effects: false,
        within,
        signatures: Vec::new(),
    };
    let error = ask::<_, Applied>(&client, subject::ADMIN_ROLLBACK, &rollback).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden, "{}", error.message);
    let rollback = RollbackRequest { revision: 1, ..rollback };
    ask::<_, Applied>(&client, subject::ADMIN_ROLLBACK, &rollback).await.unwrap();

    let within = |name: &str| HostQuery {
        agent: Some(agent(name)),
        within: Some(DB.to_owned()),
        ..HostQuery::default()
    };
    assert!(ask::<_, HostList>(&client, subject::ADMIN_HOSTS, &within("db-01")).await.is_ok());
    let error = ask::<_, HostList>(&client, subject::ADMIN_HOSTS, &within("web-01")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

fn request_of(team: &str) -> ConfigRequest {
    ConfigRequest { labels: [("team".to_owned(), team.to_owned())].into(), ..request() }
}
