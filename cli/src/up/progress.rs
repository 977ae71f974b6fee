//! Each step of the start on stderr: a bar on a terminal, plain lines elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::note;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    step: usize,
    steps: usize,
    finished: bool,
}

impl Progress {
    pub(crate) fn new(steps: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps as u64);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:20} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, step: 0, steps, finished: false }
    }

    /// What is being started now.
    pub(crate) fn step(&mut self, name: &str) {
        self.step += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.step as u64);
                bar.set_message(name.to_owned());
            }
            None => note(&format!("[{}/{}] {name}", self.step, self.steps)),
        }
    }

    /// Leave the terminal to others.
    pub(crate) fn finish(&mut self) {
        if let (Some(bar), false) = (&self.bar, self.finished) {
            bar.finish_and_clear();
        }
        self.finished = true;
    }
}
