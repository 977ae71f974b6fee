//! What `dogwatch up` leaves in its folder for the other commands.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use service_kit::files::write_private;

/// Where `up` keeps everything unless told otherwise.
pub(crate) const FOLDER: &str = ".dogwatch";
pub(crate) const ADMIN_KEY: &str = "admin.key";
const SIGNING_KEY: &str = "signing.key";
const ENDPOINT: &str = "endpoint";

pub(crate) fn admin_key(folder: &Path) -> PathBuf {
    folder.join(ADMIN_KEY)
}

pub(crate) fn signing_key(folder: &Path) -> PathBuf {
    folder.join(SIGNING_KEY)
}

/// URL of the `up` that runs on this folder, if one does.
pub(crate) fn endpoint(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join(ENDPOINT)).ok()?;
    Some(text.trim().to_owned()).filter(|url| !url.is_empty())
}

/// # Errors
/// When the folder cannot be written.
pub(crate) fn write_endpoint(folder: &Path, url: &str) -> anyhow::Result<()> {
    let path = folder.join(ENDPOINT);
    write_private(&path, format!("{url}\n").as_bytes())
        .with_context(|| format!("cannot write {}: check that the disk has room", path.display()))
}

pub(crate) fn remove_endpoint(folder: &Path) {
    let path = folder.join(ENDPOINT);
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "cannot remove the address of this run"),
    }
}

/// Where programs on this machine reach `address`.
pub(crate) fn url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_can_be_reached() {
        for (address, expected) in [
            ("0.0.0.0:5000", "http://127.0.0.1:5000"),
            ("[::]:80", "http://[::1]:80"),
            ("192.0.2.1:81", "http://192.0.2.1:81"),
        ] {
            assert_eq!(url(address.parse().unwrap()), expected);
        }
    }
}
