//! Which network an address belongs to: what keeps a name from leading a guest to where nobody
//! meant it to go. Pure.
//!
//! Source: IANA's registries of special-purpose addresses, RFC 6890, as of 2025.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Reach;

/// The least that a grant must reach for its names to lead to this address; `None`: no name may.
#[must_use]
pub fn reach(address: IpAddr) -> Option<Reach> {
    // ::ffff:127.0.0.1 is 127.0.0.1.
    match address.to_canonical() {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

/// Address and length of a prefix.
type Net4 = (Ipv4Addr, u32);
type Net6 = (Ipv6Addr, u32);

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u32) -> Net4 {
    (Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(first: u16, second: u16, last: u16, length: u32) -> Net6 {
    (Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, last), length)
}

/// No name leads here: nobody's, everybody's, or the cloud's own, which hands out its keys to who
/// asks.
const NEVER_V4: &[Net4] = &[
    v4(0, 0, 0, 0, 8),
    // Link-local; cloud metadata at 169.254.169.254.
    v4(169, 254, 0, 0, 16),
    // Metadata of Alibaba Cloud, Volcano Engine and UCloud, within the carriers' addresses; of
    // Azure and of Equinix Metal, among the public ones.
    v4(100, 100, 100, 200, 32),
    v4(100, 96, 0, 96, 32),
    v4(100, 80, 80, 80, 32),
    v4(192, 80, 8, 124, 32),
    v4(168, 63, 129, 16, 32),
    // The IETF's own, examples in documents, relays of 6to4.
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(192, 88, 99, 0, 24),
    // Multicast, and reserved up to the broadcast.
    v4(224, 0, 0, 0, 3),
];

const PRIVATE_V4: &[Net4] = &[
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
];

/// Of the addresses that are given out, and of the private ones.
const NEVER_V6: &[Net6] = &[
    // Metadata and credentials of AWS, Google Cloud, Oracle Cloud, Akamai (Linode) and Scaleway.
    v6(0xfd00, 0x0ec2, 0, 32),
    v6(0xfd20, 0x00ce, 0, 32),
    v6(0xfd00, 0x00c1, 0, 32),
    v6(0xfd00, 0xa9fe, 0, 32),
    v6(0xfd00, 0x0042, 0x42, 128),
    // The IETF's own, Teredo among them; examples; 6to4, which has IPv4 addresses in it.
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0x0db8, 0, 32),
    v6(0x3fff, 0, 0, 20),
    v6(0x2002, 0, 0, 16),
];

const PRIVATE_V6: &[Net6] = &[v6(0, 0, 1, 128), v6(0xfc00, 0, 0, 7)];
/// All that is given out to be routed.
const PUBLIC_V6: Net6 = v6(0x2000, 0, 0, 3);
/// IPv4 for networks that have only IPv6.
const NAT64: Net6 = v6(0x0064, 0xff9b, 0, 96);

fn reach_v4(address: Ipv4Addr) -> Option<Reach> {
    let within = |nets: &[Net4]| {
        nets.iter()
            .any(|(net, length)| (u32::from(*net) ^ u32::from(address)) >> (32 - length) == 0)
    };
    match () {
        () if within(NEVER_V4) => None,
        () if within(PRIVATE_V4) => Some(Reach::Private),
        () => Some(Reach::Public),
    }
}

fn reach_v6(address: Ipv6Addr) -> Option<Reach> {
    let within = |nets: &[Net6]| {
        nets.iter()
            .any(|(net, length)| (u128::from(*net) ^ u128::from(address)) >> (128 - length) == 0)
    };
    match () {
        () if within(&[NAT64]) => reach_v4(Ipv4Addr::from(u128::from(address) as u32)),
        () if within(NEVER_V6) => None,
        () if within(PRIVATE_V6) => Some(Reach::Private),
        () if within(&[PUBLIC_V6]) => Some(Reach::Public),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        for (wanted, addresses) in [
            (
                Some(Reach::Public),
                "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.167.1.1 223.255.255.255 \
                 2606:4700::1111 2a00:1450::1 64:ff9b::808:808 ::ffff:1.1.1.1 2001:200::1",
            ),
            (
                Some(Reach::Private),
                "10.1.2.3 127.0.0.1 127.255.0.1 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 198.19.0.1 \
                 ::1 fc00::1 fd12::1 ::ffff:127.0.0.1 64:ff9b::7f00:1",
            ),
            (
                None,
                "0.0.0.0 0.1.2.3 169.254.169.254 100.100.100.200 168.63.129.16 192.0.0.192 192.0.2.1 \
                 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: fe80::1 fec0::1 ff02::1 2001:db8::1 \
                 2001::1 2002:7f00:1::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42 fd00:a9fe:a9fe::1 100.96.0.96 100.80.80.80 192.80.8.124 ::127.0.0.1 64:ff9b:1::1 100::1 \
                 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe",
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(reach(address.parse().unwrap()), wanted, "{address}");
            }
        }
    }
}
