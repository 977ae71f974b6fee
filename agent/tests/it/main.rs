//! The agent against a real nats-server, with a scripted config-service and ingest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bad_config;
mod by_hand;
mod commands;
mod configuration;
mod delivery;
mod guard;
mod hostile;
mod killed;
mod network;
mod plugins;
mod rig;
mod run;
mod run_settings;
mod spool;
mod systemd;
mod trust;
mod try_it;
