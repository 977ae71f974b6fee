//! What operators write: YAML files read into [`protocol::document`]s, every mistake found at once and named by file,
//! line and column, and the expression language (CEL) in which they select hosts and judge results.
//!
//! Pure: no clock, no I/O. Start reading at [`read`] (a set of files) and [`RuleExpression`].

mod check;
mod expression;
mod fields;
mod kinds;
mod nearest;
mod set;
mod write;
mod yaml;

pub use expression::{EvalError, ExpressionError, HostExpression, HostView, RuleExpression, RuleView};
pub use set::{DOCUMENTS, read};
pub use write::write;
