use futures_util::StreamExt;
use protocol::{
    ErrorCode,
    admin::Liveness,
    config::{ConfigChanged, ConfigReply, ConfigRequest, ConfigStatus},
    subject,
};
use testkit::{NatsServer, eventually};

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_nudges_those_whom_it_concerns_and_nobody_else() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let _replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, CPU).await.unwrap();
    for name in ["web", "db"] {
        let config = full(&client, name, &with_fact("role", name)).await;
        assert_eq!(names(&config), ["cpu"]);
    }
    let mut nudges = client.subscribe("dogwatch.v1.config.changed.*").await.unwrap();
    let mut revisions = client.subscribe(subject::CONFIG_REVISION).await.unwrap();
    service_kit::respond::barrier(&client).await.unwrap();

    apply(&client, "kind: Check\nname: web_only\nhosts: facts.role == \"web\"\nbuiltin: load\nevery: 10s\n")
        .await
        .unwrap();
    let nudge = tokio::time::timeout(LIMIT, nudges.next()).await.unwrap().unwrap();
    assert_eq!(nudge.subject.as_str(), subject::config_changed(&agent("web")));
    let changed: ConfigChanged = serde_json::from_slice(&nudge.payload).unwrap();
    assert_eq!(changed.revision, 2);
    tokio::time::timeout(LIMIT, revisions.next()).await.unwrap().unwrap();

    let config = full(&client, "web", &request_without_facts()).await;
    assert_eq!((names(&config), config.revision), (vec!["cpu", "web_only"], 2));
    let same = ConfigRequest { etag: Some(config.etag), ..request_without_facts() };
    assert_eq!(get(&client, "web", &same).await, ConfigReply::Unchanged { revision: 2 });
    // A description changes nothing that runs: the next nudge is that of a later change, for all.
    apply(&client, "kind: Check\nname: cpu\nbuiltin: cpu\nevery: 10s\ndescription: x\n").await.unwrap();
    apply(&client, "kind: Check\nname: cpu\nbuiltin: cpu\nevery: 20s\n").await.unwrap();
    for _ in 0..2 {
        let nudge = tokio::time::timeout(LIMIT, nudges.next()).await.unwrap().unwrap();
        let changed: ConfigChanged = serde_json::from_slice(&nudge.payload).unwrap();
        assert_eq!(changed.revision, 4, "{}", nudge.subject);
    }
}

fn request_without_facts() -> ConfigRequest {
    ConfigRequest { facts: None, ..request() }
}

