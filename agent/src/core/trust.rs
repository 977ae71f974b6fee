//! What this host believes of what it is told: documents that are signed by a key that it pins, no older than what it
//! accepted before, and only for what it finds out from them by its own facts and labels (G3).
//!
//! The service says what to run. Each check of it is held against the signed documents, and one that differs does not run
//! but reports why. So a service that lies can keep a check from running; it can make nothing else run.

use std::collections::BTreeMap;

use protocol::{
    CheckName,
    config::CheckSpec,
    signed::{PublicKey, Signature, SignedDocument},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    check::{Check, Plan, WireConfig, Work},
    resolve::Resolved,
};

/// How each refusal begins.
pub const REFUSED: &str = "refused by this agent: ";

/// One line about a key: `KEY`, `KEY until 2027-01-31T00:00:00Z`, or `revoked KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    key: PublicKey,
    pin: Pin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pin {
    Always,
    /// In milliseconds since 1970.
    Until(u64),
    Revoked,
}

/// The keys that this host pins, and how strict it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    keys: BTreeMap<PublicKey, Pin>,
    required: bool,
}

/// What this host accepted so far, by kind and name: kept on disk, since an older version that is signed too must not
/// come back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    documents: BTreeMap<String, Mark>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Highest revision that was accepted.
    newest: u64,
    /// The older one to which the newest may fall back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback: Option<u64>,
    /// What was in force before the newest: nothing below it comes back.
    floor: u64,
    /// What is in force: the newest, or what it fell back to.
    current: u64,
}

/// What of the documents of a configuration this host believes.
#[derive(Debug, Default)]
pub struct Believed {
    pub documents: Vec<Value>,
    /// Checks whose document it does not believe, and why.
    refused: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl std::str::FromStr for TrustedKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let key = |word: &str| word.parse().map_err(|error| format!("{word:?}: {error}"));
        match text.split_whitespace().collect::<Vec<_>>().as_slice() {
            [word] => Ok(Self { key: key(word)?, pin: Pin::Always }),
            ["revoked", word] => Ok(Self { key: key(word)?, pin: Pin::Revoked }),
            [word, "until", time] => {
                let time: jiff::Timestamp =
                    time.parse().map_err(|_| format!("{time:?} is no time: write 2027-01-31T00:00:00Z"))?;
                let until = u64::try_from(time.as_millisecond()).unwrap_or(0);
                Ok(Self { key: key(word)?, pin: Pin::Until(until) })
            }
            _ => Err("write KEY, KEY until TIME, or revoked KEY".to_owned()),
        }
    }
}

