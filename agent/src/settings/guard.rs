//! Settings that protect the host from its checks, and from the agent.

use std::path::PathBuf;

use clap::Args;

use crate::core::guard::Budget;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Guard")]
pub struct GuardSettings {
    /// TOML file that says what checks may do on this host, whatever the service says
    #[arg(long, env = "DOGWATCH_AGENT_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Pause a check that went over its limits so many times in a row; 0: never
    #[arg(long, env = "DOGWATCH_AGENT_PAUSE_AFTER", value_name = "N", default_value_t = 5)]
    pub pause_after: u32,
    /// Memory that the agent itself may use before it runs one check at a time; 0: any
    #[arg(
        long,
        env = "DOGWATCH_AGENT_MAX_MEMORY",
        value_name = "SIZE",
        default_value = "256MiB",
        value_parser = protocol::size::parse
    )]
    pub max_memory: u64,
    /// Percent of one processor that agent and checks may use over a minute before it runs one check at a time; 0: any
    #[arg(
        long,
        env = "DOGWATCH_AGENT_MAX_CPU",
        value_name = "PERCENT",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000)
    )]
    pub max_cpu: u32,
}

impl GuardSettings {
    #[must_use]
    pub fn budget(&self) -> Budget {
        Budget { memory_bytes: self.max_memory, cpu_percent: f64::from(self.max_cpu) }
    }
}
