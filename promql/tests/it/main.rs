//! The evaluator as its users see it: queries over samples, and the same against the real Prometheus.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod data;
mod hostile;
mod meaning;
mod peer;
mod prometheus;
