//! ingest against a real nats-server and a real disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod crash;
mod failing;
mod fixture;
mod pipeline;
mod predictions;
mod prometheus;
mod store;
mod tool;
