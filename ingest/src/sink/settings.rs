//! Settings of remote write.

use std::path::PathBuf;

use clap::Args;
use service_kit::settings::WrongSettings;
use url::Url;

#[derive(Debug, Clone, Args)]
pub struct RemoteWrite {
    /// Send every result on to this address by Prometheus remote write 1.0, such as http://host:9090/api/v1/write
    #[arg(long, env = "DOGWATCH_INGEST_REMOTE_WRITE_URL", value_name = "URL")]
    pub remote_write_url: Option<String>,
    /// File with a token that goes into the header Authorization: Bearer
    #[arg(
        long,
        env = "DOGWATCH_INGEST_REMOTE_WRITE_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "remote_write_login_file"
    )]
    pub remote_write_token_file: Option<PathBuf>,
    /// File with user:password for basic authentication
    #[arg(long, env = "DOGWATCH_INGEST_REMOTE_WRITE_LOGIN_FILE", value_name = "FILE")]
    pub remote_write_login_file: Option<PathBuf>,
    /// Tenant for the header X-Scope-OrgID, as Mimir wants it
    #[arg(long, env = "DOGWATCH_INGEST_REMOTE_WRITE_TENANT", value_name = "ID")]
    pub remote_write_tenant: Option<String>,
    /// Most samples in one request
    #[arg(long, env = "DOGWATCH_INGEST_REMOTE_WRITE_SAMPLES", value_name = "N", default_value_t = 5_000,
        value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub remote_write_samples: u32,
}

impl RemoteWrite {
    /// The receiver, if one is set.
    ///
    /// # Errors
    /// [`WrongSettings`], which does not show an address that may hold a password.
    pub fn url(&self) -> Result<Option<Url>, WrongSettings> {
        self.remote_write_url.as_deref().map(address).transpose().map_err(WrongSettings)
    }

    #[must_use]
    pub fn request_samples(&self) -> usize {
        usize::try_from(self.remote_write_samples).unwrap_or(usize::MAX)
    }
}

/// An address may be seen by everyone who sees the settings, so it holds no password.
fn address(text: &str) -> Result<Url, String> {
    let form = || "--remote-write-url is no address: write it like http://host:9090/api/v1/write".to_owned();
    let url: Url = text.parse().map_err(|_| form())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(form());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("--remote-write-url must not hold a password: use --remote-write-login-file".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_web_address_without_a_password() {
        assert!(address("http://127.0.0.1:9090/api/v1/write").is_ok());
        assert!(address("https://mimir.example/api/v1/push").is_ok());
        for bad in ["localhost:9090", "ftp://x/", "http://me:s3cret@host/", "http://me@host/", ""] {
            let error = address(bad).unwrap_err();
            assert!(!error.contains("s3cret"), "{bad}: {error}");
        }
    }
}
