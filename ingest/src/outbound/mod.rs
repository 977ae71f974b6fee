//! What goes out unasked.

pub mod hosts;
pub mod watermarks;
