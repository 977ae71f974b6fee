//! Getting a configuration, following it, and living with a bad one.

use protocol::{CheckName, Status, config::ConfigReply};
use testkit::NatsServer;
use tokio::time::Instant;

use crate::rig::{Agent, Config, Ingest, LIMIT, check, gapless, of};

#[tokio::test]
async fn a_configuration_becomes_results() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let mut number = check("packages", 60_000, "echo 7");
    number.warning = Some("> 5".parse().unwrap());
    let mut disk = check("disk", 60_000, "");
    (disk.work.command, disk.work.builtin) = (None, Some("disk".into()));
    let mut future = check("future", 60_000, "");
    (future.work.command, future.work.builtin) = (None, Some("quantum".into()));
    let config = Config::start(server.client().await, vec![number, disk, future]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = Agent::start(&server.url(), state.path(), &["--label", "role=web"]).await;

    let results = ingest.wait("three results", |results| results.len() >= 3).await;
    assert_eq!(gapless(&results), 3);
    let packages = of(&results, "packages")[0];
    assert_eq!((packages.status, packages.value.as_ref().unwrap().as_f64()), (Status::Warning, Some(7.0)));
    assert_eq!((packages.revision, packages.exit_code, packages.replayed), (1, Some(0), false));
    let disk = of(&results, "disk")[0];
    assert!(disk.output.starts_with("DISK ") && disk.exit_code.is_none(), "{}", disk.output);
    let future = of(&results, "future")[0];
    assert_eq!(future.status, Status::Unknown);
    assert!(future.output.contains("no built-in check \"quantum\""), "{}", future.output);

    config
        .reported("what cannot run is told (G8)", |status| {
            status.revision == 1 && status.error.as_ref().is_some_and(|error| error.starts_with("future: "))
        })
        .await;
    let asked = config.asked.lock().unwrap().clone();
    assert!(asked[0].facts.as_ref().unwrap().contains_key("os"));
    assert_eq!(asked[0].labels.get("role").map(String::as_str), Some("web"));
    assert_eq!(agent.metric("results_total"), 3);
    agent.stop().await;
}

#[tokio::test]
async fn g8_a_change_is_followed_within_two_seconds_and_disturbs_no_other_check() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let (steady, gone) = (check("steady", 3_600_000, "echo 1"), check("gone", 200, "echo 1"));
    let config = Config::start(server.client().await, vec![steady.clone(), gone]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    ingest.wait("both", |results| !of(results, "steady").is_empty() && !of(results, "gone").is_empty()).await;

    let changed = Instant::now();
    config.apply(2, vec![steady.clone(), check("new", 200, "echo 2")]).await;
    config.reported("revision 2 runs", |status| status.revision == 2 && status.error.is_none()).await;
    ingest.wait("the new check", |results| !of(results, "new").is_empty()).await;
    assert!(changed.elapsed().as_millis() < 2_000, "{:?}", changed.elapsed());
    assert!(config.asked.lock().unwrap().last().unwrap().facts.is_none(), "facts are sent once");
    let results = ingest.wait("more of the new", |results| of(results, "new").len() > 3).await;
    assert_eq!(of(&results, "steady").len(), 1);
    assert!(of(&results, "gone").iter().all(|result| result.revision == 1));
    assert!(of(&results, "new").iter().all(|result| result.revision == 2));

    // The same checks under a new revision: nothing runs anew, and yet the revision is reported.
    *config.statuses.lock().unwrap() = Vec::new();
    let same = protocol::config::AgentConfig {
        revision: 3,
        etag: "etag of 2".into(),
        checks: vec![],
        documents: vec![],
    };
    config.set(ConfigReply::Full { config: same }).await;
    config.reported("revision 3 runs", |status| status.revision == 3 && status.error.is_none()).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_refused_or_impossible_configuration_leaves_the_one_before() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let config = Config::start(server.client().await, vec![check("good", 200, "echo 1")]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    ingest.wait("a result", |results| !results.is_empty()).await;
    config.set(ConfigReply::Refused { reason: "who are you".into() }).await;
    testkit::eventually("the refusal is counted", LIMIT, async || {
        let failures = agent.metric("config_failures_total");
        if failures > 0 { Ok(()) } else { Err(failures) }
    })
    .await;
    let too_many = (0..=protocol::limits::CHECKS).map(|i| check(&format!("c{i}"), 1_000, "true")).collect();
    config.apply(9, too_many).await;
    config
        .reported("why 9 does not run (G8)", |status| {
            status.revision == 9 && status.error.as_ref().is_some_and(|error| error.contains("more than the"))
        })
        .await;
    let before = ingest.results().await.len();
    ingest.wait("it goes on", |results| results.len() > before + 3).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_stop_ends_running_checks_without_a_result() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let state = tempfile::tempdir().unwrap();
    let mark = state.path().join("running");
    let slow = check("slow", 60_000, &format!("touch {}; sleep 60; echo 1", mark.display()));
    let _config = Config::start(server.client().await, vec![slow]).await;
    let agent = Agent::start(&server.url(), &state.path().join("agent"), &[]).await;
    testkit::eventually("it runs", LIMIT, async || std::fs::metadata(&mark)).await;
    let stopping = Instant::now();
    agent.stop().await;
    assert!(stopping.elapsed().as_secs() < 6);
    assert!(of(&ingest.results().await, CheckName::new("slow").unwrap().as_str()).is_empty());
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_used_says_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    let url = format!("nats://{}", testkit::free_address());
    let agent = Agent::start(&url, state.path(), &[]).await;
    let error = Agent::try_start(&url, state.path(), &[]).await.err().unwrap().to_string();
    assert!(error.contains("in use by another process: stop that one, or choose another folder"), "{error}");
    agent.stop().await;
    let file = state.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Agent::try_start(&url, &file, &[]).await.err().unwrap().to_string();
    assert!(error.contains("check that it can be written"), "{error}");
}

/// The one test of cron against the real clock: it takes up to a minute.
#[tokio::test]
async fn a_check_by_cron_runs_at_its_minute_and_left_out_runs_are_told() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let mut minutely = check("minutely", 60_000, "echo 1");
    (minutely.cron, minutely.timezone) = (Some("* * * * *".into()), Some("Asia/Kolkata".into()));
    let mut wrong = check("wrong", 60_000, "echo 1");
    wrong.cron = Some("* * * *".into());
    let slow = check("slow", 100, "sleep 0.5; echo 1");
    let _config = Config::start(server.client().await, vec![minutely, wrong, slow]).await;
    let state = tempfile::tempdir().unwrap();
    let started = service_kit::now_ms();
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    let results = ingest
        .wait("a slow check twice", |results| {
            of(results, "slow").len() > 1 && !of(results, "wrong").is_empty()
        })
        .await;
    assert!(of(&results, "wrong")[0].output.contains("not a cron expression"));
    assert_eq!(of(&results, "slow")[0].skipped, 0);
    assert!(of(&results, "slow")[1].skipped >= 2, "{results:#?}");
    assert!(agent.metric("checks_skipped_total") >= of(&results, "slow")[1].skipped);

    let ran = testkit::eventually("the minute", std::time::Duration::from_secs(120), async || {
        of(&ingest.results().await, "minutely").first().map(|result| result.at_ms).ok_or("no run yet")
    })
    .await;
    // Its own delay is below a tenth of a minute; the rest is a busy machine.
    assert!(ran >= started && ran % 60_000 < 30_000, "started {started}, ran {ran}");
    agent.stop().await;
}
