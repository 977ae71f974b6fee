//! Settings that say by whose keys this host lets itself be told what to run.

use std::path::PathBuf;

use clap::Args;

use crate::core::trust::TrustedKey;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Trust")]
pub struct TrustSettings {
    /// Public key of an operator who may sign documents, from `dogwatch keygen`; may be given several times, or as
    /// several separated by commas. Also "KEY until 2027-01-31T00:00:00Z", and "revoked KEY"
    #[arg(
        long = "trusted-key",
        env = "DOGWATCH_AGENT_TRUSTED_KEYS",
        value_name = "KEY",
        value_delimiter = ','
    )]
    pub trusted_keys: Vec<TrustedKey>,
    /// File with such keys, one on each line; read again at SIGHUP
    #[arg(long, env = "DOGWATCH_AGENT_TRUSTED_KEYS_FILE", value_name = "FILE")]
    pub trusted_keys_file: Option<PathBuf>,
    /// Run only what is signed by a trusted key [default: true as soon as a key is given]
    #[arg(long, env = "DOGWATCH_AGENT_REQUIRE_SIGNED", value_name = "BOOL")]
    pub require_signed: Option<bool>,
}
