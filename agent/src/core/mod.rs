//! What the agent decides. No clock, no I/O, no async: `now` is an argument.

pub mod account;
pub mod builtin;
pub mod check;
pub mod delivery;
pub mod facts;
pub mod guard;
pub mod output;
pub mod own_facts;
pub mod pace;
pub mod perfdata;
pub mod policy;
pub mod resolve;
pub mod schedule;
pub mod spooled;
pub mod timetable;
pub mod trust;
