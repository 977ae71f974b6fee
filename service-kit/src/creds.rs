//! A `.creds` file: who somebody is (a JWT) and the key that proves it. The NATS client would read it with the crate
//! `regex`, which the agent has no other use for and which took a tenth of its program.

use std::{io, sync::Arc};

use async_nats::{AuthError, ConnectOptions};
use nkeys::KeyPair;

/// Sign in with the text of a `.creds` file.
///
/// # Errors
/// When it holds no JWT, or no key behind that.
pub(crate) fn sign_in(options: ConnectOptions, text: &str) -> io::Result<ConnectOptions> {
    let (jwt, key) = read(text)?;
    let key = Arc::new(key);
    Ok(options.jwt(jwt.to_owned(), move |nonce| {
        let signed = key.sign(&nonce).map_err(AuthError::new);
        std::future::ready(signed)
    }))
}

fn read(text: &str) -> io::Result<(&str, KeyPair)> {
    let wrong = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    let mut blocks = blocks(text);
    let jwt = blocks.next().ok_or_else(|| wrong("it holds no user JWT"))?;
    let seed = blocks.next().ok_or_else(|| wrong("it holds no NKey seed"))?;
    let key = KeyPair::from_seed(seed).map_err(|error| wrong(&format!("its NKey seed is wrong: {error}")))?;
    Ok((jwt, key))
}

/// Each line that stands between two lines of dashes.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let is_frame = |line: &str| line.starts_with("---") && line.ends_with("---");
    let is_word = |line: &str| {
        !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte))
    };
    let lines = || text.lines().map(str::trim);
    let framed = lines().zip(lines().skip(1)).zip(lines().skip(2));
    framed
        .filter(move |((above, line), below)| {
            is_frame(above) && is_word(line) && !is_frame(line) && is_frame(below)
        })
        .map(|((_, line), _)| line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(seed: &str, end: &str) -> String {
        [
            "-----BEGIN NATS USER JWT-----",
            "eyJ0.eXAi-Oi_Jqd=",
            "------END NATS USER JWT------",
            "",
            "************************* IMPORTANT *************************",
            "NKEY Seed printed below can be used to sign and prove identity.",
            "",
            "-----BEGIN USER NKEY SEED-----",
            seed,
            "------END USER NKEY SEED------",
        ]
        .join(end)
    }

    #[test]
    fn the_jwt_and_the_key_are_found_whatever_ends_the_lines() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        for end in ["\n", "\r\n"] {
            let text = file(&seed, end);
            let (jwt, read) = read(&text).unwrap();
            assert_eq!((jwt, read.public_key()), ("eyJ0.eXAi-Oi_Jqd=", key.public_key()));
        }
    }

    #[test]
    fn what_is_wrong_is_told_and_the_seed_is_not() {
        let bad = "SUAWRONGSEED";
        let cut = file(bad, "\n");
        let cut = cut.split_at(cut.find("***").unwrap()).0;
        for (text, reason) in [
            ("", "no user JWT"),
            ("---\n---\n---\n", "no user JWT"),
            (cut, "no NKey seed"),
            (&file(bad, "\n"), "is wrong"),
        ] {
            let error = read(text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains(bad), "{error}");
        }
    }
}
