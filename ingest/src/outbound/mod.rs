//! What goes out unasked.

pub mod watermarks;
