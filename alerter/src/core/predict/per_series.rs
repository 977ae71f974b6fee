//! Things that belong to one check of one host, found without making a key.

use std::collections::HashMap;

use protocol::{AgentId, CheckName};

#[derive(Debug)]
pub(super) struct PerSeries<T> {
    agents: HashMap<AgentId, HashMap<CheckName, Vec<T>>>,
    count: usize,
}

impl<T> Default for PerSeries<T> {
    fn default() -> Self {
        Self { agents: HashMap::new(), count: 0 }
    }
}

impl<T> PerSeries<T> {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn of(&self, agent: &AgentId, check: &CheckName) -> impl Iterator<Item = &T> {
        self.agents.get(agent).and_then(|checks| checks.get(check)).into_iter().flatten()
    }

    pub(super) fn of_mut(&mut self, agent: &AgentId, check: &CheckName) -> impl Iterator<Item = &mut T> {
        self.agents.get_mut(agent).and_then(|checks| checks.get_mut(check)).into_iter().flatten()
    }

    pub(super) fn add(&mut self, agent: &AgentId, check: &CheckName, one: T) {
        self.agents.entry(agent.clone()).or_default().entry(check.clone()).or_default().push(one);
        self.count += 1;
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&AgentId, &CheckName, &T)> {
        let agents = self.agents.iter();
        agents.flat_map(|(agent, checks)| {
            checks.iter().flat_map(move |(check, all)| all.iter().map(move |one| (agent, check, one)))
        })
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&AgentId, &CheckName, &mut T) -> bool) {
        let mut count = 0;
        self.agents.retain(|agent, checks| {
            checks.retain(|check, all| {
                all.retain_mut(|one| keep(agent, check, one));
                count += all.len();
                !all.is_empty()
            });
            !checks.is_empty()
        });
        self.count = count;
    }
}
