//! Decisions without a clock, a disk or a network.

pub mod accept;
pub mod account;
pub mod audit;
pub mod clock;
pub mod history;
pub mod ledger;
pub mod naming;
pub mod parameters;
pub mod plan;
pub mod quota;
pub mod remote;
pub mod room;
pub mod timeline;
pub mod times;
