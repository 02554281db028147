mod spellings;

use super::*;

fn policy(allow: &[&str], open: bool) -> EgressPolicy {
    let allow = allow.iter().map(|rule| rule.parse().unwrap()).collect();
    let rules = EgressRules { allow, ..EgressRules::default() };
    EgressPolicy::new(if open { EgressRules { http: true, ip_literals: true, ..rules } } else { rules })
}

/// Everything towards public addresses is open, nothing else is.
fn open() -> EgressPolicy {
    policy(&[], true)
}

fn refusal(policy: &EgressPolicy, raw: &str) -> Refusal {
    match policy.judge(raw) {
        Ok(address) => panic!("{raw:?} was let through as {}", address.as_str()),
        Err(refusal) => refusal,
    }
}

#[test]
fn no_spelling_of_a_forbidden_ip_address_passes() {
    let hosts = [
        // This host.
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.000.000.001",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0x7f.1",
        "0",
        "0x0",
        "0.0.0.0",
        "127.255.255.255",
        "127%2e0%2e0%2e1",
        "127.0.0.1.",
        // IPv6 that is local or carries IPv4.
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[::5efe:7f00:1]",
        "[::ffff:169.254.169.254]",
        // NAT64, 6to4, Teredo: whatever they carry.
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b::808:808]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::1]",
        "[2002:a9fe:a9fe::1]",
        "[2002:5db8:d822::1]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        // IPv6 special ranges.
        "[fe80::1]",
        "[fec0::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fd7a:115c:a1e0::1]",
        "[ff02::1]",
        "[ff0e::1]",
        "[100::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[3fff:fff::1]",
        "[2001:1ff:ffff::1]",
        "[2001:2::1]",
        "[4000::1]",
        "[1fff::1]",
        "[5f00::1]",
        // IPv4 special ranges, with their edges.
        "0.255.255.255",
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "192.168.255.255",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.169.254.",
        "100.64.0.1",
        "100.127.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.51.100.1",
        "198.18.0.1",
        "198.19.255.255",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "4294967295",
    ];
    for host in hosts {
        for raw in [format!("http://{host}/"), format!("https://{host}:8443/hook"), format!("https:{host}/")]
        {
            assert_eq!(refusal(&open(), &raw), Refusal::AddressNotAllowed, "{raw}");
        }
        assert_eq!(
            refusal(&policy(&[], false), &format!("https://{host}/")),
            Refusal::LiteralNotAllowed,
            "{host}"
        );
        assert_eq!(refusal(&policy(&[], false), &format!("http://{host}/")), Refusal::NotHttps, "{host}");
    }
    assert_eq!(refusal(&open(), "http:///127.0.0.1/"), Refusal::AddressNotAllowed);
    assert_eq!(refusal(&open(), "http://169.254.169.254/latest/meta-data/"), Refusal::AddressNotAllowed);
}

#[test]
fn the_neighbours_of_forbidden_ranges_stay_open() {
    let hosts = [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.1",
        "192.0.1.1",
        "192.0.3.1",
        "192.88.98.255",
        "192.88.100.1",
        "192.167.255.255",
        "192.169.0.1",
        "198.17.255.255",
        "198.20.0.1",
        "198.51.99.255",
        "198.51.101.1",
        "203.0.112.255",
        "203.0.114.1",
        "223.255.255.255",
        "1.1.1.1",
        "8.8.8.8",
        "[2606:4700:4700::1111]",
        "[2001:4860:4860::8888]",
        "[2001:200::1]",
        "[2001:db7:ffff::1]",
        "[2001:db9::1]",
        "[2003::1]",
        "[3ffe::1]",
        "[3fff:1000::1]",
        "[2000::1]",
        "[::ffff:8.8.8.8]",
    ];
    for host in hosts {
        let address = open().judge(&format!("http://{host}/")).unwrap();
        assert!(address.literal().is_some_and(|ip| open().permits(ip, 80)), "{host}");
        assert!(!address.must_be_inside());
        assert_eq!(refusal(&policy(&[], false), &format!("https://{host}/")), Refusal::LiteralNotAllowed);
    }
}

