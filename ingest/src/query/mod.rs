//! Answers from the store: what was measured, as series.

pub mod history;
pub mod native;
pub mod prediction;
pub mod prometheus;
pub mod source;
pub mod suggest;

pub use prometheus::Prometheus;
