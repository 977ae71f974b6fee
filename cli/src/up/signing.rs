//! The signing key of an installation that `up` made: this host's agent runs only what it signed.

use std::path::Path;

use protocol::signed::SigningKey;

use super::{local, starter};
use crate::signing;

/// The key; a new one at the first start. A folder from before there were such keys goes on without.
///
/// # Errors
/// [`signing::SigningError`].
pub(crate) fn prepare(folder: &Path) -> Result<Option<SigningKey>, signing::SigningError> {
    let path = local::signing_key(folder);
    if path.exists() {
        return signing::load(&path).map(Some);
    }
    if starter::is_over(folder) {
        return Ok(None);
    }
    signing::create(&path).map(Some)
}
