//! `dns`: one question to one server (RFC 1035), and what its answer means.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use protocol::Status;

use super::{Measured, Number, Options, milliseconds, tame, time, wrong};

/// Most records that are looked at.
const RECORDS: usize = 256;
/// Most jumps of a compressed name.
const JUMPS: usize = 32;
const HEADER: usize = 12;

#[derive(Debug, Clone)]
pub struct Plan {
    /// As it is asked for.
    pub name: String,
    kind: Kind,
    /// `None`: the first of `/etc/resolv.conf`.
    pub server: Option<(IpAddr, u16)>,
    expect: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    A,
    Aaaa,
    Cname,
    Mx,
    Ns,
    Ptr,
    Soa,
    Txt,
}

const KINDS: [(&str, Kind, u16); 8] = [
    ("A", Kind::A, 1),
    ("AAAA", Kind::Aaaa, 28),
    ("CNAME", Kind::Cname, 5),
    ("MX", Kind::Mx, 15),
    ("NS", Kind::Ns, 2),
    ("PTR", Kind::Ptr, 12),
    ("SOA", Kind::Soa, 6),
    ("TXT", Kind::Txt, 16),
];

impl Kind {
    fn entry(self) -> (&'static str, u16) {
        KINDS.iter().find(|entry| entry.1 == self).map_or(("A", 1), |entry| (entry.0, entry.2))
    }
}

/// What a server said to the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    code: u8,
    /// Records of the kind that was asked for, as text.
    records: Vec<String>,
    /// The shortest time that one of them is valid, in seconds.
    ttl: Option<u32>,
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Answer(Answer),
    /// Too long for one packet: ask again over TCP.
    Truncated,
    /// The answer to another question; the right one may still come.
    Foreign,
    /// It answers the question, but cannot be understood.
    Garbage,
}

impl Plan {
    pub(super) fn read(options: &Options) -> Result<Self, String> {
        let kind = options.text("type").unwrap_or("A").to_ascii_uppercase();
        let known = KINDS.iter().find(|entry| entry.0 == kind);
        let Some(&(_, kind, _)) = known else {
            let all = KINDS.map(|entry| entry.0).join(", ");
            return Err(wrong("type", format!("{kind:?} is none of {all}")));
        };
        let name = options.text("name").unwrap_or_default();
        if name.is_empty() {
            return Err(wrong("name", "it is empty; the root of all names is written ."));
        }
        let name = match (kind, name.parse()) {
            (Kind::Ptr, Ok(address)) => reversed(address),
            _ => name.trim_end_matches('.').to_owned(),
        };
        if encoded(&name).is_none() {
            return Err(wrong(
                "name",
                "not a domain name: labels of 1 to 63 ASCII characters (others as xn--…), 253 in all",
            ));
        }
        let server = options.text("server").map(server).transpose()?;
        Ok(Self { name, kind, server, expect: options.texts("expect").to_vec() })
    }

