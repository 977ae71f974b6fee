//! Numbers that an agent measured, asked for in PromQL as Grafana does, on the command line, and as they come.

use serde_json::Value;
use testkit::Program;

use crate::{SOON, stack::Up};

#[tokio::test]
async fn what_an_agent_measured_is_asked_for_in_promql() {
    let up = Up::start(&["--empty"]).await;
    up.apply("kind: Check\nname: queue\nevery: 1s\ncommand: echo 5\nunit: jobs\nwarning: '> 3'\n");
    let value = |row: &Value| row["values"][0][1].as_str().map(str::to_owned);
    let row = up
        .row("the number", &["query", "dogwatch_value{check=\"queue\"} * 2"], |row| {
            value(row).as_deref() == Some("10")
        })
        .await;
    assert_eq!((&row["metric"]["unit"], &row["metric"]["__name__"]), (&Value::from("jobs"), &Value::Null));
    let row = up.rows(&["query", "dogwatch_status"]).remove(0);
    assert_eq!(value(&row).as_deref(), Some("1"), "a warning: {row}");
    let range = up.rows(&["query", "count_over_time(dogwatch_status[1m])", "--range", "1m", "--step", "1s"]);
    assert!(range[0]["values"].as_array().is_some_and(|values| !values.is_empty()), "{range:?}");
    let refused = up.run(&["query", "sum("]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("invalid parameter"), "{refused:?}");

    let agent = row["metric"]["agent"].as_str().unwrap_or_default().to_owned();
    let points = up.rows(&["graph", &agent, "queue"]);
    assert!(points.iter().all(|point| point["mean"] == 5.0 && point["ok"] == 0), "{points:?}");
    let table = up.output(&["graph", &agent, "queue"]);
    assert!(table.contains("5 to 5 jobs"), "{table}");
    assert_eq!(up.run(&["graph", &agent, "nosuch"]).status.code(), Some(1));
    let rows = up.rows(&["availability", "--check", "queue"]);
    assert_eq!((rows.len(), &rows[0]["percent"]), (1, &Value::from(0.0)), "never ok: {rows:?}");
    assert!(up.output(&["availability"]).contains("0.000 %"));

    let latest = up.rows(&["latest", "--agent", &agent, "--status", "warning"]);
    assert_eq!((latest.len(), &latest[0]["check"]), (1, &Value::from("queue")), "{latest:?}");
    assert!(up.rows(&["latest", "--status", "ok"]).is_empty());
    let top = up.rows(&["top", "queue", "--by", "max"]);
    assert_eq!(
        (top.len(), &top[0]["agent"], &top[0]["value"]),
        (1, &row["metric"]["agent"], &Value::from(5.0))
    );
    let runs = up.rows(&["timeline", &agent, "queue", "--range", "1h"]);
    assert_eq!(runs[0]["status"], Value::Null, "before the start nothing was measured: {runs:?}");
    assert!(runs.iter().any(|run| run["status"] == "warning"), "{runs:?}");
    assert!(!up.rows(&["results", "--contains", "5", "--status", "warning"]).is_empty());
    assert!(up.rows(&["results", "--matches", "^never$"]).is_empty());
    assert_eq!(up.run(&["results", "--matches", "("]).status.code(), Some(1));
    assert_eq!(up.run(&["availability", "--exclude-silence", "nosuch"]).status.code(), Some(2));
}

#[tokio::test]
async fn results_are_followed() {
    let up = Up::start(&["--empty"]).await;
    up.apply("kind: Check\nname: queue\nevery: 1s\ncommand: echo 5\n");
    let mut command = testkit::program::command("dogwatch");
    command.args(["results", "--follow", "--check", "queue", "--status", "ok"]);
    command.env("DOGWATCH_SERVER", up.url()).env("DOGWATCH_KEY_FILE", up.key_file());
    let mut follower = Program::spawn("dogwatch results --follow", command);
    follower.wait_for("queue  ok  5", SOON).await;
}
