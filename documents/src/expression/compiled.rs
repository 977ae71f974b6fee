//! Expressions that were compiled before. A fleet's checks have far fewer expressions than there are checks, and each is
//! compiled when a set is read, when its effects are looked at, and when it is folded.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use super::{ExpressionError, compile::Program};

/// Most bytes of texts that are remembered. What a text compiles to never changes, so forgetting costs time only.
const KEPT: usize = 256 * 1024;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Known {
    programs: HashMap<Key, Arc<Program>>,
    bytes: usize,
}

/// The text, and which variables it may use.
type Key = (Arc<str>, &'static [&'static str]);

/// The text, and what it compiles to.
pub(super) fn compiled(
    text: &str,
    variables: &'static [&'static str],
) -> Result<(Arc<str>, Arc<Program>), ExpressionError> {
    let key: Key = (text.into(), variables);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = known().programs.get(&key) {
        return Ok((key.0, Arc::clone(program)));
    }
    let program = Arc::new(Program::compile(text, variables)?);
    let mut known = known();
    known.bytes += text.len();
    if known.bytes > KEPT {
        known.programs.clear();
        known.bytes = text.len();
    }
    known.programs.insert(key.clone(), Arc::clone(&program));
    Ok((key.0, program))
}
