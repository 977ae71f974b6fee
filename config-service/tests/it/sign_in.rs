//! Auth callout against a real broker: agents get their own subjects, from any replica, until they are revoked.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_nats::{Client, ConnectError, ConnectOptions, Event, ServerError};
use futures_util::StreamExt;
use nkeys::KeyPair;
use protocol::{
    CheckName, ErrorCode, ReceiverName, RuleName, audit,
    sign_in::{AgentRevoke, AgentRevoked, TokenCreate, TokenCreated, TokenList, TokenQuery},
    subject,
};
use tempfile::TempDir;
use testkit::{NatsServer, eventually};

use crate::harness::*;

/// A broker that asks, and the keys of those that it does not ask about.
struct Place {
    nats: NatsServer,
    folder: TempDir,
    services: String,
}

impl Place {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seed = |name: &str, pair: &KeyPair| {
            std::fs::write(folder.path().join(name), pair.seed().unwrap()).unwrap();
        };
        let (services, system, issuer) = (KeyPair::new_user(), KeyPair::new_user(), KeyPair::new_account());
        seed("services.nk", &services);
        seed("system.nk", &system);
        seed("issuer.nk", &issuer);
        let (user, admin) = (services.public_key(), system.public_key());
        let config = format!(
            "system_account: SYS\naccounts {{ SYS {{ users: [ {{ nkey: {admin} }} ] }} }}\nauthorization {{\n timeout: 10\n \
             users: [ {{ nkey: {user} }} ]\n auth_callout {{ issuer: {}, auth_users: [ {user}, {admin} ] }}\n}}\n",
            issuer.public_key()
        );
        let nats = NatsServer::start_with(&config).await;
        Self { nats, services: services.seed().unwrap(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn replica(&self, name: &str) -> Replica {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let (services, issuer, system) = (path("services.nk"), path("issuer.nk"), path("system.nk"));
        let flags = [
            ["--nats-nkey-file", &services],
            ["--issuer-seed-file", &issuer],
            ["--system-nkey-file", &system],
        ];
        Replica::start_with(&self.nats.url(), &self.path(name), &flags.concat()).await.unwrap()
    }

    async fn services(&self) -> Client {
        ConnectOptions::with_nkey(self.services.clone()).connect(self.nats.url()).await.unwrap()
    }

    async fn agent(&self, name: &str, pair: &Arc<KeyPair>, token: &str) -> Result<Agent, ConnectError> {
        let (pair, user, token) = (Arc::clone(pair), name.to_owned(), token.to_owned());
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let options = ConnectOptions::with_auth_callback(move |nonce| {
            let mut auth = async_nats::Auth::new();
            auth.nkey = Some(pair.public_key());
            auth.signature = pair.sign(&nonce).ok();
            (auth.username, auth.password) = (Some(user.clone()), Some(token.clone()));
            std::future::ready(Ok(auth))
        });
        let client = options
            .custom_inbox_prefix(format!("_INBOX_{name}"))
            .event_callback(move |event| {
                let text = match event {
                    Event::ServerError(ServerError::Other(text)) => text.to_lowercase(),
                    other => other.to_string(),
                };
                told.lock().unwrap().push(text);
                std::future::ready(())
            })
            .connect(self.nats.url())
            .await?;
        Ok(Agent { client, events })
    }
}

struct Agent {
    client: Client,
    events: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    fn told(&self, text: &str) -> bool {
        self.events.lock().unwrap().iter().any(|event| event.contains(text))
    }
}

impl Agent {
    /// Wait until the broker has refused each of these.
    async fn refused(&self, what: &str, subjects: &[String]) {
        eventually("each is refused", LIMIT, async || {
            let text = |subject: &String| {
                format!("permissions violation for {what} to \"{}\"", subject.to_lowercase())
            };
            let missing: Vec<_> = subjects.iter().filter(|subject| !self.told(&text(subject))).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("not refused: {missing:#?}")) }
        })
        .await;
    }
}

async fn token(client: &Client, request: TokenCreate) -> TokenCreated {
    ask(client, subject::ADMIN_TOKEN_CREATE, &request).await.unwrap()
}

fn pair() -> Arc<KeyPair> {
    Arc::new(KeyPair::new_user())
}

