//! What documents give a host: the groups that it is in, and its variables.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use protocol::{
    AgentId, Facts, GroupName, Labels, VariablesName, Vars,
    admin::VariableOrigin,
    targeting::{Group, Variables},
};

use crate::{HostExpression, HostView};

/// Circles of which all names are told; of more the two where they close.
const CIRCLES: usize = 100;
/// Most scopes that are kept for hosts that are in the same groups.
const KEPT: usize = 10_000;

/// Groups and variables of one host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scope {
    groups: Vec<GroupName>,
    vars: Vars,
    /// The document that gives each variable.
    origins: BTreeMap<String, VariablesName>,
    /// Groups of which it cannot be told whether it is in them, and why.
    pub(super) failed: BTreeMap<GroupName, String>,
    /// Variables that such a group would give, or give first.
    pub(super) doubtful: BTreeMap<String, GroupName>,
}

impl Scope {
    #[must_use]
    pub fn groups(&self) -> &[GroupName] {
        &self.groups
    }

    #[must_use]
    pub fn vars(&self) -> &Vars {
        &self.vars
    }

    /// What expressions see of the host.
    #[must_use]
    pub fn view<'a>(&'a self, agent: &'a AgentId, facts: &'a Facts, labels: &'a Labels) -> HostView<'a> {
        let (groups, vars) = (self.groups.as_slice(), &self.vars);
        HostView { groups, vars, ..HostView::new(agent, facts, labels) }
    }

    /// Variables whose value differs, or that only one of both has.
    pub(super) fn changed_vars<'a>(&'a self, other: &'a Self) -> BTreeSet<&'a str> {
        let names = self.vars.keys().chain(other.vars.keys());
        let doubtful = self.doubtful.keys().chain(other.doubtful.keys());
        names
            .filter(|name| self.vars.get(*name) != other.vars.get(*name))
            .chain(doubtful.filter(|name| self.doubtful.get(*name) != other.doubtful.get(*name)))
            .map(String::as_str)
            .collect()
    }
}

#[derive(Debug)]
pub(super) struct CompiledGroup {
    hosts: Option<Result<HostExpression, String>>,
    members: BTreeSet<AgentId>,
    /// Other groups that it asks for.
    asks: Vec<GroupName>,
}

impl CompiledGroup {
    pub(super) fn new(group: &Group) -> Self {
        let compile = |text: &String| HostExpression::compile_for_group(text).map_err(|e| e.to_string());
        let hosts = group.hosts.as_ref().map(compile);
        let asks = match &hosts {
            Some(Ok(hosts)) => {
                hosts.uses().groups.iter().filter_map(|(name, _)| GroupName::new(name).ok()).collect()
            }
            _ => Vec::new(),
        };
        Self { hosts, members: group.members.iter().cloned().collect(), asks }
    }

    pub(super) fn expression(&self) -> Option<&HostExpression> {
        self.hosts.as_ref()?.as_ref().ok()
    }

    pub(super) fn members(&self) -> &BTreeSet<AgentId> {
        &self.members
    }

    fn holds(&self, host: &HostView<'_>, failed: &BTreeMap<GroupName, String>) -> Result<bool, String> {
        if self.members.contains(host.agent) {
            return Ok(true);
        }
        if let Some((group, reason)) = self.asks.iter().find_map(|group| failed.get_key_value(group)) {
            return Err(format!("group {group}: {reason}"));
        }
        match &self.hosts {
            None => Ok(false),
            Some(Ok(hosts)) => hosts.matches(host).map_err(|error| error.to_string()),
            Some(Err(reason)) => Err(reason.clone()),
        }
    }
}

/// All groups and variables of a set of documents, in the order in which they are asked.
#[derive(Debug, Default)]
pub(super) struct Targeting {
    groups: Vec<(GroupName, Arc<CompiledGroup>)>,
    /// Groups that ask for one another.
    circular: BTreeSet<GroupName>,
    everywhere: Vec<Arc<Variables>>,
    of_groups: BTreeMap<GroupName, Vec<Arc<Variables>>>,
    of_hosts: BTreeMap<AgentId, Vec<Arc<Variables>>>,
    /// Scopes of hosts without variables of their own, by the groups that they are in.
    kept: Mutex<HashMap<Membership, Arc<Scope>>>,
}

type Membership = (Vec<GroupName>, BTreeMap<GroupName, String>);

impl Targeting {
    pub(super) fn new(
        groups: &BTreeMap<GroupName, Arc<CompiledGroup>>,
        variables: &BTreeMap<VariablesName, Arc<Variables>>,
    ) -> Self {
        let mut targeting = Self::default();
        let asks = |name: &GroupName| groups.get(name).map(|group| group.asks.as_slice()).unwrap_or_default();
        let (order, circles) = in_order(groups.keys(), asks);
        targeting.circular = circles.into_iter().flatten().collect();
        targeting.groups = order
            .into_iter()
            .filter_map(|name| Some((name.clone(), Arc::clone(groups.get(&name)?))))
            .collect();
        let mut sorted: Vec<&Arc<Variables>> = variables.values().collect();
        sorted.sort_by(|a, b| (b.priority, &a.name).cmp(&(a.priority, &b.name)));
        for one in sorted {
            let of = match (&one.host, &one.group) {
                (Some(host), _) => targeting.of_hosts.entry(host.clone()).or_default(),
                (None, Some(group)) => targeting.of_groups.entry(group.clone()).or_default(),
                (None, None) => &mut targeting.everywhere,
            };
            of.push(Arc::clone(one));
        }
        targeting
    }

