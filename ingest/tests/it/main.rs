//! ingest against a real nats-server and a real disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod audit;
mod crash;
mod disk;
mod failing;
mod fixture;
mod limits;
mod pipeline;
mod prometheus;
mod query;
mod rolled;
mod sink;
mod store;
mod tool;
