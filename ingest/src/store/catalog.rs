//! The series of a store, in memory as they are on disk: each check of each agent, and the metrics it ever had.

use std::collections::{HashMap, HashSet};

use protocol::{AgentId, CheckName, CheckResult};
use serde::{Deserialize, Serialize};

use super::series::{Part, SeriesFilter, SeriesId, SeriesMeta};
use crate::core::quota::NewSeries;

/// The metrics of one check of one agent. They are never reordered: a number that was given out stays good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub number: u32,
    /// Name and last unit of each; the first is the result's own value, without a name.
    pub metrics: Vec<(String, Option<String>)>,
}

#[derive(Debug, Default)]
pub struct Catalog {
    agents: HashMap<AgentId, HashMap<CheckName, Entry>>,
    /// Series of each agent.
    held: HashMap<AgentId, usize>,
    /// By number; a number that is not used has none.
    names: Vec<Option<(AgentId, CheckName)>>,
}

impl Catalog {
    #[must_use]
    pub fn entry(&self, agent: &AgentId, check: &CheckName) -> Option<&Entry> {
        self.agents.get(agent)?.get(check)
    }

    #[must_use]
    pub fn name(&self, number: u32) -> Option<&(AgentId, CheckName)> {
        self.names.get(usize::try_from(number).ok()?)?.as_ref()
    }

    /// The numbers of one agent's checks, or of one of them.
    #[must_use]
    pub fn numbers(&self, agent: &AgentId, check: Option<&CheckName>) -> Vec<u32> {
        let checks = self.agents.get(agent).into_iter().flatten();
        let wanted = checks.filter(|(name, _)| check.is_none_or(|check| check == *name));
        let mut numbers: Vec<u32> = wanted.map(|(_, entry)| entry.number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many checks of agents there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.names.iter().flatten().count() as u64
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// The number that the next new entry gets.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        u32::try_from(self.names.len()).unwrap_or(u32::MAX)
    }

    pub fn insert(&mut self, agent: AgentId, check: CheckName, entry: Entry) {
        let number = usize::try_from(entry.number).unwrap_or(usize::MAX);
        if self.names.len() <= number {
            self.names.resize(number.saturating_add(1), None);
        }
        if let Some(name) = self.names.get_mut(number) {
            *name = Some((agent.clone(), check.clone()));
        }
        let held = self.held.entry(agent.clone()).or_default();
        *held = held.saturating_add(entry.metrics.len());
        if let Some(before) = self.agents.entry(agent).or_default().insert(check, entry) {
            *held = held.saturating_sub(before.metrics.len());
        }
    }

    /// What of a result is not known. `None`: nothing.
    #[must_use]
    pub fn new_series(&self, result: &CheckResult) -> Option<NewSeries> {
        let entry = self.entry(&result.agent, &result.check);
        if entry.is_some_and(|entry| covers(entry, result)) {
            return None;
        }
        let known: HashSet<&str> =
            entry.into_iter().flat_map(|entry| &entry.metrics).map(|(name, _)| name.as_str()).collect();
        let own = std::iter::once("").chain(result.metrics.iter().map(|metric| metric.name.as_str()));
        let new: HashSet<&str> = own.filter(|name| !known.contains(name)).collect();
        let held = self.held.get(&result.agent).copied().unwrap_or_default();
        (!new.is_empty()).then(|| NewSeries { held, names: new.into_iter().map(str::to_owned).collect() })
    }

    #[must_use]
    pub fn find(&self, filter: &SeriesFilter) -> Vec<SeriesMeta> {
        let fits = |part: Part<'_>| match part {
            Part::Agent(agent) => filter.agent.as_ref().is_none_or(|wanted| wanted == agent),
            Part::Check(check) => filter.check.as_ref().is_none_or(|wanted| wanted == check),
            Part::Metric(metric) => filter.metric.as_ref().is_none_or(|wanted| wanted == metric),
        };
        match &filter.agent {
            Some(agent) => self.find_in(self.agents.get_key_value(agent), &fits),
            None => self.find_in(&self.agents, &fits),
        }
    }