    pub(super) fn scope(&self, agent: &AgentId, facts: &Facts, labels: &Labels) -> Arc<Scope> {
        let (mut within, mut failed) = (Vec::new(), BTreeMap::new());
        for (name, group) in &self.groups {
            let view = HostView { groups: &within, ..HostView::new(agent, facts, labels) };
            let holds = if self.circular.contains(name) {
                Err("groups ask for one another in a circle".to_owned())
            } else {
                group.holds(&view, &failed)
            };
            match holds {
                Ok(true) => within.push(name.clone()),
                Ok(false) => {}
                Err(reason) => drop(failed.insert(name.clone(), reason)),
            }
        }
        within.sort();
        if self.of_hosts.contains_key(agent) {
            return Arc::new(self.gathered(agent, within, failed));
        }
        let membership = (within, failed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scope) = kept.get(&membership) {
            return Arc::clone(scope);
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        let scope = Arc::new(self.gathered(agent, membership.0.clone(), membership.1.clone()));
        kept.insert(membership, Arc::clone(&scope));
        scope
    }

    fn gathered(
        &self,
        agent: &AgentId,
        groups: Vec<GroupName>,
        failed: BTreeMap<GroupName, String>,
    ) -> Scope {
        let mut scope = Scope { groups, failed, ..Scope::default() };
        let mut doubtful = BTreeMap::new();
        for one in self.nearest_first(agent, &scope.groups) {
            for (name, value) in &one.vars {
                if !scope.vars.contains_key(name) {
                    scope.vars.insert(name.clone(), value.clone());
                    scope.origins.insert(name.clone(), one.name.clone());
                }
            }
        }
        let own = self.of_hosts.get(agent).map(Vec::as_slice).unwrap_or_default();
        for group in scope.failed.keys() {
            let of_group = self.of_groups.get(group).map(Vec::as_slice).unwrap_or_default();
            for name in of_group.iter().flat_map(|one| one.vars.keys()) {
                if !own.iter().any(|one| one.vars.contains_key(name)) {
                    doubtful.insert(name.clone(), group.clone());
                }
            }
        }
        scope.doubtful = doubtful;
        scope
    }

    /// Documents whose variables a host has, those that win first.
    fn nearest_first(&self, agent: &AgentId, groups: &[GroupName]) -> Vec<&Arc<Variables>> {
        let own = self.of_hosts.get(agent).into_iter().flatten();
        let mut of_groups: Vec<_> =
            groups.iter().filter_map(|group| self.of_groups.get(group)).flatten().collect();
        of_groups.sort_by(|a, b| (b.priority, &a.name).cmp(&(a.priority, &b.name)));
        own.chain(of_groups).chain(&self.everywhere).collect()
    }

    /// Where the variables of these names are from.
    pub(super) fn origins<'n>(
        &self,
        agent: &AgentId,
        scope: &Scope,
        names: impl Iterator<Item = &'n String>,
    ) -> Vec<VariableOrigin> {
        let documents = self.nearest_first(agent, &scope.groups);
        let origin = |name: &String| {
            let mut giving = documents.iter().filter(|one| one.vars.contains_key(name));
            let first = giving.next()?;
            Some(VariableOrigin {
                name: name.clone(),
                value: first.vars.get(name)?.clone(),
                document: first.name.clone(),
                group: first.group.clone(),
                host: first.host.clone(),
                hidden: giving.map(|one| one.name.clone()).collect(),
            })
        };
        names.filter_map(origin).collect()
    }
}

/// Names so that each stands behind those that it asks for; and the circles among them, each as it goes round.
pub(crate) fn in_order<'n, N: Ord + Clone + 'n>(
    names: impl Iterator<Item = &'n N>,
    asks: impl Fn(&N) -> &'n [N],
) -> (Vec<N>, Vec<Vec<N>>) {
    let (mut order, mut circles) = (Vec::new(), Vec::new());
    let mut done = BTreeSet::new();
    for start in names {
        // The way down from `start`: each name with how many of those that it asks for were gone to.
        let mut way: Vec<(&'n N, usize)> = Vec::new();
        let mut on_way: BTreeSet<&'n N> = BTreeSet::new();
        if !done.contains(start) {
            way.push((start, 0));
            on_way.insert(start);
        }
        while let Some((name, next)) = way.last_mut() {
            let name = *name;
            let child = asks(name).get(*next);
            *next += 1;
            match child {
                None => {
                    done.insert(name.clone());
                    order.push(name.clone());
                    way.pop();
                    on_way.remove(name);
                }
                Some(child) => {
                    if on_way.contains(child) {
                        circles.push(if circles.len() < CIRCLES {
                            let circle = way.iter().skip_while(|(above, _)| *above != child);
                            circle.map(|(name, _)| (*name).clone()).collect()
                        } else {
                            vec![child.clone(), name.clone()]
                        });
                    } else if !done.contains(child) {
                        way.push((child, 0));
                        on_way.insert(child);
                    }
                }
            }
        }
    }
    (order, circles)
}
