//! `ping`: echo requests, as bytes and as numbers.

use core::net::IpAddr;
use std::time::Duration;

use super::{Family, Judged, Measured, Number, Options, host, ms, whole};
use crate::core::builtin::percent;

/// Bytes that tell our requests from those of others.
pub type Cookie = [u8; 8];

const HEADER: usize = 8;
/// Of the usual length.
const PAYLOAD: usize = 56;

#[derive(Debug, Clone)]
pub struct Plan {
    pub host: String,
    pub family: Family,
    pub count: u16,
    pub interval: Duration,
    /// For the answer to the last one.
    pub wait: Duration,
    rtt_warning: Option<f64>,
    rtt_critical: Option<f64>,
}

impl Plan {
    pub(super) fn read(options: &Options) -> Result<Self, String> {
        let least = Duration::from_millis(10);
        Ok(Self {
            host: host(options)?,
            family: Family::read(options)?,
            count: whole("count", options.number("count").unwrap_or(5.0), 1, 100)?,
            interval: options.duration("interval").unwrap_or_default().max(least),
            wait: options.duration("wait").unwrap_or_default().max(least),
            rtt_warning: options.number("rtt_warning"),
            rtt_critical: options.number("rtt_critical"),
        })
    }

    /// From the round trips of `sent` requests that were answered. `refused` is what a host on the way said.
    #[must_use]
    pub fn judge(&self, address: IpAddr, sent: u16, trips: &[Duration], refused: Option<&str>) -> Measured {
        let answered = u64::try_from(trips.len()).unwrap_or(u64::MAX);
        let loss = percent(u64::from(sent).saturating_sub(answered), u64::from(sent));
        let mut numbers = vec![Number::percent("loss", loss).judged()];
        let shown = if self.host == address.to_string() {
            self.host.clone()
        } else {
            format!("{} ({address})", self.host)
        };
        let mut text = format!("{shown} answered {answered} of {sent}");
        let (fastest, slowest) = (trips.iter().min(), trips.iter().max());
        if let (Some(fastest), Some(slowest), Ok(count)) = (fastest, slowest, u32::try_from(trips.len())) {
            let average = trips.iter().sum::<Duration>() / count;
            let judged = Judged::Above { warning: self.rtt_warning, critical: self.rtt_critical };
            numbers.push(Number { judged, ..Number::new("rtt_avg", ms(average), "ms") });
            numbers.push(Number::new("rtt_min", ms(*fastest), "ms"));
            numbers.push(Number::new("rtt_max", ms(*slowest), "ms"));
            text = format!("{text}, {loss:.0}% lost, {:.2} ms on average", ms(average));
        } else if let Some(refused) = refused {
            text = format!("{text}: {refused}");
        }
        Measured { numbers, text, ..Measured::default() }
    }
}

/// An echo request. The kernel fills in the checksum of version 6, which covers the addresses too.
#[must_use]
pub fn request(v6: bool, id: u16, sequence: u16, cookie: Cookie) -> Vec<u8> {
    let mut packet = vec![if v6 { 128 } else { 8 }, 0, 0, 0];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&cookie);
    packet.resize(HEADER + PAYLOAD, 0x2e);
    if !v6 {
        let sum = checksum(&packet).to_be_bytes();
        if let Some(place) = packet.get_mut(2..4) {
            place.copy_from_slice(&sum);
        }
    }
    packet
}

/// The sequence number of an answer to one of ours. `ip_header`: the packet begins with that of IP version 4.
#[must_use]
pub fn answer(packet: &[u8], v6: bool, ip_header: bool, cookie: Cookie) -> Option<u16> {
    let start = if ip_header { usize::from(packet.first()? & 0x0f) * 4 } else { 0 };
    let packet = packet.get(start..)?;
    let expected = if v6 { 129 } else { 0 };
    if packet.first() != Some(&expected) || packet.get(HEADER..HEADER + cookie.len()) != Some(&cookie[..]) {
        return None;
    }
    Some(u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]))
}

/// Of the internet protocols (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| {
        u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))
    };
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[allow(clippy::cast_possible_truncation)] // folded above
    let sum = sum as u16;
    !sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_well_formed_and_its_answer_known() {
        let packet = request(false, 0x1234, 7, *b"cookie!!");
        assert_eq!((packet.len(), checksum(&packet), packet[0]), (64, 0, 8));
        let mut reply = packet.clone();
        reply[0] = 0;
        assert_eq!(answer(&reply, false, false, *b"cookie!!"), Some(7));
        assert_eq!(answer(&reply, false, false, *b"other!!!"), None);
        assert_eq!(answer(&packet, false, false, *b"cookie!!"), None);
        let mut with_header = vec![0x45; 20];
        with_header.extend_from_slice(&reply);
        assert_eq!(answer(&with_header, false, true, *b"cookie!!"), Some(7));
        let mut reply = request(true, 1, 65_535, *b"cookie!!");
        reply[0] = 129;
        assert_eq!(answer(&reply, true, false, *b"cookie!!"), Some(65_535));
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), v6: bool, header: bool) {
            let _either = answer(&bytes, v6, header, *b"cookie!!");
        }
    }
}