    /// The packet that asks. `None` cannot happen for a name that was read.
    #[must_use]
    pub fn question(&self, id: u16) -> Option<Vec<u8>> {
        let mut packet = id.to_be_bytes().to_vec();
        // Recursion is desired; one question.
        packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        packet.extend(encoded(&self.name)?);
        packet.extend_from_slice(&self.kind.entry().1.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        Some(packet)
    }

    /// What `packet` says to the question that was asked with this `id`.
    #[must_use]
    pub fn understand(&self, id: u16, packet: &[u8]) -> Reply {
        let (Some(got), Some(flags)) = (u16_at(packet, 0), u16_at(packet, 2)) else { return Reply::Foreign };
        if got != id || flags & 0x8000 == 0 {
            return Reply::Foreign;
        }
        let code = packet.get(3).map_or(0, |byte| byte & 0x0f);
        let questions = u16_at(packet, 4).unwrap_or(0);
        let mut at = HEADER;
        if questions == 0 && code != 0 {
            // Some servers refuse without repeating the question.
            return Reply::Answer(Answer { code, records: Vec::new(), ttl: None });
        }
        let Some((name, after)) = name_at(packet, at) else { return Reply::Garbage };
        let same =
            name.eq_ignore_ascii_case(&self.name) && u16_at(packet, after) == Some(self.kind.entry().1);
        if questions != 1 || !same {
            return Reply::Foreign;
        }
        if flags & 0x0200 != 0 {
            return Reply::Truncated;
        }
        at = after + 4;
        let (mut records, mut ttl) = (Vec::new(), None::<u32>);
        let count = u16_at(packet, 6).map_or(0, usize::from);
        for _ in 0..count.min(RECORDS) {
            let Some(record) = Record::at(packet, at) else { return Reply::Garbage };
            at = record.end;
            if record.kind == self.kind.entry().1 {
                let Some(text) = self.text(packet, &record) else { return Reply::Garbage };
                records.push(text);
                ttl = Some(ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
            }
        }
        Reply::Answer(Answer { code, records, ttl })
    }

    fn text(&self, packet: &[u8], record: &Record) -> Option<String> {
        let data = packet.get(record.start..record.end)?;
        let name = |at: usize| name_at(packet, at);
        Some(match self.kind {
            Kind::A => Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string(),
            Kind::Aaaa => Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string(),
            Kind::Cname | Kind::Ns | Kind::Ptr => name(record.start)?.0,
            Kind::Mx => format!("{} {}", u16_at(data, 0)?, name(record.start + 2)?.0),
            Kind::Soa => {
                let (primary, after) = name(record.start)?;
                let (mail, after) = name(after)?;
                let serial = packet.get(after..after + 4)?;
                format!("{primary} {mail} {}", u32::from_be_bytes(serial.try_into().ok()?))
            }
            Kind::Txt => {
                let (mut text, mut rest) = (Vec::new(), data);
                while let Some((&length, more)) = rest.split_first() {
                    let (part, after) = more.split_at_checked(usize::from(length))?;
                    text.extend_from_slice(part);
                    rest = after;
                }
                tame(&text, 4096)
            }
        })
    }

    #[must_use]
    pub fn judge(&self, answer: &Answer, server: &str, took: Duration) -> Measured {
        let kind = self.kind.entry().0;
        let count = u32::try_from(answer.records.len()).unwrap_or(u32::MAX);
        let mut numbers =
            vec![milliseconds("time", took).judged(), Number::new("answers", f64::from(count), "")];
        numbers.extend(answer.ttl.map(|ttl| Number::new("ttl", f64::from(ttl), "s")));
        let failed = match answer.code {
            0 if answer.records.is_empty() => Some(format!("the name has no {kind} record")),
            0 => {
                let lacks =
                    |expected: &&String| !answer.records.iter().any(|record| self.fits(record, expected));
                let missing = self.expect.iter().find(lacks);
                missing.map(|missing| {
                    format!(
                        "{:?} is not among them: {}",
                        tame(missing.as_bytes(), 100),
                        shown(&answer.records)
                    )
                })
            }
            1 => Some("the server cannot read the question (FORMERR)".to_owned()),
            2 => Some("the server failed (SERVFAIL)".to_owned()),
            3 => Some("the name does not exist (NXDOMAIN)".to_owned()),
            4 => Some("the server cannot answer such questions (NOTIMP)".to_owned()),
            5 => Some("the server refuses to answer (REFUSED)".to_owned()),
            code => Some(format!("the server answers with the code {code}")),
        };
        let asked = format!("{} {kind}", self.name);
        let (text, at_least) = match failed {
            Some(failed) => (format!("{asked} from {server}: {failed}"), Some(Status::Critical)),
            None => (format!("{asked} from {server} in {}: {}", time(took), shown(&answer.records)), None),
        };
        Measured { numbers, text, at_least, ..Measured::default() }
    }

    /// The whole record, or a word of it (the name in `10 mail.example.org`); of a text, any part.
    fn fits(&self, record: &str, expected: &str) -> bool {
        let same =
            |text: &str| text.trim_end_matches('.').eq_ignore_ascii_case(expected.trim_end_matches('.'));
        let address = |text: &str| text.parse::<IpAddr>().ok();
        match self.kind {
            Kind::Txt => record.contains(expected),
            Kind::A | Kind::Aaaa => address(record) == address(expected) && address(record).is_some(),
            _ => same(record) || record.split(' ').any(same),
        }
    }
}

fn shown(records: &[String]) -> String {
    const SHOWN: usize = 5;
    let first: Vec<_> = records.iter().take(SHOWN).map(|record| super::cut(record, 100)).collect();
    let more = records.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", first.join(", "))
}

/// An address, with or without a port.
fn server(text: &str) -> Result<(IpAddr, u16), String> {
    let with_port = text.parse::<core::net::SocketAddr>().map(|address| (address.ip(), address.port()));
    let alone = text.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| (address, 53));
    with_port.or(alone).map_err(|_| wrong("server", "not an IP address, with or without a port"))
}

/// The first server of a `resolv.conf`; without one, the resolver is on this host.
#[must_use]
pub fn system_server(resolv_conf: &str) -> (IpAddr, u16) {
    let address = resolv_conf.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // A scope (fe80::1%eth0) is not supported.
        address.parse().ok()
    });
    (address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 53)
}

