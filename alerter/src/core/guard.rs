//! Which addresses receivers may be at: a document must not make the alerter call what only this machine or its cloud may.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// What kind of address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Public,
    /// RFC 1918, RFC 4193, RFC 6598.
    Private,
    Loopback,
    LinkLocal,
    /// Where clouds keep the secrets of a machine.
    Metadata,
    /// Multicast, broadcast, reserved.
    Other,
}

impl Class {
    fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Other => "reserved",
        }
    }
}

/// What is allowed, such as `public,private` or `public,10.1.0.0/16`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    classes: Vec<Class>,
    networks: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is none of public, private, loopback, link-local and metadata, nor a network such as 10.1.0.0/16"
)]
pub struct PolicyError(String);

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Self { classes: Vec::new(), networks: Vec::new() };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let nameable =
                [Class::Public, Class::Private, Class::Loopback, Class::LinkLocal, Class::Metadata];
            match nameable.into_iter().find(|class| class.as_str() == part) {
                Some(class) => policy.classes.push(class),
                None => match part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)) {
                    Ok(network) => policy.networks.push(network),
                    Err(_) => return Err(PolicyError(part.chars().take(64).collect())),
                },
            }
        }
        Ok(policy)
    }
}

/// An address is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is a {} address, where receivers may not be: allow it to the alerter with --receiver-networks if it is meant",
    class.as_str()
)]
pub struct Refused {
    pub address: IpAddr,
    pub class: Class,
}

impl Policy {
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        let address = plain(address);
        let class = class(address);
        if self.classes.contains(&class) || self.networks.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        Err(Refused { address, class })
    }
}

/// The IPv4 address inside of an IPv6 address that only wraps it: mapped, NAT64, 6to4, and the old compatible form.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let octets = v6.octets();
    let v4 = match octets {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
        | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
        | [0x20, 0x02, a, b, c, d, ..] => Ipv4Addr::new(a, b, c, d),
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
            if v6 != Ipv6Addr::LOCALHOST && !v6.is_unspecified() =>
        {
            Ipv4Addr::new(a, b, c, d)
        }
        _ => return address,
    };
    IpAddr::V4(v4)
}

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        // AWS and most others, Alibaba, Azure, Oracle.
        [169, 254, 169, 254] | [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => {
            Class::Metadata
        }
        // This host, under another name.
        [127 | 0, ..] => Class::Loopback,
        [169, 254, ..] => Class::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18 | 19, ..] => {
            Class::Private
        }
        [224..=255, ..] | [192, 0, 0, _] => Class::Other,
        _ => Class::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Class::Metadata,
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Class::Loopback,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xfc00..=0xfdff, ..] => Class::Private,
        [0x2000..=0x3fff, ..] => Class::Public,
        // Site-local, multicast, Teredo's like, and what nobody has.
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(policy: &str, address: &str) -> Option<Class> {
        let policy: Policy = policy.parse().unwrap();
        policy.check(address.parse().unwrap()).err().map(|refused| refused.class)
    }

    #[test]
    fn by_default_neither_this_machine_nor_its_cloud_is_reached() {
        for (address, class) in [
            ("127.0.0.1", Class::Loopback),
            ("127.255.255.254", Class::Loopback),
            ("0.0.0.0", Class::Loopback),
            ("::1", Class::Loopback),
            ("::", Class::Loopback),
            ("::ffff:127.0.0.1", Class::Loopback),
            ("::127.0.0.1", Class::Loopback),
            ("64:ff9b::7f00:1", Class::Loopback),
            ("2002:7f00:1::", Class::Loopback),
            ("169.254.169.254", Class::Metadata),
            ("::ffff:169.254.169.254", Class::Metadata),
            ("64:ff9b::a9fe:a9fe", Class::Metadata),
            ("fd00:ec2::254", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("168.63.129.16", Class::Metadata),
            ("169.254.0.1", Class::LinkLocal),
            ("fe80::1", Class::LinkLocal),
            ("224.0.0.1", Class::Other),
            ("255.255.255.255", Class::Other),
            ("ff02::1", Class::Other),
            ("fec0::1", Class::Other),
        ] {
            assert_eq!(refused("public,private", address), Some(class), "{address}");
        }
        for address in
            ["93.184.216.34", "2606:2800:220:1::1", "10.0.0.1", "192.168.1.1", "172.31.0.1", "fd12::1"]
        {
            assert_eq!(refused("public,private", address), None, "{address}");
        }
    }

    #[test]
    fn what_is_allowed_is_said_by_kind_or_network() {
        assert_eq!(refused("public", "10.0.0.1"), Some(Class::Private));
        assert_eq!(refused("public,10.0.0.0/24", "10.0.0.1"), None);
        assert_eq!(refused("public,10.0.0.0/24", "10.0.1.1"), Some(Class::Private));
        assert_eq!(refused("loopback", "::ffff:127.0.0.1"), None);
        assert_eq!(refused("127.0.0.1", "127.0.0.1"), None);
        assert_eq!(refused("", "8.8.8.8"), Some(Class::Public));
        assert!("public,everything".parse::<Policy>().is_err());
    }
}
