//! What operators ask of the config-service, on `dogwatch.v1.admin.…`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    AgentId, CheckName, Facts, GroupName, Labels, Origin, VariablesName, Vars,
    config::CheckSpec,
    document::{Document, Kind},
    rollout::{Canary, Rollout, RolloutState},
    signed::{Signature, SignedDocument},
};

/// Request on `dogwatch.v1.admin.apply`; the reply is an [`Applied`], or an error with every problem at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyRequest {
    pub files: Vec<SourceFile>,
    /// Who changes it: filled in by the bridge from the key.
    #[serde(default)]
    pub actor: String,
    /// Why.
    #[serde(default)]
    pub message: String,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Delete what the files do not hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prune: bool,
    /// The revision that the change was made from. Refused with `conflict` when documents changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    /// Say as well what it means for each host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub effects: bool,
    /// The only hosts that it may concern: filled in by the bridge from the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Reach the hosts in stages. Absent: all of them at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// In place of the rollout that is open, if one is: it goes back, and this is made from what was before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// By whom the documents are signed, for the revision that this change makes. One of a document that does not
    /// change is kept in place of the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<DocumentSignature>,
}

/// The signature of one of the documents of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentSignature {
    pub kind: Kind,
    pub name: String,
    #[serde(flatten)]
    pub signature: Signature,
}

impl ApplyRequest {
    /// These files, and nothing else said.
    #[must_use]
    pub fn of(files: Vec<SourceFile>) -> Self {
        Self {
            files,
            actor: String::new(),
            message: String::new(),
            dry_run: false,
            prune: false,
            base: None,
            effects: false,
            within: None,
            canary: None,
            replace: false,
            signatures: Vec::new(),
        }
    }
}

/// One YAML (or JSON) file with one or more documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// As the operator named it; it stands in front of each problem.
    pub path: String,
    pub text: String,
}

/// What an apply did, or with `dry_run` would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// Newest revision: the one made, or the one before when nothing changed.
    pub revision: u64,
    pub changes: Vec<DocumentChange>,
    /// Where it was asked for: what it means for the hosts that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<Effects>,
    /// The rollout that began with it. Absent: every host that it concerns is to run it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Of a rollback that is only looked at, and without effects: the documents that it would put back, with their signatures of then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<SignedDocument>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentChange {
    pub kind: Kind,
    pub name: String,
    pub change: Change,
    /// Revision that made the version that there is, or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// What differs in a document that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
}

/// One field of a document that differs. A field that may hold a secret shows that it differs, and no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Where, such as `variants.0.command`.
    pub field: String,
    /// As JSON; absent: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// As JSON; absent: it is not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// What a change of documents means for the hosts that there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    /// Hosts that run something else afterwards.
    pub hosts: u64,
    /// Checks that hosts run anew, no more, and in another way: each counted once for each host.
    pub gained: u64,
    pub lost: u64,
    pub changed: u64,
    /// Checks that select a host afterwards and have no variant for it, or fail on it.
    pub unfit: u64,
    /// Host by host, the first of them where there are too many for one message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<HostEffect>,
}

/// What one host gains, loses, and runs in another way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEffect {
    pub agent: AgentId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gained: Vec<CheckName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<CheckName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<CheckName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfit: Vec<UnfitCheck>,
}

/// Request on `dogwatch.v1.admin.explain`: why does this host run this check as it does, or why not? The reply is an
/// [`Explanation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainQuery {
    pub agent: AgentId,
    pub check: CheckName,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub agent: AgentId,
    pub check: CheckName,
    /// Whether the check selects the host.
    pub hosts: Verdict,
    /// Its ways to run, in order; the first that holds runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Verdict>,
    /// Its overrides, in order; of those that hold, the first that gives a value wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Verdict>,
    /// Groups that the host is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// Variables that the check asks for and the host has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vars: Vec<VariableOrigin>,
    /// Schedule and thresholds, and what gave each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueOrigin>,
    /// Why the host cannot run it, though it is selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
    /// What the host is told to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<CheckSpec>,
}

/// A variable of a host, and the document that gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableOrigin {
    pub name: String,
    pub value: serde_json::Value,
    pub document: VariablesName,
    /// What the document is for; all hosts where both are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<AgentId>,
    /// Documents that give it as well and do not win, the next best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<VariablesName>,
}

/// Where a value of a check is from: the check itself, or one of its overrides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueOrigin {
    pub field: String,
    /// Absent: an override took it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Which override gave it, from 1.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub by_override: Option<usize>,
    /// The text that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
}

/// What became of one expression on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Absent: there is none, and it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Absent: it was not asked, or it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Request on `dogwatch.v1.admin.history`: accepted changes, newest first, page by page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// At most this many; 0: as many as one message holds, at most [`crate::limits::PAGE`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limit: usize,
    /// Only revisions before this one: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    pub revisions: Vec<Revision>,
    /// The last revision here when there are older ones; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// One accepted change: who made it, when, why, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub revision: u64,
    pub at_ms: u64,
    pub actor: String,
    pub message: String,
    /// The first of them; `count` is how many there are.
    pub changes: Vec<Touched>,
    pub count: u64,
}

/// What a change touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Touched {
    Put {
        kind: Kind,
        name: String,
    },
    Deleted {
        kind: Kind,
        name: String,
    },
    KeyCreated {
        id: String,
    },
    KeyRevoked {
        id: String,
    },
    TokenCreated {
        id: String,
    },
    TokenRevoked {
        id: String,
    },
    AgentEnrolled {
        agent: AgentId,
    },
    AgentRevoked {
        agent: AgentId,
    },
    Rollout {
        revision: u64,
        state: RolloutState,
    },
    HostDecommissioned {
        agent: AgentId,
    },
    /// Of a newer version.
    #[serde(other)]
    Unknown,
}

