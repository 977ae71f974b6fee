//! The loops of a service, by name: started together, told to stop together, waited for with a limit.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

struct Task {
    name: String,
    handle: JoinHandle<()>,
}

/// Handle on a set of named tasks. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    stop: CancellationToken,
    running: Arc<Mutex<Vec<Task>>>,
    failure: watch::Sender<Option<String>>,
}

/// Names of the tasks that were still running when the grace time was over. They have been aborted.
#[derive(Debug, thiserror::Error)]
#[error("did not finish within {grace:?}: {}", names.join(", "))]
pub struct Unfinished {
    pub names: Vec<String>,
    pub grace: Duration,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    #[must_use]
    pub fn new() -> Self {
        Self { stop: CancellationToken::new(), running: Arc::default(), failure: watch::Sender::new(None) }
    }

    /// Cancelled when the service is to stop. Loops select on `token().cancelled()`.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Run `task` until it ends. It ends by itself only after [`Self::token`] is cancelled; an error or a panic before
    /// that is a failure of the whole service.
    pub fn spawn<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let name = name.into();
        let (failure, stop, label) = (self.failure.clone(), self.stop.clone(), name.clone());
        let work = tokio::spawn(task);
        let handle = tokio::spawn(async move {
            // Aborting the watcher aborts the work with it.
            let work = AbortOnDrop(work);
            let reason = match work.await {
                Ok(Ok(())) if stop.is_cancelled() => return,
                Ok(Ok(())) => "ended unexpectedly".to_owned(),
                Ok(Err(error)) => crate::report(error.as_ref()),
                Err(panic) => panic.to_string(),
            };
            tracing::error!(task = label, reason, "task failed");
            failure.send_modify(|failure| {
                failure.get_or_insert_with(|| format!("{label}: {reason}"));
            });
        });
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|task| !task.handle.is_finished());
        running.push(Task { name, handle });
    }

    /// Resolves with the reason when a task has failed.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        loop {
            if let Some(reason) = failure.borrow_and_update().clone() {
                return reason;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tell every task to stop and wait for at most `grace`.
    ///
    /// # Errors
    /// [`Unfinished`] names the tasks that had to be aborted.
    pub async fn finish(&self, grace: Duration) -> Result<(), Unfinished> {
        self.stop.cancel();
        let deadline = Instant::now() + grace;
        let mut unfinished = BTreeMap::<String, usize>::new();
        loop {
            // A stopping task may spawn another, so look until none is left.
            let next = self.running.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(Task { name, mut handle }) = next else { break };
            if tokio::time::timeout_at(deadline, &mut handle).await.is_err() {
                handle.abort();
                *unfinished.entry(name).or_default() += 1;
            }
        }
        if unfinished.is_empty() {
            return Ok(());
        }
        let names =
            unfinished.into_iter().map(|(name, n)| if n == 1 { name } else { format!("{name} ×{n}") });
        Err(Unfinished { names: names.collect(), grace })
    }
}

struct AbortOnDrop(JoinHandle<anyhow::Result<()>>);

impl Future for AbortOnDrop {
    type Output = Result<anyhow::Result<()>, tokio::task::JoinError>;
    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_finish_is_named() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("polite", async move {
            token.cancelled().await;
            Ok(())
        });
        tasks.spawn("deaf", std::future::pending());
        let error = tasks.finish(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.to_string(), "did not finish within 5s: deaf");
        assert!(tasks.finish(Duration::from_secs(5)).await.is_ok());
    }

    #[tokio::test]
    async fn a_task_that_fails_or_panics_fails_the_service() {
        for (name, expected) in
            [("error", "error: no disk"), ("end", "end: ended unexpectedly"), ("panic", "panic: task")]
        {
            let tasks = Tasks::new();
            tasks.spawn(name, async move {
                match name {
                    "error" => anyhow::bail!("no disk"),
                    "panic" => panic!("on purpose"),
                    _ => Ok(()),
                }
            });
            let reason = tasks.failed().await;
            assert!(reason.starts_with(expected), "{reason}");
        }
    }
}
