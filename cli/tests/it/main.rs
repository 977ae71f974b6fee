//! The program as people meet it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod client;
mod export;
mod library;
mod loss;
mod up;
