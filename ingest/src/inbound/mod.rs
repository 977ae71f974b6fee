//! What comes in: results from the stream, and questions.

pub mod predictions;
pub mod prometheus;
pub mod questions;
pub mod results;
