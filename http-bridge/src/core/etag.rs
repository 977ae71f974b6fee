//! Entity tags: quoting one, and comparing it with what a client has.

/// `etag` as the header has it. Characters that may not stand there become `_`.
pub(crate) fn quote(etag: &str) -> String {
    let inner: String =
        etag.chars().map(|c| if c.is_ascii_graphic() && c != '"' { c } else { '_' }).collect();
    format!("\"{inner}\"")
}

/// Whether a client that sent `If-None-Match: header` has what `quoted` stands for.
pub(crate) fn matches(header: &str, quoted: &str) -> bool {
    header.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_send_several_tags_weak_ones_too() {
        let tag = quote("r1-\"é");
        assert_eq!(tag, "\"r1-__\"");
        for (header, expected) in [
            ("\"r1-__\"", true),
            ("W/\"r1-__\"", true),
            ("\"x\", \"r1-__\"", true),
            ("*", true),
            ("r1-__", false),
            ("\"r1\"", false),
            ("", false),
        ] {
            assert_eq!(matches(header, &tag), expected, "{header}");
        }
    }
}
