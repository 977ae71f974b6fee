//! The agent: one process on each host that runs checks and keeps their results until they are safely stored.
//!
//! The way of a result: [`core::schedule`] says that a check is due → [`outbound::probe`] runs it → [`core::output`] and
//! [`core::builtin`] understand what came out → [`store::spool`] numbers and keeps it → [`outbound::sender`] publishes
//! it → ingest's watermark lets the spool forget it (G1). What to run comes from [`inbound::config`], which keeps the
//! last good configuration on disk, so that a host without a broker goes on checking (G7).
//!
//! `core` decides and does no I/O; `inbound` and `outbound` talk; `store` keeps; [`service`] wires.
//! Deliberately absent: a shell's view of the world (no globals, no own runtime, nothing on stdout;
//! [`by_hand`] and [`try_it`], which are other programs in the same file, have both) and any query of
//! other agents: the broker lets an agent touch nothing but its own subjects (G4).

pub mod by_hand;
pub mod core;
pub mod inbound;
pub mod metrics;
pub mod outbound;
pub mod program;
pub mod service;
pub mod settings;
pub mod store;
pub mod try_it;

pub use service::start;
pub use settings::Settings;
