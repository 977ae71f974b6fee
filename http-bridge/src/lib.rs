//! HTTP ⇄ NATS: the documented endpoints for agents that are shell scripts, and the operators' API. It owns no state.
//!
//! A request goes through [`inbound`] (who asks, how often, what exactly), is understood by [`core`] (pure), and
//! becomes requests to other services or messages on stream RESULTS in [`outbound`]. `202` for a submission means
//! that the broker has stored all of it (G2, G9).
//!
//! Start reading at `inbound/agent_api.rs`, then `core/submission.rs`.

mod core;
mod error;
mod inbound;
mod outbound;
mod service;
mod settings;

pub use service::start;
pub use settings::Settings;
