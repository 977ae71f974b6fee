//! Flags that look and try instead of running the agent.

use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Try it")]
pub struct TryIt {
    /// Print the settings in effect and the checks of the last good configuration, and end
    #[arg(long, group = "try_it")]
    pub print_config: bool,
    /// Ask the service and print which checks would run, when, and what the policy says; run nothing
    #[arg(long, group = "try_it")]
    pub dry_run: bool,
    /// Ask the service, run every check once and print the results; nothing is sent or kept
    #[arg(long, group = "try_it")]
    pub once: bool,
    /// How these three print
    #[arg(short, long, value_name = "FORMAT", default_value = "table", requires = "try_it")]
    pub output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; the settings as TOML
    Table,
    /// One object per line
    Json,
}

/// What was asked for, instead of running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    PrintConfig,
    DryRun,
    Once,
}

impl TryIt {
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        match self {
            Self { print_config: true, .. } => Some(Mode::PrintConfig),
            Self { dry_run: true, .. } => Some(Mode::DryRun),
            Self { once: true, .. } => Some(Mode::Once),
            Self { .. } => None,
        }
    }
}
