//! Reading the audit log: stream AUDIT and the accepted changes, newest first, as one list.
//!
//! A change is in stream CONFIG or it was not made, so no change is missing here, whatever crashed.

use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use futures_util::{StreamExt, stream};
use protocol::{
    ErrorCode, ErrorReply, VERSION,
    admin::{HistoryQuery, Revision, Touched},
    audit::{AuditEvent, AuditOutcome, AuditPage, AuditQuery},
    limits,
    stream::AUDIT,
};
use service_kit::{Context, report, streams};

use crate::changes::Changes;

/// Entries looked at for one page, in each of the two.
const PAGE: u64 = 500;
/// Entries asked for at once.
const READ_AHEAD: usize = 64;

/// Where a page goes on: in stream AUDIT and in the revisions. Both are what was looked at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    sequence: u64,
    revision: u64,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let (sequence, revision) = text.split_once('.')?;
        Some(Self { sequence: sequence.parse().ok()?, revision: revision.parse().ok()? })
    }

    fn text(self) -> String {
        format!("{}.{}", self.sequence, self.revision)
    }
}

/// The stream, made where it is missing.
///
/// # Errors
/// Why it cannot be used.
pub(crate) async fn stream(ctx: &Context) -> Result<Stream, String> {
    streams::ensure_stream(&ctx.jetstream(), &AUDIT).await.map_err(|error| report(&error))
}

/// # Errors
/// `invalid` for another `before` than one that was given out, `unavailable` when the stream cannot be read.
pub(crate) async fn page(
    ctx: &Context,
    changes: &Changes,
    query: AuditQuery,
) -> Result<AuditPage, ErrorReply> {
    changes.answerable()?;
    let place = match &query.before {
        Some(text) => Some(Place::read(text).ok_or_else(|| {
            ErrorReply::invalid("it is no place in the audit log: use `next` of the page before").at("before")
        })?),
        None => None,
    };
    let unavailable = |reason: String| {
        ErrorReply::new(ErrorCode::Unavailable, format!("stream AUDIT cannot be read: {reason}"))
    };
    let stream = stream(ctx).await.map_err(unavailable)?;
    let state = &stream.cached_info().state;
    let (first, last) = (state.first_sequence.max(1), state.last_sequence);
    let before = place.map_or(last + 1, |place| place.sequence).min(last + 1);
    let told = told(&stream, first, before).await.map_err(unavailable)?;

    let history = changes.snapshot().history;
    let before = place.map(|place| place.revision);
    let limit = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let asked = HistoryQuery { limit, before };
    let made = tokio::task::spawn_blocking(move || history.page(&asked))
        .await
        .map_err(|error| ErrorReply::new(ErrorCode::Internal, error.to_string()))??;
    let newest = changes.snapshot().history.newest;
    let start = place.unwrap_or(Place { sequence: last + 1, revision: newest + 1 });
    Ok(merge(told, (made.revisions, made.next.is_some()), (first, start), &query))
}

/// Entries before a place, newest first; `None` for one that is gone or cannot be understood.
async fn told(stream: &Stream, first: u64, before: u64) -> Result<Vec<(u64, Option<AuditEvent>)>, String> {
    let from = before.saturating_sub(PAGE).max(first);
    let get = |sequence| async move {
        match stream.get_raw_message(sequence).await {
            Ok(message) => Ok((sequence, protocol::decode(&message.payload, limits::MESSAGE).ok())),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                Ok((sequence, None))
            }
            Err(error) => Err(report(&error)),
        }
    };
    let all = stream::iter((from..before).rev()).map(get).buffered(READ_AHEAD).collect::<Vec<_>>();
    let all = tokio::time::timeout(std::time::Duration::from_secs(3), all).await;
    all.map_err(|_| "no answer within 3 s".to_owned())?.into_iter().collect()
}

