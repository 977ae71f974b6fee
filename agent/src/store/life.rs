//! Under which name this agent's commands run, for the next start: what they leave behind when the agent is killed can be
//! found by it.

use std::{io, path::Path};

use service_kit::files::write_private;

const FILE: &str = "life";

/// The name that the agent of this state folder had before; `None` at its first start, and when nothing can be read.
#[must_use]
pub fn former(folder: &Path) -> Option<String> {
    std::fs::read_to_string(folder.join(FILE)).ok()
}

/// # Errors
/// As the file system says; then the next start ends nothing.
pub fn save(folder: &Path, name: &str) -> io::Result<()> {
    write_private(&folder.join(FILE), name.as_bytes())
}
