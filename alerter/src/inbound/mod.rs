//! What comes in: results, rules and hosts, questions.

pub mod documents;
pub mod queries;
pub mod results;