    /// Those that fit, asked of each agent, then of its checks, then of their metrics.
    #[must_use]
    pub fn find_where(&self, fits: &dyn Fn(Part<'_>) -> bool) -> Vec<SeriesMeta> {
        self.find_in(&self.agents, fits)
    }

    fn find_in<'a>(
        &self,
        agents: impl IntoIterator<Item = (&'a AgentId, &'a HashMap<CheckName, Entry>)>,
        fits: &dyn Fn(Part<'_>) -> bool,
    ) -> Vec<SeriesMeta> {
        let mut found = Vec::new();
        for (agent, checks) in agents.into_iter().filter(|(agent, _)| fits(Part::Agent(agent))) {
            for (check, entry) in checks.iter().filter(|(check, _)| fits(Part::Check(check))) {
                let metrics = (0..).zip(&entry.metrics).filter(|(_, (name, _))| fits(Part::Metric(name)));
                found.extend(metrics.map(|(metric, (name, unit))| SeriesMeta {
                    id: SeriesId { results: entry.number, metric },
                    agent: agent.clone(),
                    check: check.clone(),
                    metric: name.clone(),
                    unit: unit.clone(),
                }));
            }
        }
        found.sort_by(|a, b| (&a.agent, &a.check, a.id).cmp(&(&b.agent, &b.check, b.id)));
        found
    }

    /// The checks of agents that are asked for, with their numbers, in order.
    #[must_use]
    pub fn checks(
        &self,
        agent: Option<&AgentId>,
        check: Option<&CheckName>,
    ) -> Vec<(AgentId, CheckName, u32)> {
        let own = agent.and_then(|agent| self.agents.get_key_value(agent));
        let all = agent.is_none().then_some(&self.agents).into_iter().flatten();
        let mut found = Vec::new();
        for (agent, checks) in own.into_iter().chain(all) {
            let wanted = checks.iter().filter(|(name, _)| check.is_none_or(|check| check == *name));
            found.extend(wanted.map(|(name, entry)| (agent.clone(), name.clone(), entry.number)));
        }
        found.sort();
        found
    }

    /// Name of a series' metric; empty for the result's own value.
    #[must_use]
    pub fn metric(&self, id: SeriesId) -> Option<(&AgentId, &CheckName, &str)> {
        let (agent, check) = self.name(id.results)?;
        let (metric, _) = self.entry(agent, check)?.metrics.get(usize::try_from(id.metric).ok()?)?;
        Some((agent, check, metric))
    }
}

/// Changes that a batch makes to a catalog: they count once they are durable.
#[derive(Debug)]
pub struct Additions<'a> {
    catalog: &'a Catalog,
    next: u32,
    changed: HashMap<(AgentId, CheckName), Entry>,
}

impl<'a> Additions<'a> {
    #[must_use]
    pub fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, next: catalog.next_number(), changed: HashMap::new() }
    }

    pub fn see(&mut self, result: &CheckResult) {
        let known = self.catalog.entry(&result.agent, &result.check);
        if known.is_some_and(|entry| covers(entry, result)) {
            return;
        }
        let next = self.next;
        let entry = self.changed.entry((result.agent.clone(), result.check.clone())).or_insert_with(|| {
            known.cloned().unwrap_or(Entry { number: next, metrics: vec![(String::new(), None)] })
        });
        if entry.number == next {
            self.next = next.saturating_add(1);
        }
        add(entry, result);
    }

    #[must_use]
    pub fn into_changed(self) -> HashMap<(AgentId, CheckName), Entry> {
        self.changed
    }
}

/// Whether the entry has all that the result names. Checks send the same metrics in the same order nearly always.
fn covers(entry: &Entry, result: &CheckResult) -> bool {
    let own = entry.metrics.first().is_some_and(|(_, unit)| result.unit.is_none() || *unit == result.unit);
    let same = |(name, unit): &(String, Option<String>), metric: &protocol::Metric| {
        *name == metric.name && (metric.unit.is_none() || *unit == metric.unit)
    };
    own && (0..).zip(&result.metrics).all(|(at, metric): (usize, _)| {
        entry.metrics.get(at + 1).is_some_and(|known| same(known, metric))
            || entry.metrics.iter().skip(1).any(|known| same(known, metric))
    })
}

