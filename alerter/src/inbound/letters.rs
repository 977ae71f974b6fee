//! What people do about notifications: list those that are not delivered, send them again, drop them, and try a receiver.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{
    ErrorCode, ErrorReply,
    alert::Notification,
    duration::millis,
    letter::{
        NotificationChange, NotificationInfo, NotificationList, NotificationOrder, NotificationQuery,
        NotificationsChanged, ReceiverTest, ReceiverTested,
    },
    receiver::Method,
    subject,
};
use service_kit::{Context, now_ms, report, respond};

use crate::{
    core::{attempt::Answer, notify::Attempt},
    outbound::{
        notifier::Notifier,
        sender::{Sender, test_notification},
    },
    store::{Delivery, Requeue, Store, StoreError},
};

/// Most notifications in one answer, and changed by one request.
const LISTED: usize = 1_000;
/// Longest test of a receiver.
const TESTED: Duration = Duration::from_secs(20);
/// Bytes of an answer that are shown.
const SHOWN: usize = 4_096;

/// # Errors
/// When a subscription cannot be made.
pub async fn answer(ctx: &Context, notifier: &Arc<Notifier>) -> anyhow::Result<()> {
    let limits = respond::Limits::default;
    let shared = Arc::clone(notifier);
    let list = move |_, query: NotificationQuery| {
        let store = Arc::clone(&shared.store);
        answered(move || list(&store, &query))
    };
    respond::respond(ctx, subject::ALERTER_NOTIFICATION_LIST, limits(), list).await?;
    let shared = Arc::clone(notifier);
    let change = move |_, request: NotificationChange| {
        let notifier = Arc::clone(&shared);
        answered(move || change(&notifier, &request))
    };
    respond::respond(ctx, subject::ALERTER_NOTIFICATION_CHANGE, limits(), change).await?;
    let shared = Arc::clone(notifier);
    let test = move |_, request: ReceiverTest| test(Arc::clone(&shared), request);
    let limits = respond::Limits { concurrency: 8, deadline: TESTED + Duration::from_secs(2) };
    respond::respond(ctx, subject::ALERTER_RECEIVER_TEST, limits, test).await
}

async fn answered<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, ErrorReply> + Send + 'static,
) -> Result<R, ErrorReply> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ErrorReply::new(ErrorCode::Internal, report(&error))))
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn away(error: StoreError) -> ErrorReply {
    ErrorReply::new(ErrorCode::Unavailable, report(&error))
}

fn list(store: &Store, query: &NotificationQuery) -> Result<NotificationList, ErrorReply> {
    let fits = |_: &str, delivery: &Delivery| {
        let Some((info, state)) = parts(delivery) else { return false };
        query.receiver.as_ref().is_none_or(|receiver| info.receiver == *receiver)
            && query.state.as_ref().is_none_or(|wanted| wanted == state)
    };
    let found = store.letters(fits, LISTED).map_err(away)?;
    let mut notifications: Vec<_> = found.iter().filter_map(|(id, delivery)| info(id, delivery)).collect();
    notifications.sort_by(|a, b| a.at_ms.cmp(&b.at_ms).then_with(|| a.id.cmp(&b.id)));
    Ok(NotificationList { notifications })
}

fn parts(delivery: &Delivery) -> Option<(&Notification, &'static str)> {
    match delivery {
        Delivery::Waiting { notification, .. } => Some((notification, "waiting")),
        Delivery::GaveUp { notification: Some(notification), .. } => Some((notification, "gave_up")),
        Delivery::GaveUp { notification: None, .. } | Delivery::Delivered { .. } => None,
    }
}

fn info(id: &str, delivery: &Delivery) -> Option<NotificationInfo> {
    let (notification, state) = parts(delivery)?;
    let (at_ms, reason) = match delivery {
        Delivery::GaveUp { at_ms, reason, .. } => (*at_ms, Some(reason.clone())),
        Delivery::Waiting { .. } | Delivery::Delivered { .. } => (notification.alert.at_ms, None),
    };
    let alert = &notification.alert;
    Some(NotificationInfo {
        id: id.to_owned(),
        receiver: notification.receiver.clone(),
        agent: alert.agent.clone(),
        rule: alert.rule.clone(),
        alert_state: alert.state,
        severity: alert.severity,
        summary: alert.summary.clone(),
        state: state.to_owned(),
        at_ms,
        reason,
    })
}

