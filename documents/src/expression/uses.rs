//! What an expression asks for of a host; of groups and variables also where in it.

use std::collections::BTreeSet;

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue, operators},
};

/// Line and column inside the expression, from 1.
pub(crate) type Position = (u64, u64);

/// What an expression asks for of `groups` and `vars`.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// `"web" in groups`.
    pub(crate) groups: Vec<(String, Position)>,
    /// `groups` in any other form.
    pub(crate) any_group: Option<Position>,
    /// `vars.x` and `vars["x"]`.
    pub(crate) vars: Vec<(String, Position)>,
    /// `vars` in any other form.
    pub(crate) any_var: bool,
    pub(crate) agent: bool,
    pub(crate) facts: Names,
    pub(crate) labels: Names,
}

/// Which entries of a map: rather too many than too few.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// In another form than by name: any of them.
    pub(crate) all: bool,
    pub(crate) some: BTreeSet<String>,
}

impl Names {
    pub(crate) fn join(&mut self, other: &Self) {
        self.all |= other.all;
        self.some.extend(other.some.iter().cloned());
    }
}

impl Uses {
    pub(super) fn of(tree: &IdedExpr, position: &dyn Fn(u64) -> Position) -> Self {
        let mut uses = Self::default();
        uses.visit(tree, position);
        uses
    }

    fn visit(&mut self, node: &IdedExpr, position: &dyn Fn(u64) -> Position) {
        match &node.expr {
            Expr::Ident(name) if name == "groups" => self.any_group = Some(position(node.id)),
            Expr::Ident(name) if name == "vars" => self.any_var = true,
            Expr::Ident(name) if name == "agent" => self.agent = true,
            Expr::Ident(name) if name == "facts" => self.facts.all = true,
            Expr::Ident(name) if name == "labels" => self.labels.all = true,
            Expr::Select(select) if is(&select.operand, "facts") => {
                self.facts.some.insert(select.field.clone());
            }
            Expr::Select(select) if is(&select.operand, "labels") => {
                self.labels.some.insert(select.field.clone());
            }
            Expr::Select(select) if is(&select.operand, "vars") => {
                // A selection stands where its dot does.
                let (line, column) = position(select.operand.id);
                self.vars.push((select.field.clone(), (line, column)));
            }
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::IN, [name, groups]) if is(groups, "groups") && text(name).is_some() => {
                    self.groups.push((text(name).unwrap_or_default(), position(name.id)));
                }
                (operators::INDEX, [vars, name]) if is(vars, "vars") && text(name).is_some() => {
                    self.vars.push((text(name).unwrap_or_default(), position(vars.id)));
                }
                (operators::INDEX, [facts, name]) if is(facts, "facts") && text(name).is_some() => {
                    self.facts.some.extend(text(name));
                }
                (operators::INDEX, [labels, name]) if is(labels, "labels") && text(name).is_some() => {
                    self.labels.some.extend(text(name));
                }
                _ => children(node).into_iter().for_each(|child| self.visit(child, position)),
            },
            _ => children(node).into_iter().for_each(|child| self.visit(child, position)),
        }
    }
}

fn is(node: &IdedExpr, variable: &str) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name == variable)
}

fn text(node: &IdedExpr) -> Option<String> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().to_owned()),
        _ => None,
    }
}

pub(super) fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    match &node.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) | Expr::Struct(_) => Vec::new(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => {
            let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => Some([&entry.key, &entry.value]),
                _ => None,
            });
            entries.flatten().collect()
        }
        Expr::Comprehension(comprehension) => vec![
            &comprehension.iter_range,
            &comprehension.accu_init,
            &comprehension.loop_cond,
            &comprehension.loop_step,
            &comprehension.result,
        ],
    }
}
