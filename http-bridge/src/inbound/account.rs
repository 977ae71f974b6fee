//! What of a request goes into the audit log: refusals, and what was done, with key and address.

use std::sync::{Arc, OnceLock};

use axum::{
    http::{Method, StatusCode},
    response::Response,
};
use protocol::audit::AuditOutcome;
use service_kit::audit::Audit;

use super::listener::Peer;
use crate::error::Detail;

/// Filled in once it is known who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who(Arc<OnceLock<String>>);

impl Who {
    pub(crate) fn is(&self, actor: String) {
        // The first answer stays.
        let _known = self.0.set(actor);
    }
}

/// Parts of a path that a refusal names: what follows is the caller's own words.
const NAMED: usize = 4;

/// Tell the audit log of an answered request what belongs there.
pub(crate) fn tell(
    audit: &Audit,
    who: &Who,
    peer: Option<Peer>,
    (method, path): (&Method, &str),
    answer: &Response,
) {
    let from = peer.map(|peer| peer.0.ip().to_canonical().to_string());
    let (from, actor) = (from.as_deref(), who.0.get().map_or("", String::as_str));
    let status = answer.status();
    let detail = answer.extensions().get::<Detail>().map_or("", |detail| detail.0.as_str());
    let detail = format!("{}: {detail}", status.as_u16());
    let endpoint = || format!("{method} {}", path.split('/').take(NAMED).collect::<Vec<_>>().join("/"));
    let refused =
        [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if refused {
        audit.tell(actor, from, &endpoint(), AuditOutcome::Refused, &detail);
        return;
    }
    if actor.is_empty() {
        return;
    }
    // Questions that are too long for a path are posted. Pieces do nothing before what they make is asked for.
    let asks =
        method == Method::GET || path.starts_with("/api/v1/query/") || path == "/api/v1/restore/pieces";
    let acts = !asks && path.starts_with("/api/v1/");
    if !acts {
        audit.tell(actor, from, "use key", AuditOutcome::Done, "");
    } else if status.is_success() {
        audit.tell_each(actor, from, &format!("{method} {path}"), AuditOutcome::Done, "");
    } else {
        audit.tell(actor, from, &endpoint(), AuditOutcome::Failed, &detail);
    }
}
