//! The operators' API: roles, and the questions it becomes.

use protocol::{
    AgentId, ErrorCode, ErrorReply,
    admin::{
        Applied, ApplyRequest, HostList, HostQuery, KeyCreate, KeyCreated, KeyInfo, KeyRevoke, Problem, Role,
    },
    query::{ResultPage, ResultQuery},
    subject,
};
use reqwest::Method;
use serde_json::{Value, json};
use service_kit::respond::{Limits, respond};
use testkit::eventually;

use crate::harness::{Bridge, SOON, key, problem};

#[tokio::test]
async fn every_endpoint_demands_its_role() {
    use Role::{Admin, Agent, Editor, Viewer};
    let bridge = Bridge::start().await;
    let get = Method::GET;
    for (method, path, least) in [
        (get.clone(), "/api/v1/hosts", Viewer),
        (get.clone(), "/api/v1/checks", Viewer),
        (get.clone(), "/api/v1/results", Viewer),
        (get.clone(), "/api/v1/results/latest", Viewer),
        (get.clone(), "/api/v1/query/timeline?agent=a&check=b&from_ms=1&until_ms=2", Viewer),
        (get.clone(), "/api/v1/query/top?check=b&from_ms=1&until_ms=2&by=max", Viewer),
        (get.clone(), "/api/v1/alerts", Viewer),
        (get.clone(), "/api/v1/loss", Viewer),
        (get.clone(), "/api/v1/history", Viewer),
        (get.clone(), "/api/v1/diff?from=1", Viewer),
        (get.clone(), "/api/v1/explain?agent=a&check=b", Viewer),
        (get.clone(), "/api/v1/documents", Editor),
        (Method::POST, "/api/v1/rollback", Editor),
        (Method::POST, "/api/v1/apply", Editor),
        (Method::POST, "/api/v1/hosts/web-01/checks/disk/run", Editor),
        (Method::POST, "/api/v1/keys", Admin),
        (get.clone(), "/api/v1/keys", Admin),
        (Method::DELETE, "/api/v1/keys/x", Admin),
        (get.clone(), "/api/v1/backup", Admin),
        (get.clone(), "/api/v1/backup?transfer=0a-1&offset=5", Admin),
        (get.clone(), "/api/v1/restore", Admin),
        (Method::POST, "/api/v1/restore", Admin),
        (Method::POST, "/api/v1/restore/pieces", Admin),
        (Method::POST, "/api/v1/hosts/web-01/decommission", Admin),
    ] {
        let send = async |key: &str| bridge.request(method.clone(), path, key).send().await.unwrap();
        problem(send("dw_nobody").await, 401).await;
        for role in [Agent, Viewer, Editor, Admin] {
            let response = send(&key(role)).await;
            if role < least {
                problem(response, 403).await;
            } else {
                // Nobody answers behind it, or there is no body: in any case it got past the door.
                assert!(matches!(response.status().as_u16(), 400 | 503), "{path} {role}");
            }
        }
    }
    for role in [Viewer, Editor, Admin] {
        problem(bridge.get("/api/agent/config", role).await, 403).await;
        problem(bridge.post("/api/submit", role, r#"{"field":"a","value":1}"#).await, 403).await;
    }
}

#[tokio::test]
async fn questions_reach_the_services_and_answers_come_back() {
    let bridge = Bridge::start().await;
    let limits = Limits::default();
    respond(&bridge.behind, subject::QUERY_RESULTS, limits, |_, query: ResultQuery| async move {
        assert_eq!(query.agent, AgentId::new("web-01").ok());
        assert_eq!((query.since_ms, query.until_ms, query.limit), (5, Some(9), 2));
        Ok(ResultPage { results: Vec::new(), next: query.cursor })
    })
    .await
    .unwrap();
    let path = "/api/v1/results?agent=web-01&since_ms=5&until_ms=9&limit=2&cursor=c";
    let page: Value = bridge.get(path, Role::Viewer).await.json().await.unwrap();
    assert_eq!(page, json!({"results": [], "next": "c"}));
    problem(bridge.get("/api/v1/results?agent=NO", Role::Viewer).await, 400).await;
    problem(bridge.get("/api/v1/results?limit=many", Role::Viewer).await, 400).await;

    respond(&bridge.behind, subject::ADMIN_HOSTS, limits, |_, query: HostQuery| async move {
        if query.agent.is_none() {
            assert_eq!((query.limit, &query.after), (2, &AgentId::new("web-01").ok()));
            return Ok(HostList { hosts: Vec::new(), next: query.after });
        }
        let reply = ErrorReply::new(ErrorCode::NotFound, format!("no host {}", query.agent.unwrap()));
        Err(reply)
    })
    .await
    .unwrap();
    let page: Value =
        bridge.get("/api/v1/hosts?limit=2&after=web-01", Role::Viewer).await.json().await.unwrap();
    assert_eq!(page, json!({"hosts": [], "next": "web-01"}));
    problem(bridge.get("/api/v1/hosts?after=NO", Role::Viewer).await, 400).await;
    assert_eq!(
        problem(bridge.get("/api/v1/hosts?agent=x", Role::Viewer).await, 404).await["detail"],
        "no host x"
    );
}

#[tokio::test]
async fn an_apply_carries_the_actor_and_every_problem_comes_back() {
    let bridge = Bridge::start().await;
    respond(&bridge.behind, subject::ADMIN_APPLY, Limits::default(), |_, request: ApplyRequest| async move {
        assert_eq!(request.actor, "key editor");
        if request.dry_run {
            return Ok(Applied {
                revision: 3,
                changes: Vec::new(),
                effects: None,
                documents: Vec::new(),
                rollout: None,
            });
        }
        let problems = vec![Problem { path: "a.yaml".into(), line: 2, column: 3, message: "bad".into() }];
        Err(ErrorReply { problems, ..ErrorReply::invalid("1 problem") })
    })
    .await
    .unwrap();
    let apply = |dry_run: bool| {
        json!({"files": [{"path": "a.yaml", "text": "x"}], "actor": "someone else", "dry_run": dry_run})
            .to_string()
    };
    let applied: Value = bridge.post("/api/v1/apply", Role::Editor, apply(true)).await.json().await.unwrap();
    assert_eq!(applied, json!({"revision": 3, "changes": []}));
    let answer = problem(bridge.post("/api/v1/apply", Role::Editor, apply(false)).await, 400).await;
    assert_eq!(answer["problems"][0], json!({"path": "a.yaml", "line": 2, "column": 3, "message": "bad"}));
    problem(bridge.post("/api/v1/apply", Role::Editor, "{").await, 400).await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_here_and_in_five_seconds_elsewhere() {
    let bridge = Bridge::start().await;
    let behind = bridge.script.clone();
    respond(&bridge.behind, subject::ADMIN_KEY_REVOKE, Limits::default(), move |_, request: KeyRevoke| {
        let mut keys = behind.keys.lock().unwrap();
        let hash = keys.iter().find(|(_, info)| info.id == request.id).map(|(hash, _)| hash.clone());
        let info = hash.and_then(|hash| keys.remove(&hash));
        async move { info.ok_or_else(|| ErrorReply::new(ErrorCode::NotFound, "no such key")) }
    })
    .await
    .unwrap();
    assert_eq!(bridge.get("/api/agent/config", Role::Agent).await.status(), 200);
    let verified = *bridge.script.verified.lock().unwrap();
    assert_eq!(bridge.get("/api/agent/config", Role::Agent).await.status(), 200);
    assert_eq!(*bridge.script.verified.lock().unwrap(), verified, "a known key is not asked for again");

    let delete = |id: &str| bridge.request(Method::DELETE, &format!("/api/v1/keys/{id}"), &key(Role::Admin));
    assert_eq!(delete("agent").send().await.unwrap().status(), 200);
    problem(bridge.get("/api/agent/config", Role::Agent).await, 401).await;
    problem(delete("agent").send().await.unwrap(), 404).await;
    problem(delete("%ff").send().await.unwrap(), 400).await;

    // Revoked by another bridge: the cache runs out.
    assert_ne!(bridge.get("/api/v1/hosts", Role::Viewer).await.status(), 401);
    bridge.script.keys.lock().unwrap().clear();
    eventually("the key is refused", SOON * 2, async || {
        let status = bridge.get("/api/v1/hosts", Role::Viewer).await.status();
        if status == 401 { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_new_key_is_shown_once_and_kept_out_of_caches() {
    let bridge = Bridge::start().await;
    respond(
        &bridge.behind,
        subject::ADMIN_KEY_CREATE,
        Limits::default(),
        |_, request: KeyCreate| async move {
            assert_eq!(request.actor, "key admin");
            let (role, agent) = (request.role, request.agent);
            let info = KeyInfo {
                id: "k1".into(),
                role,
                agent,
                created_ms: 1,
                last_used_ms: 0,
                revoked_ms: None,
                expires_ms: None,
                hosts: None,
            };
            Ok(KeyCreated { key: "dw_new".into(), info })
        },
    )
    .await
    .unwrap();
    let body = r#"{"role":"agent","agent":"web-02","labels":{"role":"web"}}"#;
    let response = bridge.post("/api/v1/keys", Role::Admin, body).await;
    assert_eq!(
        (response.status().as_u16(), response.headers()["cache-control"].as_bytes()),
        (201, &b"no-store"[..])
    );
    assert_eq!(response.json::<Value>().await.unwrap()["key"], "dw_new");
}
