//! The agent against a real nats-server, with a scripted config-service and ingest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod by_hand;
mod commands;
mod configuration;
mod delivery;
mod hostile;
mod plugins;
mod rig;
mod run_settings;
