//! What a plugin answers to ADD, read from and written in every version of the specification.
//!
//! Inside, there is one form, that of version 1.1. Plugins are programs of the host's, but what they
//! print may still be anything: every list has an end, every index leads somewhere.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::version::Version;

/// As many interfaces, addresses or routes as a result may have.
const MOST: usize = 256;

/// An address with the length of its network's prefix, as `10.1.2.3/24`. Of a route, the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// The bits of the network: 0 to 32 for IPv4, to 128 for IPv6.
    pub prefix: u8,
}

/// The state of a network after a plugin has done its part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) interfaces: Vec<Device>,
    pub(crate) ips: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
}

/// A network device that a plugin made, on the host or in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) mac: String,
    /// The path of the network namespace; empty on the host. A VM's own device has the VM's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sandbox: String,
    #[serde(flatten)]
    pub(crate) details: Map<String, Value>,
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// Which of the interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<usize>,
    pub(crate) address: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<IpAddr>,
}

/// A route of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) dst: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
    #[serde(flatten)]
    pub(crate) details: Map<String, Value>,
}

/// Name servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dns {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nameservers: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) domain: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) search: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) options: Vec<String>,
}

/// The form since 0.3.0.
#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    interfaces: Option<Vec<Device>>,
    #[serde(default)]
    ips: Option<Vec<Address>>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
    #[serde(default)]
    dns: Option<Dns>,
}

/// The form before.
#[derive(Deserialize)]
struct Paired {
    #[serde(default)]
    ip4: Option<OldAddress>,
    #[serde(default)]
    ip6: Option<OldAddress>,
    #[serde(default)]
    dns: Option<Dns>,
}

#[derive(Deserialize)]
struct OldAddress {
    ip: Cidr,
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
}

impl Outcome {
    /// Reads a result. One that names no version is of `version`, in which the plugin was asked.
    pub(crate) fn read(value: Value, version: Version) -> Result<Self, String> {
        if !value.is_object() {
            return Err("it is no JSON object".to_owned());
        }
        let version = match value.get("cniVersion") {
            None => version,
            Some(Value::String(named)) if named.is_empty() => version,
            Some(Value::String(named)) => named
                .parse()
                .map_err(|error: super::version::UnknownVersion| error.to_string())?,
            Some(_) => return Err("`cniVersion` is no text".to_owned()),
        };
        let read = |error: serde_json::Error| error.to_string();
        let outcome = if version.has_interfaces() {
            let listed: Listed = serde_json::from_value(value).map_err(read)?;
            Self {
                interfaces: listed.interfaces.unwrap_or_default(),
                ips: listed.ips.unwrap_or_default(),
                routes: listed.routes.unwrap_or_default(),
                dns: listed.dns.unwrap_or_default(),
            }
        } else {
            serde_json::from_value::<Paired>(value)
                .map_err(read)?
                .into()
        };
        outcome.checked()
    }

    /// Writes a result as `version` has it. What that version has no words for is left out.
    pub(crate) fn write(&self, version: Version) -> Value {
        if !version.has_interfaces() {
            return self.write_pair(version);
        }
        let mut written = json!({
            "cniVersion": version.to_string(),
            "interfaces": self.interfaces,
            "ips": self.ips,
            "routes": self.routes,
            "dns": self.dns,
        });
        if !version.has_details() {
            for (list, kept) in [
                ("interfaces", &["name", "mac", "sandbox"][..]),
                ("routes", &["dst", "gw"]),
            ] {
                for object in objects(&mut written[list]) {
                    object.retain(|key, _| kept.contains(&key.as_str()));
                }
            }
        }
        if version.names_families() {
            for (object, ip) in objects(&mut written["ips"]).zip(&self.ips) {
                let family = if ip.address.address.is_ipv4() {
                    "4"
                } else {
                    "6"
                };
                object.insert("version".to_owned(), family.into());
            }
        }
        written
    }

    fn write_pair(&self, version: Version) -> Value {
        let mut written = json!({"cniVersion": version.to_string(), "dns": self.dns});
        for (key, is_v4) in [("ip4", true), ("ip6", false)] {
            let of_family = |cidr: &Cidr| cidr.address.is_ipv4() == is_v4;
            let Some(ip) = self.ips.iter().find(|ip| of_family(&ip.address)) else {
                continue;
            };
            let routes = self.routes.iter().filter(|route| of_family(&route.dst));
            let routes: Vec<Value> = routes
                .map(|route| match route.gw {
                    Some(gw) => json!({"dst": route.dst, "gw": gw}),
                    None => json!({"dst": route.dst}),
                })
                .collect();
            written[key] = json!({"ip": ip.address, "routes": routes});
            if let Some(gateway) = ip.gateway {
                written[key]["gateway"] = json!(gateway);
            }
        }
        written
    }

    fn checked(self) -> Result<Self, String> {
        let lengths = [
            self.interfaces.len(),
            self.ips.len(),
            self.routes.len(),
            self.dns.nameservers.len(),
        ];
        if lengths.iter().any(|length| *length > MOST) {
            return Err(format!("one of its lists has more than {MOST} entries"));
        }
        let interfaces = self.interfaces.len();
        match self
            .ips
            .iter()
            .filter_map(|ip| ip.interface)
            .find(|index| *index >= interfaces)
        {
            Some(index) => Err(format!(
                "an address is of interface {index}, and there are {interfaces}"
            )),
            None => Ok(self),
        }
    }
}

fn objects(list: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let list = list.as_array_mut().into_iter().flatten();
    list.filter_map(Value::as_object_mut)
}

impl From<Paired> for Outcome {
    fn from(paired: Paired) -> Self {
        let mut outcome = Self {
            dns: paired.dns.unwrap_or_default(),
            ..Self::default()
        };
        for old in [paired.ip4, paired.ip6].into_iter().flatten() {
            outcome.ips.push(Address {
                interface: None,
                address: old.ip,
                gateway: old.gateway,
            });
            outcome.routes.extend(old.routes.unwrap_or_default());
        }
        outcome
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (address, prefix) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix = prefix
                .parse()
                .ok()
                .filter(|prefix| digits && *prefix <= most)?;
            Some(Self { address, prefix })
        };
        parsed().ok_or_else(|| {
            let shown: String = text.chars().take(60).collect();
            format!("`{shown}` is no address with a prefix, as 10.1.2.3/24")
        })
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests;
