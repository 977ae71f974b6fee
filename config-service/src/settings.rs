//! Settings of the config-service.

use std::path::PathBuf;

use clap::Parser;
use service_kit::{process::ServiceSettings, settings::Common};

/// Decides what each host checks: keeps documents, keys and the inventory of hosts, and answers the agents.
#[derive(Debug, Clone, Parser)]
#[command(name = "dogwatch-config-service", version)]
pub struct Settings {
    #[command(flatten)]
    pub common: Common,
    /// Folder of the store
    #[arg(
        long,
        env = "DOGWATCH_CONFIG_SERVICE_DATA",
        value_name = "DIR",
        default_value = "/var/lib/dogwatch/config"
    )]
    pub data: PathBuf,
    /// File with a key that becomes an admin key at the start, unless it is known already or was revoked
    #[arg(long, env = "DOGWATCH_ADMIN_KEY_FILE", value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// Answer the broker's auth callout: NKey seed of the account whose public key stands there as issuer
    #[arg(long, env = "DOGWATCH_ISSUER_SEED_FILE", value_name = "FILE")]
    pub issuer_seed_file: Option<PathBuf>,
    /// NKey seed of a user of the broker's system account, to cut the connections of hosts that are revoked
    #[arg(long, env = "DOGWATCH_SYSTEM_NKEY_FILE", value_name = "FILE")]
    pub system_nkey_file: Option<PathBuf>,
    /// Most hosts in the inventory; what a further one asks is refused
    #[arg(long, env = "DOGWATCH_CONFIG_SERVICE_MAX_HOSTS", value_name = "N", default_value_t = 100_000)]
    pub max_hosts: usize,
}

impl ServiceSettings for Settings {
    fn common(&self) -> &Common {
        &self.common
    }
}
