//! `dogwatch export-results` against a scripted bridge, its files read by the programs that they are for.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use axum::{Json, Router, extract::Query, routing::get};
use serde_json::{Value, json};
use testkit::program;

const START: u64 = 1_795_200_000_000;
/// More rows than one group of a Parquet file.
const RESULTS: u64 = 60_000;
const PAGE: u64 = 1_000;

/// A result with two rows; every tenth has a text for a value, every hundredth an output that is hard to quote.
fn result(n: u64) -> Value {
    let value = if n.is_multiple_of(10) { json!(format!("text {n}")) } else { json!(n as f64 / 2.0) };
    let output = if n.is_multiple_of(100) { "a \"quoted\", line\nand µ 💾 another;\t=1+1" } else { "" };
    let mut result = json!({
        "v": 1, "agent": format!("h-{}", n % 7), "check": "disk", "epoch": 5, "seq": n, "at_ms": START + n,
        "status": "warning", "value": value, "output": output, "duration_ms": 12, "revision": 42, "exit_code": 1,
        "metrics": [{"name": "/var", "value": 1e300, "unit": "B"}],
    });
    if n.is_multiple_of(3) {
        result["unit"] = json!("%");
        result.as_object_mut().unwrap().remove("exit_code");
    }
    result
}

async fn page(Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    assert!(query["until_ms"].parse::<u64>().unwrap() > START);
    let from: u64 = query.get("cursor").map_or(1, |cursor| cursor.parse().unwrap());
    if query.get("agent").is_some_and(|agent| agent == "broken") {
        // An answer that is none, behind a page that is.
        return Json(if from == 1 { json!({"results": [result(1)], "next": "2"}) } else { json!(["x"]) });
    }
    let until = (from + PAGE).min(RESULTS + 1);
    let results: Vec<Value> = (from..until).map(result).collect();
    let next = (until <= RESULTS).then(|| until.to_string());
    Json(json!({"results": results, "next": next}))
}

struct Exported {
    folder: tempfile::TempDir,
    server: String,
}

impl Exported {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/api/v1/results", get(page));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "dw_test\n").unwrap();
        Self { folder, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = program::command("dogwatch");
        command.arg("export-results").args(args).current_dir(self.folder.path());
        command.env("DOGWATCH_SERVER", &self.server).env("DOGWATCH_KEY_FILE", self.path("key"));
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn export(&self, format: &str) -> PathBuf {
        let file = format!("results.{format}");
        let output = self.run(&["--format", format, "--to", &file]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("60000 results"), "{said}");
        assert_eq!(output.stdout, b"");
        assert!(!self.path(&format!("{file}.partial")).exists());
        self.path(&file)
    }
}

/// What Python says about a file. `None` where a library that the script needs is not installed.
fn python(script: &str, file: &Path) -> Option<String> {
    let output = Command::new("python3").arg("-c").arg(script).arg(file).output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("ModuleNotFoundError") {
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Rows, distinct agents, sum of own values, rows with a text, rows without an exit code, the first time, an output.
const READERS: [(&str, &str); 3] = [
    (
        "duckdb",
        r#"
import sys, duckdb
t = duckdb.connect().execute("""select count(*), count(distinct agent), sum(value) filter (metric is null), count(text),
    count(*) filter (exit_code is null), epoch_ms(min("at")), max(length(output)) from read_parquet(?)""", [sys.argv[1]]).fetchone()
print(*[int(x) for x in t])"#,
    ),
    (
        "pandas",
        r#"
import sys, pandas as pd
t = pd.read_parquet(sys.argv[1], engine="pyarrow")
assert str(t["at"].dtype) == "datetime64[ms, UTC]", t["at"].dtype
print(len(t), t.agent.nunique(), int(t[t.metric.isna()].value.sum()), t.text.notna().sum(), t.exit_code.isna().sum(),
      round(t["at"].min().timestamp() * 1000), int(t.output.str.len().max()))"#,
    ),
    (
        "polars",
        r#"
import sys, polars as pl
t = pl.read_parquet(sys.argv[1])
own = t.filter(pl.col("metric").is_null())
print(t.height, t["agent"].n_unique(), int(own["value"].sum()), t.height - t["text"].null_count(), t["exit_code"].null_count(),
      t["at"].dt.timestamp("ms").min(), t["output"].str.len_chars().max())"#,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn parquet_is_read_by_duckdb_pandas_and_polars() {
    let exported = Exported::start().await;
    let file = exported.export("parquet").await;
    let own: f64 = (1..=RESULTS).filter(|n| n % 10 != 0).map(|n| n as f64 / 2.0).sum();
    let (texts, without_code) = (RESULTS / 10, RESULTS / 3 * 2);
    let hard = result(100)["output"].as_str().unwrap().chars().count();
    let expected = format!("{} 7 {own} {texts} {without_code} {} {hard}", RESULTS * 2, START + 1);
    for (library, script) in READERS {
        match python(script, &file) {
            Some(said) => assert_eq!(said, expected, "{library}"),
            None => eprintln!(
                "NOT TESTED: Parquet read by {library}. Install it: pip install duckdb pandas pyarrow polars"
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_and_json_lines_hold_every_result() {
    let exported = Exported::start().await;
    let text = std::fs::read_to_string(exported.export("ndjson").await).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u64, RESULTS);
    assert_eq!((&lines[99]["output"], &lines[99]["seq"]), (&result(100)["output"], &json!(100)));

    let mut reader = csv::Reader::from_path(exported.export("csv").await).unwrap();
    let head: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(head[..5], ["at", "agent", "check", "metric", "value"]);
    let rows: Vec<HashMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len() as u64, RESULTS * 2);
    let of = |seq: usize| &rows[2 * (seq - 1)];
    assert_eq!(
        (of(100)["output"].as_str(), of(100)["text"].as_str()),
        (result(100)["output"].as_str().unwrap(), "text 100")
    );
    assert_eq!((of(7)["value"].as_str(), of(7)["at"].as_str()), ("3.5", "2026-11-20T18:40:00.007Z"));
    let metric = &rows[1];
    assert_eq!(
        (metric["metric"].as_str(), metric["unit"].as_str(), metric["output"].as_str()),
        ("/var", "B", "")
    );
    assert_eq!(metric["value"].parse::<f64>().unwrap(), 1e300);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_fails_leaves_no_file_and_what_was_there_stays() {
    let exported = Exported::start().await;
    let file = exported.path("results.csv");
    std::fs::write(&file, "before").unwrap();
    let failed = exported.run(&["--format", "csv", "--to", "results.csv", "--agent", "broken"]).await;
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be understood"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
    assert!(!exported.path("results.csv.partial").exists());
    let nowhere = exported.run(&["--format", "csv", "--to", "/no/such/folder/x.csv"]).await;
    assert_eq!(nowhere.status.code(), Some(2));
}
