//! The words dogwatch speaks: ids, subjects, streams and the messages on them.
//!
//! Everything here is plain data and pure functions: no clock, no I/O, no NATS client. A program that is
//! not ours can be written from this crate (or from `docs/PROTOCOL.md`) alone.
//!
//! The promise: fields are added, never renamed or given another meaning. Readers ignore fields that they
//! do not know. `test-data/` keeps one frozen sample of every message; a test reads each of them.
//!
//! Start reading at [`subject`] (who talks where), then [`result`] (what an agent measured) and [`config`]
//! (what an agent is told).

pub mod admin;
pub mod alert;
pub mod archive;
pub mod attend;
pub mod audit;
pub mod codec;
pub mod config;
pub mod cron;
pub mod decommission;
pub mod document;
pub mod duration;
pub mod error;
pub mod id;
pub mod letter;
pub mod limits;
pub mod log;
pub mod operate;
pub mod pattern;
pub mod pointer;
pub mod query;
pub mod receiver;
pub mod reply;
pub mod result;
pub mod rollout;
pub mod run;
pub mod scalar;
pub mod series;
pub mod sign_in;
pub mod signed;
pub mod size;
pub mod stored;
pub mod stream;
pub mod subject;
pub mod targeting;
pub mod threshold;
pub mod timestamp;
pub mod transfer;
pub mod work;

pub use codec::{DecodeError, decode, encode, hex};
pub use error::{ErrorCode, ErrorReply};
pub use id::{
    ActionName, AgentId, CheckName, GroupName, IdError, ReceiverName, RuleName, SilenceName, VariablesName,
};
pub use reply::Reply;
pub use result::{CheckResult, Metric, Origin, Status};
pub use scalar::Scalar;
pub use threshold::Threshold;

/// Version of the messages in this crate; it is also a token of every subject.
pub const VERSION: u8 = 1;

/// Facts that an agent detected about its host: `os`, `package_manager`, `cpus`, …
pub type Facts = std::collections::BTreeMap<String, serde_json::Value>;

/// Labels that an operator gave a host: `role=web`.
pub type Labels = std::collections::BTreeMap<String, String>;

/// Variables that an operator gave a host by documents: texts, numbers, truth values, and lists of them.
pub type Vars = std::collections::BTreeMap<String, serde_json::Value>;
