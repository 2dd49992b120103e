//! What a VM's name server does for its egress rules: it refuses names, and opens the addresses that it
//! tells the guest, before it tells them.
//!
//! What must hold, whatever other name servers answer: a name opens no address that is this host's, a
//! router's, link-local or nobody's, and none of the VM's own networks but what those say themselves; at
//! most [`MOST_ADDRESSES`] addresses of a kind are open for a rule at a time; `nft` runs once at a time,
//! and not for what is open anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData};
use tokio::sync::Notify;

use super::chains::{Family, NAMES_COUNTER, names_set, rule_counter};
use super::{Egress, Verdict};
use crate::dns::text_of;
use crate::lease::Lease;
use crate::netlink::Netlink;
use crate::{Error, Namespace, Subnet, Subnet6, nft};

/// How many addresses of a kind a rule can have open at a time.
pub(crate) const MOST_ADDRESSES: usize = 512;
/// For how long an address stays open at least, and at most.
const OPEN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
/// How long a guest may take from the last moment of an answer to its connection.
const GRACE: Duration = Duration::from_secs(10);
/// By how much a time has to be longer than what is left, to be worth writing.
const WORTH: Duration = Duration::from_secs(20);
/// How many names an answer leads through.
const MOST_ALIASES: usize = 16;
/// How often counts are written.
const COUNTING: Duration = Duration::from_secs(1);

/// Who says which addresses a name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The leases of the VM's own networks.
    Here,
    /// The host's name servers.
    Elsewhere,
}

/// What the name server of one VM does for its egress rules.
#[derive(Debug)]
pub(crate) struct Opening {
    egress: Egress,
    namespace: Namespace,
    table: String,
    own: Vec<(Subnet, Option<Subnet6>)>,
    opened: tokio::sync::Mutex<Opened>,
    refused: Mutex<BTreeMap<String, u64>>,
    counted: Notify,
}

/// Until when addresses are open, by rule.
type Opened = BTreeMap<(usize, IpAddr), Instant>;

impl Opening {
    /// For a VM that has a lease; none if nothing is ever refused to it.
    pub(crate) fn of(lease: &Lease, namespace: Namespace, table: &str) -> Option<Self> {
        let egress = lease.egress.clone();
        let segments = lease.links.iter().map(|link| &link.segment);
        (!egress.is_open()).then(|| Self {
            egress,
            namespace,
            table: table.to_owned(),
            own: segments.map(|it| (it.subnet, it.subnet6)).collect(),
            opened: tokio::sync::Mutex::default(),
            refused: Mutex::default(),
            counted: Notify::new(),
        })
    }

    /// Whether other servers may be asked for a name; if not, that is counted.
    pub(crate) fn lets_ask(&self, name: &str) -> bool {
        let (rule, verdict) = self.egress.about_name(name);
        if verdict == Verdict::Allow {
            return true;
        }
        let by_name = rule.filter(|rule| self.egress.rules()[*rule].name().is_some());
        let counter = by_name.map_or(NAMES_COUNTER.to_owned(), |rule| rule_counter(0, rule));
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(counter).or_default() += 1;
        self.counted.notify_one();
        false
    }

    /// Writes what was refused to the counters of the namespace, from time to time, and only if there is
    /// something. Nothing else changes these counters: no rule names them.
    pub(crate) async fn keep_counts(&self) {
        loop {
            self.counted.notified().await;
            let refused = self.refused.lock();
            let refused = refused.unwrap_or_else(PoisonError::into_inner).clone();
            let table = &self.table;
            let lines = refused.iter().map(|(counter, count)| {
                format!("delete counter netdev {table} {counter}\nadd counter netdev {table} {counter} {{ packets {count} bytes 0 }}\n")
            });
            // Who reads it meanwhile is told an earlier number.
            let _ = self.carry_out(lines.collect()).await;
            tokio::time::sleep(COUNTING).await;
        }
    }