#[test]
fn names_of_inner_things_are_refused() {
    let names = [
        "localhost",
        "localhost.",
        "LOCALHOST",
        "foo.localhost",
        "localhost.localdomain",
        "metadata.google.internal",
        "metadata",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "printer.local",
        "wiki.corp",
        "router.lan",
        "nas.home.arpa",
        "wiki.intranet",
        "1.0.0.127.in-addr.arpa",
        "hidden.onion",
        "a.test",
        "a.invalid",
        "a.example",
        "intranet",
        "com",
        "com.",
        "loc%61lhost",
        "%e2%93%9bocalhost",
    ];
    for name in names {
        assert_eq!(refusal(&open(), &format!("https://{name}/")), Refusal::NameNotAllowed, "{name}");
    }
    for name in ["mylocalhost.com", "local.org", "localhost.example.com", "svc.com", "test.de", "a_b.shop"] {
        assert!(policy(&[], false).judge(&format!("https://{name}/")).is_ok(), "{name}");
    }
    // Written so that only the parser sees them.
    for raw in ["http://\u{24db}\u{24de}\u{24d2}\u{24d0}\u{24db}/", "http://loc\u{ad}alhost/"] {
        assert_eq!(refusal(&open(), raw), Refusal::BadCharacters);
    }
}

#[test]
fn texts_that_parsers_read_differently_are_refused() {
    let cases = [
        ("http://127.0.0.1@example.com/", Refusal::UserInfo),
        ("http://example.com@127.0.0.1/", Refusal::UserInfo),
        ("https://@example.com/", Refusal::UserInfo),
        ("https://:@example.com/", Refusal::UserInfo),
        ("https:example.com@example.org/", Refusal::UserInfo),
        ("http://127.0.0.1\\@example.com/", Refusal::BadCharacters),
        ("http://example.com\\@127.0.0.1/", Refusal::BadCharacters),
        ("http://exa\tmple.com/", Refusal::BadCharacters),
        ("http://127.0.0.1\n.example.com/", Refusal::BadCharacters),
        ("https://example.com/\r\nX-Injected: 1", Refusal::BadCharacters),
        (" https://example.com/", Refusal::BadCharacters),
        ("https://example.com/ ", Refusal::BadCharacters),
        ("https://example.com/\0", Refusal::BadCharacters),
        ("https://example.com/\u{7f}", Refusal::BadCharacters),
        ("https://example.com/#", Refusal::Fragment),
        ("https://example.com#@127.0.0.1/", Refusal::Fragment),
        ("http://[example.com]/", Refusal::Unparsable),
        ("http://[127.0.0.1]/", Refusal::Unparsable),
        ("http://[fe80::1%25eth0]/", Refusal::Unparsable),
        ("http://256.256.256.256/", Refusal::Unparsable),
        ("http://1.2.3.4.5/", Refusal::Unparsable),
        ("http://4294967296/", Refusal::Unparsable),
        ("http://127.0.0.0x/", Refusal::AddressNotAllowed),
        ("http://example.com:65536/", Refusal::Unparsable),
        ("https://xn--/", Refusal::Unparsable),
        ("//example.com/", Refusal::Unparsable),
        ("example.com", Refusal::Unparsable),
        ("", Refusal::Unparsable),
        ("https://", Refusal::NoHost),
        ("https://?x", Refusal::NoHost),
        ("https://a..b/", Refusal::Unparsable),
        ("https://a.b../", Refusal::Unparsable),
        ("https://127.0.0.1../", Refusal::Unparsable),
        ("https://.a.b/", Refusal::Unparsable),
        ("https://./", Refusal::Unparsable),
        ("https://-a.com/", Refusal::Unparsable),
        ("https://*.example.com/", Refusal::Unparsable),
        ("http://example.com:0/", Refusal::PortNotAllowed),
        ("https://example.com:25/", Refusal::PortNotAllowed),
        ("https://example.com:80/", Refusal::PortNotAllowed),
        ("https://example.com:5432/", Refusal::PortNotAllowed),
        ("file:///etc/passwd", Refusal::SchemeNotAllowed),
        ("gopher://127.0.0.1:11211/", Refusal::SchemeNotAllowed),
        ("javascript:alert(1)", Refusal::SchemeNotAllowed),
        ("data:text/plain,x", Refusal::SchemeNotAllowed),
        ("ws://example.com/", Refusal::SchemeNotAllowed),
        ("unix:/run/docker.sock", Refusal::SchemeNotAllowed),
    ];
    for (raw, expected) in cases {
        assert_eq!(refusal(&open(), raw), expected, "{raw:?}");
    }
    let label = "a".repeat(64);
    assert_eq!(refusal(&open(), &format!("https://{label}.com/")), Refusal::Unparsable);
    let name = format!("{}com", "abcdefgh.".repeat(28));
    assert_eq!(refusal(&open(), &format!("https://{name}/")), Refusal::Unparsable);
    let room = "https://example.com/".len();
    assert!(open().judge(&format!("https://example.com/{}", "a".repeat(2048 - room))).is_ok());
    assert_eq!(
        refusal(&open(), &format!("https://example.com/{}", "a".repeat(2049 - room))),
        Refusal::TooLong
    );
}

