//! What the alerter decides. Pure: time comes in as an argument, effects go out as values.

pub mod alert;
pub mod attempt;
pub mod evaluate;
pub mod rules;
pub mod summary;
#[cfg(test)]
mod tests;

pub use alert::{AlertKey, Position, State, Tracker};
pub use evaluate::{Alerts, Draft, Incoming, Transition};
pub use rules::RuleBook;
