//! Who may sign in as an agent: enrolment tokens, and the NKeys that were enrolled by them.

use std::collections::{BTreeMap, HashMap};

use protocol::{
    AgentId, ErrorCode, ErrorReply, Labels,
    admin::key_hash,
    limits,
    log::{LogChange, LogRecord, TokenRecord},
    sign_in::{MOST_USES, TokenCreate, TokenInfo},
};
use serde::{Deserialize, Serialize};

use super::keys::id_of;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const YEAR_MS: u64 = 366 * 24 * HOUR_MS;
/// Tokens that can be used at once, at most.
const MOST_TOKENS: usize = 10_000;

/// A token and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) record: TokenRecord,
    pub(crate) used: u32,
    pub(crate) revoked_ms: Option<u64>,
}

/// An NKey that was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enrolled {
    pub(crate) agent: AgentId,
    pub(crate) labels: Labels,
    pub(crate) at_ms: u64,
    pub(crate) revoked_ms: Option<u64>,
}

/// A host that was decommissioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gone {
    pub(crate) at_ms: u64,
    /// It was enrolled, or got a key, anew.
    pub(crate) back: bool,
}

/// The fold of all that the log says of sign-ins.
#[derive(Debug, Clone, Default)]
pub(crate) struct SignIns {
    tokens: BTreeMap<String, Token>,
    /// Ids of tokens by hash.
    hashes: HashMap<String, String>,
    /// By NKey.
    enrolled: BTreeMap<String, Enrolled>,
    /// The NKey of each agent that has a valid one.
    names: BTreeMap<AgentId, String>,
    gone: BTreeMap<AgentId, Gone>,
}

/// What one change made of a token or an NKey, to be kept.
pub(crate) enum Kept {
    Token(String, Token),
    Enrolled(String, Enrolled),
    Gone(AgentId, Gone),
}

/// What a sign-in says.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// Proven by a signature.
    pub(crate) nkey: String,
    pub(crate) agent: Option<String>,
    pub(crate) token: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// An agent that is enrolled.
    Known(AgentId),
    /// To be enrolled by the token with this id.
    Enrol { agent: AgentId, token: String },
}

impl SignIns {
    pub(crate) fn load(
        tokens: Vec<(String, Token)>,
        enrolled: Vec<(String, Enrolled)>,
        gone: Vec<(AgentId, Gone)>,
    ) -> Self {
        let mut this = Self { gone: gone.into_iter().collect(), ..Self::default() };
        for (_, token) in tokens {
            this.keep(Kept::Token(token.record.id.clone(), token));
        }
        for (nkey, enrolled) in enrolled {
            this.keep(Kept::Enrolled(nkey, enrolled));
        }
        this
    }

    fn keep(&mut self, kept: Kept) {
        match kept {
            Kept::Token(id, token) => {
                self.hashes.insert(token.record.hash.clone(), id.clone());
                self.tokens.insert(id, token);
            }
            Kept::Enrolled(nkey, enrolled) => {
                if enrolled.revoked_ms.is_none() {
                    self.names.insert(enrolled.agent.clone(), nkey.clone());
                } else if self.names.get(&enrolled.agent) == Some(&nkey) {
                    self.names.remove(&enrolled.agent);
                }
                self.enrolled.insert(nkey, enrolled);
            }
            Kept::Gone(agent, gone) => drop(self.gone.insert(agent, gone)),
        }
    }

