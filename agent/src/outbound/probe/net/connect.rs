//! From a name to a connection.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};

use super::{Run, said};
use crate::core::builtin::net::{Family, Fault, Target};

/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;

/// A connection, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) struct Connected {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) dns: std::time::Duration,
    pub(super) connect: std::time::Duration,
}

/// The addresses of `host`; at least one.
pub(super) async fn look_up(run: &Run<'_>, host: &str, family: Family) -> Result<Vec<IpAddr>, Fault> {
    let found = if let Ok(address) = host.parse::<IpAddr>() {
        vec![address]
    } else {
        run.doing(format!("looking up {host}"));
        let name = host.to_owned();
        let found = run.blocking(move || (name.as_str(), 0).to_socket_addrs()).await?;
        let found = found.map_err(|error| {
            let text = said(&error);
            let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            Fault::Theirs(format!("cannot look up {host}: {text}"))
        })?;
        found.map(|address| address.ip()).collect()
    };
    let mut addresses = Vec::new();
    for address in found {
        if family.has(address) && !addresses.contains(&address) && addresses.len() < ADDRESSES {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        let version = if family == Family::V6 { "6" } else { "4" };
        return Err(Fault::Theirs(format!("{host} has no address of IP version {version}")));
    }
    Ok(addresses)
}

/// Connect to the first address that answers. Each gets an equal share of the time that is left.
pub(super) async fn connect(run: &Run<'_>, target: &Target) -> Result<Connected, Fault> {
    let started = Instant::now();
    let addresses = look_up(run, &target.host, target.family).await?;
    let dns = started.elapsed();
    let mut failures = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let address = SocketAddr::new(*address, target.port);
        run.doing(format!("connecting to {address}"));
        let others = u32::try_from(addresses.len().saturating_sub(index)).unwrap_or(1).max(1);
        let connecting = Instant::now();
        // The last one may take all: then it is the check that times out.
        let limit = if others == 1 { run.left() * 2 } else { run.left() / others };
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small requests are sent at once; that it cannot be set changes no finding.
                let _slower = stream.set_nodelay(true);
                return Ok(Connected { stream, address, dns, connect: connecting.elapsed() });
            }
            Ok(Err(error)) => failures.push(format!("{address}: {}", said(&error))),
            Err(_) => failures.push(format!("{address}: no answer")),
        }
    }
    Err(Fault::Theirs(format!("cannot connect to {}", failures.join("; "))))
}
