//! Signatures are taken, kept and handed on (G3). What agents make of them is tested with the agent.

use nkeys::KeyPair;
use protocol::{
    ErrorCode, ErrorReply,
    admin::{Applied, ApplyRequest, DocumentSignature, SourceFile},
    config::{AgentConfig, ConfigReply, ConfigRequest},
    document::Kind,
    rollout::{Canary, Rollout, RolloutChange, RolloutOrder},
    signed::{SigningKey, json},
    subject,
};
use testkit::NatsServer;

use crate::harness::{Replica, ask, full, request};

const CPU: &str = "kind: Check\nname: cpu\nevery: 1m\nbuiltin: cpu\n";

fn signed(key: &SigningKey, text: &str, revision: u64) -> ApplyRequest {
    let files = vec![SourceFile { path: "x".to_owned(), text: text.to_owned() }];
    let signatures = documents::read(&files, |_, _| true).unwrap().into_iter().map(|document| {
        let signature = key.sign(&json(&document).unwrap(), revision, None).unwrap();
        DocumentSignature { kind: Kind::Check, name: document.name().to_owned(), signature }
    });
    let signatures = signatures.collect();
    ApplyRequest { signatures, ..ApplyRequest::of(files) }
}

async fn apply(client: &async_nats::Client, request: &ApplyRequest) -> Result<Applied, ErrorReply> {
    ask(client, subject::ADMIN_APPLY, request).await
}

async fn config(client: &async_nats::Client, etag: Option<&str>) -> Option<AgentConfig> {
    let etag = etag.map(str::to_owned);
    let question = ConfigRequest { signed: true, etag, ..request() };
    let subject = subject::config_get(&protocol::AgentId::new("web-01").unwrap());
    match ask::<_, ConfigReply>(client, &subject, &question).await.unwrap() {
        ConfigReply::Full { config } => Some(config),
        ConfigReply::Unchanged { .. } => None,
        ConfigReply::Refused { reason } => panic!("{reason}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_signatures_are_kept_with_their_documents_and_sent_to_those_who_ask() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    let new = || SigningKey::from_seed(&KeyPair::new_operator().seed().unwrap()).unwrap();
    let (key, other) = (new(), new());

    // For another revision, of another text, of nothing: refused whole.
    let refused = apply(&client, &signed(&key, CPU, 2)).await.unwrap_err();
    assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::Conflict, Some("signatures")));
    let mut wrong = signed(&key, CPU, 1);
    wrong.files[0].text = CPU.replace("1m", "2m");
    assert!(apply(&client, &wrong).await.unwrap_err().message.contains("does not fit the document"));
    let mut nothing = signed(&key, CPU, 1);
    nothing.signatures[0].name = "none".to_owned();
    assert!(apply(&client, &nothing).await.unwrap_err().message.contains("there is no Check none"));

    assert_eq!(apply(&client, &signed(&key, CPU, 1)).await.unwrap().revision, 1);
    let first = config(&client, None).await.unwrap();
    let signature = first.documents[0].signature.clone().unwrap();
    signature.verify(&first.documents[0].document).unwrap();
    assert_eq!((first.documents.len(), signature.revision, &signature.key), (1, 1, &key.public()));
    assert_eq!(config(&client, Some(&first.etag)).await, None);
    let plain = full(&client, "old-01", &request()).await;
    assert_eq!((plain.documents.len(), plain.checks.len()), (0, 1));

    // Signed anew and nothing else: a change for those who look at signatures.
    assert_eq!(apply(&client, &signed(&other, CPU, 2)).await.unwrap().revision, 2);
    let second = config(&client, Some(&first.etag)).await.unwrap();
    assert_eq!(second.documents[0].signature.clone().unwrap().key, other.public());
    assert_eq!(second.checks, first.checks);
    assert_eq!(full(&client, "old-01", &request()).await.etag, plain.etag);

    // It holds over a restart, and over the loss of the store.
    replica.stop().await;
    let replica = Replica::start(&nats.url(), data.path()).await;
    assert_eq!(config(&client, Some(&second.etag)).await, None);
    replica.stop().await;
    let empty = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), empty.path()).await;
    assert_eq!(config(&client, None).await.unwrap().documents, second.documents);

    // A change that nobody signed leaves no signature behind.
    apply(&client, &ApplyRequest { signatures: Vec::new(), ..signed(&key, &CPU.replace("1m", "2m"), 3) })
        .await
        .unwrap();
    assert!(config(&client, None).await.unwrap().documents.is_empty());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_a_rollout_sends_each_host_its_version_and_goes_back_to_the_one_that_was_signed() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    let key = SigningKey::from_seed(&KeyPair::new_operator().seed().unwrap()).unwrap();
    apply(&client, &signed(&key, CPU, 1)).await.unwrap();
    let signed_at = |name: &'static str| {
        let client = &client;
        async move {
            let config = full(client, name, &ConfigRequest { signed: true, ..request() }).await;
            config.documents[0].signature.clone().unwrap().revision
        }
    };
    let both = || async { [signed_at("web-01").await, signed_at("web-02").await] };
    assert_eq!(both().await, [1, 1]);
    let stages = ["1", "100%"].map(|share| share.parse().unwrap()).to_vec();
    let canary = Some(Canary { stages, bake_ms: 600_000, max_failures: "0".parse().unwrap() });
    let change = ApplyRequest { canary, ..signed(&key, &CPU.replace("1m", "2m"), 2) };
    let rollout = apply(&client, &change).await.unwrap().rollout.unwrap();
    let staged = both().await;
    assert!(staged == [1, 2] || staged == [2, 1], "{staged:?}");
    replica.stop().await;
    let _replica = Replica::start(&nats.url(), data.path()).await;
    assert_eq!(both().await, staged);

    let (actor, message) = ("me".to_owned(), String::new());
    let abort = RolloutChange { revision: rollout.revision, order: RolloutOrder::Abort, actor, message };
    let back: Rollout = ask(&client, subject::ADMIN_ROLLOUT_CHANGE, &abort).await.unwrap();
    assert_eq!((back.revision, both().await), (2, [1, 1]));
}
