//! The expression language: CEL over what is known of a host and of one result.
//!
//! Three things differ from plain CEL, so that operators are not bitten: every number is a float (`value * 2 > 90`
//! works for 45.5 as for 46), a label that a host does not have makes the expression false instead of failing, and
//! functions are those of [`compile::FUNCTIONS`] only.

mod compile;
mod compiled;
mod context;
mod functions;
mod kept;
mod predictions;
mod types;
mod uses;

pub use functions::{Call, Function, History, NoHistory};
pub use predictions::{Edge, Prediction};
pub(crate) use uses::{Names, Position, Uses};

use std::sync::Arc;

use protocol::{AgentId, CheckResult, Facts, GroupName, Labels, Scalar, Vars};

use compile::Program;
pub use kept::Kept;

/// Why a text is not an expression. Lines and columns count from 1, inside the expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    pub line: u64,
    pub column: u64,
    pub message: String,
}

/// Why an expression has no answer for one host or result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    #[error("there is no {name:?} here; has(…) asks whether there is, as in has(facts.{name})")]
    Missing { name: String },
    #[error("the expression fails: {0}")]
    Failed(String),
    #[error("the expression gives {0} where true or false is needed: compare it with something")]
    NotBool(&'static str),
}

/// What an expression sees of a host. Many expressions may be asked about the same view: what one of them took is kept in
/// it for the others, and so is what each answered.
#[derive(Debug, Clone)]
pub struct HostView<'a> {
    pub agent: &'a AgentId,
    pub facts: &'a Facts,
    pub labels: &'a Labels,
    /// Names of the groups that it is in.
    pub groups: &'a [GroupName],
    /// What documents of kind `Variables` give it.
    pub vars: &'a Vars,
    pub kept: Kept,
}

impl<'a> HostView<'a> {
    /// A host in no group and without variables.
    #[must_use]
    pub fn new(agent: &'a AgentId, facts: &'a Facts, labels: &'a Labels) -> Self {
        static NONE: Vars = Vars::new();
        Self { agent, facts, labels, groups: &[], vars: &NONE, kept: Kept::default() }
    }
}

/// What an expression sees of a result, and of the host that it is from.
#[derive(Debug, Clone)]
pub struct RuleView<'a> {
    pub result: &'a CheckResult,
    pub host: HostView<'a>,
}

/// Which hosts? CEL over `agent`, `facts`, `labels`, `groups` and `vars`. Compiled once, evaluated many times; cheap to clone.
#[derive(Debug, Clone)]
pub struct HostExpression {
    program: Arc<Program>,
    text: Arc<str>,
}

/// Is this result wrong? CEL over `value`, `status`, `metrics`, `output`, `check`, and all that is known of the host.
/// Compiled once, evaluated many times; cheap to clone.
#[derive(Debug, Clone)]
pub struct RuleExpression(Arc<Program>);

impl HostExpression {
    /// # Errors
    /// [`ExpressionError`] for wrong syntax, unknown variables and functions, and what is too large or too deep.
    pub fn compile(text: &str) -> Result<Self, ExpressionError> {
        let (text, program) = compiled::compiled(text, &context::HOST_VARIABLES)?;
        Ok(Self { program, text })
    }

    /// As [`Self::compile`], without variables, since they may belong to groups.
    ///
    /// # Errors
    /// As [`Self::compile`], and for `groups` in another form than `"name" in groups`.
    pub fn compile_for_group(text: &str) -> Result<Self, ExpressionError> {
        let (text, program) = compiled::compiled(text, &context::GROUP_VARIABLES)?;
        if let Some((line, column)) = program.asks().any_group {
            let message = "a Group asks for others by name, as in \"web\" in groups".to_owned();
            return Err(ExpressionError { line, column, message });
        }
        Ok(Self { program, text })
    }

    pub(crate) fn uses(&self) -> &Uses {
        self.program.asks()
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// A label that the host does not have makes it false, and so does any fact of a host that reported none.
    ///
    /// # Errors
    /// [`EvalError`] when a fact is missing, types do not fit, or the outcome is not a truth value.
    pub fn matches(&self, host: &HostView<'_>) -> Result<bool, EvalError> {
        if let Some(answer) = host.kept.answer(&self.text) {
            return answer;
        }
        let answer = self.ask(host);
        host.kept.keep(&self.text, &answer);
        answer
    }

    fn ask(&self, host: &HostView<'_>) -> Result<bool, EvalError> {
        let outcome = self.program.evaluate(|name| context::of_host(host, name), &NoHistory);
        match outcome {
            Err(EvalError::Missing { name })
                if host.facts.is_empty() && !self.program.asks_variable(&name) =>
            {
                Ok(false)
            }
            Err(EvalError::Missing { name }) if self.program.is_missing_label(&name, host.labels) => {
                Ok(false)
            }
            outcome => outcome,
        }
    }
}

impl RuleExpression {
    pub(crate) fn uses(&self) -> &Uses {
        self.0.asks()
    }

    /// # Errors
    /// [`ExpressionError`] for wrong syntax, unknown variables and functions, types that never fit, and what is too
    /// large or too deep.
    pub fn compile(text: &str) -> Result<Self, ExpressionError> {
        Ok(Self(Arc::new(Program::compile(text, &context::RULE_VARIABLES)?)))
    }

    /// Whether it holds; a label that the host does not have makes it false. `None`: there is nothing to judge, since it
    /// calculates with a `value` that is no number or with a window that has too few. A check that could not measure
    /// neither raises an alert nor ends one.
    ///
    /// # Errors
    /// [`EvalError`] when a fact or metric is missing, types do not fit, or the outcome is not a truth value.
    pub fn holds(&self, view: &RuleView<'_>, history: &dyn History) -> Result<Option<bool>, EvalError> {
        let outcome = self.0.evaluate(|name| context::of_result(view, name), history);
        match outcome {
            Err(EvalError::Missing { name }) if self.0.is_missing_label(&name, view.host.labels) => {
                Ok(Some(false))
            }
            Err(EvalError::Failed(_)) if self.lacks_a_number(view, history) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    fn lacks_a_number(&self, view: &RuleView<'_>, history: &dyn History) -> bool {
        self.0.uses("value") && !matches!(view.result.value, Some(Scalar::Number(_)))
            || self.0.windows().any(|call| functions::value(call, history).is_none())
    }

    /// The windows that it asks for.
    pub fn windows(&self) -> impl Iterator<Item = &Call> {
        self.0.windows()
    }

    /// How many results in a row must hold before it does: `consecutive(…)`, else 1.
    #[must_use]
    pub fn in_a_row(&self) -> u32 {
        self.0.in_a_row()
    }

    /// Whether it may hold because nothing comes: it is to be asked when time passes too.
    #[must_use]
    pub fn judges_silence(&self) -> bool {
        self.windows().any(|call| matches!(call.function, Function::Absent))
    }
}

#[cfg(test)]
mod tests;
