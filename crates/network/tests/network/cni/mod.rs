//! Networks by CNI: Debian's plugins for real, and others that are scripts of the tests' own.

mod files;
mod leftovers;
mod real;
mod refusals;
mod tap;
mod versions;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use firebuild_network::cni::{Cni, Directories, Request, Settings};
use serde_json::{Value, json};

use firebuild_core::MachineId;

use crate::rig::{Host, said};

/// Where Debian has its plugins.
const PROGRAMS: &str = "/usr/lib/cni";

/// The driver on a host of the test's own, with its files in the host's directory.
fn driver(host: &Host) -> Cni {
    Cni::new(settings(host))
}

fn settings(host: &Host) -> Settings {
    settings_in(host.directory.path(), &host.settings())
}

fn settings_in(directory: &std::path::Path, builtin: &firebuild_network::Settings) -> Settings {
    let directories = Directories {
        programs: vec![directory.join("bin"), PROGRAMS.into()],
        configurations: vec![directory.join("conf.d"), directory.join("net.d")],
        cache: directory.join("cache"),
    };
    Settings {
        plugin_time: Duration::from_secs(60),
        ..Settings::beside(builtin, directories)
    }
}

/// A VM of this test alone: what is at work for a VM is found by the VM's id.
fn id(number: u8) -> MachineId {
    let mut random = [0; 20];
    random[0] = number;
    random[1] = number / 26;
    random[2..6].copy_from_slice(&std::process::id().to_be_bytes());
    MachineId::from_random(random)
}

fn request(number: u8, ports: &[&str]) -> Request {
    Request {
        id: id(number),
        network: "alpine".to_owned(),
        vmm_uid: 0,
        vmm_gid: 0,
        address: None,
        mac: None,
        dns: Vec::new(),
        ports: ports.iter().map(|port| port.parse().unwrap()).collect(),
        egress: firebuild_network::Egress::default(),
        metadata_address: true,
    }
}

/// Writes a configuration.
fn configure(host: &Host, file: &str, configuration: &Value) {
    write(host, file, configuration.to_string().as_bytes());
}

fn write(host: &Host, file: &str, content: &[u8]) {
    let path = host.path(file);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, content).unwrap();
}

/// A plugin that is a shell script.
fn script(host: &Host, name: &str, text: &str) {
    let file = format!("bin/{name}");
    write(host, &file, format!("#!/bin/sh\n{text}\n").as_bytes());
    let mode = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(host.path(&file), mode).unwrap();
}

/// The list of the original tool's own documentation.
fn original(host: &Host) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "alpine",
        "plugins": [
            {
                "type": "bridge",
                "name": "alpine-bridge",
                "bridge": "alpine0",
                "isDefaultGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": ipam(host),
            },
            {"type": "firewall"},
            {"type": "tc-redirect-tap"},
        ],
    })
}

fn ipam(host: &Host) -> Value {
    json!({
        "type": "host-local",
        "subnet": "192.168.127.0/24",
        "resolvConf": host.path("resolv.conf"),
        "dataDir": host.path("ipam"),
    })
}

/// The list with one more plugin before the tap.
fn with(mut list: Value, plugin: Value) -> Value {
    let plugins = list["plugins"].as_array_mut().unwrap();
    plugins.insert(plugins.len() - 1, plugin);
    list
}

/// Everything on the host that the driver or a plugin could leave for one VM.
fn state(host: &Host) -> BTreeMap<&'static str, String> {
    let mut state = host.state();
    state.insert("iptables", without_counters(&said("iptables-save", &[])));
    state.insert("rules", without_counters(&state["rules"]));
    for directory in ["cache/results", "ipam/alpine", "leases/firebuild-cni"] {
        state.insert(directory, files(host, directory));
    }
    state
}

/// Without what says how much or when: comments with a time, counters of packets.
fn without_counters(rules: &str) -> String {
    let lines = rules.lines().filter(|line| !line.starts_with('#'));
    let plain = lines.map(|line| {
        let words = line.split(' ').filter(|word| !word.starts_with('['));
        let words: Vec<&str> = words.filter(|word| word.parse::<u64>().is_err()).collect();
        words.join(" ")
    });
    plain.collect::<Vec<_>>().join("\n")
}

fn files(host: &Host, directory: &str) -> String {
    let Ok(entries) = fs_err::read_dir(host.path(directory)) else {
        return String::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // What a lock and a hint are kept in stays.
    let mut names: Vec<String> = names
        .filter(|name| name != "lock" && !name.starts_with("last_reserved_ip"))
        .collect();
    names.sort();
    names.join("\n")
}

/// An address that the list gives.
fn is_of_list(address: Ipv4Addr) -> bool {
    address.octets()[..3] == [192, 168, 127]
}
