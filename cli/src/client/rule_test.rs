//! `dogwatch rule test FILE`: rules held against series as they might come. Asks no server.

use std::{fs, path::Path};

use alerter::core::{RuleBook, scenario};
use anyhow::Context as _;
use protocol::admin::{DocumentList, SourceFile};
use serde::Deserialize;

use super::files;
use crate::{NotOk, output};

/// Largest file of tests, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    /// Files or folders of documents, seen from the folder of the suite.
    documents: Vec<std::path::PathBuf>,
    tests: Vec<scenario::Scenario>,
}

/// # Errors
/// When a file cannot be read; [`NotOk`] when a test fails.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let at = || path.display().to_string();
    let size = fs::metadata(path).with_context(at)?.len();
    anyhow::ensure!(size <= LARGEST, "{}: larger than the {LARGEST} bytes allowed", at());
    let text = fs::read_to_string(path).with_context(at)?;
    let suite: Suite = serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", at()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let paths: Vec<_> = suite.documents.iter().map(|document| folder.join(document)).collect();
    let book = book(&files::read(&paths)?)?;
    let mut failed = 0;
    for test in &suite.tests {
        let found = scenario::run(&book, test)
            .map_err(|error| anyhow::anyhow!("{}: {}: {error}", at(), test.name))?;
        if found == test.expect {
            output::note(&format!("ok      {}", test.name));
            continue;
        }
        failed += 1;
        output::note(&format!("FAILED  {}", test.name));
        for line in differences(&test.expect, &found) {
            output::note(&format!("          {line}"));
        }
    }
    output::note(&format!("{} tests, {failed} failed", suite.tests.len()));
    if failed > 0 { Err(NotOk.into()) } else { Ok(()) }
}

fn book(files: &[SourceFile]) -> anyhow::Result<RuleBook> {
    // Receivers and the like may stand elsewhere.
    let documents = documents::read(files, |_, _| true).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the documents have errors:\n{}", lines.join("\n"))
    })?;
    Ok(RuleBook::new(DocumentList { revision: 1, documents }))
}

fn differences(expected: &[scenario::Expected], found: &[scenario::Expected]) -> Vec<String> {
    let missing = expected.iter().filter(|one| !found.contains(one)).map(|one| format!("missing     {one}"));
    let surplus = found.iter().filter(|one| !expected.contains(one)).map(|one| format!("unexpected  {one}"));
    let lines: Vec<String> = missing.chain(surplus).collect();
    if lines.is_empty() { vec!["in another order, or more often".to_owned()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of docs/ALERTING.md.
    fn example(suite: impl Fn(&str) -> String) -> anyhow::Result<()> {
        let manual = include_str!("../../../docs/ALERTING.md");
        let blocks: Vec<&str> =
            manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let of = |start: &str| *blocks.iter().rfind(|block| block.starts_with(start)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rules.yaml"), of("kind: Rule")).unwrap();
        let file = folder.path().join("tests.yaml");
        fs::write(&file, suite(of("documents:"))).unwrap();
        run(&file)
    }

    #[test]
    fn the_example_of_the_manual_passes_and_a_wrong_one_fails() {
        example(str::to_owned).unwrap();
        let wrong = example(|suite| suite.replace("at: 3m", "at: 2m")).unwrap_err();
        assert!(wrong.is::<NotOk>(), "{wrong:#}");
        let misspelt = example(|suite| suite.replace("every:", "evry:")).unwrap_err().to_string();
        assert!(misspelt.contains("evry"), "{misspelt}");
    }
}