/// Both lists as one. It ends where the first of them does that has more: what follows may be newer than the other's rest.
fn merge(
    told: Vec<(u64, Option<AuditEvent>)>,
    (made, more_made): (Vec<Revision>, bool),
    (first, mut place): (u64, Place),
    query: &AuditQuery,
) -> AuditPage {
    let more_told = told.last().map_or(place.sequence, |(sequence, _)| *sequence) > first;
    let (mut told, mut made) = (told.into_iter().peekable(), made.into_iter().peekable());
    let mut page = AuditPage::default();
    let since = query.since_ms.unwrap_or(0);
    let fits = |event: &AuditEvent| {
        event.at_ms >= since && query.actor.as_ref().is_none_or(|actor| event.actor.contains(actor.as_str()))
    };
    // Clocks of several programs: entries a little out of order are no reason to stop.
    const SLACK_MS: u64 = 600_000;
    let mut past = false;
    loop {
        while let Some((sequence, None)) = told.peek() {
            place.sequence = *sequence;
            told.next();
        }
        let told_at = told.peek().and_then(|(_, event)| event.as_ref()).map(|event| event.at_ms);
        let made_at = made.peek().map(|revision| revision.at_ms);
        let take_told = match (told_at, made_at) {
            (None, None) => break,
            (None, Some(_)) if more_told => break,
            (Some(_), None) if more_made => break,
            (told, made) => told >= made,
        };
        if told_at.max(made_at).is_some_and(|at_ms| at_ms.saturating_add(SLACK_MS) < since) {
            past = true;
            break;
        }
        let event = if take_told {
            let Some((sequence, Some(event))) = told.next() else { break };
            place.sequence = sequence;
            event
        } else {
            let Some(revision) = made.next() else { break };
            place.revision = revision.revision;
            of_change(revision)
        };
        if fits(&event) {
            page.events.push(event);
        }
    }
    if !past && (more_told || more_made) {
        page.next = Some(place.text());
    }
    page
}

fn of_change(revision: Revision) -> AuditEvent {
    let touched = |touched: &Touched| match touched {
        Touched::Put { kind, name } => format!("put {kind} {name}"),
        Touched::Deleted { kind, name } => format!("delete {kind} {name}"),
        Touched::KeyCreated { id } => format!("create key {id}"),
        Touched::KeyRevoked { id } => format!("revoke key {id}"),
        Touched::TokenCreated { id } => format!("create token {id}"),
        Touched::TokenRevoked { id } => format!("revoke token {id}"),
        Touched::AgentEnrolled { agent } => format!("enrol {agent}"),
        Touched::AgentRevoked { agent } => format!("revoke {agent}"),
        Touched::HostDecommissioned { agent } => format!("decommission {agent}"),
        Touched::Rollout { revision, state } => {
            format!("rollout of revision {revision} {}", state.as_str().replace('_', " "))
        }
        Touched::Unknown => "something".to_owned(),
    };
    let mut detail = revision.changes.iter().map(touched).collect::<Vec<_>>().join(", ");
    let more = revision.count.saturating_sub(revision.changes.len() as u64);
    if more > 0 {
        detail += &format!(" and {more} more");
    }
    if !revision.message.is_empty() {
        detail += &format!(" ({})", revision.message);
    }
    AuditEvent {
        v: VERSION,
        at_ms: revision.at_ms,
        actor: revision.actor,
        from: None,
        what: format!("revision {}", revision.revision),
        outcome: AuditOutcome::Done,
        detail,
        count: 1,
        since_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(at: &[(u64, u64)]) -> Vec<(u64, Option<AuditEvent>)> {
        at.iter()
            .map(|(sequence, at_ms)| {
                (*sequence, Some(AuditEvent { at_ms: *at_ms, ..of_change(made(&[(0, 0)]).remove(0)) }))
            })
            .collect()
    }

    fn made(at: &[(u64, u64)]) -> Vec<Revision> {
        at.iter()
            .map(|(revision, at_ms)| Revision {
                revision: *revision,
                at_ms: *at_ms,
                actor: "key a".to_owned(),
                message: String::new(),
                changes: Vec::new(),
                count: 0,
            })
            .collect()
    }

    #[test]
    fn both_lists_are_one_newest_first_and_a_page_ends_before_what_is_not_known() {
        let start = Place { sequence: 9, revision: 9 };
        let query = AuditQuery::default();
        let times = |page: &AuditPage| page.events.iter().map(|event| event.at_ms).collect::<Vec<_>>();
        let page = merge(told(&[(8, 80), (7, 40)]), (made(&[(8, 60), (7, 20)]), false), (7, start), &query);
        assert_eq!((times(&page), page.next.as_deref()), (vec![80, 60, 40, 20], None));
        // There are older entries than 40: one of them may be newer than the change at 20.
        let page = merge(told(&[(8, 80), (7, 40)]), (made(&[(8, 60), (7, 20)]), false), (1, start), &query);
        assert_eq!((times(&page), page.next.as_deref()), (vec![80, 60, 40], Some("7.8")));
        let late = AuditQuery { since_ms: Some(10_000_000), ..query };
        let page = merge(told(&[(8, 80)]), (made(&[(8, 60)]), true), (1, start), &late);
        assert_eq!((page.events.len(), page.next), (0, None));
        assert_eq!(Place::read("7.8").map(Place::text).as_deref(), Some("7.8"));
        assert!(["", "7", "7.x", "-1.2"].iter().all(|bad| Place::read(bad).is_none()));
    }
}
