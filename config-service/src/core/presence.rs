//! Whether a host is still there, and whether it is one host.

use protocol::{
    Origin,
    admin::{Host, Liveness},
};

use super::model::HostRecord;

/// How often an agent asks that does not say how often.
const POLL_MS: u64 = 60_000;
/// Requests missed, in halves: an agent asks a fifth earlier or later than it says, and once again when it got no answer.
const LATE: u64 = 5;
const GONE: u64 = 20;
/// A host is not gone before this.
const GONE_MS: u64 = 300_000;
/// So long after the last sign of it two agents with one id are shown.
const CLONED_MS: u64 = 3_600_000;
/// Longest name of an instance that is kept, in characters.
const INSTANCE: usize = 64;

/// An agent asked: keep how often it asks, and which of possibly several it is. A process names itself anew at each
/// start, so a name that comes back after another one belongs to a second agent that runs at the same time.
pub(super) fn asked(record: &mut HostRecord, poll_ms: Option<u64>, instance: Option<&str>, now: u64) {
    record.poll_ms = poll_ms.or(record.poll_ms);
    let Some(instance) = instance else { return };
    let instance: String = instance.chars().take(INSTANCE).collect();
    if record.instance.as_ref() == Some(&instance) {
        return;
    }
    if record.instance_before.as_ref() == Some(&instance) {
        record.cloned_ms = Some(now);
    }
    record.instance_before = record.instance.replace(instance);
}

/// Say of a host what follows from when it was last seen.
pub(super) fn judge(host: &mut Host, record: &HostRecord, now: u64) {
    host.cloned_ms = record.cloned_ms.filter(|at_ms| now.saturating_sub(*at_ms) < CLONED_MS);
    // A script asks when it likes, and a host that never asked was announced by a key.
    if record.last_seen_ms == 0 || (record.origin == Origin::Http && record.poll_ms.is_none()) {
        return;
    }
    let half = record.poll_ms.unwrap_or(POLL_MS) / 2;
    let late = half.saturating_mul(LATE);
    let gone = half.saturating_mul(GONE).max(GONE_MS);
    let silent = now.saturating_sub(record.last_seen_ms);
    let (liveness, after) = match silent {
        silent if silent >= gone => (Liveness::Gone, gone),
        silent if silent >= late => (Liveness::Late, late),
        _ => (Liveness::Live, 0),
    };
    host.liveness = Some(liveness);
    host.liveness_since_ms = (liveness != Liveness::Live).then(|| record.last_seen_ms.saturating_add(after));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        serde_json::from_str(
            r#"{"agent":"a","first_seen_ms":1,"last_seen_ms":1,"revision_wanted":0,"checks":[]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_host_is_live_late_or_gone_by_its_own_interval() {
        for (origin, poll_ms, silent_s, expected) in [
            (Origin::Agent, None, 0, Some((Liveness::Live, None))),
            (Origin::Agent, None, 149, Some((Liveness::Live, None))),
            (Origin::Agent, None, 150, Some((Liveness::Late, Some(150)))),
            (Origin::Agent, None, 600, Some((Liveness::Gone, Some(600)))),
            (Origin::Agent, Some(1_000), 3, Some((Liveness::Late, Some(2)))),
            (Origin::Agent, Some(1_000), 299, Some((Liveness::Late, Some(2)))),
            (Origin::Agent, Some(1_000), 300, Some((Liveness::Gone, Some(300)))),
            (Origin::Agent, Some(3_600_000), 8_999, Some((Liveness::Live, None))),
            (Origin::Http, None, 1_000_000, None),
        ] {
            let seen = 1_000_000_000_000;
            let record = HostRecord { origin, poll_ms, last_seen_ms: seen, ..HostRecord::default() };
            let mut host = host();
            judge(&mut host, &record, seen + silent_s * 1_000);
            let since = host.liveness_since_ms.map(|at_ms| (at_ms - seen) / 1_000);
            assert_eq!(host.liveness.map(|liveness| (liveness, since)), expected, "{poll_ms:?} {silent_s}");
        }
    }

    #[test]
    fn two_agents_with_one_id_are_told_from_one_that_restarts() {
        let mut record = HostRecord::default();
        for (instance, cloned) in
            [("a", None), ("a", None), ("b", None), ("c", None), ("c", None), ("b", Some(6)), ("c", Some(7))]
        {
            let now = cloned.unwrap_or(1);
            asked(&mut record, None, Some(instance), now);
            assert_eq!(record.cloned_ms, cloned, "{instance}");
        }
        let mut host = host();
        judge(&mut host, &record, 8);
        assert_eq!(host.cloned_ms, Some(7));
        judge(&mut host, &record, 7 + CLONED_MS);
        assert_eq!(host.cloned_ms, None);
    }
}
