//! What operators write: YAML files read into [`protocol::document`]s, every mistake found at once and named by file,
//! line and column, and the expression language (CEL) in which they select hosts and judge results.
//!
//! Pure: no clock, no I/O. Start reading at [`read`] (a set of files), [`Resolver`] (what a host runs by it) and
//! [`RuleExpression`].

mod body;
mod check;
mod damping;
mod expression;
mod fields;
mod kinds;
mod nearest;
mod operate;
mod receiver;
mod resolve;
mod set;
mod targeting;
mod targets;
mod template;
mod tuning;
mod write;
mod yaml;

pub use body::{BODY, BodyTemplate, TemplateError};
pub use expression::{
    Call, EvalError, ExpressionError, Function, History, HostExpression, HostView, Kept, NoHistory,
    RuleExpression, RuleView,
};
/// JSON Schema (2020-12) of one document, for editors. What is right by it may still be refused: names that nobody has,
/// expressions that do not compile.
pub const SCHEMA: &str = include_str!("schema.json");

pub use resolve::{Outcome, Outcomes, Resolved, Resolver, Scope, Step, Way, etag};
pub use set::{DOCUMENTS, read, read_beside};
pub use write::write;
