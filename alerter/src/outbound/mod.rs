//! What goes out: transitions to the streams, notifications to receivers.

mod http;
pub mod ledger;
mod mailer;
pub mod notifier;
pub mod outbox;
mod secret_store;
pub mod sender;
pub mod turns;
