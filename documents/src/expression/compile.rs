//! From text to a checked syntax tree, and its evaluation. All that can be known to be wrong is said here, at apply
//! time, and nothing passes that could be expensive or deep to evaluate.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, ExecutionError, IdedExpr, Value,
    common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators},
};
use protocol::{Labels, limits};

use super::{
    EvalError, ExpressionError,
    functions::{self, Call, Function, History, Special},
    predictions::Prediction,
    types,
    uses::Uses,
};
use crate::nearest;

/// Functions that expressions may call, the macros among them.
pub(super) const FUNCTIONS: [&str; 15] = [
    "all",
    "bool",
    "contains",
    "double",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "has",
    "int",
    "map",
    "matches",
    "size",
    "startsWith",
    "string",
];
const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];
/// Deepest syntax tree: evaluation recurses, on the small stacks of worker threads.
const DEPTH: usize = 40;
/// The parser recurses by far deeper than the tree that comes out of it.
const PARSER_STACK: usize = 16 * 1024 * 1024;

/// The functions and operators, the same for every expression and never changed.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A checked expression.
#[derive(Debug)]
pub(super) struct Program {
    tree: IdedExpr,
    variables: BTreeSet<String>,
    /// Labels that it names, so that a missing label can be told from a missing fact.
    labels: BTreeSet<String>,
    /// Functions over the past; the name of each is its place in the tree.
    windows: Vec<(String, Call)>,
    /// How many results in a row must hold.
    in_a_row: u32,
    uses: Uses,
}

impl Program {
    pub(super) fn compile(text: &str, variables: &'static [&'static str]) -> Result<Self, ExpressionError> {
        let at_start = |message: String| ExpressionError { line: 1, column: 1, message };
        if text.len() > limits::EXPRESSION {
            let (size, limit) = (text.len(), limits::EXPRESSION);
            return Err(at_start(format!("the expression has {size} bytes, more than the {limit} allowed")));
        }
        let text = text.to_owned();
        let parse = move || parse(&text, variables);
        let thread = std::thread::Builder::new().name("expression".to_owned()).stack_size(PARSER_STACK);
        let parser = thread.spawn(parse).map_err(|error| {
            at_start(format!("the expression cannot be read now: {error}; try again later"))
        })?;
        parser
            .join()
            .unwrap_or_else(|_| Err(at_start("the expression cannot be read: simplify it".to_owned())))
    }

    pub(super) fn asks(&self) -> &Uses {
        &self.uses
    }

    /// Whether a name that is missing may be a variable of an operator.
    pub(super) fn asks_variable(&self, name: &str) -> bool {
        self.uses.any_var || self.uses.vars.iter().any(|(var, _)| var == name)
    }

    pub(super) fn uses(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }

    pub(super) fn is_missing_label(&self, name: &str, labels: &Labels) -> bool {
        self.labels.contains(name) && !labels.contains_key(name)
    }

    pub(super) fn windows(&self) -> impl Iterator<Item = &Call> {
        self.windows.iter().map(|(_, call)| call)
    }

    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// `variable` gives the value of one variable; it is asked for those that the expression names only.
    ///
    /// A window without an answer is null; [`EvalError::Failed`] may be its consequence.
    pub(super) fn evaluate(
        &self,
        variable: impl Fn(&str) -> Value,
        history: &dyn History,
    ) -> Result<bool, EvalError> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        for (name, call) in &self.windows {
            let value = functions::value(call, history).unwrap_or(Value::Null);
            context.add_variable_from_value(name.as_str(), value);
        }
        for name in &self.variables {
            context.add_variable_from_value(name.as_str(), variable(name));
        }
        match Value::resolve(&self.tree, &context) {
            Ok(Value::Bool(outcome)) => Ok(outcome),
            Ok(other) => Err(EvalError::NotBool(type_name(&other))),
            Err(ExecutionError::NoSuchKey(name)) => Err(EvalError::Missing { name: short(&name) }),
            // The text quotes values, and an output may be long.
            Err(error) => Err(EvalError::Failed(short(&error.to_string()))),
        }
    }
}