#[test]
fn an_address_is_kept_in_one_spelling() {
    let address = policy(&[], false).judge("https://EXAMPLE.com.:443/hook?x=1").unwrap();
    assert_eq!(address.as_str(), "https://example.com/hook?x=1");
    assert_eq!(address.origin().as_str(), "https://example.com:443");
    assert_eq!((address.port(), address.literal(), address.must_be_inside()), (443, None, false));
    assert_eq!(
        format!("{address:?}"),
        r#"Address { origin: "https://example.com:443", must_be_inside: false, .. }"#
    );

    // Names that resolve to something private are the resolver's matter.
    for name in ["127.0.0.1.nip.io", "169.254.169.254.nip.io", "xn--bcher-kva.de"] {
        assert!(policy(&[], false).judge(&format!("https://{name}/")).is_ok());
    }
    let literal = open().judge("https://[2606:4700:4700:0::1111]:8443/").unwrap();
    assert_eq!(literal.origin().as_str(), "https://[2606:4700:4700::1111]:8443");
}

proptest::proptest! {
    /// Nor does any text make it panic.
    #[test]
    fn what_is_kept_is_judged_alike_again(
        raw in r"(https?:/{0,3})?[a-z0-9.:@%\[\]_-]{0,24}(/|\\|\?|#)?[ -~\t\u{e0}-\u{ff}]{0,8}",
        any in ".{0,40}",
    ) {
        let policy = policy(&["127.0.0.0/8"], true);
        for raw in [raw, any] {
            if let Ok(address) = policy.judge(&raw) {
                proptest::prop_assert_eq!(policy.judge(address.as_str()), Ok(address));
            }
        }
    }
}

#[test]
fn plain_http_is_refused_unless_opened() {
    assert_eq!(refusal(&policy(&[], false), "http://example.com/"), Refusal::NotHttps);
    assert!(open().judge("http://example.com/").is_ok());
    assert_eq!(refusal(&open(), "http://example.com:8080/"), Refusal::PortNotAllowed);
    let any = EgressPolicy::new(EgressRules { ports: Ports::Any, ..EgressRules::default() });
    assert!(any.judge("https://example.com:25/").is_ok());
    assert_eq!(refusal(&any, "https://example.com:0/"), Refusal::PortNotAllowed);
}

