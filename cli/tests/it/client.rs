//! The commands that ask over HTTP, against a scripted bridge.

use std::{net::SocketAddr, path::PathBuf, process::Output};

use axum::{
    Json, Router,
    extract::{Query, Request},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::program;

struct Bridge {
    address: SocketAddr,
    folder: TempDir,
}

impl Bridge {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/api/v1/apply", post(apply))
            .route("/api/v1/results", get(results))
            .route("/api/v1/hosts", get(hosts))
            .route("/api/v1/alerts", get(|| async { Json(json!({"alerts": []})) }))
            .route("/api/v1/keys", post(create_key))
            .route("/api/v1/keys/{id}", delete(|| async { problem(404, "no key of that id") }))
            .layer(middleware::from_fn(has_key));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "dw_test\n").unwrap();
        Self { address, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Run the program in the folder, with the address and the key in its environment.
    async fn run(&self, args: &[&str]) -> Output {
        let mut command = program::command("dogwatch");
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("DOGWATCH_SERVER", format!("http://{}", self.address))
            .env("DOGWATCH_KEY_FILE", self.path("key"));
        output(command).await
    }
}

async fn output(mut command: std::process::Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn problem(status: u16, detail: &str) -> Response {
    let body = json!({"type": "about:blank", "title": "x", "status": status, "detail": detail}).to_string();
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}

async fn has_key(headers: HeaderMap, request: Request, next: Next) -> Response {
    if headers.get("x-api-key").is_none_or(|key| key != "dw_test") {
        return problem(401, "the key is unknown or revoked");
    }
    next.run(request).await
}

async fn apply(Json(request): Json<Value>) -> Response {
    let files = request["files"].as_array().unwrap();
    if files.iter().any(|file| file["text"].as_str().unwrap().contains("bad")) {
        let problems = json!([
            {"path": files[0]["path"], "line": 3, "column": 7, "message": "unknown key \"bad\""},
            {"path": files[0]["path"], "line": 9, "column": 1, "message": "\"every\" is missing"},
        ]);
        let body = json!({"status": 400, "detail": "2 problems", "problems": problems});
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    let change = if files[0]["text"].as_str().unwrap().contains("old") { "unchanged" } else { "created" };
    let changes = json!([{"kind": "Check", "name": "disk", "change": change}]);
    let revision = if request["dry_run"] == true { 6 } else { 7 };
    Json(json!({"revision": revision, "changes": changes})).into_response()
}

/// Two pages.
async fn results(Query(query): Query<std::collections::HashMap<String, String>>) -> Json<Value> {
    assert!(query["since_ms"].parse::<u64>().unwrap() > 0);
    let result = |seq: u64| {
        json!({"v": 1, "agent": "web-01", "check": query.get("check").map_or("disk", String::as_str), "epoch": 1,
               "seq": seq, "at_ms": 1, "status": "ok", "value": seq, "unit": "%"})
    };
    Json(match query.get("cursor").map(String::as_str) {
        None => json!({"results": [result(1), result(2)], "next": "2"}),
        Some("2") => json!({"results": [result(3)]}),
        Some(other) => panic!("cursor {other}"),
    })
}

/// Two pages.
async fn hosts(Query(query): Query<std::collections::HashMap<String, String>>) -> Json<Value> {
    let host = |agent: &str| {
        json!({"agent": agent, "facts": {"os": "linux", "distro": "debian"}, "labels": {"role": "web"},
        "first_seen_ms": 1, "last_seen_ms": 1, "revision_wanted": 7, "revision_applied": 6, "checks": ["disk"],
        "unfit": [{"check": "os_updates", "reason": "no variant fits"}]})
    };
    Json(match query.get("after").map(String::as_str) {
        None => json!({"hosts": [host("web-01")], "next": "web-01"}),
        Some("web-01") => json!({"hosts": [host("web-02")]}),
        Some(other) => panic!("after {other}"),
    })
}

async fn create_key(Json(request): Json<Value>) -> Response {
    assert_eq!(request["facts"], json!({"os": "linux", "cpus": 4}));
    assert_eq!(request["labels"], json!({"role": "web"}));
    let body = json!({"key": "dw_k1_secret", "id": "k1", "role": request["role"], "created_ms": 1});
    (StatusCode::CREATED, Json(body)).into_response()
}

#[tokio::test]
async fn wrong_use_is_exit_code_2_and_says_what_is_right() {
    let bridge = Bridge::start().await;
    for (args, expected) in [
        (&["nonsense"][..], "unrecognized subcommand 'nonsense'"),
        (&["results", "--since", "yesterday"], "write it like 30s, 5m, 1h"),
        (&["results", "--agent", "NO"], "not a valid agent id"),
        (&["key", "create", "--role", "god"], "use agent, viewer, editor or admin"),
        (&["key", "create", "--role", "agent"], "--agent <NAME>"),
        (&["key", "create", "--role", "agent", "--agent", "a", "--label", "x"], "write it like role=web"),
        (&["hosts", "-o", "xml"], "possible values: table, json, yaml"),
        (&["apply", "/no/such/file"], "cannot read /no/such/file"),
        (&["apply", "."], "no *.yaml, *.yml or *.json files in ."),
    ] {
        let output = bridge.run(args).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    std::fs::write(bridge.path("settings.toml"), "sevrer = 'x'").unwrap();
    let output = bridge.run(&["hosts", "--config", "settings.toml"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("unknown key \"sevrer\""), "{}", stderr(&output));
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named_with_the_remedy() {
    let bridge = Bridge::start().await;
    let nowhere = format!("http://{}", testkit::free_address());
    for (args, expected) in [
        (vec!["hosts", "--server", &nowhere], "is `dogwatch up` running?"),
        (vec!["hosts", "--server", "localhost"], "write it like http://host:5000"),
        (vec!["hosts", "--key-file", "/no/key"], "cannot read the key from /no/key"),
        (vec!["key", "revoke", "x/../y"], "refused with status 404: no key of that id"),
        (vec!["audit", "loss"], "refused with status 404: no reason given"),
    ] {
        let output = bridge.run(&args).await;
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
    std::fs::write(bridge.path("key"), "dw_wrong").unwrap();
    let output = bridge.run(&["hosts"]).await;
    assert!(stderr(&output).contains("status 401: the key is unknown or revoked"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("dw_wrong"));
}

#[tokio::test]
async fn the_address_and_the_key_of_a_local_up_are_found_and_go_to_nobody_else() {
    let bridge = Bridge::start().await;
    let local = bridge.path(".dogwatch");
    std::fs::create_dir(&local).unwrap();
    std::fs::write(local.join("admin.key"), "dw_test").unwrap();
    let hosts = async |args: &[&str]| {
        let mut command = program::command("dogwatch");
        command.arg("hosts").args(args).current_dir(bridge.folder.path());
        output(command).await
    };
    let none = hosts(&[]).await;
    assert!(stderr(&none).contains("no key for http://127.0.0.1:5000/"), "{}", stderr(&none));
    std::fs::write(local.join("endpoint"), format!("http://{}\n", bridge.address)).unwrap();
    assert!(stdout(&hosts(&[]).await).contains("web-01"));
    let other = hosts(&["--server", "http://192.0.2.1:1"]).await;
    assert!(stderr(&other).contains("no key for http://192.0.2.1:1/"), "{}", stderr(&other));
}

#[tokio::test]
async fn rows_are_tables_json_lines_or_yaml() {
    let bridge = Bridge::start().await;
    let table = stdout(&bridge.run(&["hosts"]).await);
    let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[0], "web-01");
    assert!(table.lines().count() == 3 && table.contains("web-02"), "every page: {table}");
    assert!(
        table.contains("debian") && table.contains("6 of 7") && table.contains("os_updates: no variant fits")
    );

    let lines = stdout(&bridge.run(&["results", "-o", "json", "--check", "load"]).await);
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    for field in
        ["v", "agent", "check", "seq", "at_ms", "status", "value", "unit", "revision", "origin", "replayed"]
    {
        assert!(!rows[0][field].is_null(), "{field} in {}", rows[0]);
    }
    let newest = stdout(&bridge.run(&["results", "-o", "json", "--limit", "1"]).await);
    assert!(newest.lines().count() == 1 && newest.contains("\"seq\":3"), "{newest}");
    assert!(stdout(&bridge.run(&["results", "-o", "yaml"]).await).starts_with("- v: 1\n  agent: web-01\n"));
    assert_eq!(stdout(&bridge.run(&["alerts", "-o", "json"]).await), "");
}

#[tokio::test]
async fn a_new_key_stands_alone_on_stdout() {
    let bridge = Bridge::start().await;
    let args = [
        "key", "create", "--role", "agent", "--agent", "web-01", "--label", "role=web", "--fact", "os=linux",
    ];
    let output = bridge.run(&[&args[..], &["--fact", "cpus=4"]].concat()).await;
    assert_eq!(stdout(&output), "dw_k1_secret\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("key k1 of role agent") && !stderr(&output).contains("secret"));
}

#[tokio::test]
async fn apply_shows_asks_and_tells_every_problem() {
    let bridge = Bridge::start().await;
    std::fs::write(bridge.path("new.yaml"), "new").unwrap();
    std::fs::write(bridge.path("old.yaml"), "old").unwrap();
    std::fs::write(bridge.path("bad.yaml"), "bad").unwrap();

    let unasked = bridge.run(&["apply", "new.yaml"]).await;
    assert_eq!(unasked.status.code(), Some(2));
    assert!(stderr(&unasked).contains("created    Check disk"), "{}", stderr(&unasked));
    assert!(stderr(&unasked).contains("give --yes"), "{}", stderr(&unasked));

    let applied = bridge.run(&["apply", "new.yaml", "--yes", "-o", "json"]).await;
    assert!(applied.status.success(), "{}", stderr(&applied));
    assert_eq!(stdout(&applied), "{\"kind\":\"Check\",\"name\":\"disk\",\"change\":\"created\"}\n");
    assert!(stderr(&applied).contains("applied as revision 7"));

    let nothing = bridge.run(&["apply", "old.yaml"]).await;
    assert!(nothing.status.success() && stderr(&nothing).contains("nothing to change: revision 6"));

    let bad = bridge.run(&["apply", "bad.yaml", "--yes"]).await;
    assert_eq!(bad.status.code(), Some(2));
    let lines: Vec<_> = stderr(&bad).lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "bad.yaml:3:7: unknown key \"bad\"");
    assert_eq!(lines[1], "bad.yaml:9:1: \"every\" is missing");
    assert_eq!(lines[2], "dogwatch: 2 problems in the documents: nothing was applied");

    // For `plan` 2 says that changes are pending: what is wrong must not look like that.
    for path in ["bad.yaml", "none.yaml"] {
        let failed = bridge.run(&["plan", path]).await;
        assert_eq!(failed.status.code(), Some(1), "{path}: {}", stderr(&failed));
    }
}