/// Every subject that is not `web-01`'s.
fn foreign() -> Vec<String> {
    let (other, check) = (agent("web-02"), CheckName::new("disk").unwrap());
    let (rule, receiver) = (RuleName::new("r").unwrap(), ReceiverName::new("ops").unwrap());
    let mut all: Vec<String> = subject::ALL.iter().map(|subject| subject.replace('*', "web-02")).collect();
    all.extend([
        subject::config_get(&other),
        subject::config_changed(&other),
        subject::config_status(&other),
        subject::result(&other, &check),
        subject::stored(&other),
        subject::stored_get(&other),
        subject::run(&other),
        subject::alert(&other, &rule),
        subject::alert(&agent("web-01"), &rule),
        subject::notify(&receiver),
        subject::rejected("ingest"),
        subject::audit("config-service"),
        format!("{}.x", subject::agent_inbox(&other)),
        subject::broker::SIGN_IN.to_owned(),
        subject::broker::CONNECTIONS.to_owned(),
        subject::broker::kick("N"),
    ]);
    let broker = [
        "_INBOX.x",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.CONFIG",
        "$JS.API.STREAM.PURGE.RESULTS",
        "$JS.ACK.x",
        "$KV.x.y",
        "$SRV.PING",
        "other",
    ];
    all.extend(broker.map(str::to_owned));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_an_agent_is_refused_every_foreign_subject_both_ways() {
    let place = Place::start().await;
    let _replica = place.replica("a").await;
    let services = place.services().await;
    let token = token(&services, TokenCreate::default()).await.token;
    let web = place.agent("web-01", &pair(), &token).await.unwrap();
    let own = agent("web-01");
    let everything = [
        ">",
        "dogwatch.>",
        "dogwatch.v1.>",
        "dogwatch.v1.*.web-01",
        "dogwatch.v1.run.*",
        "_INBOX_web-02.>",
        "_INBOX.>",
        "$JS.>",
        "$SYS.>",
    ];
    // Its own the other way round are foreign too.
    let mut publishes = foreign();
    publishes.extend([subject::config_changed(&own), subject::stored(&own), subject::run(&own)]);
    publishes.push(format!("{}.x", subject::agent_inbox(&own)));
    let mut subscribes = foreign();
    subscribes.extend(everything.map(str::to_owned));
    subscribes.extend(subject::agent_publishes(&own));
    // A few at a time: the client drops what it has to tell when it is too much.
    let mut kept = Vec::new();
    for subjects in publishes.chunks(16) {
        for subject in subjects {
            web.client.publish(subject.clone(), "x".into()).await.unwrap();
        }
        web.refused("publish", subjects).await;
    }
    for subjects in subscribes.chunks(16) {
        for subject in subjects {
            kept.push(web.client.subscribe(subject.clone()).await.unwrap());
        }
        web.refused("subscription", subjects).await;
    }

    // Its own work, and the answer to a request that reached it.
    let mut heard = services.subscribe("dogwatch.v1.*.web-01.>").await.unwrap();
    let mut asked = web.client.subscribe(subject::run(&own)).await.unwrap();
    let mut stored = web.client.subscribe(subject::stored(&own)).await.unwrap();
    let config = full(&web.client, "web-01", &request()).await;
    assert_eq!(config.checks.len(), 0);
    let result = subject::result(&own, &CheckName::new("disk").unwrap());
    web.client.publish(result.clone(), "x".into()).await.unwrap();
    assert_eq!(heard.next().await.unwrap().subject.as_str(), result);
    services.publish(subject::stored(&own), "x".into()).await.unwrap();
    stored.next().await.unwrap();
    let question = tokio::spawn({
        let (services, run) = (services.clone(), subject::run(&own));
        async move { services.request(run, "x".into()).await }
    });
    let reply = asked.next().await.unwrap().reply.unwrap();
    web.client.publish(reply, "answer".into()).await.unwrap();
    assert_eq!(question.await.unwrap().unwrap().payload, "answer");
    let refused = web.events.lock().unwrap().iter().filter(|text| text.contains("permissions")).count();
    assert_eq!(refused, publishes.len() + subscribes.len(), "only what is foreign is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_any_replica_lets_an_agent_in_and_a_restart_forgets_nobody() {
    let place = Place::start().await;
    let (first, second) = (place.replica("a").await, place.replica("b").await);
    let services = place.services().await;
    let uses = TokenCreate { uses: Some(20), ..TokenCreate::default() };
    let token = token(&services, uses).await.token;
    let agents: Vec<_> = (0..20).map(|n| (format!("web-{n:02}"), pair())).collect();
    for (name, pair) in &agents {
        eventually("it enrols", LIMIT, async || place.agent(name, pair, &token).await.map(drop)).await;
    }
    assert!(first.metric("sign_ins_total") > 0.0 && second.metric("sign_ins_total") > 0.0, "both answer");
    // Whichever of them answers hears of what the other did a moment later.
    eventually("all uses are counted", LIMIT, async || {
        let list: TokenList = ask(&services, subject::ADMIN_TOKEN_LIST, &TokenQuery {}).await.unwrap();
        if list.tokens[0].used == 20 { Ok(()) } else { Err(list.tokens[0].used) }
    })
    .await;
    first.stop().await;
    second.stop().await;
    // One from its disk, one from stream CONFIG alone.
    let again = place.replica("a").await;
    for (name, pair) in &agents {
        place.agent(name, pair, "").await.unwrap();
    }
    again.stop().await;
    let _fresh = place.replica("c").await;
    for (name, pair) in &agents {
        place.agent(name, pair, "").await.unwrap();
    }
    let stranger = place.agent("web-99", &pair(), &token).await.err().unwrap();
    assert!(stranger.to_string().contains("authorization violation"), "{stranger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_revoked_host_is_cut_off_and_may_enrol_anew() {
    let place = Place::start().await;
    let replica = place.replica("a").await;
    let services = place.services().await;
    let (old, first) = (pair(), token(&services, TokenCreate::default()).await.token);
    let web = place.agent("web-01", &old, &first).await.unwrap();
    full(&web.client, "web-01", &request()).await;
    let key = create_key(&services, protocol::admin::Role::Agent, Some("web-01")).await.unwrap();
    let revoke = AgentRevoke { agent: agent("web-01"), actor: "key x".to_owned() };
    let revoked: AgentRevoked = ask(&services, subject::ADMIN_HOST_REVOKE, &revoke).await.unwrap();
    assert_eq!((revoked.keys, revoked.connections), (1, Some(1)));
    assert_eq!(verify(&services, &key.key).await.unwrap_err().code, ErrorCode::Unauthorized);
    eventually(
        "it is cut off",
        LIMIT,
        async || {
            if web.told("disconnected") { Ok(()) } else { Err("connected") }
        },
    )
    .await;
    assert!(place.agent("web-01", &old, &first).await.is_err());
    // Said again, as after an answer that was lost.
    let again: AgentRevoked = ask(&services, subject::ADMIN_HOST_REVOKE, &revoke).await.unwrap();
    assert_eq!(again.keys, 0);
    let nobody = AgentRevoke { agent: agent("nobody"), actor: String::new() };
    let error = ask::<_, AgentRevoked>(&services, subject::ADMIN_HOST_REVOKE, &nobody).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);

    // The inventory has the host: only a token for it enrols it again.
    let (new, any) = (pair(), token(&services, TokenCreate::default()).await.token);
    assert!(place.agent("web-01", &new, &any).await.is_err());
    let named = TokenCreate { agent: Some(agent("web-01")), ..TokenCreate::default() };
    let named = token(&services, named).await.token;
    place.agent("web-01", &new, &named).await.unwrap();
    assert!(place.agent("web-01", &old, &named).await.is_err(), "the old NKey stays out");
    assert_eq!(replica.metric("sign_ins_enrolled_total"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_and_who_changed_what_is_in_the_audit_log() {
    let place = Place::start().await;
    let replica = place.replica("a").await;
    let services = place.services().await;
    apply(&services, CPU).await.unwrap();
    for _ in 0..50 {
        assert!(place.agent("web-01", &pair(), "guess").await.is_err());
    }
    // A signature with another key than the one that is named.
    let stolen = KeyPair::from_public_key(&pair().public_key()).unwrap();
    assert!(place.agent("web-01", &Arc::new(stolen), "").await.is_err());
    let query = audit::AuditQuery::default();
    let page = eventually("the refusals are told", LIMIT, async || {
        let page: audit::AuditPage = ask(&services, subject::ADMIN_AUDIT, &query).await.unwrap();
        let told = page.events.iter().any(|event| event.what == "sign in");
        if told { Ok(page) } else { Err(format!("{page:?}")) }
    })
    .await;
    let refused: Vec<_> = page.events.iter().filter(|event| event.what == "sign in").collect();
    assert_eq!(refused.len(), 1, "many are one entry: {refused:?}");
    assert_eq!((refused[0].actor.as_str(), refused[0].from.as_deref()), ("agent web-01", Some("127.0.0.1")));
    let change = page.events.iter().find(|event| event.what == "revision 1").unwrap();
    assert_eq!((change.actor.as_str(), change.detail.as_str()), ("test", "put Check cpu (because)"));
    // What was counted is told at the stop.
    replica.stop().await;
    let _again = place.replica("a").await;
    eventually("the count is told", LIMIT, async || {
        let page: audit::AuditPage = ask(&services, subject::ADMIN_AUDIT, &query).await.unwrap();
        let count: u64 = page.events.iter().filter(|e| e.what == "sign in").map(|e| e.count).sum();
        if count == 51 { Ok(()) } else { Err(format!("{count}: {page:?}")) }
    })
    .await;
    let other = audit::AuditQuery { actor: Some("nobody".to_owned()), ..audit::AuditQuery::default() };
    let page: audit::AuditPage = ask(&services, subject::ADMIN_AUDIT, &other).await.unwrap();
    assert_eq!((page.events.len(), page.next), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_issuer_is_said_at_the_start() {
    let nats = NatsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("issuer.nk");
    let refused = async |text: &str, file: &Path| {
        std::fs::write(file, text).unwrap();
        let flags = ["--issuer-seed-file", file.to_str().unwrap()];
        let data = folder.path().join("data");
        let error = Replica::start_with(&nats.url(), &data, &flags).await.err().unwrap();
        service_kit::report(error.as_ref())
    };
    let seed = KeyPair::new_user().seed().unwrap();
    for text in ["junk", &seed] {
        let error = refused(text, &file).await;
        assert!(error.contains("holds no NKey seed of an account") && !error.contains(&seed), "{error}");
    }
}
