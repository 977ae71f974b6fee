//! Answers from the store: what was measured, as series.

pub mod history;
pub mod native;
pub mod prometheus;
pub mod source;

pub use prometheus::Prometheus;