/// The name under which an address is looked up.
fn reversed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits =
                address.octets().into_iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4));
            format!("{}ip6.arpa", digits.collect::<String>())
        }
    }
}

/// A name as labels with their lengths. The empty name is the root.
fn encoded(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    if name.len() > 253 || !name.is_ascii() || name.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return None;
    }
    for label in name.split('.').filter(|_| !name.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    Some(bytes)
}

struct Record {
    kind: u16,
    ttl: u32,
    /// Of its data.
    start: usize,
    end: usize,
}

impl Record {
    fn at(packet: &[u8], at: usize) -> Option<Self> {
        let (_, at) = name_at(packet, at)?;
        let ttl = packet.get(at + 4..at + 8)?.try_into().ok().map(u32::from_be_bytes)?;
        let start = at + 10;
        let end = start + usize::from(u16_at(packet, at + 8)?);
        packet.get(start..end)?;
        Some(Self { kind: u16_at(packet, at)?, ttl, start, end })
    }
}

fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]))
}

/// A name, and where what follows it begins.
fn name_at(packet: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut name, mut at, mut end) = (String::new(), start, None);
    for _ in 0..JUMPS + 128 {
        let length = *packet.get(at)?;
        match length >> 6 {
            0 if length == 0 => return Some((name, end.unwrap_or(at + 1))),
            0 => {
                let label = packet.get(at + 1..at + 1 + usize::from(length))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&tame(label, 63));
                if name.len() > 1024 {
                    return None;
                }
                at += 1 + usize::from(length);
            }
            // A pointer to where the name goes on.
            3 => {
                end = end.or(Some(at + 2));
                at = usize::from(u16_at(packet, at)? & 0x3fff);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::core::builtin::net::{self, options};

    fn plan(with: serde_json::Value) -> Result<Plan, String> {
        Plan::read(&options(&net::DNS, with)?)
    }

    /// An answer to `question` with these records: kind and data; each name is a pointer to the question.
    fn reply(question: &[u8], flags: [u8; 2], records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut packet = question.to_vec();
        packet[2..4].copy_from_slice(&flags);
        packet[7] = u8::try_from(records.len()).unwrap();
        for (kind, data) in records {
            packet.extend_from_slice(&[0xc0, 12]);
            packet.extend_from_slice(&kind.to_be_bytes());
            packet.extend_from_slice(&[0, 1, 0, 0, 1, 44]);
            packet.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            packet.extend_from_slice(data);
        }
        packet
    }

    #[test]
    fn answers_are_understood_and_judged() {
        let mail = b"\x00\x0a\x04mail\xc0\x0c";
        for (with, flags, records, status, said) in [
            (
                json!({"name": "a.example"}),
                [0x81, 0x80],
                vec![(5, &b"\x01b\xc0\x0c"[..]), (1, &[192, 0, 2, 7])],
                None,
                "192.0.2.7",
            ),
            (
                json!({"name": "a.example", "type": "aaaa", "expect": "2001:DB8:0:0::1"}),
                [0x81, 0x80],
                vec![(28, &b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"[..])],
                None,
                "2001:db8::1",
            ),
            (
                json!({"name": "a.example.", "type": "MX", "expect": ["MAIL.a.example."]}),
                [0x81, 0x80],
                vec![(15, &mail[..])],
                None,
                "10 mail.a.example",
            ),
            (
                json!({"name": "a.example", "type": "TXT", "expect": "p=reject"}),
                [0x81, 0x80],
                vec![(16, &b"\x04v=DM\x0bARC; p=reje\x02ct"[..])],
                None,
                "v=DMARC; p=reject",
            ),
            (
                json!({"name": "127.0.0.1", "type": "PTR"}),
                [0x81, 0x80],
                vec![(12, &b"\x09localhost\0"[..])],
                None,
                "localhost",
            ),
            (
                json!({"name": "a.example", "type": "SOA", "expect": "17"}),
                [0x81, 0x80],
                vec![(6, &b"\x02ns\xc0\x0c\x02me\xc0\x0c\0\0\0\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..])],
                None,
                "ns.a.example me.a.example 17",
            ),
            (
                json!({"name": "a.example", "expect": "192.0.2.8"}),
                [0x81, 0x80],
                vec![(1, &[192, 0, 2, 7][..])],
                Some(Status::Critical),
                "\"192.0.2.8\" is not among them: 192.0.2.7",
            ),
            (
                json!({"name": "a.example", "type": "NS"}),
                [0x81, 0x80],
                vec![],
                Some(Status::Critical),
                "has no NS record",
            ),
            (json!({"name": "a.example"}), [0x81, 0x83], vec![], Some(Status::Critical), "NXDOMAIN"),
            (json!({"name": "a.example"}), [0x81, 0x82], vec![], Some(Status::Critical), "SERVFAIL"),
        ] {
            let plan = plan(with).unwrap();
            let packet = reply(&plan.question(77).unwrap(), flags, &records);
            let Reply::Answer(answer) = plan.understand(77, &packet) else {
                panic!("{said}: {:?}", plan.understand(77, &packet))
            };
            let measured = plan.judge(&answer, "192.0.2.53", Duration::from_millis(3));
            assert_eq!(measured.at_least, status, "{}", measured.text);
            assert!(measured.text.contains(said), "{}", measured.text);
            assert_eq!(plan.understand(78, &packet), Reply::Foreign);
        }
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_not_taken_for_one() {
        let plan = plan(json!({"name": "a.example"})).unwrap();
        let question = plan.question(5).unwrap();
        assert_eq!(plan.understand(5, &question), Reply::Foreign);
        assert_eq!(plan.understand(5, &reply(&question, [0x83, 0x80], &[])), Reply::Truncated);
        assert_eq!(plan.understand(5, &reply(&question, [0x81, 0x80], &[(1, &[1, 2, 3])])), Reply::Garbage);
        let mut other = reply(&question, [0x81, 0x80], &[(1, &[1, 2, 3, 4])]);
        other[13] = b'b';
        assert_eq!(plan.understand(5, &other), Reply::Foreign);
        // A name that points to itself.
        let mut turning = reply(&question, [0x81, 0x80], &[(1, &[1, 2, 3, 4])]);
        turning[12..14].copy_from_slice(&[0xc0, 12]);
        assert_eq!(plan.understand(5, &turning), Reply::Garbage);
    }

    #[test]
    fn options_are_held_against_what_can_be_asked() {
        for (with, said) in [
            (json!({"name": "a..b"}), "not a domain name"),
            (json!({"name": ""}), "it is empty"),
            (json!({"name": "münchen.example"}), "xn--"),
            (json!({"name": "a", "type": "ANY"}), "none of A, AAAA"),
            (json!({"name": "a", "server": "ns.example"}), "not an IP address"),
        ] {
            let error = plan(with).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(
            plan(json!({"name": "a", "server": "[::1]:5353"})).unwrap().server,
            Some((Ipv6Addr::LOCALHOST.into(), 5353))
        );
        assert_eq!(plan(json!({"name": "2001:db8::1", "type": "PTR"})).unwrap().name.len(), 72);
        let conf = "# nameserver 1.1.1.1\nsearch x\nnameserver fe80::1%eth0\nnameserver 192.0.2.1\n";
        assert_eq!(system_server(conf).0.to_string(), "192.0.2.1");
        assert_eq!(system_server("").0.to_string(), "127.0.0.1");
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..60) {
            for kind in KINDS {
                let plan = plan(json!({"name": "a.example", "type": kind.0})).unwrap();
                let mut packet = reply(&plan.question(5).unwrap(), [0x81, 0x80], &[(kind.2, &bytes)]);
                let _either = plan.understand(5, &packet);
                packet.truncate(at);
                let _either = plan.understand(5, &packet);
            }
        }
    }
}
