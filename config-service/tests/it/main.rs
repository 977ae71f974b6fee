//! The config-service against a real nats-server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod harness;

mod agents;
mod archive;
mod changes;
mod decommission;
mod full_disk;
mod healing;
mod keys;
mod limited;
mod operators;
mod rollouts;
mod sign_in;
mod signing;
