//! Rows as a table for people, JSON lines or YAML for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::args::Format;

/// One column of a table.
pub(crate) struct Column<T> {
    pub(crate) title: &'static str,
    /// Text of a row's cell, at this time in milliseconds since 1970.
    pub(crate) cell: fn(&T, u64) -> String,
}

/// Longest text in a cell, in characters.
const CELL: usize = 200;

/// # Errors
/// When stdout is closed, or a row cannot be written in `format`.
pub(crate) fn print<T: Serialize>(rows: &[T], columns: &[Column<T>], format: Format) -> anyhow::Result<()> {
    let text = render(rows, columns, format, service_kit::now_ms())?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// A line on stderr, for whoever watches.
pub(crate) fn note(line: &str) {
    // Nobody is left to tell when stderr is closed.
    let _shown = writeln!(io::stderr(), "{line}");
}

fn render<T: Serialize>(
    rows: &[T],
    columns: &[Column<T>],
    format: Format,
    now_ms: u64,
) -> anyhow::Result<String> {
    let mut text = String::new();
    match format {
        Format::Json => {
            for row in rows {
                text.push_str(&serde_json::to_string(row)?);
                text.push('\n');
            }
        }
        Format::Yaml => text = serde_saphyr::to_string(&rows)?,
        Format::Table => {
            let mut table = Table::new();
            table.load_style(comfy_table::presets::NOTHING);
            table.set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(columns.iter().map(|column| column.title));
            for row in rows {
                table.add_row(columns.iter().map(|column| shown(&(column.cell)(row, now_ms))));
            }
            for line in table.lines() {
                text.push_str(line.trim());
                text.push('\n');
            }
        }
    }
    Ok(text)
}

/// What a host sent may hold anything: escape sequences of terminals, and marks that reorder the text after them.
pub(crate) fn shown(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut cell: String =
        line.chars().map(|c| if c.is_control() || is_direction(c) { ' ' } else { c }).take(CELL).collect();
    if line.chars().nth(CELL).is_some() || text.trim().lines().nth(1).is_some() {
        cell.push('…');
    }
    if cell.is_empty() { "-".to_owned() } else { cell }
}

/// A moment in UTC, to the second.
pub(crate) fn time(at_ms: u64) -> String {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(at_ms).unwrap_or(i64::MAX));
    time.map_or_else(|_| "-".to_owned(), |time| format!("{time:.0}"))
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How long ago, in the largest unit that fits: `12s`, `5m`, `3h`, `2d`. A time of 0 is `never`.
pub(crate) fn age(at_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1000;
    match seconds {
        _ if at_ms == 0 => "never".to_owned(),
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long until `end_ms`: `58m`, `expired`.
pub(crate) fn left(end_ms: u64, now_ms: u64) -> String {
    // Written as the age of this moment as seen from the end.
    if end_ms <= now_ms { "expired".to_owned() } else { age(now_ms, end_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        at_ms: u64,
    }

    const COLUMNS: [Column<Row>; 2] = [
        Column { title: "NAME", cell: |row, _| row.name.to_owned() },
        Column { title: "AGE", cell: |row, now| age(row.at_ms, now) },
    ];

    #[test]
    fn rows_are_written_in_each_format() {
        let rows = [Row { name: "web-01", at_ms: 1_000 }, Row { name: "a\u{1b}[31m\nb", at_ms: 0 }];
        let text = |format| render(&rows, &COLUMNS, format, 61_000).unwrap();
        assert_eq!(text(Format::Table), "NAME     AGE\nweb-01   60s\na [31m…  never\n");
        let json = "{\"name\":\"web-01\",\"at_ms\":1000}\n{\"name\":\"a\\u001b[31m\\nb\",\"at_ms\":0}\n";
        assert_eq!(text(Format::Json), json);
        assert!(text(Format::Yaml).starts_with("- name: web-01\n  at_ms: 1000\n"), "{}", text(Format::Yaml));
    }

    #[test]
    fn no_rows_are_a_head_or_nothing() {
        let text = |format| render::<Row>(&[], &COLUMNS, format, 0).unwrap();
        assert_eq!(text(Format::Table), "NAME  AGE\n");
        assert_eq!(text(Format::Json), "");
        assert_eq!(text(Format::Yaml).trim(), "[]");
    }

    #[test]
    fn a_cell_cannot_reorder_its_row() {
        assert_eq!(shown("a\u{202e}ko\u{2066}b\u{200f}c"), "a ko b c");
        assert_eq!(shown("Größe 5 µs 💾"), "Größe 5 µs 💾");
    }

    #[test]
    fn ages_have_one_unit() {
        let now = 1_000_000_000;
        for (seconds, expected) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d"), (900_000, "10d")]
        {
            assert_eq!(age(now - seconds * 1000, now), expected);
        }
        assert_eq!(age(now + 5000, now), "0s");
        assert_eq!(age(0, now), "never");
    }
}
