//! What VMs' networks need.

use super::{Group, Host};

/// What the built-in network asks of nftables: hooks at a device, frames sent on, addresses
/// translated.
const RULES: &str = "\
table netdev firebuild_doctor {
    chain c {
        type filter hook ingress device lo priority 0;
        fwd to lo
    }
}
table ip firebuild_doctor {
    chain p {
        type nat hook prerouting priority dstnat;
        tcp dport 1 dnat to 127.0.0.1:1
    }
    chain m {
        type nat hook postrouting priority srcnat;
        masquerade
    }
}
";

/// Where CNI's plugins and lists are.
const PLUGINS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
const LISTS: [&str; 2] = ["/etc/cni/conf.d", "/etc/cni/net.d"];

pub(super) fn examine(host: &impl Host, group: &mut Group<'_>) {
    match host.exists("/dev/net/tun") {
        true => group.good("tap devices", "`/dev/net/tun`"),
        false => group.missing(
            "tap devices",
            "there is no `/dev/net/tun`",
            "`modprobe tun`",
        ),
    }
    nftables(host, group);
    forwarding(host, group);
    cni(host, group);
}

fn nftables(host: &impl Host, group: &mut Group<'_>) {
    if host.program("nft").is_none() {
        return group.missing(
            "nftables",
            "there is no `nft`",
            "`apt-get install nftables`",
        );
    }
    match host.output("nft", &["-c", "-f", "-"], RULES) {
        Ok(_) => group.good("nftables", "the rules of the built-in network can be made"),
        Err(why) => {
            let why = why.lines().next().unwrap_or_default().to_owned();
            group.missing(
                "nftables",
                format!("the rules of the built-in network cannot be made: {why}"),
                "run as root; `modprobe -a nf_tables nft_fwd_netdev nft_nat nft_masq`",
            );
        }
    }
    let policies = dropping(host);
    match policies[..] {
        [] => group.good("FORWARD", "no policy is in the way"),
        _ => group.advice(
            "FORWARD",
            format!(
                "{} drops what no rule of its own accepts, so VMs may reach nothing",
                policies.join(", ")
            ),
            "accept what comes from and goes to VMs there, such as `nft add rule ip filter FORWARD \
             iifname \"fb*\" accept` and the same with `oifname`",
        ),
    }
}

/// The chains that see forwarded packets and drop by policy; firebuild's own are not meant.
fn dropping(host: &impl Host) -> Vec<String> {
    let listed = host.output("nft", &["-j", "list", "chains"], "");
    let json: Option<serde_json::Value> = listed
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok());
    let entries = json.as_ref().and_then(|json| json["nftables"].as_array());
    let chains = entries.into_iter().flatten().map(|entry| &entry["chain"]);
    chains
        .filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop")
        .filter_map(|chain| {
            let part = |name: &str| chain[name].as_str();
            let (family, table, name) = (part("family")?, part("table")?, part("name")?);
            let own = table.starts_with("firebuild") || table.starts_with("fb");
            (!own).then(|| format!("`{family} {table} {name}`"))
        })
        .collect()
}

fn forwarding(host: &impl Host, group: &mut Group<'_>) {
    let forwards = host
        .read("/proc/sys/net/ipv4/ip_forward")
        .unwrap_or_default();
    match forwards.trim() {
        "1" => group.good("forwarding", "IPv4 is forwarded"),
        "0" => group.good("forwarding", "off; turned on with the first VM's network"),
        _ => group.missing(
            "forwarding",
            "this kernel does not tell whether it forwards IPv4",
            "boot a kernel with CONFIG_INET, and with `/proc/sys` writable",
        ),
    }
}

fn cni(host: &impl Host, group: &mut Group<'_>) {
    let directory = PLUGINS.iter().find(|path| !host.list(path).is_empty());
    match directory {
        None => group.good("CNI", "no plugins; only `--cni-network-name` needs them"),
        Some(directory) => {
            let plugins = host.list(directory).len();
            let lists: usize = LISTS
                .iter()
                .map(|path| {
                    let names = host.list(path);
                    let config = |name: &&String| {
                        [".conflist", ".conf", ".json"]
                            .iter()
                            .any(|end| name.ends_with(end))
                    };
                    names.iter().filter(config).count()
                })
                .sum();
            group.good(
                "CNI",
                format!("{plugins} plugins in `{directory}`, {lists} networks"),
            );
        }
    }
}
