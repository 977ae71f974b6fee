//! What goes out: transitions to the streams, notifications to webhooks.

pub mod notifier;
pub mod outbox;
pub mod webhook;
