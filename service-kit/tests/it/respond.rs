use std::time::Duration;

use protocol::{ErrorCode, ErrorReply};
use service_kit::{
    request::{RequestError, request},
    respond::{Limits, respond},
};
use testkit::{NatsServer, eventually};

use crate::{SOON, context};

const SUBJECT: &str = "test.double";

async fn ask(client: &async_nats::Client, question: i64) -> Result<i64, RequestError> {
    request(client, SUBJECT, &question, Duration::from_secs(10)).await
}

fn code(result: Result<i64, RequestError>) -> ErrorCode {
    ErrorReply::from(result.unwrap_err()).code
}

#[tokio::test]
async fn questions_are_answered_and_a_panic_costs_nobody_else() {
    let server = NatsServer::start().await;
    let (ctx, client) = (context(&server).await, server.client().await);
    let limits = Limits { concurrency: 1, deadline: Duration::from_millis(500) };
    respond(&ctx, SUBJECT, limits, |_, question: i64| async move {
        match question {
            13 => panic!("on purpose"),
            7 => Err(ErrorReply::invalid("not seven").at("/number")),
            _ => Ok(question * 2),
        }
    })
    .await
    .unwrap();

    assert_eq!(ask(&client, 21).await.unwrap(), 42);
    let Err(RequestError::Refused(error)) = ask(&client, 7).await else { panic!("seven must be refused") };
    assert_eq!((error.message.as_str(), error.field.as_deref()), ("not seven", Some("/number")));

    let panicked: Result<i64, _> = request(&client, SUBJECT, &13, Duration::from_millis(300)).await;
    assert!(matches!(panicked, Err(RequestError::TimedOut { .. })));
    assert_eq!(ask(&client, 1).await.unwrap(), 2, "the slot of the panic is free again");

    let malformed = client.request(SUBJECT, "{".into()).await.unwrap();
    let text = String::from_utf8_lossy(&malformed.payload).into_owned();
    assert!(text.contains("\"invalid\"") && text.contains("not a valid i64"), "{text}");
}

#[tokio::test]
async fn too_many_at_once_are_turned_away_and_a_slow_one_is_cut_off() {
    let server = NatsServer::start().await;
    let (ctx, client) = (context(&server).await, server.client().await);
    let limits = Limits { concurrency: 1, deadline: Duration::from_millis(400) };
    respond(&ctx, SUBJECT, limits, |_, _: i64| std::future::pending::<Result<i64, ErrorReply>>())
        .await
        .unwrap();
    let (first, second) = tokio::join!(ask(&client, 1), ask(&client, 2));
    let mut codes = [code(first), code(second)];
    codes.sort_by_key(|code| *code != ErrorCode::Overloaded);
    assert_eq!(codes, [ErrorCode::Overloaded, ErrorCode::Unavailable]);
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let server = NatsServer::start().await;
    let error = ask(&server.client().await, 1).await.unwrap_err();
    assert!(matches!(error, RequestError::NoResponder { .. }), "{error}");
    assert!(error.to_string().contains("is not running"), "{error}");
}

#[tokio::test]
async fn what_is_under_way_at_a_stop_gets_its_answer() {
    let server = NatsServer::start().await;
    let (ctx, client) = (context(&server).await, server.client().await);
    let (started, mut seen) = tokio::sync::mpsc::channel(1);
    let release = std::sync::Arc::new(tokio::sync::Notify::new());
    let gate = std::sync::Arc::clone(&release);
    respond(&ctx, SUBJECT, Limits::default(), move |_, question: i64| {
        let (started, gate) = (started.clone(), std::sync::Arc::clone(&gate));
        async move {
            started.send(()).await.ok();
            gate.notified().await;
            Ok(question)
        }
    })
    .await
    .unwrap();
    let asked = tokio::spawn(async move { ask(&client, 5).await });
    seen.recv().await.unwrap();
    let stopping = ctx.tasks.clone();
    let stopped = tokio::spawn(async move { stopping.finish(SOON).await });
    ctx.tasks.token().cancelled().await;
    release.notify_one();
    stopped.await.unwrap().unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), 5);
}

#[tokio::test]
async fn answers_go_on_after_the_broker_came_back() {
    let mut server = NatsServer::start().await;
    let ctx = context(&server).await;
    respond(&ctx, SUBJECT, Limits::default(), |_, question: i64| async move { Ok(question) }).await.unwrap();
    server.restart().await;
    let client = server.client().await;
    eventually("an answer", SOON, || ask(&client, 3)).await;
}

#[tokio::test]
async fn an_answer_may_take_as_long_as_was_said_whatever_the_client_itself_allows() {
    let server = NatsServer::start().await;
    let ctx = context(&server).await;
    respond(&ctx, SUBJECT, Limits::default(), |_, question: i64| async move { Ok(question * 2) })
        .await
        .unwrap();
    let impatient = async_nats::ConnectOptions::new().request_timeout(Some(Duration::from_nanos(1)));
    let client = impatient.connect(server.url()).await.unwrap();
    assert_eq!(ask(&client, 21).await.unwrap(), 42);
}