fn change(notifier: &Notifier, request: &NotificationChange) -> Result<NotificationsChanged, ErrorReply> {
    let NotificationChange { order, ids, receiver, all, actor } = request;
    let ways = [!ids.is_empty(), receiver.is_some(), *all];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        return Err(ErrorReply::invalid("say which: ids, a receiver, or all that were given up"));
    }
    if ids.len() > LISTED {
        return Err(ErrorReply::invalid(format!("at most {LISTED} ids at once")).at("ids"));
    }
    let store = &notifier.store;
    let ids = if ids.is_empty() {
        let fits = |_: &str, delivery: &Delivery| {
            delivery.is_dead_letter()
                && parts(delivery)
                    .is_some_and(|(letter, _)| receiver.as_ref().is_none_or(|name| letter.receiver == *name))
        };
        store.letters(fits, LISTED).map_err(away)?.into_iter().map(|(id, _)| id).collect()
    } else {
        ids.clone()
    };
    let now = now_ms();
    let mut changed = NotificationsChanged::default();
    let why = format!("dropped by {actor}");
    // A retry takes along what followed: those are no dead letters any more when their turn comes.
    let mut sent_along = 0;
    for id in ids {
        let refused = match order {
            NotificationOrder::Retry => match store.requeue(&id, now).map_err(away)? {
                Requeue::Sent(sent) => {
                    changed.changed += sent;
                    sent_along += sent - 1;
                    None
                }
                Requeue::Unknown if sent_along > 0 => {
                    sent_along -= 1;
                    None
                }
                Requeue::Unknown => Some("there is no dead letter of that id"),
                Requeue::Over => {
                    Some("the end of its alert was delivered: sent again it would never end; drop it")
                }
            },
            NotificationOrder::Drop if store.drop_letter(&id, now, &why).map_err(away)? => {
                changed.changed += 1;
                None
            }
            NotificationOrder::Drop => Some("there is none of that id that waits or was given up"),
        };
        changed.unchanged.extend(refused.map(|refused| (id, refused.to_owned())));
    }
    notifier.wake.notify_one();
    Ok(changed)
}

async fn test(notifier: Arc<Notifier>, request: ReceiverTest) -> Result<ReceiverTested, ErrorReply> {
    let receiver = notifier.book.borrow().receiver(&request.name).cloned();
    let receiver = receiver.ok_or_else(|| {
        let message =
            format!("there is no receiver {}: apply a document of kind Receiver first", request.name);
        ErrorReply::new(ErrorCode::NotFound, message).at("name")
    })?;
    let now = now_ms();
    let notification = test_notification(&receiver, now)
        .ok_or_else(|| ErrorReply::new(ErrorCode::Internal, "a test cannot be written"))?;
    let attempt = Attempt { notification: &notification, now_ms: now, opened: None };
    let shown = Sender::shown(&receiver, attempt);
    let began = Instant::now();
    let sent = tokio::time::timeout(TESTED, notifier.sender.send(&receiver, attempt)).await;
    let took_ms = millis(began.elapsed());
    let (status, answer) = match sent.map(|sent| (sent.answer, sent.text)) {
        Ok((Answer::Status { code, .. }, text)) => (Some(code), text.chars().take(SHOWN).collect()),
        Ok((Answer::Nothing { reason } | Answer::Refused { reason }, _)) => (None, reason),
        Err(_) => (None, format!("nothing came within {TESTED:?}")),
    };
    let ok = status.is_some_and(|code| (200..=299).contains(&code));
    if ok {
        let (notifier, name) = (Arc::clone(&notifier), receiver.name.clone());
        answered(move || notifier.disabled.enable(&notifier.store, &name).map_err(away)).await?;
    }
    let method = match (&receiver.webhook, shown.method) {
        (None, _) => "MAIL",
        (_, Method::Post) => "POST",
        (_, Method::Put) => "PUT",
        (_, Method::Patch) => "PATCH",
    };
    let headers = shown.headers.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
    let body = shown.body.chars().take(16 * SHOWN).collect();
    Ok(ReceiverTested {
        ok,
        method: method.to_owned(),
        url: shown.url,
        headers,
        body,
        status,
        answer,
        took_ms,
    })
}