/// Request on `dogwatch.v1.admin.diff`: how documents differ between two revisions; the reply is a [`Difference`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffQuery {
    /// 0: before the first one.
    pub from: u64,
    /// The newest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub from: u64,
    pub to: u64,
    pub changes: Vec<DocumentChange>,
}

/// Request on `dogwatch.v1.admin.rollback`: make the documents what they were, as a new revision; keys stay as they
/// are. The reply is an [`Applied`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRequest {
    pub revision: u64,
    #[serde(default)]
    pub actor: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub dry_run: bool,
    /// As in [`ApplyRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub effects: bool,
    /// As in [`ApplyRequest`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<DocumentSignature>,
    /// The only hosts that it may concern: filled in by the bridge from the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Created,
    Changed,
    Unchanged,
    Deleted,
}

impl Change {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// One thing wrong with a set of documents. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub path: String,
    pub line: u64,
    pub column: u64,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path, self.line, self.column, self.message)
    }
}

/// Request on `dogwatch.v1.admin.documents`: the documents of some kinds, or of all when `kinds` is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentQuery {
    #[serde(default)]
    pub kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentList {
    pub revision: u64,
    pub documents: Vec<Document>,
}

/// Request on `dogwatch.v1.admin.hosts`: one host, or all by their ids, page by page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// At most this many; 0, and whatever does not fit into one message: as many as fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limit: usize,
    /// Only hosts behind this one: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<AgentId>,
    /// Only hosts for which this expression holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostList {
    pub hosts: Vec<Host>,
    /// The last host here when there are more; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<AgentId>,
}

/// What the inventory knows about one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub agent: AgentId,
    #[serde(default)]
    pub facts: Facts,
    #[serde(default)]
    pub labels: Labels,
    /// `agent` for a host with an agent, `http` for one that only a script speaks for.
    #[serde(default)]
    pub origin: Origin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    pub first_seen_ms: u64,
    /// 0: never.
    pub last_seen_ms: u64,
    /// Newest revision that concerns the host (G8).
    pub revision_wanted: u64,
    /// Revision that it says it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_applied: Option<u64>,
    /// Why it does not run the one that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Absent where nothing says how often the host should ask, as for a script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// Since when it is late, or gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_since_ms: Option<u64>,
    /// When two agents with this id were last seen at the same time, within the last hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloned_ms: Option<u64>,
    /// Id that the same machine had before this one, as far as its fact `machine_id` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formerly: Option<AgentId>,
    /// Id that the same machine has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_to: Option<AgentId>,
    /// Another host that asks at the same time with the same machine id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_machine: Option<AgentId>,
    /// Checks that it runs.
    pub checks: Vec<CheckName>,
    /// Checks that select it and have no variant that fits, or an expression that fails on it: never skipped in silence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfit: Vec<UnfitCheck>,
    /// Groups that documents put it into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// Variables that documents give it.
    #[serde(default, skip_serializing_if = "Vars::is_empty")]
    pub vars: Vars,
    /// How far its clock is ahead of the broker's, in milliseconds; below 0: behind. Filled in by the bridge, where ingest
    /// knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
}

/// Whether a host asks as often as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    Live,
    Late,
    Gone,
}

impl Liveness {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Late => "late",
            Self::Gone => "gone",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfitCheck {
    pub check: CheckName,
    pub reason: String,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Fetches one host's configuration and submits its results.
    Agent,
    /// Reads.
    Viewer,
    /// Reads, and changes documents.
    Editor,
    /// Everything, keys too.
    Admin,
}

impl Role {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Agent, Self::Viewer, Self::Editor, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a role: use agent, viewer, editor or admin"))
    }
}

/// Request on `dogwatch.v1.admin.key.create`; the reply is a [`KeyCreated`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyCreate {
    pub role: Role,
    /// The host that a key of role agent speaks for; no other role has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Facts of a host that has no agent to detect them.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
    /// How long it is good for, at least a minute; for ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// Expression over facts and labels: the only hosts that a key of role editor may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    #[serde(default)]
    pub actor: String,
}

/// The one message that ever holds a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCreated {
    pub key: String,
    #[serde(flatten)]
    pub info: KeyInfo,
}

impl fmt::Debug for KeyCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCreated").field("key", &"…").field("info", &self.info).finish()
    }
}

/// A key as it is listed: its id is not secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    pub id: String,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    pub created_ms: u64,
    /// 0: never. Kept to the minute.
    #[serde(default)]
    pub last_used_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<u64>,
    /// From then on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// As in [`KeyCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
}

/// Request on `dogwatch.v1.admin.key.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyQuery {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    pub keys: Vec<KeyInfo>,
}

/// Request on `dogwatch.v1.admin.key.revoke`; the reply is the [`KeyInfo`] as it is then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevoke {
    pub id: String,
    #[serde(default)]
    pub actor: String,
}

/// Request on `dogwatch.v1.admin.key.verify`: whose key has this hash? The reply is a [`KeyInfo`]; unknown and revoked
/// keys are answered with the error `unauthorized`. The key itself does not cross the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVerify {
    /// [`key_hash`] of the key.
    pub hash: String,
}

/// How a key is kept and looked up: SHA-256 in hex. A key holds 256 random bits, so it needs no slow hash.
#[must_use]
pub fn key_hash(key: &str) -> String {
    use sha2::{Digest, Sha256};
    crate::hex(&Sha256::digest(key.as_bytes()))
}
