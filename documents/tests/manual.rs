//! The examples of the manual are documents.

#![allow(clippy::unwrap_used, clippy::panic)] // a test reports by panicking

use protocol::admin::SourceFile;

#[test]
fn every_example_of_the_manual_is_read() {
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIGURATION.md")).unwrap();
    let examples: Vec<&str> = manual
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|text| text.starts_with("kind:"))
        .collect();
    assert!(examples.len() >= 3, "{examples:?}");
    for text in examples {
        let files = [SourceFile { path: "CONFIGURATION.md".into(), text: text.into() }];
        let read = documents::read(&files, |_, _| true);
        assert!(read.is_ok_and(|documents| !documents.is_empty()), "{text}");
    }
}
