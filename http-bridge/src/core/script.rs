//! A check as a script can run it: with a command for a shell.

use std::borrow::Cow;

use protocol::config::CheckSpec;

/// `None` for what only an agent can run: a built-in check. A program and its arguments become a command.
pub(crate) fn for_script(check: &CheckSpec) -> Option<Cow<'_, CheckSpec>> {
    if check.work.command.is_some() {
        return Some(Cow::Borrowed(check));
    }
    let words = check.work.exec.as_ref()?;
    let mut check = check.clone();
    check.work.command = Some(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    Some(Cow::Owned(check))
}

/// A word that a POSIX shell takes as it is.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:@_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn check(work: serde_json::Value) -> CheckSpec {
        let mut check = serde_json::json!({"name": "a", "every_ms": 1, "timeout_ms": 1});
        check.as_object_mut().unwrap().extend(work.as_object().unwrap().clone());
        serde_json::from_value(check).unwrap()
    }

    #[test]
    fn a_shell_gets_the_words_of_a_program_as_they_are() {
        let words = ["printf", "%s|", "a b", "", "it's", "$HOME `id` \\ \"x\" *", "-n", "two\nlines"];
        let exec = check(serde_json::json!({ "exec": words }));
        let command = for_script(&exec).unwrap().work.command.clone().unwrap();
        let ran = Command::new("sh").arg("-c").arg(&command).output().unwrap();
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), words[2..].join("|") + "|", "{command}");
    }

    #[test]
    fn built_in_checks_are_for_agents_only() {
        assert!(for_script(&check(serde_json::json!({"builtin": "disk"}))).is_none());
        let command = check(serde_json::json!({"command": "ls | wc -l"}));
        assert_eq!(*for_script(&command).unwrap(), command);
    }
}