    /// Opens the addresses of an answer to the guest, as far as a rule is about its name.
    pub(crate) async fn open(&self, answer: &[u8], said: Said) -> Result<(), Error> {
        let Ok(message) = Message::from_vec(answer) else {
            return Ok(());
        };
        let [query] = &message.queries[..] else {
            return Ok(());
        };
        let name = text_of(&query.name);
        let rules: Vec<usize> = self.egress.opened_by_name(&name).collect();
        if rules.is_empty() || message.metadata.response_code != ResponseCode::NoError {
            return Ok(());
        }
        let mut found = addresses(&message, &query.name);
        found.retain(|address, _| self.can_be_opened(*address, said));
        if found.is_empty() {
            return Ok(());
        }
        let of_host = addresses_of_host()?;
        found.retain(|address, _| !of_host.contains(address));
        // Held while `nft` runs: one at a time.
        let mut opened = self.opened.lock().await;
        let now = Instant::now();
        opened.retain(|_, until| *until > now);
        let mut script = String::new();
        for rule in rules {
            for (address, time) in &found {
                script.push_str(&self.elements(&mut opened, (rule, *address), now + *time, now));
            }
        }
        if script.is_empty() {
            return Ok(());
        }
        let done = self.carry_out(script).await;
        if done.is_err() {
            // What is open now is not known; what is added twice does no harm.
            opened.clear();
        }
        done
    }

    /// What opens an address until a time, unless it is, or there is no more room. An element's time is
    /// only ever changed by making it again.
    fn elements(
        &self,
        opened: &mut Opened,
        (rule, address): (usize, IpAddr),
        until: Instant,
        now: Instant,
    ) -> String {
        let is_same =
            |(of, other): &(usize, IpAddr)| *of == rule && other.is_ipv4() == address.is_ipv4();
        match opened.get(&(rule, address)) {
            Some(present) if *present + WORTH > until => return String::new(),
            None if opened.keys().filter(|key| is_same(key)).count() >= MOST_ADDRESSES => {
                return String::new();
            }
            _ => {}
        }
        opened.insert((rule, address), until);
        let family = if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let set = format!("netdev {} {}", self.table, names_set(rule, family));
        let seconds = until.duration_since(now).as_secs();
        let add = format!("add element {set} {{ {address} timeout {seconds}s }}\n");
        format!("{add}delete element {set} {{ {address} }}\n{add}")
    }

    async fn carry_out(&self, script: String) -> Result<(), Error> {
        let namespace = self.namespace.clone();
        let doing = "open addresses to a VM";
        let work = move || namespace.run(|| nft::run(doing, &script));
        let failed = || Error::system(doing);
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| failed()(error.into()))?
            .map_err(failed())?
    }

    /// Whether a name may open an address: one that somebody out there can have.
    fn can_be_opened(&self, address: IpAddr, said: Said) -> bool {
        let is_own = |(v4, v6): &(Subnet, Option<Subnet6>)| match address {
            IpAddr::V4(address) => v4.contains(address),
            IpAddr::V6(address) => v6.is_some_and(|subnet| subnet.contains(address)),
        };
        let is_nobodys = match address {
            IpAddr::V4(it) => {
                let is_near = it.is_loopback() || it.is_link_local() || it.octets()[0] == 0;
                is_near || it.is_multicast() || it.is_broadcast()
            }
            IpAddr::V6(it) => {
                let is_near = it.is_loopback() || it.is_unicast_link_local();
                is_near || it.is_unspecified() || it.is_multicast() || it.to_ipv4().is_some()
            }
        };
        !is_nobodys && (said == Said::Here || !self.own.iter().any(is_own))
    }
}

/// All addresses of the host, gateways of its bridges among them.
fn addresses_of_host() -> Result<BTreeSet<IpAddr>, Error> {
    let doing = Error::system("read the host's addresses");
    let addresses = Netlink::of_thread()?.all_addresses().map_err(doing)?;
    Ok(addresses.into_iter().collect())
}