    /// What a change makes of tokens and NKeys; nothing for changes of something else.
    pub(crate) fn effect(&self, change: &LogChange) -> Vec<Kept> {
        match change {
            LogChange::TokenCreated { token } => {
                let new = Token { record: token.clone(), used: 0, revoked_ms: None };
                vec![Kept::Token(token.id.clone(), new)]
            }
            LogChange::TokenRevoked { id, at_ms } => {
                let token = self.tokens.get(id).cloned();
                let revoked = |token| Token { revoked_ms: Some(*at_ms), ..token };
                token.map(|token| Kept::Token(id.clone(), revoked(token))).into_iter().collect()
            }
            LogChange::AgentEnrolled { agent, nkey, token, at_ms } => {
                let mut used = self.tokens.get(token).cloned();
                let labels = used.as_ref().map(|token| token.record.labels.clone()).unwrap_or_default();
                let at_ms = *at_ms;
                let enrolled = Enrolled { agent: agent.clone(), labels, at_ms, revoked_ms: None };
                let mut kept = vec![Kept::Enrolled(nkey.clone(), enrolled)];
                if let Some(token) = &mut used {
                    token.used = token.used.saturating_add(1);
                }
                kept.extend(used.map(|token| Kept::Token(token.record.id.clone(), token)));
                kept.extend(self.back(agent));
                kept
            }
            LogChange::AgentRevoked { agent, at_ms } => {
                let enrolled = self.names.get(agent).and_then(|nkey| Some((nkey, self.enrolled.get(nkey)?)));
                let revoked = |(nkey, enrolled): (&String, &Enrolled)| {
                    let enrolled = Enrolled { revoked_ms: Some(*at_ms), ..enrolled.clone() };
                    Kept::Enrolled(nkey.clone(), enrolled)
                };
                enrolled.map(revoked).into_iter().collect()
            }
            LogChange::HostDecommissioned { agent, at_ms } => {
                vec![Kept::Gone(agent.clone(), Gone { at_ms: *at_ms, back: false })]
            }
            LogChange::KeyCreated { key } => {
                key.agent.as_ref().and_then(|agent| self.back(agent)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// A host that was decommissioned is taken in again.
    fn back(&self, agent: &AgentId) -> Option<Kept> {
        let gone = self.gone.get(agent).filter(|gone| !gone.back)?;
        Some(Kept::Gone(agent.clone(), Gone { back: true, ..gone.clone() }))
    }

    /// Whether a host was decommissioned and has not come back.
    pub(crate) fn is_gone(&self, agent: &AgentId) -> bool {
        self.gone.get(agent).is_some_and(|gone| !gone.back)
    }

    /// Hosts that were ever decommissioned.
    pub(crate) fn gone(&self) -> impl Iterator<Item = (&AgentId, &Gone)> {
        self.gone.iter()
    }

    /// Returns the agent that got labels, and those.
    pub(crate) fn fold(&mut self, change: &LogChange) -> Option<(AgentId, Labels)> {
        let mut given = None;
        for kept in self.effect(change) {
            if let (Kept::Enrolled(_, enrolled), LogChange::AgentEnrolled { .. }) = (&kept, change) {
                given = Some((enrolled.agent.clone(), enrolled.labels.clone()));
            }
            self.keep(kept);
        }
        given
    }

    /// What each record makes of tokens and NKeys, one after the other.
    pub(crate) fn effects<'a>(&self, records: impl Iterator<Item = &'a LogRecord>) -> Vec<Vec<Kept>> {
        let mut later: Option<Self> = None;
        let mut effects = Vec::new();
        for record in records {
            let mut kept = Vec::new();
            for change in &record.changes {
                let one = later.as_ref().unwrap_or(self).effect(change);
                // Copied only where a second change may build on the first.
                if !one.is_empty() {
                    later.get_or_insert_with(|| self.clone()).fold(change);
                }
                kept.extend(one);
            }
            effects.push(kept);
        }
        effects
    }

    /// All enrolments, in their order.
    pub(crate) fn in_order(&self) -> Vec<&Enrolled> {
        let mut all: Vec<_> = self.enrolled.values().collect();
        all.sort_by_key(|enrolled| enrolled.at_ms);
        all
    }

    /// The agent that a sign-in is, or becomes. `in_inventory` says whether there is a host of an id.
    ///
    /// # Errors
    /// Why it is refused, for operators: the broker tells the agent nothing but that it is refused.
    pub(crate) fn decide(
        &self,
        claim: &Claim,
        in_inventory: impl Fn(&AgentId) -> bool,
        now: u64,
    ) -> Result<Decision, String> {
        let called = claim.agent.as_deref().filter(|name| !name.is_empty());
        if let Some(enrolled) = self.enrolled.get(&claim.nkey) {
            let agent = &enrolled.agent;
            if enrolled.revoked_ms.is_some() {
                return Err(format!(
                    "the NKey was that of {agent} and is revoked: to enrol the host again, delete agent.nk in the \
                     agent's state folder and make a token with --agent {agent}"
                ));
            }
            return match called {
                Some(other) if other != agent.as_str() => Err(format!(
                    "the NKey is enrolled as {agent}, and the agent calls itself {}: set its --agent-id {agent}",
                    shown(other)
                )),
                _ => Ok(Decision::Known(agent.clone())),
            };
        }
        let Some(token) = claim.token.as_deref().filter(|token| !token.is_empty()) else {
            return Err("the NKey is not enrolled, and no token came with it: start the agent with \
                        --enrol-token-file"
                .to_owned());
        };
        let id = self.hashes.get(&key_hash(token));
        let Some(token) = id.and_then(|id| self.tokens.get(id)) else {
            return Err("the enrolment token is unknown: make one with `dogwatch token create`".to_owned());
        };
        let record = &token.record;
        let another = "make another with `dogwatch token create`";
        let refused = |what: &str| Err(format!("the enrolment token {} {what}: {another}", record.id));
        if token.revoked_ms.is_some() {
            return refused("is revoked");
        }
        if now >= record.expires_ms {
            return refused("is expired");
        }
        if token.used >= record.uses {
            return refused("is used up");
        }
        let Some(agent) = called.and_then(|name| AgentId::new(name).ok()) else {
            return Err(format!(
                "{} is no id of an agent: give --agent-id",
                shown(called.unwrap_or_default())
            ));
        };
        if record.agent.as_ref().is_some_and(|only| *only != agent) {
            return refused(&format!("is for another agent than {agent}"));
        }
        if self.names.contains_key(&agent) {
            return Err(format!(
                "the name {agent} is taken: another NKey is enrolled for it; give this host another --agent-id, or, if \
                 it is the same host set up anew, run `dogwatch host revoke {agent}` first"
            ));
        }
        if record.agent.is_none() && in_inventory(&agent) {
            return Err(format!(
                "the name {agent} is taken by a host of the inventory; if it is the same host, make a token with \
                 --agent {agent}"
            ));
        }
        Ok(Decision::Enrol { agent, token: record.id.clone() })
    }

    pub(crate) fn is_enrolled(&self, agent: &AgentId) -> bool {
        self.names.contains_key(agent)
    }

    pub(crate) fn infos(&self) -> Vec<TokenInfo> {
        let mut all: Vec<_> = self.tokens.values().map(info).collect();
        all.sort_by_key(|token| token.created_ms);
        all
    }

    /// # Errors
    /// `not_found`.
    pub(crate) fn token(&self, id: &str) -> Result<TokenInfo, ErrorReply> {
        self.tokens.get(id).map(info).ok_or_else(|| {
            let message = "there is no token with this id: `dogwatch token list` shows all";
            ErrorReply::new(ErrorCode::NotFound, message).at("id")
        })
    }

    /// The record of a new token.
    ///
    /// # Errors
    /// `invalid`, naming the field; `conflict` when there are too many.
    pub(crate) fn create(
        &self,
        request: &TokenCreate,
        token: &str,
        now: u64,
    ) -> Result<TokenRecord, ErrorReply> {
        let (uses, life) = (request.uses.unwrap_or(1), request.expires_in_ms.unwrap_or(HOUR_MS));
        if !(1..=MOST_USES).contains(&uses) {
            return Err(ErrorReply::invalid(format!("{uses} uses: give 1 to {MOST_USES}")).at("uses"));
        }
        if uses > 1 && request.agent.is_some() {
            return Err(ErrorReply::invalid("a token for one agent has one use").at("uses"));
        }
        if !(MINUTE_MS..=YEAR_MS).contains(&life) {
            return Err(ErrorReply::invalid("a token is good for a minute to a year").at("expires_in_ms"));
        }
        let size = protocol::encode(&request.labels).map_or(usize::MAX, |json| json.len());
        if request.labels.len() > limits::FACTS || size > super::model::HOST_BYTES {
            return Err(ErrorReply::invalid("these labels are more than a host may have").at("labels"));
        }
        let good = |token: &&Token| {
            token.revoked_ms.is_none() && token.used < token.record.uses && now < token.record.expires_ms
        };
        if self.tokens.values().filter(good).count() >= MOST_TOKENS {
            let message = format!("there are {MOST_TOKENS} unused tokens: revoke some");
            return Err(ErrorReply::new(ErrorCode::Conflict, message));
        }
        Ok(TokenRecord {
            id: id_of(token),
            hash: key_hash(token),
            uses,
            agent: request.agent.clone(),
            labels: request.labels.clone(),
            created_ms: now,
            expires_ms: now.saturating_add(life),
        })
    }
}

fn info(token: &Token) -> TokenInfo {
    let Token { record, used, revoked_ms } = token.clone();
    TokenInfo {
        id: record.id,
        uses: record.uses,
        used,
        agent: record.agent,
        labels: record.labels,
        created_ms: record.created_ms,
        expires_ms: record.expires_ms,
        revoked_ms,
    }
}

/// Words of a stranger, short and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(64).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    fn claim(nkey: &str, name: &str, token: &str) -> Claim {
        let text = |text: &str| Some(text.to_owned());
        Claim { nkey: nkey.to_owned(), agent: text(name), token: text(token) }
    }

    fn with(requests: &[(&str, TokenCreate)]) -> SignIns {
        let mut all = SignIns::default();
        for (token, request) in requests {
            let record = all.create(request, token, 0).unwrap();
            all.fold(&LogChange::TokenCreated { token: record });
        }
        all
    }

    fn enrol(all: &mut SignIns, claim: &Claim) {
        let Ok(Decision::Enrol { agent, token }) = all.decide(claim, |_| false, 1) else {
            panic!("{claim:?} is not enrolled");
        };
        all.fold(&LogChange::AgentEnrolled { agent, nkey: claim.nkey.clone(), token, at_ms: 1 });
    }

    #[test]
    fn a_token_enrols_so_many_and_the_nkey_is_enough_from_then_on() {
        let labels: Labels = [("role".to_owned(), "web".to_owned())].into();
        let request = TokenCreate { uses: Some(2), labels: labels.clone(), ..TokenCreate::default() };
        let mut all = with(&[("t", request)]);
        enrol(&mut all, &claim("U1", "web-01", "t"));
        assert_eq!((&all.in_order()[0].agent, &all.in_order()[0].labels), (&agent("web-01"), &labels));
        assert_eq!(all.decide(&claim("U1", "web-01", ""), |_| true, 1), Ok(Decision::Known(agent("web-01"))));
        // Whoever comes a second time with the token, since it did not hear that it was enrolled, uses nothing up.
        assert_eq!(
            all.decide(&claim("U1", "web-01", "t"), |_| true, 1),
            Ok(Decision::Known(agent("web-01")))
        );
        enrol(&mut all, &claim("U2", "web-02", "t"));
        assert_eq!((all.infos()[0].used, all.infos().len()), (2, 1));
        let error = all.decide(&claim("U3", "web-03", "t"), |_| false, 1).unwrap_err();
        assert!(error.contains("is used up: make another with `dogwatch token create`"), "{error}");
    }

    #[test]
    fn each_refusal_says_why() {
        let request = TokenCreate { uses: Some(9), ..TokenCreate::default() };
        let only = TokenCreate { agent: Some(agent("db-01")), ..TokenCreate::default() };
        let mut all = with(&[("t", request.clone()), ("gone", request), ("only", only)]);
        let gone = all.infos().iter().find(|token| token.id == id_of("gone")).unwrap().id.clone();
        all.fold(&LogChange::TokenRevoked { id: gone, at_ms: 1 });
        enrol(&mut all, &claim("U1", "web-01", "t"));
        let later = HOUR_MS;
        for (claim, now, expected) in [
            (claim("U9", "x", ""), 1, "no token came with it"),
            (claim("U9", "x", "guess"), 1, "the enrolment token is unknown"),
            (claim("U9", "x", "gone"), 1, "is revoked"),
            (claim("U9", "x", "t"), later, "is expired"),
            (claim("U9", "x", "only"), 1, "is for another agent than x"),
            (claim("U9", "No.Id", "t"), 1, "\"No.Id\" is no id of an agent"),
            (claim("U9", "web-01", "t"), 1, "the name web-01 is taken: another NKey is enrolled for it"),
            (claim("U9", "old-01", "t"), 1, "taken by a host of the inventory"),
            (claim("U1", "web-02", ""), 1, "the NKey is enrolled as web-01"),
        ] {
            let error = all.decide(&claim, |agent| agent.as_str() == "old-01", now).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        // A token that names the host may enrol it although the inventory has it.
        assert!(all.decide(&claim("U9", "db-01", "only"), |_| true, 1).is_ok());
    }

    #[test]
    fn a_revoked_nkey_stays_out_and_its_name_is_free_again() {
        let request = TokenCreate { uses: Some(9), ..TokenCreate::default() };
        let mut all = with(&[("t", request)]);
        enrol(&mut all, &claim("U1", "web-01", "t"));
        all.fold(&LogChange::AgentRevoked { agent: agent("web-01"), at_ms: 2 });
        let error = all.decide(&claim("U1", "web-01", "t"), |_| false, 3).unwrap_err();
        assert!(error.contains("is revoked: to enrol the host again"), "{error}");
        enrol(&mut all, &claim("U2", "web-01", "t"));
        let loaded = SignIns::load(
            all.tokens.clone().into_iter().collect(),
            all.enrolled.clone().into_iter().collect(),
            Vec::new(),
        );
        assert_eq!(loaded.names, all.names);
        assert_eq!(loaded.names[&agent("web-01")], "U2");
        assert!(loaded.decide(&claim("U1", "web-01", "t"), |_| false, 3).is_err());
    }
}
