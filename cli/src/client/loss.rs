//! `dogwatch audit loss`: what became of each agent's results.

use protocol::{
    AgentId, duration,
    query::{Gap, Loss, LossList},
};
use serde::Serialize;

use super::http::Client;
use crate::{
    args::{Format, LossArgs},
    output::{self, Column, age, note},
};

const LOSS: [Column<Loss>; 10] = [
    Column { title: "AGENT", cell: |loss, _| loss.agent.to_string() },
    Column {
        title: "EPOCH",
        cell: |loss, now| match loss.epoch {
            0 => "unnumbered".to_owned(),
            epoch => format!("{} ago", age(epoch, now)),
        },
    },
    Column { title: "EXPECTED", cell: |loss, _| loss.expected.to_string() },
    Column { title: "STORED", cell: |loss, _| loss.stored.to_string() },
    Column { title: "LATE", cell: |loss, _| loss.late.to_string() },
    Column { title: "REPEATED", cell: |loss, _| loss.duplicates.to_string() },
    Column { title: "REJECTED", cell: |loss, _| rejected(loss) },
    Column { title: "MISSING", cell: |loss, _| loss.missing.to_string() },
    Column { title: "LOST", cell: |loss, _| loss.lost.to_string() },
    Column { title: "GAPS", cell: |loss, now| gaps(loss, now) },
];

fn rejected(loss: &Loss) -> String {
    let counts: Vec<String> =
        loss.rejected.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if counts.is_empty() { "0".to_owned() } else { counts.join(", ") }
}

/// How many there are, and the newest of those that are not filled.
fn gaps(loss: &Loss, now_ms: u64) -> String {
    let count = loss.gaps_forgotten.saturating_add(loss.gaps.len() as u64);
    let open = |gap: &&Gap| gap.missing.saturating_add(gap.lost) > 0;
    match (count, loss.gaps.iter().rev().find(open)) {
        (0, _) => String::new(),
        (_, None) => format!("{count}, none open"),
        (_, Some(gap)) => {
            let range = if gap.first == gap.last {
                gap.first.to_string()
            } else {
                format!("{} to {}", gap.first, gap.last)
            };
            format!("{count}, the last open one {range}, seen {} ago", age(gap.seen_ms, now_ms))
        }
    }
}

/// One gap, with whose it is.
#[derive(Serialize)]
struct Row {
    agent: AgentId,
    epoch: u64,
    #[serde(flatten)]
    gap: Gap,
}

const GAPS: [Column<Row>; 8] = [
    Column { title: "AGENT", cell: |row, _| row.agent.to_string() },
    Column { title: "FIRST", cell: |row, _| row.gap.first.to_string() },
    Column { title: "LAST", cell: |row, _| row.gap.last.to_string() },
    Column { title: "SEEN", cell: |row, now| format!("{} ago", age(row.gap.seen_ms, now)) },
    Column { title: "FILLED", cell: |row, _| row.gap.filled.to_string() },
    Column { title: "REJECTED", cell: |row, _| row.gap.rejected.to_string() },
    Column { title: "MISSING", cell: |row, _| row.gap.missing.to_string() },
    Column { title: "LOST", cell: |row, _| row.gap.lost.to_string() },
];

/// # Errors
/// [`super::http::ClientError`].
pub(crate) async fn loss(args: &LossArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let (mut losses, mut after): (Vec<Loss>, Option<AgentId>) = (Vec::new(), None);
    loop {
        let mut query: Vec<(&str, String)> =
            args.agent.iter().map(|agent| ("agent", agent.to_string())).collect();
        query.extend(after.map(|after| ("after", after.to_string())));
        let page: LossList = client.get(&["api", "v1", "loss"], &query).await?;
        let more = !page.agents.is_empty();
        losses.extend(page.agents);
        match page.next {
            Some(next) if more => after = Some(next),
            _ => break,
        }
    }
    if args.gaps {
        let rows = losses.into_iter().flat_map(|loss| {
            let Loss { agent, epoch, gaps, .. } = loss;
            gaps.into_iter().map(move |gap| Row { agent: agent.clone(), epoch, gap })
        });
        return output::print(&rows.collect::<Vec<_>>(), &GAPS, args.common.output);
    }
    output::print(&losses, &LOSS, args.common.output)?;
    if args.common.output == Format::Table {
        let sum = |count: fn(&Loss) -> u64| losses.iter().map(count).fold(0, u64::saturating_add);
        let (missing, lost) = (sum(|loss| loss.missing), sum(|loss| loss.lost));
        note(&format!("{missing} missing, {lost} lost of {} expected", sum(|loss| loss.expected)));
    }
    Ok(())
}

/// How wrong a host's clock is: `+5m`, `-12s`; nothing below a second.
pub(crate) fn clock(ahead_ms: Option<i64>) -> String {
    let Some(ahead_ms) = ahead_ms.filter(|ahead| ahead.unsigned_abs() >= 1_000) else { return String::new() };
    let size = duration::format(std::time::Duration::from_secs(ahead_ms.unsigned_abs() / 1_000));
    format!("{}{size}", if ahead_ms < 0 { '-' } else { '+' })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_shown_when_it_is_off() {
        let shown = [None, Some(-999), Some(1_500), Some(-300_000), Some(i64::MIN)].map(clock);
        assert_eq!(shown[..4], ["", "", "+1s", "-5m"]);
        assert!(shown[4].starts_with('-'));
    }

    #[test]
    fn the_newest_open_gap_is_named() {
        let json = r#"{"agent":"a","epoch":1,"highest":9,"stored":5,"duplicates":0,"missing":2,"lost":0,
            "rejected":{"ahead":4,"series":1},"gaps_forgotten":1,"gaps":[
            {"first":1,"last":3,"seen_ms":1000,"filled":2,"missing":1,"lost":0},
            {"first":5,"last":5,"seen_ms":2000,"filled":0,"missing":1,"lost":0},
            {"first":7,"last":8,"seen_ms":3000,"filled":2,"missing":0,"lost":0}]}"#;
        let mut loss: Loss = serde_json::from_str(json).unwrap();
        assert_eq!(gaps(&loss, 12_000), "4, the last open one 5, seen 10s ago");
        assert_eq!(rejected(&loss), "4 ahead, 1 series");
        loss.gaps.retain(|gap| gap.missing == 0);
        assert_eq!(gaps(&loss, 0), "2, none open");
    }
}
