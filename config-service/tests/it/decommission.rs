//! Hosts that leave for good, and those that come back.

use protocol::{
    ErrorCode, ErrorReply,
    admin::{KeyCreate, KeyCreated, Role},
    config::ConfigReply,
    decommission::{DecommissionedList, DecommissionedQuery, HostDecommission},
    sign_in::AgentRevoked,
    subject,
};
use testkit::NatsServer;

use crate::harness::*;

async fn decommission(client: &async_nats::Client, name: &str) -> Result<AgentRevoked, ErrorReply> {
    let request =
        HostDecommission { agent: agent(name), actor: "test".to_owned(), message: "sold".to_owned() };
    ask(client, subject::ADMIN_HOST_DECOMMISSION, &request).await
}

async fn gone(client: &async_nats::Client) -> Vec<String> {
    let list: DecommissionedList =
        ask(client, subject::ADMIN_HOST_DECOMMISSIONED, &DecommissionedQuery {}).await.unwrap();
    list.agents.iter().map(ToString::to_string).collect()
}

async fn key(client: &async_nats::Client, label: &str) -> KeyCreated {
    let request = KeyCreate {
        role: Role::Agent,
        agent: Some(agent("web-01")),
        labels: [(label.to_owned(), "yes".to_owned())].into(),
        facts: protocol::Facts::new(),
        expires_in_ms: None,
        hosts: None,
        actor: String::new(),
    };
    ask(client, subject::ADMIN_KEY_CREATE, &request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_host_is_gone_everywhere_until_it_gets_a_key_anew() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, CPU).await.unwrap();
    let old = key(&client, "old").await;
    full(&client, "web-01", &request()).await;
    full(&client, "db-01", &request()).await;

    let done = decommission(&client, "web-01").await.unwrap();
    assert_eq!((done.keys, done.connections), (1, None));
    let names = |hosts: Vec<protocol::admin::Host>| {
        hosts.into_iter().map(|host| host.agent.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(hosts(&client).await), ["db-01"]);
    assert_eq!(gone(&client).await, ["web-01"]);
    assert_eq!(verify(&client, &old.key).await.unwrap_err().code, ErrorCode::Unauthorized);
    // Its agent may go on asking, as one that stands in nats.conf.
    let ConfigReply::Refused { reason } = get(&client, "web-01", &request()).await else {
        panic!("not refused");
    };
    assert!(reason.contains("was decommissioned: to take web-01 in again"), "{reason}");
    assert_eq!(names(hosts(&client).await), ["db-01"]);
    let revision = documents(&client).await.revision;
    assert_eq!(decommission(&client, "web-01").await.unwrap().keys, 0);
    assert_eq!(documents(&client).await.revision, revision, "said again it changes nothing");
    assert_eq!(decommission(&client, "nosuch").await.unwrap_err().code, ErrorCode::NotFound);

    // A restart, and a replica that has only the stream, know it as well.
    replica.stop().await;
    let replica = Replica::start(&nats.url(), data.path()).await;
    assert_eq!(
        (names(hosts(&client).await), gone(&client).await),
        (vec!["db-01".into()], vec!["web-01".into()])
    );
    replica.stop().await;
    let other = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), other.path()).await;
    assert_eq!(names(hosts(&client).await), Vec::<String>::new());
    assert!(matches!(get(&client, "web-01", &request()).await, ConfigReply::Refused { .. }));

    // With a new key it is a new host: nothing of what was given before counts, after a restart neither.
    key(&client, "new").await;
    assert_eq!(gone(&client).await, Vec::<String>::new());
    full(&client, "web-01", &request()).await;
    let labels = async || host(&client, "web-01").await.unwrap().labels.into_keys().collect::<Vec<_>>();
    assert_eq!(labels().await, ["new"]);
    replica.stop().await;
    let _replica = Replica::start(&nats.url(), other.path()).await;
    assert_eq!(labels().await, ["new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_renamed_is_shown_with_its_former_name() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let _replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    full(&client, "web-01", &with_fact("machine_id", "m1")).await;
    let silent = service_kit::now_ms();
    // The next millisecond at the earliest.
    testkit::eventually("time passes", LIMIT, || async {
        if service_kit::now_ms() > silent { Ok(()) } else { Err("not yet") }
    })
    .await;
    full(&client, "www", &with_fact("machine_id", "m1")).await;
    full(&client, "db-01", &with_fact("machine_id", "m2")).await;
    let names = testkit::eventually("both are told", std::time::Duration::from_secs(30), || async {
        let all = hosts(&client).await;
        let of = |name: &str| all.iter().find(|host| host.agent == agent(name)).cloned().unwrap();
        let (old, new) = (of("web-01"), of("www"));
        assert_eq!((of("db-01").formerly, of("db-01").renamed_to), (None, None));
        // What was looked at a moment ago may be told again.
        new.formerly.zip(old.renamed_to).ok_or("not told yet")
    })
    .await;
    assert_eq!(names, (agent("web-01"), agent("www")));
    decommission(&client, "web-01").await.unwrap();
    assert_eq!(hosts(&client).await.len(), 2);
}
