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
