//! What a VM asks of a network at run time, as plugins take it: `runtimeConfig` by capabilities
//! (the conventions of the specification), and `CNI_ARGS` for plugins from before there were any.

use serde_json::{Map, Value, json};

use super::Request;
use super::configuration::NetworkList;
use crate::Listener;

/// The ports that the host is to have.
pub(crate) const PORTS: &str = "portMappings";
const ADDRESSES: &str = "ips";

/// The values of capabilities.
pub(crate) fn values(request: &Request, listeners: &[Listener]) -> Map<String, Value> {
    let mut values = Map::new();
    if !listeners.is_empty() {
        let ports: Vec<Value> = listeners.iter().map(port).collect();
        values.insert(PORTS.to_owned(), ports.into());
    }
    if let Some(address) = request.address {
        values.insert(ADDRESSES.to_owned(), json!([address]));
    }
    if let Some(mac) = request.mac {
        values.insert("mac".to_owned(), json!(mac));
    }
    if !request.dns.is_empty() {
        values.insert("dns".to_owned(), json!({"servers": request.dns}));
    }
    values
}

/// The values of `CNI_ARGS`. `IgnoreUnknown` is for the plugins that one of them is not for.
pub(crate) fn arguments(request: &Request, list: &NetworkList) -> Vec<(String, String)> {
    let mut arguments = vec![
        ("IgnoreUnknown".to_owned(), "1".to_owned()),
        // What the plugin `tc-redirect-tap` takes, by whatever name it is in a list.
        (
            "TC_REDIRECT_TAP_UID".to_owned(),
            request.vmm_uid.to_string(),
        ),
        (
            "TC_REDIRECT_TAP_GID".to_owned(),
            request.vmm_gid.to_string(),
        ),
    ];
    if let Some(address) = request.address
        && !list.has_capability(ADDRESSES)
    {
        arguments.push(("IP".to_owned(), address.to_string()));
    }
    if let Some(mac) = request.mac
        && !list.has_capability("mac")
    {
        arguments.push(("MAC".to_owned(), mac.to_string()));
    }
    arguments
}

fn port(listener: &Listener) -> Value {
    let mut port = json!({
        "hostPort": listener.host,
        "containerPort": listener.guest,
        "protocol": listener.protocol,
    });
    if !listener.address.is_unspecified() {
        port["hostIP"] = json!(listener.address);
    }
    port
}
