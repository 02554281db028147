//! Spellings of IP addresses, as many as a stranger may think of: the rule is held, not a list.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{is_public, open};

/// Addresses of which many are forbidden.
fn ipv4() -> impl Strategy<Value = Ipv4Addr> {
    let first =
        prop_oneof![Just(0_u8), Just(10), Just(100), Just(127), Just(169), Just(172), Just(192), any::<u8>()];
    (first, any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(a, b, c, d)| Ipv4Addr::new(a, b, c, d))
}

/// One number of an address: decimal, octal or hexadecimal, with zeros in front.
fn number(value: u32, way: u8, zeros: usize) -> String {
    let zeros = "0".repeat(zeros);
    match way % 4 {
        0 => value.to_string(),
        1 => format!("0{zeros}{value:o}"),
        2 => format!("0x{zeros}{value:x}"),
        _ => format!("0X{zeros}{value:X}"),
    }
}

/// An address in one to four numbers, the last of which takes what is left.
fn spelled(ip: Ipv4Addr, parts: usize, ways: [u8; 4], zeros: usize) -> String {
    let octets = ip.octets();
    let mut numbers: Vec<u32> = octets[..parts - 1].iter().map(|octet| u32::from(*octet)).collect();
    numbers.push(octets[parts - 1..].iter().fold(0, |last, octet| (last << 8) | u32::from(*octet)));
    let numbers = numbers.into_iter().zip(ways).map(|(value, way)| number(value, way, zeros));
    numbers.collect::<Vec<_>>().join(".")
}

/// Some of its letters in percent.
fn in_percent(host: &str, which: u32) -> String {
    let letter = |(at, letter): (usize, char)| {
        if which >> (at % 32) & 1 == 1 { format!("%{:02x}", u32::from(letter)) } else { letter.to_string() }
    };
    host.chars().enumerate().map(letter).collect()
}

/// IPv6 addresses that carry an IPv4 address: mapped, compatible, translated, NAT64 twice, 6to4, Teredo, ISATAP.
fn carriers(ip: Ipv4Addr) -> [Ipv6Addr; 8] {
    let [a, b, c, d] = ip.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    [
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !high, !low),
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5efe, high, low),
    ]
}

proptest! {
    #[test]
    fn an_ipv4_address_is_itself_in_every_spelling(
        ip in ipv4(), parts in 1_usize..=4, ways in any::<[u8; 4]>(), zeros in 0_usize..3, which in any::<u32>(),
        dot in any::<bool>(), scheme in "(http|HTTP|Https):/{0,3}",
    ) {
        let host = spelled(ip, parts, ways, zeros);
        for host in [host.clone(), in_percent(&host, which)] {
            let raw = format!("{scheme}{host}{}/", if dot { "." } else { "" });
            match open().judge(&raw) {
                Ok(address) => {
                    prop_assert_eq!(address.literal(), Some(ip.into()), "{}", raw);
                    prop_assert!(is_public(ip.into()), "{}", raw);
                }
                Err(_) => prop_assert!(!is_public(ip.into()), "{} is public", raw),
            }
        }
    }

    /// Translators and tunnels lead to the IPv4 address inside; of all of them only the mapped form names it to us.
    #[test]
    fn no_ipv6_address_carries_an_ipv4_address_past_the_gate(ip in ipv4(), written_out in any::<bool>()) {
        for (at, carrier) in carriers(ip).into_iter().enumerate() {
            let host = if written_out {
                carrier.segments().map(|segment| format!("{segment:04X}")).join(":")
            } else {
                carrier.to_string()
            };
            let passes = open().judge(&format!("http://[{host}]/")).is_ok();
            prop_assert_eq!(passes, at == 0 && is_public(ip.into()), "{}", host);
        }
    }

    /// Whatever looks like numbers to somebody else is an IP address to us, or nothing: never a name to look up.
    #[test]
    fn no_name_ends_in_a_number(host in "[0-9a-zA-Z.%_-]{0,12}[.](0[xX])?[0-9a-fA-F]{1,6}[.]?") {
        if let Ok(address) = open().judge(&format!("http://{host}/")) {
            let name = address.url().domain().unwrap_or("name");
            let last = name.rsplit('.').next().unwrap_or_default();
            prop_assert!(!last.bytes().all(|byte| byte.is_ascii_digit()) && !last.starts_with("0x"), "{}", name);
        }
    }

    /// Digits and dots of other scripts are no digits and dots.
    #[test]
    fn no_letter_beyond_ascii_passes(before in "[a-z0-9.]{0,6}", letter in "[^\\x00-\\x7f]", after in "[a-z0-9.]{0,6}") {
        let raw = format!("https://{before}{letter}{after}.com/");
        prop_assert!(open().judge(&raw).is_err());
    }
}
