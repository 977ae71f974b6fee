//! Is the process able to do its work? A set of named conditions, each met or not met with a reason.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// Conditions shared by all parts of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(watch::Sender<BTreeMap<String, Option<String>>>);

impl Readiness {
    /// `name` is in order.
    pub fn met(&self, name: &str) {
        self.set(name, None);
    }

    /// `name` is not in order, and why.
    pub fn unmet(&self, name: &str, reason: impl Into<String>) {
        self.set(name, Some(reason.into()));
    }

    /// Every condition that is not met, as `name: reason`. Empty: ready.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let conditions = self.0.borrow();
        conditions.iter().filter_map(|(name, reason)| Some(format!("{name}: {}", reason.as_ref()?))).collect()
    }

    /// Told whenever a condition is set, even to what it was.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<impl Sized + use<>> {
        self.0.subscribe()
    }

    fn set(&self, name: &str, reason: Option<String>) {
        self.0.send_modify(|conditions| {
            conditions.insert(name.to_owned(), reason);
        });
    }
}
