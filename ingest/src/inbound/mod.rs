//! What comes in: results from the stream, and questions.

pub mod questions;
pub mod results;