fn add(entry: &mut Entry, result: &CheckResult) {
    if let (Some((_, unit)), true) = (entry.metrics.first_mut(), result.unit.is_some()) {
        unit.clone_from(&result.unit);
    }
    for metric in &result.metrics {
        match entry.metrics.iter_mut().skip(1).find(|(name, _)| *name == metric.name) {
            Some((_, unit)) if metric.unit.is_some() => unit.clone_from(&metric.unit),
            Some(_) => {}
            None => entry.metrics.push((metric.name.clone(), metric.unit.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(agent: &str, metrics: &[(&str, &str)]) -> CheckResult {
        let metrics: Vec<String> = metrics
            .iter()
            .map(|(name, unit)| format!(r#"{{"name":"{name}","value":1,"unit":"{unit}"}}"#))
            .collect();
        let json = format!(
            r#"{{"v":1,"agent":"{agent}","check":"c","at_ms":1,"status":"ok","metrics":[{}]}}"#,
            metrics.join(",")
        );
        protocol::decode(json.as_bytes(), 10_000).unwrap()
    }

    fn see(catalog: &mut Catalog, results: &[CheckResult]) -> usize {
        let mut additions = Additions::new(catalog);
        results.iter().for_each(|result| additions.see(result));
        let changed = additions.into_changed();
        let count = changed.len();
        changed.into_iter().for_each(|((agent, check), entry)| catalog.insert(agent, check, entry));
        count
    }

    #[test]
    fn a_series_keeps_its_number_whatever_comes_later() {
        let mut catalog = Catalog::default();
        let first = result("a", &[("x", "B"), ("y", "s")]);
        assert_eq!(see(&mut catalog, &[first.clone(), result("b", &[]), first.clone()]), 2);
        assert_eq!(see(&mut catalog, &[first]), 0, "nothing new");
        let before = catalog.find(&SeriesFilter::default());
        assert_eq!(before.len(), 4);
        assert_eq!(see(&mut catalog, &[result("a", &[("z", "B"), ("y", "s")]), result("c", &[])]), 2);
        let after = catalog.find(&SeriesFilter::default());
        assert!(before.iter().all(|series| after.contains(series)));
        let mut numbers: Vec<u32> = after.iter().map(|series| series.id.results).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), 3, "each check of each agent has a number of its own");
        let filter = SeriesFilter { metric: Some("y".into()), ..SeriesFilter::default() };
        let found = catalog.find(&filter);
        assert_eq!(found.len(), 1);
        let (agent, check, metric) = catalog.metric(found[0].id).unwrap();
        assert_eq!((agent.as_str(), check.as_str(), metric), ("a", "c", "y"));
    }

    #[test]
    fn what_a_result_brings_is_told_until_it_is_known() {
        let mut catalog = Catalog::default();
        let brings = |catalog: &Catalog, result: &CheckResult| {
            let mut new = catalog.new_series(result)?;
            new.names.sort();
            Some((new.held, new.names))
        };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = result("a", &[("x", "B"), ("x", "B")]);
        assert_eq!(brings(&catalog, &first), Some((0, names(&["", "x"]))));
        see(&mut catalog, std::slice::from_ref(&first));
        assert_eq!(brings(&catalog, &first), None);
        assert_eq!(brings(&catalog, &result("a", &[("x", "kB")])), None, "another unit is no other series");
        assert_eq!(brings(&catalog, &result("a", &[("y", "B")])), Some((2, names(&["y"]))));
        see(&mut catalog, &[result("a", &[("y", "B")])]);
        assert_eq!(brings(&catalog, &result("a", &[("z", "B")])), Some((3, names(&["z"]))));
        assert_eq!(brings(&catalog, &result("b", &[])), Some((0, names(&[""]))));
    }

    #[test]
    fn the_unit_is_the_one_that_came_last() {
        let mut catalog = Catalog::default();
        see(&mut catalog, &[result("a", &[("x", "B")]), result("a", &[("x", "kB")])]);
        let found = catalog.find(&SeriesFilter { metric: Some("x".into()), ..SeriesFilter::default() });
        assert_eq!(found[0].unit.as_deref(), Some("kB"));
    }
}