#[tokio::test(flavor = "multi_thread")]
async fn os_updates_differs_by_package_manager_and_follows_changed_facts() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let _replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, include_str!("../../../examples/checks.yaml")).await.unwrap();
    let managers = ["apt", "dnf", "yum", "zypper", "apk", "pacman", "pkg"];
    let tools = [
        "apt-get -s",
        "dnf -q -C",
        "yum -q -C",
        "zypper -q",
        "apk --no-network",
        "pacman -Qu",
        "pkg version",
    ];
    for (manager, tool) in managers.iter().zip(tools) {
        let config = full(&client, "moving", &with_fact("package_manager", manager)).await;
        let updates = config.checks.iter().find(|check| check.name.as_str() == "os_updates").unwrap();
        assert!(updates.work.command.as_ref().unwrap().contains(tool), "{manager}: {updates:?}");
    }
    let config = full(&client, "odd", &with_fact("package_manager", "nix")).await;
    assert_eq!(names(&config), ["cpu", "disk", "load", "memory", "uptime"]);
    let odd = host(&client, "odd").await.unwrap();
    let unfit: Vec<_> = odd.unfit.iter().map(|unfit| (unfit.check.as_str(), unfit.reason.as_str())).collect();
    assert_eq!(unfit, [("os_updates", "no variant fits")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_every_host_says_what_it_runs() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, CPU).await.unwrap();
    let config = full(&client, "a", &request()).await;
    let a = host(&client, "a").await.unwrap();
    assert_eq!((a.revision_wanted, a.revision_applied, a.checks.len()), (1, None, 1));

    let failed = ConfigStatus { v: 1, agent: agent("a"), revision: 1, error: Some("no shell".to_owned()) };
    report(&client, &failed).await;
    eventually("the failure is shown", LIMIT, || async {
        let error = host(&client, "a").await.unwrap().error;
        if error.as_deref() == Some("no shell") { Ok(()) } else { Err(format!("{error:?}")) }
    })
    .await;
    // A report on another's subject, and one of nobody, change nothing.
    let body = protocol::encode(&ConfigStatus { agent: agent("b"), ..failed.clone() }).unwrap();
    client.publish(subject::config_status(&agent("a")), body.into()).await.unwrap();
    client.publish(subject::config_status(&agent("a")), "nonsense".into()).await.unwrap();
    report(&client, &ConfigStatus { error: None, ..failed }).await;
    eventually("the success is shown", LIMIT, || async {
        let a = host(&client, "a").await.unwrap();
        if (a.revision_applied, a.error.is_none()) == (Some(1), true) {
            Ok(())
        } else {
            Err(format!("{a:?}"))
        }
    })
    .await;
    assert_eq!(replica.metric("reports_dropped_total"), 2.0);

    // An agent whose report was lost proves by its etag what it runs.
    let b = full(&client, "b", &request()).await;
    let same = ConfigRequest { etag: Some(b.etag), ..request() };
    assert_eq!(get(&client, "b", &same).await, ConfigReply::Unchanged { revision: 1 });
    assert_eq!(host(&client, "b").await.unwrap().revision_applied, Some(1));
    assert_eq!(config.checks, b.checks);
    assert_eq!(host(&client, "nobody").await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(hosts(&client).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_too_many_hosts_and_too_many_facts_are_refused_with_a_reason() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start_with(&nats.url(), data.path(), &["--max-hosts", "1"]).await.unwrap();
    let client = nats.client().await;
    full(&client, "a", &request()).await;
    let ConfigReply::Refused { reason } = get(&client, "b", &request()).await else { panic!("not refused") };
    assert_eq!(reason, "the inventory is full: 1 hosts (--max-hosts)");
    let facts = (0..300).map(|n| (format!("f{n}"), n.into())).collect();
    let many = ConfigRequest { facts: Some(facts), ..request() };
    let ConfigReply::Refused { reason } = get(&client, "a", &many).await else { panic!("not refused") };
    assert_eq!(reason, "300 facts are more than the 256 allowed");
    assert_eq!(replica.metric("configs_refused_total"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_live_or_late_by_its_own_interval_and_two_with_one_id_are_shown() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let _replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, CPU).await.unwrap();
    let of = |instance: &str, poll_ms: u64| ConfigRequest {
        poll_ms: Some(poll_ms),
        instance: Some(instance.to_owned()),
        ..request()
    };
    for instance in ["one", "two", "two"] {
        full(&client, "a", &of(instance, 3_600_000)).await;
    }
    let a = host(&client, "a").await.unwrap();
    assert_eq!((a.liveness, a.cloned_ms), (Some(Liveness::Live), None));
    full(&client, "a", &of("one", 100)).await;
    assert!(host(&client, "a").await.unwrap().cloned_ms.is_some());
    eventually("it is late", LIMIT, || async {
        let a = host(&client, "a").await.unwrap();
        let late = a.liveness == Some(Liveness::Late) && a.liveness_since_ms >= Some(a.last_seen_ms);
        if late { Ok(()) } else { Err(format!("{a:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_crowd_every_host_gets_its_own_from_every_replica() {
    let nats = NatsServer::start().await;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _one = Replica::start(&nats.url(), one.path()).await;
    let _other = Replica::start(&nats.url(), other.path()).await;
    let client = nats.client().await;
    let check = |n: usize, every: &str| {
        format!(
            "kind: Check\nname: c{n}\nbuiltin: load\nevery: {every}\nhosts: facts.role == \"r{n}\"\n---\n"
        )
    };
    let documents = |every: &str| (0..5).map(|n| check(n, every)).collect::<String>();
    apply(&client, &documents("1m")).await.unwrap();
    let mut etags = vec![None; 400];
    for round in 1..4 {
        let asked = etags.iter().enumerate().map(|(n, etag)| {
            let (client, role) = (client.clone(), n % 5);
            let request =
                ConfigRequest { etag: Clone::clone(etag), ..with_fact("role", &format!("r{role}")) };
            tokio::spawn(async move {
                let name = format!("h{n}");
                let config = eventually("the replica that answers has the change", LIMIT, || async {
                    match get(&client, &name, &request).await {
                        ConfigReply::Full { config }
                            if config.checks.iter().any(|check| check.every_ms == 60_000 * round) =>
                        {
                            Ok(config)
                        }
                        other => Err(format!("{other:?}")),
                    }
                });
                let config = config.await;
                assert_eq!(names(&config), [format!("c{role}")], "{name}");
                config.etag
            })
        });
        let all = futures_util::future::join_all(asked.collect::<Vec<_>>()).await;
        etags = all.into_iter().map(|etag| Some(etag.unwrap())).collect();
        apply(&client, &documents(&format!("{}m", round + 1))).await.unwrap();
    }
}
