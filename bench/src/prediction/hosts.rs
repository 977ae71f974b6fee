//! Hosts of a group that are unlike the others.

use std::path::Path;

use anyhow::ensure;
use predict::outlier::{Verdict, outliers};

use super::files;

/// The hosts of one file and what was said of them.
pub struct Group {
    pub name: String,
    pub hosts: Vec<(String, Verdict)>,
}

/// Every group below `folder`: one CSV each, `timestamp,host,host,…`, empty fields where a value is missing.
pub fn groups(folder: &Path) -> anyhow::Result<Vec<Group>> {
    let mut all = Vec::new();
    for path in files::below(folder, "csv")? {
        let text = files::text(&folder.join(&path))?;
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let names: Vec<String> =
            files::fields(lines.next().unwrap_or_default()).into_iter().skip(1).collect();
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
        for line in lines {
            let row = files::fields(line);
            for (i, column) in values.iter_mut().enumerate() {
                column.push(row.get(i + 1).map_or(f64::NAN, |field| files::number(field)));
            }
        }
        let verdicts = outliers(&values);
        all.push(Group { name: files::stem(&path), hosts: names.into_iter().zip(verdicts).collect() });
    }
    Ok(all)
}

/// `predict-hosts DIR PRED.csv`
pub fn run(folder: &Path, out: &Path) -> anyhow::Result<String> {
    let begun = std::time::Instant::now();
    let groups = groups(folder)?;
    ensure!(!groups.is_empty(), "{} holds no CSV file", folder.display());
    let mut text = String::new();
    let mut hosts = 0_usize;
    for group in &groups {
        for (host, verdict) in &group.hosts {
            text.push_str(&format!(
                "{},{},{:.6}\n",
                files::quoted(&group.name),
                files::quoted(host),
                verdict.score
            ));
            hosts += 1;
        }
    }
    files::write(out, &text)?;
    Ok(format!("{} groups, {hosts} hosts, {:.1?}", groups.len(), begun.elapsed()))
}
