//! A mail: the same words as everywhere, as plain text.

use protocol::alert::{AlertState, Notification};

use super::preset::Words;

/// What stands in a mail besides its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub subject: String,
    pub text: String,
    /// The same in each attempt, so that a mail server or reader can drop a repeat.
    pub message_id: String,
    /// Message of the firing, for all that follows it.
    pub reply_to: Option<String>,
}

#[must_use]
pub fn letter(notification: &Notification) -> Letter {
    let alert = &notification.alert;
    let words = Words::of(alert);
    let id =
        |notification: &Notification| format!("<{}@dogwatch>", notification.message_id().replace(':', "."));
    let mut first = notification.clone();
    (first.alert.state, first.alert.raised) = (AlertState::Firing, 0);
    let (message_id, first) = (id(notification), id(&first));
    let facts: Vec<String> = words.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    Letter {
        // A line break in a subject would begin another header.
        subject: words.title.replace(|c: char| c.is_control(), " "),
        text: format!("{}\n\n{}\n\nAlert {}\n", words.text, facts.join("\n"), alert.id),
        reply_to: (message_id != first).then_some(first),
        message_id,
    }
}
