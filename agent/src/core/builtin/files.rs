//! Files: whether they exist, how old and how large they are, and how many.

use super::{Host, Judged, Measured, Number, Options, Rates, bytes, float, pattern};

#[derive(Default)]
struct Found {
    count: u64,
    bytes: u64,
    /// Path and time of change, in seconds since 1970.
    newest: Option<(u64, String)>,
    oldest: Option<(u64, String)>,
}

pub(super) fn file(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let judge = options.text("judge").unwrap_or("age");
    if !["age", "oldest", "size", "count"].contains(&judge) {
        return Err(format!("the option \"judge\" is age, oldest, size or count, not {judge:?}"));
    }
    let exclude = options.texts("exclude");
    let (mut found, mut missing, mut more) = (Found::default(), Vec::new(), false);
    for wanted in options.texts("path") {
        let (paths, cut) = pattern::paths(host, wanted)?;
        more |= cut;
        let before = found.count;
        // A folder that is named is looked at itself; those among files are no files.
        for path in paths {
            let Some(meta) = host.meta(&path) else { continue };
            let name = path.rsplit('/').next().unwrap_or_default();
            let excluded = pattern::any_fits(exclude, name) || pattern::any_fits(exclude, &path);
            if excluded || (!meta.is_file && !pattern::is_literal(wanted)) {
                continue;
            }
            found.count += 1;
            found.bytes = found.bytes.saturating_add(meta.bytes);
            if found.newest.as_ref().is_none_or(|(newest, _)| meta.modified > *newest) {
                found.newest = Some((meta.modified, path.clone()));
            }
            if found.oldest.as_ref().is_none_or(|(oldest, _)| meta.modified < *oldest) {
                found.oldest = Some((meta.modified, path));
            }
        }
        if found.count == before {
            missing.push(wanted.clone());
        }
    }
    Ok(measured(&found, &missing, more, judge, host.now()))
}

fn measured(found: &Found, missing: &[String], more: bool, judge: &str, now: u64) -> Measured {
    // A clock that was set back makes files of the future.
    let age = |of: &Option<(u64, String)>| of.as_ref().map(|(at, _)| float(now.saturating_sub(*at)));
    let (age, oldest) = (age(&found.newest), age(&found.oldest));
    let mut numbers = Vec::new();
    let mut add = |name: &'static str, value: f64, unit| {
        let number = Number::new(name, value, unit);
        numbers.push(if name == judge { number.judged() } else { number });
    };
    if let (Some(age), Some(oldest)) = (age, oldest) {
        add("age", age, "s");
        add("oldest", oldest, "s");
    }
    add("size", float(found.bytes), "B");
    add("count", float(found.count), "");
    if judge != "count" {
        // That there is nothing to judge is not fine.
        let judged = Judged::Above { warning: None, critical: Some(0.0) };
        numbers.push(Number { judged, ..Number::new("missing", float(missing.len() as u64), "") });
    }
    let text = match (&found.newest, &found.oldest) {
        (Some((_, path)), _) if found.count == 1 => {
            format!("{path} is {} and changed {} ago", bytes(float(found.bytes)), time(age))
        }
        (Some((_, newest)), Some((_, old))) => {
            let count = if more { format!("the first {}", found.count) } else { found.count.to_string() };
            let size = bytes(float(found.bytes));
            format!(
                "{count} files of {size}, the newest {newest} ({} ago), the oldest {old} ({} ago)",
                time(age),
                time(oldest)
            )
        }
        _ => "no such file".to_owned(),
    };
    let lacking = match missing {
        [] => String::new(),
        _ if found.count == 0 => format!(": {}", missing.join(", ")),
        _ => format!("; there is no {}", missing.join(", ")),
    };
    Measured { numbers, text: format!("{text}{lacking}"), ..Measured::default() }
}

/// `5 s`, `5 min`, `3.2 h`, `2.5 d`.
pub(super) fn time(seconds: Option<f64>) -> String {
    let seconds = seconds.unwrap_or(0.0);
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}
