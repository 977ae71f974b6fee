//! A whole chain of errors as one line.

use std::error::Error;

/// `error: cause: cause`, leaving out a cause whose text its parent repeats (async-nats does).
#[must_use]
pub fn report(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] Middle);
    #[derive(Debug, thiserror::Error)]
    #[error("cannot read x: {0}")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn every_cause_stands_once() {
        let error = Outer(Middle(std::io::Error::other("disk full")));
        assert_eq!(report(&error), "cannot open the store: cannot read x: disk full");
    }
}
