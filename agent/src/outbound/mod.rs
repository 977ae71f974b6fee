//! What the agent does to the world: it runs checks and publishes their results.

pub mod budget;
pub mod checks;
pub mod live;
pub mod probe;
pub mod publisher;
pub mod resolver;
pub mod sender;
pub mod systemd;
