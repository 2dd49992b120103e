//! What a VM reads from its metadata service when it starts.
//!
//! The service speaks MMDS V2 (a session token, then `GET` with `Accept: application/json`), as
//! Firecracker has it built in; for QEMU the supervisor serves the same. The document's top is
//! `{"latest": {"meta-data": {…}}}`. Firecracker holds at most [`LIMIT`] bytes of it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The most bytes that the whole document may have: Firecracker's default.
pub const LIMIT: usize = 51_200;

/// Where the guest finds its metadata.
pub const PATH: &str = "/latest/meta-data";

/// Where it gets a session token (`PUT`).
pub const TOKEN_PATH: &str = "/latest/api/token";

/// The request header with the token's lifetime, 1 to 21600 seconds.
pub const TOKEN_TTL_HEADER: &str = "X-metadata-token-ttl-seconds";

/// The request header with the token itself.
pub const TOKEN_HEADER: &str = "X-metadata-token";

/// The whole document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The current version of the data.
    pub latest: Latest,
}

/// The current version of the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// What the agent reads.
    #[serde(rename = "meta-data")]
    pub metadata: Metadata,
}

/// What the agent needs to know before it can reach the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metadata {
    /// The VM's id.
    pub vm_id: String,
    /// What the guest calls itself.
    pub hostname: String,
    /// The image it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
    /// When the document was written, in seconds since 1970: a guest whose clock is behind sets
    /// it, because certificates are only valid for a while.
    pub time: u64,
    /// How many images the root file system is made of, each mounted over those before it: the
    /// drives with the serials `root`, `root1`, `root2` and so on.
    #[serde(default = "one")]
    pub root_images: u8,
    /// What the VM's drives are called, in their order: for a guest whose VMM cannot tell it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drives: Vec<String>,
    /// The guest's network.
    pub network: Network,
    /// What to connect to in a build VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Credentials>,
    /// What to connect to in any other VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Credentials>,
}

/// The guest's network, beyond the address that its kernel command line told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Network {
    /// The address of the first device.
    pub address: Ipv4Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
    /// The default gateway; none without a way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The largest packet, in bytes; the device's own if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Name servers for resolv.conf.
    #[serde(default)]
    pub nameservers: Vec<std::net::IpAddr>,
    /// Search domains for resolv.conf.
    #[serde(default)]
    pub search: Vec<String>,
    /// Options for resolv.conf.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolver_options: Vec<String>,
    /// More lines for /etc/hosts.
    #[serde(default)]
    pub hosts: Vec<HostEntry>,
    /// All devices, in the order in which the guest is to call them `eth0`, `eth1` and so on. If there
    /// are none here, there is the one device that the fields above tell of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
}

impl Network {
    /// The network of a guest whose one device has this address and nothing else.
    #[must_use]
    pub fn of(address: Ipv4Addr, prefix: u8) -> Self {
        Self {
            address,
            prefix,
            gateway: None,
            mtu: None,
            nameservers: Vec::new(),
            search: Vec::new(),
            resolver_options: Vec::new(),
            hosts: Vec::new(),
            interfaces: Vec::new(),
        }
    }
}

/// One of the guest's network devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interface {
    /// The hardware address by which the guest finds it, as `02:00:00:00:00:01`.
    pub mac: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
    /// The default gateway, if it is by this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// What is reached in another way than by the gateway, in the order in which it has to be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// The largest packet, in bytes; the device's own if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// What it has of IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6>,
}

/// A way to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Route {
    /// The network.
    pub destination: Ipv4Addr,
    /// The length of its prefix, in bits.
    pub prefix: u8,
    /// The router; none for what is on the link itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
}

/// What a device has of IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ipv6 {
    /// Its address.
    pub address: Ipv6Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
    /// The default gateway, if it is by this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv6Addr>,
}

/// A line of /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The address.
    pub address: std::net::IpAddr,
    /// The names it has.
    pub names: Vec<String>,
}

/// Where to connect, and how both sides prove who they are. Withdrawn from the metadata as soon as
/// the agent is connected.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Credentials {
    /// `ADDRESS:PORT` of the host's gRPC server.
    pub grpc_host_port: String,
    /// The name in the server's certificate.
    pub server_name: String,
    /// The certificate authority of both sides, as PEM.
    pub tls_ca_cert: String,
    /// The guest's certificate, as PEM.
    pub tls_cert: String,
    /// The guest's key, as PEM.
    pub tls_key: String,
    /// How often to call Ping while nothing else is said, in milliseconds.
    pub ping_interval: u32,
}

impl std::fmt::Debug for Credentials {
    /// Without the key, so that no log can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("grpc_host_port", &self.grpc_host_port)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

fn one() -> u8 {
    1
}

impl Metadata {
    /// The document around this.
    #[must_use]
    pub fn document(self) -> Document {
        Document {
            latest: Latest { metadata: self },
        }
    }

    /// The same without what is secret: what stays once the agent is connected.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        self.bootstrap = None;
        self.session = None;
        self
    }
}
