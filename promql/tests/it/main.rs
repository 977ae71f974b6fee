//! The evaluator as its users see it: queries over samples, and the same against the real Prometheus.

mod data;
mod hostile;
mod meaning;
mod peer;
mod prometheus;
