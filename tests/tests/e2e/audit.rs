//! What became of a host's results, how right its clock is, and its results as a file.

use crate::stack::Up;

#[tokio::test]
async fn g1_losses_clocks_and_files_of_a_host() {
    let up = Up::start(&["--empty"]).await;
    up.apply("kind: Check\nname: queue\nevery: 1s\ncommand: echo 5\nunit: jobs\n");
    let row =
        up.row("results are accounted for", &["audit", "loss"], |row| row["stored"].as_u64() > Some(2)).await;
    assert_eq!((&row["lost"], &row["missing"]), (&0.into(), &0.into()), "{row}");
    assert_eq!(row["expected"], row["stored"], "{row}");
    let agent = row["agent"].as_str().unwrap_or_default().to_owned();
    assert_eq!(up.rows(&["audit", "loss", "--agent", &agent]).len(), 1);
    assert!(up.rows(&["audit", "loss", "--gaps"]).is_empty());
    assert!(up.output(&["audit", "loss"]).contains("EXPECTED"));

    // One machine, one clock; what is measured is the way to the broker.
    let host = up.row("the clock is known", &["hosts"], |row| row["clock_ahead_ms"].is_i64()).await;
    assert!(host["clock_ahead_ms"].as_i64().is_some_and(|ahead| ahead.abs() < 60_000), "{host}");

    let file = up.folder.path().join("results.csv").to_string_lossy().into_owned();
    up.output(&["export-results", "--format", "csv", "--check", "queue", "--to", &file]);
    let text = std::fs::read_to_string(&file).expect("the file");
    let mut lines = text.lines();
    assert!(
        lines.next().is_some_and(|head| head.starts_with("at,agent,check,metric,value,text,unit,status"))
    );
    assert!(lines.all(|line| line.contains(",queue,,5,,jobs,ok,")), "{text}");
}
