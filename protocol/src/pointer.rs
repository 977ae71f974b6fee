//! JSON pointers (RFC 6901): where in a JSON text the value of a check with `output: json` stands.

/// Longest pointer, in bytes.
pub const LENGTH: usize = 1_024;

/// Why a text is no pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    #[error(
        "write it like /queue/depth (RFC 6901): it begins with a slash, and an empty one is the whole text"
    )]
    NoSlash,
    #[error("a ~ is written as ~0, and a slash inside a name as ~1 (RFC 6901)")]
    Tilde,
    #[error("it is longer than {LENGTH} bytes")]
    TooLong,
}

/// # Errors
/// [`PointerError`] when `text` is no pointer.
pub fn check(text: &str) -> Result<(), PointerError> {
    if text.len() > LENGTH {
        return Err(PointerError::TooLong);
    }
    if !text.is_empty() && !text.starts_with('/') {
        return Err(PointerError::NoSlash);
    }
    // Behind each tilde stands a 0 or a 1.
    if text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1'])) {
        Ok(())
    } else {
        Err(PointerError::Tilde)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_those_of_the_rfc() {
        for good in ["", "/", "/a/0/b", "/a~1b", "/m~0n", "/ "] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check("a"), Err(PointerError::NoSlash));
        assert_eq!(check("$.a"), Err(PointerError::NoSlash));
        assert_eq!(check("/~"), Err(PointerError::Tilde));
        assert_eq!(check("/a~2"), Err(PointerError::Tilde));
        assert_eq!(check(&"/".repeat(LENGTH + 1)), Err(PointerError::TooLong));
    }
}
