use proptest::prelude::*;

use super::*;

const ALL: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// An address of each family on one device, as every version can have it but for what it leaves out.
fn sample() -> Outcome {
    let details = |key: &str| Map::from_iter([(key.to_owned(), json!(1400))]);
    let route = |dst: &str, gw: Option<IpAddr>| Route {
        dst: dst.parse().unwrap(),
        gw,
        details: details("mtu"),
    };
    Outcome {
        interfaces: vec![Device {
            name: "eth0".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            sandbox: "/run/netns/x".to_owned(),
            details: details("mtu"),
        }],
        ips: ["10.1.2.3/24", "fd00::2/64"]
            .map(|text| Address {
                interface: Some(0),
                address: text.parse().unwrap(),
                gateway: None,
            })
            .to_vec(),
        routes: vec![
            route("0.0.0.0/0", Some([10, 1, 2, 1].into())),
            route("::/0", None),
        ],
        dns: Dns {
            nameservers: vec!["10.1.2.1".to_owned()],
            ..Dns::default()
        },
    }
}

#[test]
fn every_version_keeps_addresses_routes_and_name_servers() {
    let sample = sample();
    for text in ALL {
        let written = sample.write(version(text));
        assert_eq!(written["cniVersion"], text);
        // What it says of itself counts, and not what it was asked in.
        let read = Outcome::read(written, version("1.0.0")).unwrap();
        let addresses =
            |outcome: &Outcome| -> Vec<Cidr> { outcome.ips.iter().map(|ip| ip.address).collect() };
        assert_eq!(addresses(&read), addresses(&sample), "{text}");
        assert_eq!(read.dns, sample.dns, "{text}");
        let ways = |outcome: &Outcome| -> Vec<(Cidr, Option<IpAddr>)> {
            let routes = outcome.routes.iter();
            routes.map(|route| (route.dst, route.gw)).collect()
        };
        assert_eq!(ways(&read), ways(&sample), "{text}");
        let interfaces = if version(text).has_interfaces() { 1 } else { 0 };
        assert_eq!(read.interfaces.len(), interfaces, "{text}");
        assert_eq!(read == sample, text == "1.1.0", "{text}");
    }
}

#[test]
fn reads_what_plugins_print() {
    for (text, addresses) in [
        ("{}", 0),
        (
            r#"{"cniVersion":"","ips":null,"interfaces":null,"routes":null,"dns":null}"#,
            0,
        ),
        (
            r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24","gateway":"10.0.0.1"}}"#,
            1,
        ),
        (
            r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/24","interface":null}],"more":[]}"#,
            1,
        ),
        (
            r#"{"cniVersion":"1.0.0","ips":[{"address":"fd00::1/128"},{"address":"10.0.0.2/32"}],"dns":{}}"#,
            2,
        ),
    ] {
        let outcome = Outcome::read(serde_json::from_str(text).unwrap(), version("1.0.0"));
        assert_eq!(outcome.unwrap().ips.len(), addresses, "{text}");
    }
}

#[test]
fn refuses_the_rest() {
    let many = json!({"routes": vec![json!({"dst": "10.0.0.0/8"}); 257]}).to_string();
    for (text, reason) in [
        ("[]", "it is no JSON object"),
        ("7", "it is no JSON object"),
        (r#"{"cniVersion":7}"#, "`cniVersion` is no text"),
        (
            r#"{"cniVersion":"3.0.0"}"#,
            "version `3.0.0` of CNI is not among",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.2"}]}"#,
            "`10.0.0.2` is no address with a prefix",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.2/33"}]}"#,
            "`10.0.0.2/33` is no address",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.2/+8"}]}"#,
            "`10.0.0.2/+8` is no address",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.2/8","interface":-1}]}"#,
            "invalid value",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.2/8","interface":0}]}"#,
            "an address is of interface 0, and there are 0",
        ),
        (r#"{"interfaces":[{}]}"#, "missing field `name`"),
        (&many, "one of its lists has more than 256 entries"),
    ] {
        let error = Outcome::read(serde_json::from_str(text).unwrap(), version("1.0.0"));
        let error = error.unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn what_is_read_is_written_so_that_it_is_read_again(
        names in proptest::collection::vec("[a-z0-9]{1,15}", 0..4),
        addresses in proptest::collection::vec((any::<IpAddr>(), 0_u8..=32, any::<Option<IpAddr>>()), 0..4),
        servers in proptest::collection::vec(".{0,20}", 0..3),
    ) {
        let outcome = Outcome {
            interfaces: names.iter().map(|name| Device {
                name: name.clone(),
                mac: String::new(),
                sandbox: String::new(),
                details: Map::new(),
            }).collect(),
            ips: addresses.iter().map(|(address, prefix, gateway)| Address {
                interface: (!names.is_empty()).then_some(0),
                address: Cidr { address: *address, prefix: *prefix },
                gateway: *gateway,
            }).collect(),
            routes: Vec::new(),
            dns: Dns { nameservers: servers, ..Dns::default() },
        };
        for text in &ALL[2..] {
            let written = outcome.write(version(text)).to_string();
            let read = Outcome::read(serde_json::from_str(&written).unwrap(), Version::UNNAMED);
            prop_assert_eq!(read.as_ref(), Ok(&outcome));
        }
    }

    #[test]
    fn any_json_is_read_or_refused(
        text in r#"\{("(cniVersion|ips|interfaces|dns|routes|ip4)":(\[\]|\{\}|7|null|"1.0.0"|\[\{\}\]|\[\{"address":"::/0"\}\]),?){0,4}\}"#,
        version in proptest::sample::select(&ALL[..]),
    ) {
        if let Ok(value) = serde_json::from_str(&text) {
            let _ = Outcome::read(value, version.parse().unwrap());
        }
    }

    #[test]
    fn any_text_is_a_cidr_or_none(text in "[0-9a-f.:/]{0,30}") {
        if let Ok(cidr) = text.parse::<Cidr>() {
            prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
        }
    }
}