/// The addresses that an answer has for a name, by way of its aliases, and for how long each is open.
fn addresses(message: &Message, name: &Name) -> BTreeMap<IpAddr, Duration> {
    let mut names = BTreeSet::from([text_of(name)]);
    for _ in 0..MOST_ALIASES {
        let before = names.len();
        for record in &message.answers {
            if let RData::CNAME(alias) = &record.data
                && names.contains(&text_of(&record.name))
                && names.len() <= MOST_ALIASES
            {
                names.insert(text_of(&alias.0));
            }
        }
        if names.len() == before {
            break;
        }
    }
    let records = message.answers.iter();
    let named = records.filter(|record| names.contains(&text_of(&record.name)));
    let found = named.filter_map(|record| {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            _ => return None,
        };
        let time = Duration::from_secs(record.ttl.into()) + GRACE;
        Some((address, time.clamp(OPEN.0, OPEN.1)))
    });
    found.take(MOST_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::rdata::{A, AAAA, CNAME};
    use hickory_proto::rr::{Record, RecordType};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn answer(records: &[(&str, u32, RData)]) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(name("www.example.org."), RecordType::A));
        let mut message = message.into_response();
        for (of, ttl, data) in records {
            message.add_answer(Record::from_rdata(name(of), *ttl, data.clone()));
        }
        message
    }

    fn v4(last: u8) -> RData {
        RData::A(A([192, 0, 2, last].into()))
    }

    fn alias(to: &str) -> RData {
        RData::CNAME(CNAME(name(to)))
    }

    #[test]
    fn aliases_are_followed_and_other_names_open_nothing() {
        let message = answer(&[
            ("cdn.example.net.", 300, v4(1)),
            ("Edge.example.net.", 5, alias("cdn.example.net.")),
            ("WWW.example.org.", 5, alias("edge.example.NET.")),
            ("other.example.org.", 300, v4(2)),
            (
                "cdn.example.net.",
                1_000_000,
                RData::AAAA(AAAA("2001:db8::1".parse().unwrap())),
            ),
            ("www.example.org.", 0, v4(3)),
        ]);
        let found = addresses(&message, &name("www.example.org."));
        let seconds: Vec<(String, u64)> = found
            .iter()
            .map(|(address, time)| (address.to_string(), time.as_secs()))
            .collect();
        let expected = [
            ("192.0.2.1", 310),
            ("192.0.2.3", 60),
            ("2001:db8::1", 86_400),
        ];
        assert_eq!(
            seconds,
            expected.map(|(address, time)| (address.to_owned(), time))
        );
    }

    #[test]
    fn circles_and_long_ways_of_aliases_end() {
        let circle = answer(&[
            ("www.example.org.", 5, alias("a.org.")),
            ("a.org.", 5, alias("www.example.org.")),
        ]);
        assert!(addresses(&circle, &name("www.example.org.")).is_empty());
        let mut way = vec![("www.example.org.".to_owned(), 5, alias("n0.org."))];
        for step in 0..100 {
            way.push((
                format!("n{step}.org."),
                5,
                alias(&format!("n{}.org.", step + 1)),
            ));
        }
        way.push(("n100.org.".to_owned(), 5, v4(1)));
        let way: Vec<(&str, u32, RData)> = way
            .iter()
            .map(|(of, ttl, data)| (of.as_str(), *ttl, data.clone()))
            .collect();
        assert!(addresses(&answer(&way), &name("www.example.org.")).is_empty());
    }

    #[test]
    fn an_answer_of_many_addresses_opens_some() {
        let many: Vec<(&str, u32, RData)> = (0..2000_u32)
            .map(|number| {
                let address = std::net::Ipv4Addr::from_bits(0xc633_6400 + number);
                ("www.example.org.", 60, RData::A(A(address)))
            })
            .collect();
        let found = addresses(&answer(&many), &name("www.example.org."));
        assert_eq!(found.len(), MOST_ADDRESSES);
    }

    #[test]
    fn nobodys_and_own_addresses_are_not_opened() {
        let opening = Opening {
            egress: Egress::default(),
            namespace: Namespace::at("/nonexistent"),
            table: "t".to_owned(),
            own: vec![(
                "10.9.0.0/24".parse().unwrap(),
                Some("fd00:1:2:3::/64".parse().unwrap()),
            )],
            opened: tokio::sync::Mutex::default(),
            refused: Mutex::default(),
            counted: Notify::new(),
        };
        for (address, here, elsewhere) in [
            ("192.0.2.1", true, true),
            ("10.8.0.1", true, true),
            ("2001:db8::1", true, true),
            ("10.9.0.7", true, false),
            ("fd00:1:2:3::7", true, false),
            ("169.254.169.254", false, false),
            ("169.254.169.253", false, false),
            ("127.0.0.1", false, false),
            ("0.0.0.0", false, false),
            ("0.1.2.3", false, false),
            ("255.255.255.255", false, false),
            ("224.0.0.1", false, false),
            ("::", false, false),
            ("::1", false, false),
            ("fe80::1", false, false),
            ("ff02::1", false, false),
            ("::ffff:10.0.0.1", false, false),
            ("::10.0.0.1", false, false),
        ] {
            let parsed = address.parse().unwrap();
            assert_eq!(opening.can_be_opened(parsed, Said::Here), here, "{address}");
            let opened = opening.can_be_opened(parsed, Said::Elsewhere);
            assert_eq!(opened, elsewhere, "{address}");
        }
    }
}
