//! Checks that are asked for: what comes back, and that the schedule and the account are none the worse for it.

use std::time::Duration;

use async_nats::{Client, StatusCode};
use futures_util::StreamExt;
use protocol::{
    CheckName, ErrorCode, Status,
    run::{OutputStream, RunEvent, RunReply, RunRequest},
    subject,
};
use testkit::NatsServer;

use crate::rig::{Agent, Config, Ingest, LIMIT, check, gapless, id, of};

fn request(check: &str, wait_ms: Option<u64>) -> RunRequest {
    RunRequest { v: 1, check: CheckName::new(check).unwrap(), wait_ms, by: "a test".into() }
}

struct Asked(async_nats::Subscriber);

/// Send a request; what comes back can be looked at while it comes.
async fn ask(client: &Client, body: Vec<u8>) -> Asked {
    let inbox = client.new_inbox();
    let replies = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(subject::run(&id()), inbox, body.into()).await.unwrap();
    Asked(replies)
}

async fn ask_for(client: &Client, request: &RunRequest) -> Asked {
    ask(client, protocol::encode(request).unwrap()).await
}

impl Asked {
    async fn next(&mut self) -> RunReply {
        let message = tokio::time::timeout(LIMIT, self.0.next()).await.unwrap().unwrap();
        assert_ne!(message.status, Some(StatusCode::NO_RESPONDERS));
        assert!(message.payload.len() < 300_000);
        let reply: RunReply = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(reply.last, matches!(reply.event, RunEvent::Ended { .. } | RunEvent::Refused { .. }));
        reply
    }

    async fn all(&mut self) -> Vec<RunEvent> {
        let mut events = Vec::new();
        loop {
            let RunReply { event, last, .. } = self.next().await;
            events.push(event);
            if last {
                return events;
            }
        }
    }

    async fn refused(&mut self) -> (ErrorCode, String) {
        match self.all().await.as_slice() {
            [RunEvent::Refused { code, reason }] => (*code, reason.clone()),
            other => panic!("{other:?}"),
        }
    }
}

fn printed(events: &[RunEvent], wanted: OutputStream) -> String {
    events.iter().fold(String::new(), |all, event| match event {
        RunEvent::Output { stream, text } if *stream == wanted => all + text,
        _ => all,
    })
}

#[tokio::test]
async fn g1_a_check_that_is_asked_for_tells_its_output_as_it_comes_and_is_a_result_like_any_other() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let state = tempfile::tempdir().unwrap();
    let go = state.path().join("go");
    // The schedule's own run ends at once; the one that is asked for waits for the test.
    let ran = state.path().join("ran");
    let command = format!(
        "test -e {ran} || {{ touch {ran}; echo 1; exit; }}; echo first; echo fault >&2; \
         while ! test -e {go}; do sleep 0.05; done; echo 'größer'; exit 1",
        ran = ran.display(),
        go = go.display(),
    );
    let mut slow = check("slow", 3_600_000, &command);
    slow.output.format = protocol::work::OutputFormat::Nagios;
    let _config = Config::start(server.client().await, vec![slow]).await;
    let agent = Agent::start(&server.url(), &state.path().join("agent"), &[]).await;
    ingest.wait("the schedule's run", |results| of(results, "slow").len() == 1).await;

    let client = server.client().await;
    let mut asked = ask_for(&client, &request("slow", None)).await;
    let started = asked.next().await.event;
    assert_eq!(started, RunEvent::Started { revision: 1, timeout_ms: 10_000 });
    let mut seen = vec![asked.next().await.event, asked.next().await.event];
    assert_eq!(printed(&seen, OutputStream::Stdout), "first\n", "before it ended");
    assert_eq!(printed(&seen, OutputStream::Stderr), "fault\n");
    let (code, reason) = ask_for(&client, &request("slow", None)).await.refused().await;
    assert_eq!(code, ErrorCode::Conflict, "{reason}");
    let mut waiting = ask_for(&client, &request("slow", Some(15_000))).await;

    std::fs::write(&go, "").unwrap();
    seen = asked.all().await;
    assert_eq!(printed(&seen, OutputStream::Stdout), "größer\n");
    let Some(RunEvent::Ended { result, dropped: 0 }) = seen.last() else { panic!("{seen:?}") };
    assert_eq!((result.status, result.exit_code, result.seq), (Status::Warning, Some(1), 2));
    let after = waiting.all().await;
    assert!(matches!(after.last(), Some(RunEvent::Ended { result, .. }) if result.seq == 3), "{after:?}");
    let results = ingest.wait("all of them", |results| of(results, "slow").len() == 3).await;
    assert_eq!(gapless(&results), 3);
    let kept = results.iter().find(|kept| kept.seq == 2).unwrap();
    assert_eq!(kept, &**result);
    agent.stop().await;
}