#[test]
fn inside_the_allow_list_scheme_port_and_literals_are_free() {
    let policy = policy(&["127.0.0.0/8", "10.0.0.0/8:9000", "[fd00::/8]:443"], false);
    for raw in [
        "http://127.0.0.1:1234/",
        "http://2130706433/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.1.2.3:9000/",
    ] {
        assert!(!policy.judge(raw).unwrap().must_be_inside(), "{raw}");
    }
    assert!(policy.judge("https://[fd12::1]/").is_ok());
    assert_eq!(refusal(&policy, "https://10.1.2.3/"), Refusal::LiteralNotAllowed);
    assert_eq!(refusal(&policy, "http://10.1.2.3:9001/"), Refusal::NotHttps);
    assert_eq!(refusal(&policy, "https://8.8.8.8/"), Refusal::LiteralNotAllowed);

    assert!(policy.permits("10.1.2.3".parse().unwrap(), 9000));
    assert!(policy.permits("::ffff:10.1.2.3".parse().unwrap(), 9000));
    assert!(!policy.permits("10.1.2.3".parse().unwrap(), 9001));
    assert!(
        policy.permits("8.8.8.8".parse().unwrap(), 9001) && !policy.inside("8.8.8.8".parse().unwrap(), 9001)
    );
}

#[test]
fn a_name_that_only_the_allow_list_can_open_must_lie_inside_it() {
    let anywhere = policy(&["127.0.0.0/8"], false);
    for raw in ["https://localhost/", "http://receiver:8080/", "http://hooks.internal/", "https://a.test:25/"]
    {
        assert!(anywhere.judge(raw).unwrap().must_be_inside(), "{raw}");
    }
    assert!(!anywhere.judge("https://example.com/").unwrap().must_be_inside());
    // A name that can be public is judged as one, or a misspelt scheme would only be noticed at send.
    assert_eq!(refusal(&anywhere, "http://example.com/"), Refusal::NotHttps);
    assert_eq!(refusal(&anywhere, "https://example.com:25/"), Refusal::PortNotAllowed);
    assert_eq!(refusal(&anywhere, "http://hooks.example/"), Refusal::NotHttps);

    let one_port = policy(&["10.0.0.0/8:9000"], false);
    assert!(one_port.judge("http://receiver:9000/").unwrap().must_be_inside());
    assert_eq!(refusal(&one_port, "http://receiver:9001/"), Refusal::NotHttps);
    assert_eq!(refusal(&one_port, "https://receiver/"), Refusal::NameNotAllowed);
}

#[test]
fn a_wide_rule_does_not_open_the_metadata_service() {
    let ips = ["169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254"];
    let wide = policy(&["0.0.0.0/0", "::/0"], false);
    for ip in ips.map(|ip| ip.parse::<IpAddr>().unwrap()) {
        assert!(!wide.permits(ip, 80), "{ip}");
        assert!(policy(&[&ip.to_string()], false).permits(ip, 80), "{ip}");
    }
    assert!(!wide.permits("::ffff:169.254.169.254".parse().unwrap(), 80));
    assert!(wide.permits("169.254.1.1".parse().unwrap(), 80));
}

#[test]
fn a_refusal_tells_a_stranger_nothing() {
    assert_eq!(Refusal::AddressNotAllowed.to_string(), Refusal::Unparsable.to_string());
    assert_eq!(Refusal::NotHttps.setting(), Some("WATCHPOST_EGRESS_HTTP"));
    assert_eq!(Refusal::UserInfo.setting(), None);
    let closed = policy(&[], false);
    for (raw, setting) in [
        ("http://localhost:9000/hook", "WATCHPOST_EGRESS_ALLOW"),
        ("http://127.0.0.1/", "WATCHPOST_EGRESS_ALLOW"),
        ("https://[fd00::1]/", "WATCHPOST_EGRESS_ALLOW"),
        ("http://example.com/", "WATCHPOST_EGRESS_HTTP"),
        ("https://example.com:25/", "WATCHPOST_EGRESS_PORTS"),
        ("https://8.8.8.8/", "WATCHPOST_EGRESS_IP_LITERALS"),
    ] {
        assert_eq!(closed.opened_by(raw, refusal(&closed, raw)), Some(setting), "{raw}");
    }
}
