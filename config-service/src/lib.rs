//! The config-service: what each host checks is decided here, and every change of it is kept.
//!
//! Accepted changes are records in stream CONFIG. Each replica folds them into its own sled store and into a model in
//! memory, from which it answers; whichever of stream and store is behind is healed from the other. Start reading at
//! [`service::start`], then `changes` (the way of a change) and `core::model` (what is decided).

mod audit;
mod backup;
mod changes;
mod core;
mod history;
mod inbound;
mod inventory;
mod outbound;
mod random;
mod restore;
mod rollouts;
pub mod service;
pub mod settings;
mod store;

pub use random::new_key;
pub use service::start;
pub use settings::Settings;
