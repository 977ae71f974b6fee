//! What the alerter decides. Pure: time comes in as an argument, effects go out as values.

pub mod alert;
pub mod alerts;
pub mod attempt;
pub mod draft;
pub mod evaluate;
mod event;
pub mod flap;
mod gone;
pub mod guard;
pub mod mute;
pub mod notify;
pub mod quiet;
pub mod rules;
pub mod scenario;
pub mod series;
pub mod summary;
#[cfg(test)]
mod tests;
pub mod window;

pub use alert::{AlertKey, Position, State, Tracker};
pub use alerts::Alerts;
pub use draft::{Draft, Transition};
pub use evaluate::{HostInfo, Incoming, World};
pub use mute::Mutes;
pub use rules::RuleBook;
