//! The alerter: watches results, raises alerts by rules, and tells receivers.
//!
//! Results come from stream RESULTS, rules, receivers and hosts from config-service. A result that moves an alert
//! changes its state and fills the outbox in one durable write, before it is acknowledged (G2). Only then the transition
//! goes to stream ALERTS, and for firing and resolved one notification per receiver to stream NOTIFY, from where it is
//! delivered until its receiver accepts it or it is given up with a reason (G5). Results that are history raise
//! nothing (G6).
//!
//! Start reading at [`core::alert`] (the state machine) and [`core::evaluate`], then [`engine`] (decide, write, send) and
//! [`outbound`]. [`core::quiet`] is what time alone does: silence is noticed, and what was muted is told.
//!
//! Windows and the positions of series are kept in memory only; at a start they are read again from stream RESULTS.

pub mod core;
pub mod engine;
pub mod inbound;
pub mod metrics;
pub mod outbound;
pub mod service;
pub mod settings;
pub mod store;

pub use service::start;
pub use settings::Settings;
