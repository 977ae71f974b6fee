//! What series are called in PromQL: `dogwatch_value` and `dogwatch_status`, with labels that say whose they are.

use std::collections::BTreeMap;

use promql::Want;
use protocol::Status;

use crate::store::{Point, SeriesMeta};

/// The numbers of results and of their metrics.
pub const VALUE: &str = "dogwatch_value";
/// The verdicts of results: 0 ok, 1 warning, 2 critical, 3 unknown.
pub const STATUS: &str = "dogwatch_status";

/// Labels that say whose a series is; a host's label of such a name gets `host_` in front.
const OWN: [&str; 4] = ["agent", "check", "metric", "unit"];

/// The numbers of plugins' exit codes.
#[must_use]
pub fn status_number(status: Status) -> f64 {
    match status {
        Status::Ok => 0.0,
        Status::Warning => 1.0,
        Status::Critical => 2.0,
        Status::Unknown => 3.0,
    }
}

/// The number of a roll-up that stands for its samples; `None` where it has none. Of verdicts the last is not kept: the
/// highest stands for it.
#[must_use]
#[allow(clippy::cast_precision_loss)] // counts far below 2^53
pub fn rolled(name: &str, point: &Point, want: Want) -> Option<f64> {
    if name != STATUS {
        return (point.count > 0).then_some(match want {
            Want::Last => point.last,
            Want::Min => point.min,
            Want::Max => point.max,
            Want::Sum => point.sum,
            Want::Count => point.count as f64,
        });
    }
    let statuses = [Status::Ok, Status::Unknown, Status::Warning, Status::Critical].map(status_number);
    let there = || statuses.iter().zip(point.statuses).filter(|(_, count)| *count > 0);
    let numbers = there().map(|(number, _)| *number);
    match want {
        Want::Last | Want::Max => numbers.reduce(f64::max),
        Want::Min => numbers.reduce(f64::min),
        Want::Sum => there().map(|(number, count)| number * count as f64).reduce(|sum, more| sum + more),
        Want::Count => there().map(|(_, count)| count as f64).reduce(|sum, more| sum + more),
    }
}

/// Whether a label says whose a series is, and is none of its host.
#[must_use]
pub fn is_own(label: &str) -> bool {
    label == promql::NAME || OWN.contains(&label)
}

/// A host's labels as PromQL may hold them: what its names do not allow becomes `_`. Of two that become the same the
/// last counts.
#[must_use]
pub fn host_labels(labels: &protocol::Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (host_label(name), value.clone())).collect()
}

fn host_label(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let reserved = OWN.contains(&clean.as_str())
        || clean.starts_with("__")
        || clean.chars().next().is_none_or(|first| first.is_ascii_digit());
    if reserved { format!("host_{clean}") } else { clean }
}

/// One series as PromQL sees it.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    pub name: &'static str,
    pub meta: &'a SeriesMeta,
    /// Of its host, as [`host_labels`] made them.
    pub host: Option<&'a BTreeMap<String, String>>,
}

impl Named<'_> {
    /// Value of the label; empty where there is none.
    #[must_use]
    pub fn get(&self, label: &str) -> &str {
        match label {
            promql::NAME => self.name,
            "agent" => self.meta.agent.as_str(),
            "check" => self.meta.check.as_str(),
            "metric" => &self.meta.metric,
            "unit" => self.unit(),
            _ => self.host.and_then(|host| host.get(label)).map_or("", String::as_str),
        }
    }

    /// A verdict has no unit.
    fn unit(&self) -> &str {
        if self.name == STATUS { "" } else { self.meta.unit.as_deref().unwrap_or_default() }
    }

    #[must_use]
    pub fn labels(&self) -> promql::Labels {
        let own = [promql::NAME, "agent", "check", "metric", "unit"].map(|name| (name, self.get(name)));
        let host = self.host.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()));
        own.into_iter().chain(host).collect()
    }
}

/// What `metadata` says of our metrics.
#[must_use]
pub fn metadata() -> String {
    let entry =
        |name: &str, help: &str| format!(r#""{name}":[{{"type":"gauge","help":"{help}","unit":""}}]"#);
    format!(
        r#"{{"status":"success","data":{{{},{}}}}}"#,
        entry(STATUS, "Verdict of a check: 0 ok, 1 warning, 2 critical, 3 unknown"),
        entry(VALUE, "Number that a check measured; the label metric names it where the check has several")
    )
}

#[cfg(test)]
mod tests {
    use protocol::{AgentId, CheckName};

    use super::*;
    use crate::store::SeriesId;

    fn meta() -> SeriesMeta {
        SeriesMeta {
            id: SeriesId { results: 0, metric: 1 },
            agent: AgentId::new("web-01").unwrap(),
            check: CheckName::new("disk").unwrap(),
            metric: "/var".into(),
            unit: Some("%".into()),
        }
    }

    #[test]
    fn a_series_has_its_own_labels_and_those_of_its_host() {
        let labels = [
            ("role", "web"),
            ("agent", "x"),
            ("team.name", "ops"),
            ("1a", "b"),
            ("__name__", "y"),
            ("", "z"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let host = host_labels(&labels);
        let meta = meta();
        let named = Named { name: VALUE, meta: &meta, host: Some(&host) };
        assert_eq!(
            named.labels().to_string(),
            r#"{__name__="dogwatch_value", agent="web-01", check="disk", host_="z", host_1a="b", host___name__="y", host_agent="x", metric="/var", role="web", team_name="ops", unit="%"}"#
        );
        for (name, value) in named.labels().iter() {
            assert_eq!(named.get(name), value);
        }
        assert_eq!(named.get("nosuch"), "");
    }

    #[test]
    fn metadata_is_json() {
        let parsed: serde_json::Value = serde_json::from_str(&metadata()).unwrap();
        assert_eq!(parsed["data"]["dogwatch_status"][0]["type"], "gauge");
    }
}
