//! The bridge against a real broker; the services behind it are scripted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod agents;
mod failures;
mod harness;
mod live;
mod operators;
mod prometheus;
mod run;
mod script;
