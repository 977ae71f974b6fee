#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
//! The alerter against a real nats-server, with a scripted config-service and real HTTP receivers.

mod alerts;
mod attend;
mod crash;
mod delivery;
mod fixture;
mod formats;
mod hostile;
mod moves;
mod receivers;
