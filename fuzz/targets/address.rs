//! The address gate: what it lets through reads the same to everybody, and leads to no place that is not public.
//!
//! The table of forbidden networks is written out once more, in the registry's own words and by other means than the
//! policy's, so that a slip in one of them shows.

use std::net::{IpAddr, Ipv4Addr};

use watchpost::{
    domain::egress::Ports,
    outbound::{Address, EgressPolicy, EgressRules},
};

/// First and last address of what is not the public internet.
const FORBIDDEN_IPV4: [(&str, &str); 16] = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("168.63.129.16", "168.63.129.16"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "239.255.255.255"),
    ("240.0.0.0", "255.255.255.255"),
];
const FORBIDDEN_IPV6: [(&str, &str); 6] = [
    ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
];
/// What a name must not end in.
const LOCAL_ZONES: [&str; 6] = [".localhost", ".local", ".internal", ".lan", ".arpa", ".test"];

pub fn check(input: &[u8]) {
    let Ok(raw) = std::str::from_utf8(input) else { return };
    let closed = EgressPolicy::default();
    let open = EgressPolicy::new(EgressRules {
        allow: Vec::new(),
        http: true,
        ports: Ports::Any,
        ip_literals: true,
    });
    let by_closed = closed.judge(raw);
    let by_open = open.judge(raw);
    if let Ok(address) = &by_closed {
        assert!(address.as_str().starts_with("https://") && [443, 8443].contains(&address.port()), "{raw}");
        assert_eq!(address.literal(), None, "{raw}");
        assert_eq!(by_open.as_ref(), Ok(address), "what is open lets nothing less through");
    }
    if let Ok(address) = &by_open {
        check_passed(&open, address);
        assert_eq!(
            address.url().host_str(),
            url::Url::parse(raw).unwrap().host_str().map(without_dot),
            "{raw}"
        );
    }
    let from = closed.judge("https://receiver.com/a/b?c=d").unwrap();
    if let Ok(address) = open.judge_redirect(&from, raw) {
        check_passed(&open, &address);
    }
}

/// Expects that nothing is opened beside public addresses.
fn check_passed(policy: &EgressPolicy, address: &Address) {
    let text = address.as_str();
    assert_eq!(policy.judge(text).as_ref(), Ok(address), "the stored form is let through as what it is");
    assert!(!address.must_be_inside() && address.port() != 0, "{text}");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#'), "{text}");

    // As somebody reads it who knows no more of URLs than where a host stands.
    let (scheme, rest) = text.split_once("://").unwrap();
    assert!(["http", "https"].contains(&scheme), "{text}");
    let authority = rest.split(['/', '?']).next().unwrap();
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, port.parse().unwrap()),
        None => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    assert_eq!(address.origin().as_str(), format!("{scheme}://{host}:{port}"));
    assert_eq!(address.port(), port, "{text}");
    let ip = host.parse().ok().or_else(|| host.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    assert_eq!(address.literal(), ip, "{text}");
    match ip {
        Some(ip) => assert!(!is_forbidden(ip), "{text}"),
        None => check_name(host),
    }

    // As the client's own type for addresses reads it.
    let uri: http::Uri = text.parse().unwrap();
    assert_eq!(uri.host(), Some(host), "{text}");
}

fn check_name(name: &str) {
    assert!(name.len() <= 253 && name.contains('.') && !name.contains('@'), "{name}");
    assert!(name.split('.').all(|label| (1..=63).contains(&label.len())), "{name}");
    assert!(!LOCAL_ZONES.iter().any(|zone| name.ends_with(zone)), "{name}");
    // To some resolvers a name that ends in a number is an IP address.
    let last = name.rsplit('.').next().unwrap();
    let is_number = match last.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => last.bytes().all(|byte| byte.is_ascii_digit()),
    };
    assert!(!is_number, "{name}");
}

fn without_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

fn is_forbidden(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => is_between(ip, &FORBIDDEN_IPV4),
        // Spells an IPv4 address, which the sender connects to.
        IpAddr::V6(v6) if v6.segments()[..6] == [0, 0, 0, 0, 0, 0xffff] => {
            let [.., a, b, c, d] = v6.octets();
            is_between(Ipv4Addr::new(a, b, c, d).into(), &FORBIDDEN_IPV4)
        }
        IpAddr::V6(_) => is_between(ip, &FORBIDDEN_IPV6),
    }
}

fn is_between(ip: IpAddr, ranges: &[(&str, &str)]) -> bool {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    ranges.iter().any(|(first, last)| (address(first)..=address(last)).contains(&ip))
}
