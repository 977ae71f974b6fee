//! Configurations that are cut, huge, of an unknown version, damaged on disk, or change while a check runs.

use protocol::config::ConfigReply;
use testkit::NatsServer;

use crate::rig::{Agent, Config, Ingest, LIMIT, check, of};

#[tokio::test]
async fn g8_a_reply_that_cannot_be_read_is_told_and_changes_nothing() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let config = Config::start(server.client().await, vec![check("good", 200, "echo 1")]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    ingest.wait("a result", |results| !results.is_empty()).await;
    let saved = || std::fs::read(state.path().join("config.json")).unwrap();
    let before = saved();
    let whole = serde_json::to_vec(&serde_json::json!({"ok": {"outcome": "full", "config":
        {"revision": 2, "etag": "2", "checks": []}}}));
    let whole = whole.unwrap();
    let huge = format!("{{\"ok\":{{\"outcome\":\"full\",\"x\":\"{}\"}}}}", "x".repeat(4 * 1024 * 1024 - 100));
    for (raw, reason) in [
        (whole[..whole.len() / 2].to_vec(), "cannot be read"),
        (br#"{"ok":{"outcome":"of a later version","config":{}}}"#.to_vec(), "of a later version"),
        (br#"{"ok":{"outcome":"full","config":{"revision":"2"}}}"#.to_vec(), "cannot be read"),
        (huge.into_bytes(), "missing field"),
        (vec![b'['; 1_000_000], "cannot be read"),
        (vec![0xff; 100], "cannot be read"),
    ] {
        config.statuses.lock().unwrap().clear();
        config.set_raw(raw).await;
        config
            .reported("why not", |status| {
                status.revision == 1 && status.error.as_ref().is_some_and(|error| error.contains(reason))
            })
            .await;
    }
    assert_eq!(saved(), before);
    let count = ingest.results().await.len();
    ingest.wait("the checks go on", |results| results.len() > count + 3).await;
    // And out of it again.
    config.apply(2, vec![check("better", 200, "echo 2")]).await;
    ingest.wait("the next good one runs", |results| !of(results, "better").is_empty()).await;
    agent.stop().await;
}

#[tokio::test]
async fn g7_a_damaged_saved_configuration_is_said_and_asked_for_anew() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let _config = Config::start(server.client().await, vec![check("good", 200, "echo 1")]).await;
    let state = tempfile::tempdir().unwrap();
    for damage in
        [&b"{\"revision\":1,\"etag\":\"etag of 1\",\"che"[..], b"", &[0; 4_096], b"[]", b"{\"revision\":-1}"]
    {
        std::fs::write(state.path().join("config.json"), damage).unwrap();
        let before = ingest.results().await.len();
        let agent = Agent::start(&server.url(), state.path(), &[]).await;
        assert!(agent.metric("config_failures_total") > 0);
        ingest.wait("it runs again", |results| results.len() > before).await;
        agent.stop().await;
        let saved = std::fs::read_to_string(state.path().join("config.json")).unwrap();
        assert!(saved.contains("\"good\""), "and is whole again: {saved}");
    }
}

#[tokio::test]
async fn a_change_while_a_check_runs_ends_that_run_and_begins_with_the_new_one() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let state = tempfile::tempdir().unwrap();
    let (mark, gone) = (state.path().join("running"), state.path().join("ended"));
    let slow = format!(
        "trap 'touch {}; exit' TERM; touch {}; sleep 60 & wait; echo 1",
        gone.display(),
        mark.display()
    );
    let config = Config::start(server.client().await, vec![check("slow", 60_000, &slow)]).await;
    let agent = Agent::start(&server.url(), &state.path().join("agent"), &[]).await;
    testkit::eventually("it runs", LIMIT, async || std::fs::metadata(&mark)).await;
    config.apply(2, vec![check("slow", 60_000, "echo 2")]).await;
    let results = ingest.wait("the new one", |results| !of(results, "slow").is_empty()).await;
    assert!(gone.exists(), "the old run was ended first");
    let only = of(&results, "slow");
    assert_eq!((only.len(), only[0].revision, only[0].value.as_ref().unwrap().as_f64()), (1, 2, Some(2.0)));
    // A list that shrinks to nothing while all of it runs.
    config.set(ConfigReply::Full { config: crate::rig::config(3, vec![]) }).await;
    config.reported("nothing runs", |status| status.revision == 3 && status.error.is_none()).await;
    agent.stop().await;
}
