//! From the kernel's first process to a VM that does what it is for.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use firebuild_protocol::boot::{BootArguments, DEBUG, RootVerity};
use firebuild_protocol::metadata::{Metadata, Network};
use firebuild_protocol::v1::phase::What;
use rustix::mount::{MountFlags, mount};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::connect::Windows;
use crate::error::{Doing as _, GuestError, Result};
use crate::launch::SUPPLIED;
use crate::reaper::Reaper;
use crate::shutdown::Requests;
use crate::{
    bootstrap, connect, console, drives, metadata, modules, network, phases, session, shutdown,
};

/// Boots the VM, does what it is for, and restarts the machine.
pub(crate) fn main() {
    if let Err(error) = boot() {
        console::fatal(&crate::error::chain(&error));
    }
    shutdown::restart();
}

fn boot() -> Result<()> {
    phases::over(What::Kernel);
    let (arguments, root) = mount_kernel()?;
    modules::load()?;
    phases::over(What::Modules);
    network::reach_host(arguments)?;
    phases::over(What::Link);
    console::debug(|| "network is up".to_owned());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing(|| "start the runtime".to_owned())?
        .block_on(serve(root))
}

/// Mounts what the kernel offers, and reads its command line.
fn mount_kernel() -> Result<(BootArguments, Option<RootVerity>)> {
    let mounts: [(&str, &str, &CStr); 3] = [
        ("proc", "/proc", c""),
        ("sysfs", "/sys", c""),
        ("devtmpfs", "/dev", c"mode=0755"),
    ];
    for (kind, target, options) in mounts {
        fs_err::create_dir_all(target).doing(|| format!("make `{target}`"))?;
        mount(kind, target, kind, MountFlags::NOSUID, options)
            .doing(|| format!("mount {kind} on `{target}`"))?;
    }
    let line = fs_err::read_to_string("/proc/cmdline")
        .doing(|| "read the kernel's command line".to_owned())?;
    console::set_verbose(line.split_ascii_whitespace().any(|word| word == DEBUG));
    console::debug(|| "started".to_owned());
    let root = RootVerity::parse(&line).map_err(|error| GuestError::Told(error.to_string()))?;
    let arguments = BootArguments::parse(&line);
    let arguments = arguments.map_err(|error| GuestError::Told(error.to_string()))?;
    Ok((arguments, root))
}

/// `root` is the one root file system that the VM may use, if that was said.
async fn serve(root: Option<RootVerity>) -> Result<()> {
    let reaper = Reaper::start()?;
    let requests = Requests::listen()?;
    let metadata = metadata::read().await?;
    phases::over(What::Metadata);
    console::debug(|| "metadata is read".to_owned());
    drives::set_order(metadata.drives.clone());
    set_clock(metadata.time)?;
    rustix::system::sethostname(metadata.hostname.as_bytes())
        .doing(|| "set the host name".to_owned())?;
    network::reach_world(&metadata.network)?;
    supply_files(&metadata)?;
    phases::over(What::Network);
    let result = match (&metadata.bootstrap, &metadata.session) {
        (Some(credentials), _) => {
            let layers = drives::mount_own(metadata.root_images, true, root.as_ref())?;
            phases::over(What::Drives);
            console::debug(|| "drives are mounted".to_owned());
            let channel = connect::connect(credentials, Windows::WIDE).await?;
            phases::over(What::Connect);
            console::debug(|| "connected".to_owned());
            bootstrap::serve(channel, credentials, &metadata, layers, reaper.clone()).await
        }
        (None, Some(credentials)) => {
            let layers = drives::mount_own(metadata.root_images, false, root.as_ref())?;
            phases::over(What::Drives);
            console::debug(|| "drives are mounted".to_owned());
            allow_low_ports();
            let channel = connect::connect(credentials, Windows::MANY).await?;
            phases::over(What::Connect);
            console::debug(|| "connected".to_owned());
            session::serve(
                channel,
                &metadata.hostname,
                layers,
                reaper.clone(),
                requests,
            )
            .await
        }
        (None, None) => Err(GuestError::Told(
            "there is nothing to connect to".to_owned(),
        )),
    };
    shutdown::settle(&reaper).await;
    result
}

/// Sets a clock that is behind: certificates are valid for a while only.
fn set_clock(time: u64) -> Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if now.as_secs() >= time {
        return Ok(());
    }
    let tv_sec = i64::try_from(time).map_err(|error| GuestError::Told(error.to_string()))?;
    clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec: 0 })
        .doing(|| "set the clock".to_owned())
}

/// As container engines do: images expect that their users may listen on any port.
fn allow_low_ports() {
    // A kernel without it has the usual limit.
    let _ = fs_err::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
}

/// Writes the files that processes see in place of the image's.
fn supply_files(metadata: &Metadata) -> Result<()> {
    let files = [
        ("hostname", format!("{}\n", metadata.hostname)),
        ("hosts", hosts(&metadata.hostname, &metadata.network)),
        ("resolv.conf", resolver(&metadata.network)),
    ];
    fs_err::create_dir_all(SUPPLIED).doing(|| format!("make `{SUPPLIED}`"))?;
    // The first root's own file system cannot be mounted elsewhere in pieces.
    mount(
        "tmpfs",
        SUPPLIED,
        "tmpfs",
        MountFlags::NODEV,
        c"mode=0755,size=1m",
    )
    .doing(|| "mount a tmpfs".to_owned())?;
    for (name, content) in files {
        fs_err::write(format!("{SUPPLIED}/{name}"), content)
            .doing(|| format!("write `{SUPPLIED}/{name}`"))?;
    }
    Ok(())
}

/// What `/etc/hosts` is for a machine of this name.
pub(crate) fn hosts(hostname: &str, network: &Network) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let _ = writeln!(text, "{}\t{hostname}", network.address);
    for entry in &network.hosts {
        let _ = writeln!(text, "{}\t{}", entry.address, entry.names.join(" "));
    }
    text
}

fn resolver(network: &Network) -> String {
    let mut text = String::new();
    for server in &network.nameservers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !network.search.is_empty() {
        let _ = writeln!(text, "search {}", network.search.join(" "));
    }
    if !network.resolver_options.is_empty() {
        let _ = writeln!(text, "options {}", network.resolver_options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use firebuild_protocol::metadata::HostEntry;

    use super::*;

    #[test]
    fn files_say_what_the_metadata_says() {
        let mut network = Network {
            nameservers: vec!["10.88.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            search: vec!["a.example".to_owned(), "b.example".to_owned()],
            hosts: vec![HostEntry {
                address: "10.88.0.9".parse().unwrap(),
                names: vec!["db".to_owned(), "db.local".to_owned()],
            }],
            ..Network::of([10, 88, 0, 7].into(), 16)
        };
        assert_eq!(
            resolver(&network),
            "nameserver 10.88.0.1\nnameserver fd00::1\nsearch a.example b.example\n"
        );
        let text = hosts("web", &network);
        assert!(
            text.ends_with("10.88.0.7\tweb\n10.88.0.9\tdb db.local\n"),
            "{text}"
        );
        network.nameservers.clear();
        network.search.clear();
        assert_eq!(resolver(&network), "");
    }
}
