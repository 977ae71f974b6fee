//! The whole of dogwatch, as its users meet it: real programs, a real broker, free ports, no fixed waits.

mod attend;
mod audit;
mod changes;
mod enrolment;
mod failures;
mod first_session;
mod moving;
mod outages;
mod queries;
mod receivers;
mod rollouts;
mod run_now;
mod shell_agent;
mod signing;
mod stack;

use std::time::Duration;

/// Longer than anything here takes on a slow machine, shorter than patience.
pub(crate) const SOON: Duration = Duration::from_secs(60);
