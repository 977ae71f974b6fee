//! Who asks: the key in `X-API-Key`, and what its role may do. The key itself is never logged or kept.

use std::sync::Arc;

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::request::Parts,
};
use protocol::{
    AgentId, ErrorCode, ErrorReply,
    admin::{KeyInfo, Role},
};

use super::{listener::Peer, routes::App};
use crate::{error::Problem, outbound::Keys};

const HEADER: &str = "x-api-key";
/// Keys are far shorter; what is longer is not hashed.
const LONGEST: usize = 512;

/// A request with a good key, within its rate.
pub(crate) struct Caller(KeyInfo);

impl Caller {
    /// The host that a key of role agent speaks for.
    pub(crate) fn agent(&self) -> Result<&AgentId, Problem> {
        match (&self.0.agent, self.0.role) {
            (Some(agent), Role::Agent) => Ok(agent),
            _ => Err(forbidden(format!(
                "a key of role {} speaks for no host: use a key of role agent",
                self.0.role
            ))),
        }
    }

    /// Refuse who has a lesser role. A key of role agent has none of the operators' rights.
    pub(crate) fn at_least(&self, role: Role) -> Result<(), Problem> {
        if self.0.role >= role {
            return Ok(());
        }
        Err(forbidden(format!("this needs a key of role {role} or higher; yours has role {}", self.0.role)))
    }

    /// How the audit log names the caller.
    pub(crate) fn actor(&self) -> String {
        format!("key {}", self.0.id)
    }
}

fn forbidden(reason: String) -> Problem {
    ErrorReply::new(ErrorCode::Forbidden, reason).into()
}

fn unauthorized(reason: &str) -> Problem {
    ErrorReply::new(ErrorCode::Unauthorized, reason).into()
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Some(header) = parts.headers.get(HEADER) else {
            return Err(unauthorized("no key: send it in the header X-API-Key"));
        };
        let key = header.to_str().ok().ok_or_else(wrong)?;
        Self::of_key(key, parts, app).await
    }
}

fn wrong() -> Problem {
    unauthorized("the key is unknown or revoked")
}

impl Caller {
    /// Who the key belongs to, wherever in the request it stood.
    pub(crate) async fn of_key(key: &str, parts: &Parts, app: &App) -> Result<Self, Problem> {
        if key.len() > LONGEST {
            return Err(wrong());
        }
        let hash = Keys::hash(key.trim());
        let info = match app.keys.cached(&hash) {
            Some(answer) => answer,
            None => {
                let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|info| info.0.0.ip());
                if let Some(peer) = peer {
                    app.limits
                        .may_guess(peer)
                        .map_err(|wait| Problem::too_many("unknown keys from this address", wait))?;
                }
                let info = app.keys.verify(hash).await?;
                if let (None, Some(peer)) = (&info, peer) {
                    app.limits.guessed(peer);
                }
                info
            }
        };
        let info = info.ok_or_else(wrong)?;
        app.limits.request(&info.id).map_err(|wait| Problem::too_many("requests with this key", wait))?;
        Ok(Self(info))
    }
}