impl Trust {
    /// `file`: lines as [`TrustedKey`] has them, empty ones, and comments behind `#`. A key that is revoked anywhere is
    /// revoked. Unless `required` says otherwise, signatures are required as soon as a key is pinned.
    ///
    /// # Errors
    /// The line that cannot be read.
    pub fn new(keys: &[TrustedKey], file: &str, required: Option<bool>) -> Result<Self, String> {
        let mut all = keys.to_vec();
        for (index, line) in file.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                all.push(line.parse().map_err(|error| format!("line {}: {error}", index + 1))?);
            }
        }
        let mut pins = BTreeMap::new();
        for TrustedKey { key, pin } in all {
            if pin == Pin::Revoked || pins.get(&key) != Some(&Pin::Revoked) {
                pins.insert(key, pin);
            }
        }
        let required = required.unwrap_or(!pins.is_empty());
        Ok(Self { keys: pins, required })
    }

    /// Whether signatures are looked at.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.required || !self.keys.is_empty()
    }

    /// The documents of a configuration that this host believes. What it accepts by that is noted in `accepted`.
    #[must_use]
    pub fn believed(&self, wire: &WireConfig, accepted: &mut Accepted, now_ms: u64) -> Believed {
        let mut believed = Believed::default();
        if !self.is_on() {
            return believed;
        }
        for value in &wire.documents {
            if !self.required && value.get("signature").is_none() {
                continue;
            }
            let Some((kind, name)) = value.get("document").and_then(named) else {
                believed.problems.push(format!("{REFUSED}a document that this version cannot read"));
                continue;
            };
            match self.believe(value, (kind, name), accepted, now_ms) {
                Ok(document) => believed.documents.push(document),
                Err(reason) if kind == "Check" => drop(believed.refused.insert(name.to_owned(), reason)),
                Err(reason) => believed.problems.push(format!("{kind} {name}: {REFUSED}{reason}")),
            }
        }
        believed
    }

    /// What of a configuration runs here, if `own` is what comes of the documents that are believed.
    ///
    /// # Errors
    /// Why nothing of it can be run.
    pub fn plan(&self, wire: &WireConfig, believed: Believed, own: &Resolved) -> Result<Plan, String> {
        let mut plan = Plan::read(wire)?;
        if !self.is_on() {
            return Ok(plan);
        }
        plan.problems.extend(believed.problems);
        for (name, value) in wire.checks.iter().filter_map(|value| Some((check_name(value)?, value))) {
            let (refused, own) = (believed.refused.get(name.as_str()), own.get(&name));
            let signed = refused.is_some() || is_signed(&believed.documents, &name);
            if !signed && !self.required {
                continue;
            }
            if let Err(reason) = agree(value, own, refused, signed) {
                plan.refuse(&name, format!("{REFUSED}{reason}"));
            }
        }
        Ok(plan)
    }

    fn believe(
        &self,
        value: &Value,
        name: (&str, &str),
        accepted: &mut Accepted,
        now_ms: u64,
    ) -> Result<Value, String> {
        let SignedDocument { document: json, signature } = SignedDocument::deserialize(value)
            .map_err(|error| format!("this version cannot read its signature: {error}"))?;
        let signature = signature.ok_or("the document is not signed")?;
        self.may_sign(&signature.key, now_ms)?;
        signature.verify(&json).map_err(|error| error.to_string())?;
        accepted.admit(name, &signature)?;
        Ok(json)
    }

    fn may_sign(&self, key: &PublicKey, now_ms: u64) -> Result<(), String> {
        let id = key.id();
        match self.keys.get(key) {
            Some(Pin::Always) => Ok(()),
            Some(Pin::Until(until)) if now_ms < *until => Ok(()),
            Some(Pin::Until(_)) => {
                Err(format!("the time of key {id} is over: sign the document with another key"))
            }
            Some(Pin::Revoked) => Err(format!("key {id} is revoked: sign the document with another key")),
            None => Err(format!("key {id} is none of those that this host trusts")),
        }
    }
}

impl Accepted {
    fn admit(&mut self, (kind, name): (&str, &str), signature: &Signature) -> Result<(), String> {
        let revision = signature.revision;
        let new = |floor| Mark { newest: revision, fallback: signature.fallback, floor, current: revision };
        let name = format!("{kind}/{name}");
        let Some(mark) = self.documents.get_mut(&name) else {
            self.documents.insert(name, new(0));
            return Ok(());
        };
        if revision > mark.newest {
            *mark = new(mark.current);
        } else if revision == mark.newest || (mark.fallback == Some(revision) && revision >= mark.floor) {
            mark.current = revision;
        } else {
            return Err(format!(
                "it is signed for revision {revision}, and this host accepted revision {} before",
                mark.newest
            ));
        }
        Ok(())
    }
}

/// Whether what the service says of a check is what the signed document makes of this host.
fn agree(
    told: &Value,
    own: Option<&Result<CheckSpec, String>>,
    refused: Option<&String>,
    signed: bool,
) -> Result<(), String> {
    match (own, refused) {
        (_, Some(reason)) => Err(reason.clone()),
        (Some(Ok(own)), None) => match CheckSpec::deserialize(told) {
            Ok(told) if told == *own => Ok(()),
            _ => Err("the service says to run it otherwise than the signed document does".to_owned()),
        },
        (Some(Err(reason)), None) => Err(format!("the signed document does not fit this host: {reason}")),
        (None, None) if signed => {
            Err("the signed document does not select this host, by its own facts and labels".to_owned())
        }
        (None, None) => Err("there is no signed document of it".to_owned()),
    }
}

fn is_signed(believed: &[Value], name: &CheckName) -> bool {
    believed.iter().any(|document| named(document) == Some(("Check", name.as_str())))
}

/// Kind and name as the document itself says them.
fn named(document: &Value) -> Option<(&str, &str)> {
    Some((document.get("kind")?.as_str()?, document.get("name")?.as_str()?))
}

fn check_name(value: &Value) -> Option<CheckName> {
    CheckName::new(value.get("name")?.as_str()?).ok()
}

impl Plan {
    /// Report `reason` in place of running the check.
    fn refuse(&mut self, name: &CheckName, reason: String) {
        if let Some(check) = self.checks.get_mut(name) {
            self.problems.push(format!("{name}: {reason}"));
            *check = std::sync::Arc::new(Check { work: Work::Impossible(reason), ..Check::clone(check) });
        }
    }
}

#[cfg(test)]
mod tests;
