//! What `run` takes about what a workload finds around it: names, limits, the kernel's settings.

use std::net::IpAddr;

use clap::Args;
use firebuild_core::ByteSize;
use firebuild_machine::names::Names;
use firebuild_protocol::limits::{ProcessLimit, RESOURCES};
use firebuild_protocol::workload::Workload;

use crate::arguments::values;
use crate::error::hinted;

/// What systemd takes for the wish that the machine powers off: SIGRTMIN+3.
const HALT: u8 = 37;

/// SIGTERM, by which systemd starts itself anew.
const TERMINATE: u8 = 15;

/// The surroundings of a workload.
#[derive(Debug, Args)]
pub(super) struct EnvironmentArguments {
    /// Add a line to /etc/hosts; `host-gateway` is this host's address (may be repeated)
    #[arg(
        long = "add-host",
        value_name = "NAME:ADDRESS",
        value_parser = values::form(checked_host),
        help_heading = "Environment"
    )]
    hosts: Vec<String>,
    /// Ask this name server instead of the network's (may be repeated)
    #[arg(long, value_name = "ADDRESS", value_parser = values::address, help_heading = "Environment")]
    dns: Vec<IpAddr>,
    /// Look short names up in this domain (may be repeated)
    #[arg(long, value_name = "DOMAIN", value_parser = values::form(domain), help_heading = "Environment")]
    dns_search: Vec<String>,
    /// Set an option of the resolver, such as ndots:2 (may be repeated)
    #[arg(
        long,
        visible_alias = "dns-opt",
        value_name = "OPTION",
        value_parser = values::form(option),
        help_heading = "Environment"
    )]
    dns_option: Vec<String>,
    /// Limit the workload's processes, such as nofile=1024:4096; `unlimited` is a value, too (may be
    /// repeated)
    #[arg(
        long = "ulimit",
        value_name = "NAME=SOFT[:HARD]",
        value_parser = values::form(limit),
        help_heading = "Environment"
    )]
    limits: Vec<String>,
    /// How much /dev/shm can hold [default: half of the memory]
    #[arg(long, value_name = "SIZE", help_heading = "Environment")]
    shm_size: Option<ByteSize>,
    /// Set the VM's kernel up, such as net.core.somaxconn=1024 (may be repeated)
    #[arg(
        long = "sysctl",
        value_name = "NAME=VALUE",
        value_parser = values::form(setting),
        help_heading = "Environment"
    )]
    settings: Vec<String>,
    /// Hand over to the image's own init, as its first process: /sbin/init if no command is given
    #[arg(long, help_heading = "Environment")]
    init_system: bool,
}

impl EnvironmentArguments {
    /// The names that the guest is given.
    pub(super) fn names(&self) -> anyhow::Result<Names> {
        let hosts: anyhow::Result<_> = self.hosts.iter().map(|text| host(text)).collect();
        Ok(Names {
            hosts: hosts?,
            servers: self.dns.clone(),
            search: self.dns_search.clone(),
            options: self.dns_option.clone(),
        })
    }

    /// Whether the image's own init is started.
    pub(super) fn is_init(&self) -> bool {
        self.init_system
    }

    /// The signal that asks the workload to end, if nobody said which.
    pub(super) fn stop_signal(&self, otherwise: u8) -> u8 {
        match self.init_system && otherwise == TERMINATE {
            true => HALT,
            false => otherwise,
        }
    }

    /// Adds to what the guest is told to run.
    pub(super) fn furnish(&self, workload: &mut Workload) -> anyhow::Result<()> {
        let limits: anyhow::Result<_> = self.limits.iter().map(|text| limit(text)).collect();
        let settings: anyhow::Result<_> = self.settings.iter().map(|text| setting(text)).collect();
        workload.limits = limits?;
        workload.settings = settings?;
        workload.shared_memory = self.shm_size.map(|size| size.0);
        workload.is_init = self.init_system;
        Ok(())
    }
}

/// The same with a name that a host can have.
fn checked_host(text: &str) -> anyhow::Result<()> {
    let hosts = vec![host(text)?];
    let rest = Names::default();
    Ok(Names { hosts, ..rest }.check()?)
}

