//! What the expressions about one host share: its facts as they see them, and what each answered. A fleet has far fewer
//! expressions than checks, and each needs the facts in another form than they are kept in.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    sync::Arc,
};

use cel::Value;

use super::EvalError;

/// Filled by the expressions that are asked.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    facts: OnceCell<Value>,
    labels: OnceCell<Value>,
    vars: OnceCell<Value>,
    answers: RefCell<HashMap<Arc<str>, Result<bool, EvalError>>>,
}

impl Kept {
    pub(super) fn facts(&self, make: impl FnOnce() -> Value) -> Value {
        self.facts.get_or_init(make).clone()
    }

    pub(super) fn labels(&self, make: impl FnOnce() -> Value) -> Value {
        self.labels.get_or_init(make).clone()
    }

    pub(super) fn vars(&self, make: impl FnOnce() -> Value) -> Value {
        self.vars.get_or_init(make).clone()
    }

    pub(super) fn answer(&self, text: &str) -> Option<Result<bool, EvalError>> {
        self.answers.borrow().get(text).cloned()
    }

    pub(super) fn keep(&self, text: &Arc<str>, answer: &Result<bool, EvalError>) {
        self.answers.borrow_mut().insert(Arc::clone(text), answer.clone());
    }
}
