//! `ping`: ICMP echo, through a socket that needs no rights where the system permits that, else through a raw one.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, time::Instant};

use super::{Run, connect::look_up, said};
use crate::core::builtin::{
    Measured,
    net::{
        Fault,
        ping::{Plan, answer, request},
    },
};

pub(super) async fn probe(run: &Run<'_>, plan: &Plan) -> Result<Measured, Fault> {
    let addresses = look_up(run, &plan.host, plan.family).await?;
    let Some(&address) = addresses.first() else {
        return Err(Fault::Theirs(format!("{} has no address", plan.host)));
    };
    let (socket, raw) = open(address)?;
    let (v6, ip_header) = (address.is_ipv6(), raw && address.is_ipv4());
    let (id, cookie) = (rand::random(), rand::random());
    run.doing(format!("waiting for {address}"));
    // It ends before the check does: that nothing came back is a finding.
    let latest = Instant::now() + run.left() * 9 / 10;
    let mut sent = Vec::new();
    let mut trips = vec![None; usize::from(plan.count)];
    let (mut refused, mut buffer) = (None, vec![0; 2048]);
    let mut next = Instant::now();
    while trips.iter().any(Option::is_none) {
        let all_sent = sent.len() >= trips.len();
        let now = Instant::now();
        if now >= latest || all_sent && now >= next {
            break;
        }
        if !all_sent && now >= next {
            let sequence = u16::try_from(sent.len()).unwrap_or(u16::MAX);
            sent.push(Instant::now());
            if let Err(error) = socket.send(&request(v6, id, sequence, cookie)).await {
                refused = Some(said(&error));
            }
            next = now + if sent.len() >= trips.len() { plan.wait } else { plan.interval };
            continue;
        }
        match tokio::time::timeout_at(next.min(latest), socket.recv(&mut buffer)).await {
            Err(_) => {}
            Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(Err(error)) => refused = Some(said(&error)),
            Ok(Ok(length)) => {
                let now = Instant::now();
                let packet = buffer.get(..length).unwrap_or_default();
                let sequence = answer(packet, v6, ip_header, cookie).map(usize::from);
                let sent = sequence.and_then(|sequence| sent.get(sequence));
                let trip = sequence.and_then(|sequence| trips.get_mut(sequence));
                if let (Some(sent), Some(trip @ None)) = (sent, trip) {
                    *trip = Some(now.saturating_duration_since(*sent));
                }
            }
        }
    }
    let trips: Vec<Duration> = trips.into_iter().flatten().collect();
    let sent = u16::try_from(sent.len()).unwrap_or(u16::MAX);
    Ok(plan.judge(address, sent, &trips, refused.as_deref()))
}

/// A socket that is connected to `address`, and whether it is a raw one.
fn open(address: IpAddr) -> Result<(UdpSocket, bool), Fault> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).map(|socket| (socket, false));
    let socket =
        socket.or_else(|_| Socket::new(domain, Type::RAW, Some(protocol)).map(|socket| (socket, true)));
    let (socket, raw) = socket.map_err(|error| {
        Fault::Ours(format!(
            "the agent may not ping ({}): put its group into net.ipv4.ping_group_range, or give it CAP_NET_RAW",
            said(&error)
        ))
    })?;
    let failed = |error: std::io::Error| Fault::Theirs(format!("cannot reach {address}: {}", said(&error)));
    socket.connect(&SocketAddr::new(address, 0).into()).map_err(failed)?;
    let ready = socket.set_nonblocking(true).and_then(|()| UdpSocket::from_std(socket.into()));
    let ours = |error: std::io::Error| Fault::Ours(format!("the socket cannot be used: {}", said(&error)));
    ready.map(|socket| (socket, raw)).map_err(ours)
}
