//! What comes in: results from the stream, and questions.

pub mod prometheus;
pub mod questions;
pub mod results;
