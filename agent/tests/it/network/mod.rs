//! Checks of other hosts against real servers on this one, most of them bad.

mod dns;
mod http;
mod ports;
mod servers;

use agent::{
    core::check::{Check, Work},
    outbound::probe::{Prober, Ran},
};
use protocol::{Status, config::CheckSpec};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Far longer than anything takes here, and short enough for a test that hangs.
const PATIENT: u64 = 30_000;
/// For what is never answered.
const HASTY: u64 = 700;

fn check(builtin: &str, with: Value, more: Value) -> Check {
    let mut spec =
        json!({"name": "c", "builtin": builtin, "every_ms": 60_000, "timeout_ms": PATIENT, "with": with});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let check = Check::from(serde_json::from_value::<CheckSpec>(spec).unwrap());
    assert!(!matches!(check.work, Work::Impossible(_)), "{check:?}");
    check
}

async fn run(builtin: &str, with: Value, more: Value) -> Ran {
    Prober::default().run(&check(builtin, with, more), &CancellationToken::new()).await.unwrap()
}

/// Run a check that has time, and hold its status and a part of its text against what is expected.
async fn expect(builtin: &str, with: Value, status: Status, said: &str) -> Ran {
    let ran = run(builtin, with.clone(), json!({})).await;
    let output = &ran.finding.output;
    assert!(ran.finding.status == status && output.contains(said), "{with}: {output}\n  and not {said}");
    assert!(!ran.timed_out, "{output}");
    ran
}

fn metric(ran: &Ran, name: &str) -> Option<f64> {
    ran.finding.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

#[tokio::test]
async fn a_cancelled_check_ends_at_once() {
    let silent = servers::tcp(async |stream| {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let cancel = CancellationToken::new();
    let check = check("http", json!({"url": silent.url("/")}), json!({"timeout_ms": 600_000}));
    let prober = Prober::default();
    let (ran, ()) = tokio::join!(prober.run(&check, &cancel), async {
        testkit::eventually("it connects", crate::rig::LIMIT, async || {
            if silent.seen() > 0 { Ok(()) } else { Err("nobody came") }
        })
        .await;
        cancel.cancel();
    });
    assert!(ran.is_none());
}
