//! What is decided without asking anyone: what a submission says, how it is judged, what a cache still holds.

pub(crate) mod cache;
pub(crate) mod etag;
pub(crate) mod judge;
pub(crate) mod script;
pub(crate) mod submission;
pub(crate) mod tail;
