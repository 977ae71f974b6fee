use protocol::{
    ErrorCode, Origin,
    admin::{KeyInfo, KeyList, KeyQuery, KeyRevoke, Role},
    subject,
};
use testkit::NatsServer;

use crate::harness::*;

async fn revoke(client: &async_nats::Client, id: &str) -> Result<KeyInfo, protocol::ErrorReply> {
    let request = KeyRevoke { id: id.to_owned(), actor: "test".to_owned() };
    ask(client, subject::ADMIN_KEY_REVOKE, &request).await
}

async fn list(client: &async_nats::Client) -> Vec<KeyInfo> {
    ask::<_, KeyList>(client, subject::ADMIN_KEY_LIST, &KeyQuery {}).await.unwrap().keys
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_verified_listed_and_revoked_for_good() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    let key = create_key(&client, Role::Agent, Some("web-01")).await.unwrap();
    // The key puts its host into the inventory before anyone spoke for it.
    let host = host(&client, "web-01").await.unwrap();
    assert_eq!((host.origin, host.last_seen_ms, host.labels["role"].as_str()), (Origin::Http, 0, "web"));
    let found = verify(&client, &key.key).await.unwrap();
    assert_eq!((found.id.as_str(), found.role), (key.info.id.as_str(), Role::Agent));
    assert!(found.last_used_ms > 0 && found.last_used_ms % 60_000 == 0);
    assert_eq!(verify(&client, "dw_guess").await.unwrap_err().code, ErrorCode::Unauthorized);
    assert_eq!(create_key(&client, Role::Agent, None).await.unwrap_err().field.as_deref(), Some("agent"));

    // What the host says of itself does not win over what the operator gave.
    let own = protocol::config::ConfigRequest {
        labels: [("role".to_owned(), "db".to_owned()), ("rack".to_owned(), "r1".to_owned())].into(),
        ..request()
    };
    full(&client, "web-01", &own).await;
    let host = crate::harness::host(&client, "web-01").await.unwrap();
    assert_eq!((host.labels["role"].as_str(), host.labels["rack"].as_str()), ("web", "r1"));
    assert_eq!(host.origin, Origin::Agent);

    assert!(revoke(&client, &key.info.id).await.unwrap().revoked_ms.is_some());
    assert_eq!(verify(&client, &key.key).await.unwrap_err().code, ErrorCode::Unauthorized);
    assert_eq!(revoke(&client, "nope").await.unwrap_err().code, ErrorCode::NotFound);
    replica.stop().await;
    let _replica = Replica::start(&nats.url(), data.path()).await;
    assert_eq!(verify(&client, &key.key).await.unwrap_err().code, ErrorCode::Unauthorized);
    let keys = list(&client).await;
    assert_eq!((keys.len(), keys[0].last_used_ms), (1, found.last_used_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_key_of_the_operator_is_made_once_and_stays_revoked() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("admin.key");
    let key = config_service::new_key().unwrap();
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let flags = ["--admin-key-file", file.to_str().unwrap()];
    let replica = Replica::start_with(&nats.url(), &data.path().join("a"), &flags).await.unwrap();
    let client = nats.client().await;
    let first = verify(&client, &key).await.unwrap();
    assert_eq!(first.role, Role::Admin);
    assert_eq!(revoke(&client, &first.id).await.unwrap_err().code, ErrorCode::Conflict);
    let other = create_key(&client, Role::Admin, None).await.unwrap();
    revoke(&client, &first.id).await.unwrap();
    replica.stop().await;
    let _replica = Replica::start_with(&nats.url(), &data.path().join("a"), &flags).await.unwrap();
    assert_eq!(verify(&client, &key).await.unwrap_err().code, ErrorCode::Unauthorized);
    assert!(verify(&client, &other.key).await.is_ok());
    assert_eq!(list(&client).await.len(), 2);

    std::fs::write(&file, "short").unwrap();
    let refused = Replica::start_with(&nats.url(), &data.path().join("b"), &flags).await.err().unwrap();
    let text = service_kit::report(refused.as_ref());
    assert!(text.contains("is no key") && text.contains("openssl rand") && !text.contains("short"), "{text}");
}