#[tokio::test]
async fn g10_what_cannot_run_is_refused_with_the_reason_and_gigabytes_are_bounded() {
    let server = NatsServer::start().await;
    let _ingest = Ingest::start(server.client().await).await;
    let state = tempfile::tempdir().unwrap();
    let mut much = check("much", 3_600_000, "yes 0123456789 | head -c 300000000");
    much.output.format = protocol::work::OutputFormat::Text;
    let hang = check("hang", 3_600_000, "sleep 300");
    let config = Config::start(server.client().await, vec![much, hang]).await;
    let agent = Agent::start(&server.url(), state.path(), &[]).await;
    config.reported("it runs", |status| status.error.is_none()).await;
    let client = server.client().await;

    let (code, reason) = ask_for(&client, &request("nothing", None)).await.refused().await;
    assert_eq!(
        (code, reason.as_str()),
        (ErrorCode::NotFound, "web-01 has no check nothing: see `dogwatch hosts`")
    );
    for bad in [b"{".to_vec(), br#"{"v":2,"check":"much","by":"x"}"#.to_vec(), vec![b'['; 100_000]] {
        assert_eq!(ask(&client, bad).await.refused().await.0, ErrorCode::Invalid);
    }
    let events = ask_for(&client, &request("much", Some(60_000))).await.all().await;
    let text = printed(&events, OutputStream::Stdout);
    assert!(text.len() <= 1024 * 1024 && text.starts_with("0123456789\n"), "{}", text.len());
    let Some(RunEvent::Ended { result, dropped }) = events.last() else { panic!("{events:?}") };
    assert_eq!(dropped + text.len() as u64, 300_000_000);
    assert!(result.output.len() <= protocol::limits::OUTPUT, "{}", result.output.len());

    // All places are taken by who waits for a check that hangs.
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(ask_for(&client, &request("hang", Some(60_000))).await);
    }
    let (code, _) = ask_for(&client, &request("hang", Some(60_000))).await.refused().await;
    assert_eq!(code, ErrorCode::Overloaded);
    // Its timeout ends it, and the next one of those that wait begins.
    for asked in &mut waiting[..1] {
        assert!(matches!(asked.next().await.event, RunEvent::Started { .. }));
    }
    config.apply(2, vec![check("other", 3_600_000, "echo 1")]).await;
    for asked in &mut waiting {
        let (code, _) = match asked.all().await.pop() {
            Some(RunEvent::Refused { code, reason }) => (code, reason),
            other => panic!("{other:?}"),
        };
        assert!(matches!(code, ErrorCode::Unavailable | ErrorCode::NotFound), "{code:?}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn g4_an_agent_answers_who_asked_and_nobody_else() {
    let list =
        |subjects: Vec<String>| subjects.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
    let block = format!(
        "authorization {{ users: [\n {{user: services, password: s}}\n {{user: agent, password: \"a-secret\", \
         permissions: {{publish: {{allow: [{}]}}, subscribe: {{allow: [{}]}}, \
         allow_responses: {{max: {}, expires: \"{}s\"}} }} }}\n] }}",
        list(subject::agent_publishes(&id())),
        list(subject::agent_subscribes(&id())),
        subject::AGENT_RESPONSES.0,
        subject::AGENT_RESPONSES.1.as_secs(),
    );
    let server = NatsServer::start_with(&block).await;
    let user = |name: &str, password: &str| {
        let options = async_nats::ConnectOptions::with_user_and_password(name.into(), password.into());
        options.custom_inbox_prefix("_INBOX_web-01").connect(server.url())
    };
    let services = user("services", "s").await.unwrap();
    let _ingest = Ingest::start(services.clone()).await;
    let mut noisy = check("noisy", 3_600_000, "for n in $(seq 300); do echo $n; sleep 0.005; done");
    noisy.output.format = protocol::work::OutputFormat::Text;
    let config = Config::start(services.clone(), vec![noisy]).await;
    let state = tempfile::tempdir().unwrap();
    let password = state.path().join("password");
    std::fs::write(&password, "a-secret\n").unwrap();
    let args = ["--nats-user", "agent", "--nats-password-file", password.to_str().unwrap()];
    let agent = Agent::start(&server.url(), &state.path().join("agent"), &args).await;
    config.reported("it runs", |status| status.error.is_none()).await;

    let events = ask_for(&services, &request("noisy", Some(20_000))).await.all().await;
    assert!(printed(&events, OutputStream::Stdout).ends_with("300\n"), "{events:?}");
    assert_eq!(agent.metric("nats_errors_total"), 0, "nothing was forbidden");

    // A client with the agent's own rights publishes to an inbox that never asked it.
    let inbox = services.new_inbox().replace("web-01", "services");
    let mut heard = services.subscribe(inbox.clone()).await.unwrap();
    services.flush().await.unwrap();
    let thief = user("agent", "a-secret").await.unwrap();
    thief.publish(inbox, "x".into()).await.unwrap();
    thief.flush().await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_secs(1), heard.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    agent.stop().await;
}
