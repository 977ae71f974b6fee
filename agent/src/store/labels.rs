//! Labels that came with the enrolment token. They stand in the token's file, behind the token, as its operator brought it
//! here: no service has a say in them, so they count for an agent that believes none.

use std::{io, path::Path};

use protocol::{Labels, limits};
use service_kit::files::write_private;

const FILE: &str = "labels.json";
/// In front of each label in the file of a token.
const LABEL: &str = "label ";

/// Keep those of a token's file. One that cannot be read is told of by the sign-in.
///
/// # Errors
/// When the state folder cannot be written.
pub fn keep(state: &Path, token_file: &Path) -> io::Result<()> {
    let Ok(text) = std::fs::read_to_string(token_file) else { return Ok(()) };
    write_private(&state.join(FILE), serde_json::to_string(&read(&text))?.as_bytes())
}

/// Those that were kept.
///
/// # Errors
/// When there are some that cannot be read, and what to do.
pub fn kept(state: &Path) -> Result<Labels, String> {
    let path = state.join(FILE);
    let failed = |reason: String| {
        format!(
            "cannot read the labels of the enrolment from {} ({reason}): correct or remove it",
            path.display()
        )
    };
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string())),
        // What is wrong with the folder, whoever opens it first tells.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Labels::new())
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

fn read(text: &str) -> Labels {
    let lines = text.trim().lines().skip(1);
    let labels = lines.filter_map(|line| line.trim().strip_prefix(LABEL)?.split_once('='));
    labels.take(limits::FACTS).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_behind_a_token_are_kept_and_nothing_else_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        assert_eq!(kept(folder.path()), Ok(Labels::new()));
        keep(folder.path(), &token).unwrap();
        assert_eq!(kept(folder.path()), Ok(Labels::new()));
        std::fs::write(
            &token,
            "dwt_1_2\nlabel_of=token\nlabel role=web\r\nlabel note=a=b c\nlabel none\nother x=y\n",
        )
        .unwrap();
        keep(folder.path(), &token).unwrap();
        let labels = kept(folder.path()).unwrap();
        let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(pairs, ["note=a=b c", "role=web"]);
        // Enrolled anew with a token that gives none.
        std::fs::write(&token, "dwt_1_2\n").unwrap();
        keep(folder.path(), &token).unwrap();
        assert_eq!(kept(folder.path()), Ok(Labels::new()));
        std::fs::write(folder.path().join(FILE), "[").unwrap();
        assert!(kept(folder.path()).unwrap_err().contains("correct or remove it"));
    }
}
