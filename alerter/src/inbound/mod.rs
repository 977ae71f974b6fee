//! What comes in: results, rules and hosts, questions, what people do about alerts.

pub mod archive;
pub mod attend;
pub mod clock;
pub mod documents;
pub mod letters;
pub mod queries;
pub mod results;
