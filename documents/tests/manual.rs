//! The examples of the manual are documents.

#![allow(clippy::unwrap_used, clippy::panic)] // a test reports by panicking

use protocol::admin::SourceFile;

#[test]
fn every_example_of_the_manuals_is_read() {
    for name in ["CONFIGURATION.md", "AGENT.md", "ALERTING.md"] {
        read(name);
    }
}

fn read(name: &str) {
    let manual = std::fs::read_to_string(format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let examples: Vec<&str> = manual
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|text| text.starts_with("kind:"))
        .collect();
    assert!(examples.len() >= 3, "{examples:?}");
    for text in examples {
        let files = [SourceFile { path: name.into(), text: text.into() }];
        let read = documents::read(&files, |_, _| true);
        assert!(read.as_ref().is_ok_and(|documents| !documents.is_empty()), "{read:?}\n{text}");
    }
}