fn parse(text: &str, variables: &'static [&'static str]) -> Result<Program, ExpressionError> {
    let program = ENV.compile(text).map_err(|errors| {
        let first = errors.errors.into_iter().min_by_key(|error| error.pos);
        let (line, column) = first.as_ref().map_or((1, 1), |error| error.pos);
        let reason = first.map_or_else(String::new, |error| syntax(&error.msg));
        let position = |n: isize| u64::try_from(n).unwrap_or(1).max(1);
        ExpressionError {
            line: position(line),
            column: position(column),
            message: format!(
                "this is not an expression: {reason}; write it like value > 90 && status != \"ok\""
            ),
        }
    })?;
    let mut check =
        Check { variables, bound: Vec::new(), program: None, specials: Vec::new(), conjuncts: Vec::new() };
    let mut found = Program {
        tree: program.expression().clone(),
        variables: BTreeSet::new(),
        labels: BTreeSet::new(),
        windows: Vec::new(),
        in_a_row: 1,
        uses: Uses::default(),
    };
    let place = |id| position(text, program.source_info().offset_for(id).map_or(0, |(start, _)| start));
    functions::conjuncts(&found.tree, &mut check.conjuncts);
    let outcome = check.node(&found.tree, 0, false).and_then(|()| types::check(&found.tree));
    if let Err((id, message)) = outcome {
        let (line, column) = place(id);
        return Err(ExpressionError { line, column, message });
    }
    if let Some((names, labels)) = check.program {
        (found.variables, found.labels) = (names, labels);
    }
    found.uses = Uses::of(&found.tree, &place);
    specialize(&mut found.tree, &check.specials);
    for (id, special) in &check.specials {
        if let Special::Window(Call {
            function: Function::Prediction(Prediction::Outlier { group, .. }),
            ..
        }) = special
        {
            found.uses.groups.push((group.to_string(), place(*id)));
        }
    }
    for (id, special) in check.specials {
        match special {
            Special::Window(call) => found.windows.push((window_name(id), call)),
            Special::Consecutive(count) => found.in_a_row = found.in_a_row.max(count),
        }
    }
    Ok(found)
}

/// The parser's words without its grammar.
fn syntax(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("Syntax error: ").unwrap_or(line);
    let line = line.split(" expecting ").next().unwrap_or(line);
    let words = [
        ("token recognition error at:", "unexpected"),
        ("mismatched input", "unexpected"),
        ("extraneous input", "unexpected"),
        ("no viable alternative at input", "unexpected"),
        ("'<EOF>'", "end"),
    ];
    short(&words.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to)))
}

/// Walks the tree: names that exist, functions that exist, bounded depth and cost.
struct Check {
    variables: &'static [&'static str],
    /// Variables of the macros around, such as `x` of `list.exists(x, …)`.
    bound: Vec<String>,
    program: Option<(BTreeSet<String>, BTreeSet<String>)>,
    /// Calls that are no CEL functions, by their nodes.
    specials: Vec<(u64, Special)>,
    /// Nodes that all must be true for the whole to be.
    conjuncts: Vec<u64>,
}

pub(super) type Fault = (u64, String);

impl Check {
    fn node(&mut self, node: &IdedExpr, depth: usize, in_loop: bool) -> Result<(), Fault> {
        if depth > DEPTH {
            return Err((node.id, format!("the expression is nested more than {DEPTH} deep: simplify it")));
        }
        let next = depth + 1;
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.variable(node.id, name)?,
            Expr::Select(select) => {
                self.label(&select.operand, &select.field);
                self.node(&select.operand, next, in_loop)?;
            }
            Expr::Call(call) => {
                if self.special(node.id, call)? {
                    return Ok(());
                }
                self.function(node.id, &call.func_name)?;
                if let (operators::INDEX, [operand, key]) = (call.func_name.as_str(), call.args.as_slice())
                    && let Expr::Literal(LiteralValue::String(key)) = &key.expr
                {
                    self.label(operand, key.inner());
                }
                for part in call.target.as_deref().into_iter().chain(&call.args) {
                    self.node(part, next, in_loop)?;
                }
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.node(element, next, in_loop)?;
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.node(&entry.key, next, in_loop)?;
                        self.node(&entry.value, next, in_loop)?;
                    }
                }
            }
            Expr::Struct(_) => {
                return Err((node.id, "there are no message types here: use a map {…} instead".to_owned()));
            }
            Expr::Comprehension(comprehension) => {
                if in_loop {
                    return Err((
                        node.id,
                        "one all, exists, filter or map inside another is too costly".to_owned(),
                    ));
                }
                self.node(&comprehension.iter_range, next, true)?;
                let before = self.bound.len();
                self.bound.push(comprehension.iter_var.clone());
                self.bound.extend(comprehension.iter_var2.clone());
                self.bound.push(comprehension.accu_var.clone());
                for part in [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.node(part, next, true)?;
                }
                self.bound.truncate(before);
            }
        }
        Ok(())
    }

    fn variable(&mut self, id: u64, name: &str) -> Result<(), Fault> {
        if name.starts_with('@') || self.bound.iter().any(|bound| bound == name) {
            return Ok(());
        }
        if self.variables.contains(&name) {
            self.program.get_or_insert_default().0.insert(name.to_owned());
            return Ok(());
        }
        let hint = nearest::hint(name, self.variables);
        Err((
            id,
            format!("there is no variable {name:?} here{hint}; there are {}", self.variables.join(", ")),
        ))
    }

    fn function(&self, id: u64, name: &str) -> Result<(), Fault> {
        if name.starts_with('@') || OPERATORS.contains(&name) || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        let known: Vec<&str> = if self.has_past() {
            FUNCTIONS.into_iter().chain(functions::WINDOWS).collect()
        } else {
            FUNCTIONS.into()
        };
        let hint = nearest::hint(name, &known);
        Err((id, format!("there is no function {name}(){hint}; there are {}", known.join(", "))))
    }

    /// Rules judge series; hosts have none.
    fn has_past(&self) -> bool {
        self.variables.contains(&"value")
    }

    /// Whether `call` is a function over the past.
    fn special(&mut self, id: u64, call: &CallExpr) -> Result<bool, Fault> {
        if !self.has_past() {
            return Ok(false);
        }
        let Some(special) = functions::special(id, call)? else { return Ok(false) };
        if matches!(special, Special::Consecutive(_)) && !self.conjuncts.contains(&id) {
            let message =
                "consecutive() stands beside the whole condition: write it like value > 90 && consecutive(3)";
            return Err((id, message.to_owned()));
        }
        self.specials.push((id, special));
        functions::check_count(id, self.specials.len())?;
        Ok(true)
    }

    fn label(&mut self, operand: &IdedExpr, name: &str) {
        if matches!(&operand.expr, Expr::Ident(variable) if variable == "labels") {
            self.program.get_or_insert_default().1.insert(name.to_owned());
        }
    }
}

