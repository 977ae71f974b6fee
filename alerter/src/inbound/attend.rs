//! What people do about alerts: ask why, acknowledge, silence.

use protocol::{
    ErrorCode, ErrorReply,
    alert::Acknowledgement,
    attend::{
        AcknowledgeRequest, SilenceExpire, SilenceInfo, SilenceList, SilencePut, SilenceQuery, Why, WhyQuery,
    },
    subject,
};
use service_kit::{Context, now_ms, report, respond};

use crate::{
    core::mute::CompiledSilence,
    engine::{Engine, Shared},
    store::StoreError,
};

/// Longest acknowledgement.
const LONGEST_MS: u64 = 30 * 86_400_000;
/// Longest note or comment, in bytes.
const TEXT: usize = 2_000;
/// Most silences that are made by hand.
const SILENCES: usize = 1_000;

/// # Errors
/// When a subscription cannot be made.
pub async fn answer(ctx: &Context, engine: &Shared) -> anyhow::Result<()> {
    let limits = respond::Limits::default;
    let shared = engine.clone();
    let why = move |_, query: WhyQuery| answered(shared.clone(), move |engine| explain(engine, &query));
    respond::respond(ctx, subject::ALERTER_WHY, limits(), why).await?;
    let shared = engine.clone();
    let ack = move |_, request: AcknowledgeRequest| {
        answered(shared.clone(), move |engine| acknowledge(engine, request))
    };
    respond::respond(ctx, subject::ALERTER_ACKNOWLEDGE, limits(), ack).await?;
    let shared = engine.clone();
    let list = move |_, _: SilenceQuery| {
        answered(shared.clone(), |engine| Ok(SilenceList { silences: engine.silences(now_ms()) }))
    };
    respond::respond(ctx, subject::ALERTER_SILENCE_LIST, limits(), list).await?;
    let shared = engine.clone();
    let put = move |_, request: SilencePut| answered(shared.clone(), move |engine| put(engine, request));
    respond::respond(ctx, subject::ALERTER_SILENCE_PUT, limits(), put).await?;
    let shared = engine.clone();
    let expire =
        move |_, request: SilenceExpire| answered(shared.clone(), move |engine| expire(engine, &request));
    respond::respond(ctx, subject::ALERTER_SILENCE_EXPIRE, limits(), expire).await
}

async fn answered<R: Send + 'static>(
    engine: Shared,
    work: impl FnOnce(&mut Engine) -> Result<R, ErrorReply> + Send + 'static,
) -> Result<R, ErrorReply> {
    let done = engine.run(work).await;
    done.unwrap_or_else(|error| Err(ErrorReply::new(ErrorCode::Internal, report(error.as_ref()))))
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn away(error: StoreError) -> ErrorReply {
    ErrorReply::new(ErrorCode::Unavailable, report(&error))
}

fn unknown(id: &str) -> ErrorReply {
    let id: String = id.chars().take(64).collect();
    let message =
        format!("there is no one alert {id:?}: take an id, or its beginning, from `dogwatch alerts -o json`");
    ErrorReply::new(ErrorCode::NotFound, message).at("id")
}

fn explain(engine: &Engine, query: &WhyQuery) -> Result<Why, ErrorReply> {
    if query.id.is_empty() {
        return Err(unknown(""));
    }
    engine.why(&query.id).map_err(away)?.ok_or_else(|| unknown(&query.id))
}

fn acknowledge(
    engine: &mut Engine,
    request: AcknowledgeRequest,
) -> Result<protocol::alert::Alert, ErrorReply> {
    let AcknowledgeRequest { id, for_ms, note, actor } = request;
    if for_ms > LONGEST_MS {
        return Err(ErrorReply::invalid("an acknowledgement is for 30days at most").at("for_ms"));
    }
    if note.len() > TEXT {
        return Err(ErrorReply::invalid(format!("the note is longer than {TEXT} bytes")).at("note"));
    }
    if id.is_empty() {
        return Err(unknown(&id));
    }
    let at_ms = now_ms();
    let given = (for_ms > 0).then(|| Acknowledgement {
        by: actor,
        note,
        at_ms,
        until_ms: at_ms.saturating_add(for_ms),
    });
    engine.acknowledge(&id, given, at_ms).map_err(away)?.ok_or_else(|| unknown(&id))
}

fn put(engine: &mut Engine, SilencePut { silence }: SilencePut) -> Result<SilenceInfo, ErrorReply> {
    if silence.hosts.is_none() && silence.checks.is_empty() && silence.rules.is_empty() {
        return Err(ErrorReply::invalid("a silence names hosts, checks or rules, or several of them"));
    }
    if silence.comment.len() > TEXT || silence.checks.len() + silence.rules.len() > TEXT {
        return Err(ErrorReply::invalid(format!(
            "the comment is at most {TEXT} bytes, and so many names fit"
        )));
    }
    if engine.is_in_documents(&silence.name) {
        let message = format!(
            "a document has the silence {:?}: change it there, or give another name",
            silence.name.as_str()
        );
        return Err(ErrorReply::new(ErrorCode::Conflict, message).at("name"));
    }
    if engine.by_hand() >= SILENCES && engine.silence(&silence.name).is_none() {
        let message = format!("there are {SILENCES} silences: expire some, or write them as documents");
        return Err(ErrorReply::new(ErrorCode::Overloaded, message));
    }
    let compiled = CompiledSilence::new(silence.clone())
        .map_err(|error| ErrorReply::invalid(error.to_string()).at("silence"))?;
    engine.put_silence(silence.clone()).map_err(away)?;
    Ok(SilenceInfo { active: compiled.is_active(now_ms()), document: false, silence })
}

fn expire(engine: &mut Engine, request: &SilenceExpire) -> Result<SilenceInfo, ErrorReply> {
    let name = &request.name;
    let Some(silence) = engine.silence(name) else {
        let place = if engine.is_in_documents(name) {
            "stands in a document: remove it there"
        } else {
            "does not exist"
        };
        return Err(ErrorReply::new(ErrorCode::NotFound, format!("silence {name} {place}")).at("name"));
    };
    let now = now_ms();
    let ended = protocol::operate::Silence {
        ends: Some(silence.ends.map_or(now, |ends| ends.min(now))),
        ..silence.clone()
    };
    engine.put_silence(ended.clone()).map_err(away)?;
    Ok(SilenceInfo { silence: ended, active: false, document: false })
}
