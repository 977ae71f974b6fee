//! Ports in use are said so before anything is started.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use anyhow::Context as _;

/// # Errors
/// When `address` cannot be listened on now: which, why, and the flag that changes it.
pub(crate) fn free(address: SocketAddr, flag: &str) -> anyhow::Result<()> {
    let error = match TcpListener::bind(address) {
        Ok(_listener) => return Ok(()),
        Err(error) => error,
    };
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::bail!(
            "port {port} is in use (on {}): stop the program that listens there, or choose another with {flag}",
            address.ip()
        ),
        io::ErrorKind::PermissionDenied => anyhow::bail!(
            "not allowed to listen on {address}: choose a port above 1023 with {flag}, or run with more rights"
        ),
        _ => anyhow::bail!("cannot listen on {address}: {error}; choose another address with {flag}"),
    }
}

/// An address on loopback that is free now.
///
/// # Errors
/// When the system has none.
pub(crate) fn any() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
    listener.and_then(|listener| listener.local_addr()).context("no free port on loopback")
}