/// Make whole-number literals floats, as all variables are: CEL does not calculate with both. An index and `%` need
/// whole numbers and keep them; what counts (`size`, `int`) is made a float too. Functions over the past become
/// variables.
fn specialize(node: &mut IdedExpr, specials: &[(u64, Special)]) {
    if let Some((id, special)) = specials.iter().find(|(id, _)| *id == node.id) {
        node.expr = match special {
            Special::Window(_) => Expr::Ident(window_name(*id)),
            Special::Consecutive(_) => Expr::Literal(LiteralValue::Boolean(true.into())),
        };
        return;
    }
    let floats = |node: &mut IdedExpr| specialize(node, specials);
    match &mut node.expr {
        Expr::Literal(literal) => {
            #[allow(clippy::cast_precision_loss)] // as every number of an expression
            let float = match literal {
                LiteralValue::Int(int) => Some(*int.inner() as f64),
                LiteralValue::UInt(uint) => Some(*uint.inner() as f64),
                _ => None,
            };
            if let Some(float) = float {
                *literal = LiteralValue::Double(float.into());
            }
        }
        Expr::Call(call) => {
            let whole = matches!(call.func_name.as_str(), operators::INDEX | operators::MODULO);
            let parts = call.target.as_deref_mut().into_iter().chain(&mut call.args);
            for part in parts {
                if !(whole && is_whole(part)) {
                    floats(part);
                }
            }
        }
        Expr::Select(select) => floats(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(floats),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    floats(&mut entry.value);
                }
            }
        }
        Expr::Comprehension(comprehension) => {
            let comprehension = comprehension.as_mut();
            for part in [
                &mut comprehension.iter_range,
                &mut comprehension.accu_init,
                &mut comprehension.loop_cond,
                &mut comprehension.loop_step,
                &mut comprehension.result,
            ] {
                floats(part);
            }
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Struct(_) => {}
    }
    let counts = matches!(&node.expr, Expr::Call(call) if call.func_name == "size");
    if counts {
        let count = std::mem::take(node);
        let id = count.id;
        let call = CallExpr { func_name: "double".to_owned(), target: None, args: vec![count] };
        *node = IdedExpr { id, expr: Expr::Call(call) };
    }
}

/// No name that can be written.
fn window_name(id: u64) -> String {
    format!("@{id}")
}

fn is_whole(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_)))
        || matches!(&node.expr, Expr::Call(call) if call.func_name == "int")
}

/// Line and column, from 1, of a place counted in characters from 0.
fn position(text: &str, offset: u32) -> (u64, u64) {
    let before = text.chars().take(offset as usize);
    before.fold((1, 1), |(line, column), c| if c == '\n' { (line + 1, 1) } else { (line, column + 1) })
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "a text",
        Value::Null => "null",
        _ => "something else",
    }
}

fn short(text: &str) -> String {
    const LIMIT: usize = 200;
    if text.chars().count() <= LIMIT {
        text.to_owned()
    } else {
        text.chars().take(LIMIT).chain(['…']).collect()
    }
}