/// A domain in which names are looked up.
fn domain(text: &str) -> anyhow::Result<()> {
    let search = vec![text.to_owned()];
    let rest = Names::default();
    Ok(Names { search, ..rest }.check()?)
}

/// An option of the resolver.
fn option(text: &str) -> anyhow::Result<()> {
    let options = vec![text.to_owned()];
    let rest = Names::default();
    Ok(Names { options, ..rest }.check()?)
}

/// `NAME:ADDRESS`; of an IPv6 address, the rest is all of it.
fn host(text: &str) -> anyhow::Result<(String, Option<IpAddr>)> {
    let no = || {
        hinted(
            format!("`{text}` does not name a host"),
            "write NAME:ADDRESS, or NAME:host-gateway for this host",
        )
    };
    let (name, address) = text.split_once([':', '=']).ok_or_else(no)?;
    let address = match address {
        "host-gateway" => None,
        address => {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            Some(address.parse().map_err(|_| no())?)
        }
    };
    Ok((name.to_owned(), address))
}

/// `NAME=SOFT[:HARD]`.
fn limit(text: &str) -> anyhow::Result<ProcessLimit> {
    let known = || RESOURCES.map(|(name, _)| name).join(", ");
    let no = || {
        let hint = format!("write NAME=SOFT or NAME=SOFT:HARD; names are {}", known());
        hinted(format!("`{text}` is no limit of processes"), hint)
    };
    let (name, value) = text.split_once('=').ok_or_else(no)?;
    let resource = RESOURCES.iter().find(|(known, _)| *known == name);
    let (_, resource) = resource.ok_or_else(no)?;
    let number = |text: &str| match text {
        "unlimited" | "-1" => Ok(None),
        number => number.parse().map(Some).map_err(|_| no()),
    };
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
        return Err(no());
    }
    Ok(ProcessLimit {
        resource: *resource,
        soft,
        hard,
    })
}

/// `NAME=VALUE` of a kernel's setting.
fn setting(text: &str) -> anyhow::Result<(String, String)> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    match text.split_once('=') {
        Some((name, value))
            if !name.is_empty()
                && name.bytes().all(fits)
                && !name.contains("..")
                && !name.starts_with(['.', '/'])
                && !value.contains('\0') =>
        {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(hinted(
            format!("`{text}` is no setting of a kernel"),
            "write NAME=VALUE, such as net.core.somaxconn=1024",
        )),
    }
}

#[cfg(test)]
mod tests {
    use firebuild_protocol::limits::Resource;

    use super::*;

    #[test]
    fn hosts_are_names_with_addresses() {
        let address = |text: &str| Some(text.parse().unwrap());
        for (text, name, expected) in [
            ("db:10.0.0.1", "db", address("10.0.0.1")),
            ("db=10.0.0.1", "db", address("10.0.0.1")),
            ("v6:fd00::1", "v6", address("fd00::1")),
            ("v6:[fd00::1]", "v6", address("fd00::1")),
            ("me:host-gateway", "me", None),
        ] {
            assert_eq!(host(text).unwrap(), (name.to_owned(), expected), "{text}");
        }
        for text in ["db", "db:", "db:here", ""] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_soft_and_hard() {
        for (text, soft, hard) in [
            ("nofile=10", Some(10), Some(10)),
            ("nofile=10:20", Some(10), Some(20)),
            ("nofile=10:unlimited", Some(10), None),
            ("nofile=-1", None, None),
        ] {
            let found = limit(text).unwrap();
            let expected = (Resource::Nofile, soft, hard);
            assert_eq!((found.resource, found.soft, found.hard), expected, "{text}");
        }
        for text in [
            "nofile",
            "nofile=",
            "nofile=20:10",
            "nofile=unlimited:1",
            "files=1",
            "nofile=x",
        ] {
            assert!(limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_stay_below_proc_sys() {
        assert!(setting("net.core.somaxconn=1").is_ok());
        assert!(setting("net/ipv4/conf/eth0.1/forwarding=1").is_ok());
        for text in ["", "a", "=1", "../x=1", "a..b=1", "/etc=1", "a b=1"] {
            assert!(setting(text).is_err(), "{text}");
        }
    }
}
