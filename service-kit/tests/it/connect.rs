use service_kit::{Metrics, Readiness, Tasks, nats};
use testkit::{NatsServer, eventually};

use crate::{SOON, context, counter, settings};

#[tokio::test]
async fn readiness_follows_the_broker() {
    let mut server = NatsServer::start().await;
    let ctx = context(&server).await;
    assert_eq!(ctx.ready.problems(), Vec::<String>::new());

    server.kill();
    eventually("not ready without a broker", SOON, || async {
        let problems = ctx.ready.problems();
        if problems == ["test nats: the broker is away"] { Ok(()) } else { Err(format!("{problems:?}")) }
    })
    .await;
    assert_eq!(counter(&ctx, "test_nats_disconnects_total"), 1);

    server.restart().await;
    eventually("ready again", SOON, || async {
        if ctx.ready.problems().is_empty() { Ok(()) } else { Err("still not ready") }
    })
    .await;
}

#[tokio::test]
async fn a_refused_sign_in_is_an_error_at_once() {
    let server = NatsServer::start_with("authorization { user: a, password: b }").await;
    let error = nats::connect(
        &settings(&server),
        "test",
        None,
        nats::Wait::ForBroker,
        (&Metrics::default(), &Readiness::default()),
        &Tasks::new().token(),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("refuses the sign-in: check the NKey"), "{error}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_yet_is_waited_for() {
    let mut server = NatsServer::start().await;
    server.kill();
    let settings = settings(&server);
    let (metrics, ready, tasks) = (Metrics::default(), Readiness::default(), Tasks::new());
    let token = tasks.token();
    let connecting =
        nats::connect(&settings, "test", None, nats::Wait::ForBroker, (&metrics, &ready), &token);
    let (client, ()) = tokio::join!(connecting, server.restart());
    client.unwrap();
    assert!(ready.problems().is_empty());
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_the_broker() {
    let mut server = NatsServer::start().await;
    server.kill();
    let (settings, tasks) = (settings(&server), Tasks::new());
    let token = tasks.token();
    token.cancel();
    let error = nats::connect(
        &settings,
        "test",
        None,
        nats::Wait::ForBroker,
        (&Metrics::default(), &Readiness::default()),
        &token,
    )
    .await
    .unwrap_err();
    assert!(error.to_string().starts_with("stopped before the broker at"), "{error}");
}

/// A certificate authority, and what it signed, as PEM files in a folder.
struct Authority {
    folder: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let key = rcgen::KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: rcgen::Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// `<name>.pem` and `<name>.key`, for use at either end of a connection to 127.0.0.1.
    fn sign(&self, name: &str) {
        use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ServerAuth, ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn tls_with_certificates_of_both_ends() {
    let authority = Authority::new();
    authority.sign("server");
    authority.sign("client");
    let file = |name: &str| authority.path(name);
    let server = NatsServer::start_with(&format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    ))
    .await;
    let (metrics, ready, tasks) = (Metrics::default(), Readiness::default(), Tasks::new());
    let mut settings = settings(&server);
    settings.nats_url = server.url().replace("nats://", "tls://");
    settings.nats_ca_file = Some(file("ca.pem"));
    settings.nats_cert_file = Some(file("client.pem"));
    settings.nats_cert_key_file = Some(file("client.key"));
    let token = tasks.token();
    let wait = nats::Wait::ForBroker;
    let client = nats::connect(&settings, "test", None, wait, (&metrics, &ready), &token).await.unwrap();
    service_kit::respond::barrier(&client).await.unwrap();

    // Another authority's word is not enough. The stop ends the attempts after the first.
    let stranger = Authority::new();
    settings.nats_ca_file = Some(stranger.path("ca.pem"));
    token.cancel();
    let refused = nats::connect(&settings, "test", None, wait, (&metrics, &ready), &token).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("invalid peer certificate"), "{said}");
}

#[tokio::test]
async fn an_nkey_or_a_password_signs_in() {
    let user = nkeys::KeyPair::new_user();
    let folder = tempfile::tempdir().unwrap();
    let (seed, password) = (folder.path().join("seed"), folder.path().join("password"));
    std::fs::write(&seed, format!("{}\n", user.seed().unwrap())).unwrap();
    std::fs::write(&password, "s3cret\n").unwrap();
    let users = format!("{{ nkey: {} }}, {{ user: ann, password: s3cret }}", user.public_key());
    let server = NatsServer::start_with(&format!("authorization {{ users: [ {users} ] }}")).await;
    for by_nkey in [true, false] {
        let (metrics, ready, tasks) = (Metrics::default(), Readiness::default(), Tasks::new());
        let mut settings = settings(&server);
        if by_nkey {
            settings.nats_nkey_file = Some(seed.clone());
        } else {
            settings.nats_user = Some("ann".to_owned());
            settings.nats_password_file = Some(password.clone());
        }
        let token = tasks.token();
        let wait = nats::Wait::ForBroker;
        let client = nats::connect(&settings, "test", None, wait, (&metrics, &ready), &token).await.unwrap();
        service_kit::respond::barrier(&client).await.unwrap();
    }
    let mut settings = settings(&server);
    settings.nats_nkey_file = Some(folder.path().join("missing"));
    let (metrics, ready, tasks) = (Metrics::default(), Readiness::default(), Tasks::new());
    let wait = nats::Wait::ForBroker;
    let error =
        nats::connect(&settings, "test", None, wait, (&metrics, &ready), &tasks.token()).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot read the NKey seed from"), "{error}");
}
