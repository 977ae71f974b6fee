//! Notifications that are not delivered, and whether a receiver works. The alerter decides.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
};
use protocol::{
    ErrorReply, ReceiverName,
    admin::Role,
    letter::{
        NotificationChange, NotificationList, NotificationQuery, NotificationsChanged, ReceiverTest,
        ReceiverTested,
    },
    subject,
};

use super::{
    caller::Caller,
    operator_api::{Answer, json},
    routes::App,
};
use crate::outbound::ANSWER;

/// The alerter gives a receiver less than that.
const TESTED: Duration = Duration::from_secs(24);

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<NotificationQuery>, QueryRejection>,
) -> Answer<NotificationList> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::ALERTER_NOTIFICATION_LIST, &query?.0, ANSWER).await?))
}

pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<NotificationsChanged> {
    caller.at_least(Role::Editor)?;
    let change = NotificationChange { actor: caller.actor(), ..json(body)? };
    Ok(Json(app.ask.ask(subject::ALERTER_NOTIFICATION_CHANGE, &change, ANSWER).await?))
}

pub(crate) async fn test(
    State(app): State<Arc<App>>,
    caller: Caller,
    name: Result<Path<String>, PathRejection>,
) -> Answer<ReceiverTested> {
    caller.at_least(Role::Editor)?;
    let name = ReceiverName::new(name?.0.as_str())
        .map_err(|error| ErrorReply::invalid(error.to_string()).at("name"))?;
    Ok(Json(app.ask.ask(subject::ALERTER_RECEIVER_TEST, &ReceiverTest { name }, TESTED).await?))
}
