//! The calls that make a VM, in the order in which Firecracker's documents have them. Each is made
//! once: some of them are refused a second time.

use firebuild_protocol::METADATA_ADDRESS;
use serde_json::{Map, Value, json};

use super::jail::{self, DISK, INITRAMFS, KERNEL, LOG};
use super::options::HugePages;
use super::version::Version;
use crate::Error;
use crate::vmm::Launch;

/// The most bytes of a kernel's command line that Firecracker takes, on x86.
const COMMAND_LINE_LIMIT: usize = 2048;

/// What Firecracker may add to the command line for each device and at the end.
const ADDED: usize = 64;

/// How many devices there can be without PCI, on x86: one interrupt each.
const DEVICES: usize = 17;

/// A call of Firecracker's interface.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `GET`, `PUT`, `PATCH`.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// The body, for all but `GET`.
    pub body: Option<Value>,
}

impl Call {
    /// `GET path`.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            body: None,
        }
    }

    /// `PUT path`.
    #[must_use]
    pub fn put(path: impl Into<String>, body: Value) -> Self {
        Self {
            method: "PUT",
            path: path.into(),
            body: Some(body),
        }
    }

    /// `PATCH path`.
    #[must_use]
    pub fn patch(path: impl Into<String>, body: Value) -> Self {
        Self {
            method: "PATCH",
            ..Self::put(path, body)
        }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Checks what Firecracker would only say when half of a VM is made.
///
/// # Errors
/// [`Error::Spec`] says what is too much.
pub(super) fn check(launch: &Launch) -> Result<(), Error> {
    let options = &launch.firecracker;
    let devices = launch.roots.len()
        + 1
        + launch.attached.len()
        + launch.interfaces.len()
        + usize::from(options.entropy)
        + usize::from(options.balloon.is_some());
    if devices > DEVICES {
        return Err(Error::Spec(format!(
            "a VM of Firecracker's has at most {DEVICES} devices; this one would have {devices}"
        )));
    }
    let length = boot_arguments(launch).len() + ADDED * (devices + 1);
    if length > COMMAND_LINE_LIMIT {
        return Err(Error::Spec(format!(
            "the kernel's command line would have {length} bytes; Firecracker takes {COMMAND_LINE_LIMIT}"
        )));
    }
    Ok(())
}

/// All calls from a process that has just started to a VM that runs.
pub(super) fn calls(launch: &Launch, version: Version) -> Result<Vec<Call>, Error> {
    let options = &launch.firecracker;
    let mut calls = vec![Call::put(
        "/logger",
        json!({"log_path": LOG, "level": "Info"}),
    )];
    if let Some(bucket) = options.console_limit {
        calls.push(Call::put("/serial", json!({"rate_limiter": bucket})));
    }
    calls.push(Call::put("/machine-config", machine(launch)));
    let boot = json!({
        "kernel_image_path": KERNEL,
        "initrd_path": INITRAMFS,
        "boot_args": boot_arguments(launch),
    });
    calls.push(Call::put("/boot-source", boot));
    calls.extend(drives(launch));
    calls.extend(interfaces(launch));
    if options.entropy {
        let mut entropy = Map::new();
        put(&mut entropy, "rate_limiter", &options.entropy_limit);
        calls.push(Call::put("/entropy", entropy.into()));
    }
    if let Some(balloon) = options.balloon {
        let mut body = json!({
            "amount_mib": balloon.amount,
            "deflate_on_oom": balloon.deflate_on_oom,
        });
        if balloon.free_page_reporting {
            body["free_page_reporting"] = true.into();
        }
        calls.push(Call::put("/balloon", body));
    }
    calls.push(Call::put("/mmds/config", mmds(launch)));
    calls.push(metadata(&launch.metadata)?);
    calls.push(Call::put(
        "/actions",
        json!({"action_type": "InstanceStart"}),
    ));
    let known = calls.into_iter().filter_map(|call| version.known(call));
    Ok(known.collect())
}

/// The call that replaces the metadata.
pub(super) fn metadata(document: &firebuild_protocol::metadata::Document) -> Result<Call, Error> {
    let document = serde_json::to_value(document)
        .map_err(|source| Error::io("write the VM's metadata", source))?;
    Ok(Call::put("/mmds", document))
}

/// The kernel's command line: what every VM has, and what makes the boot quick here. There is no PCI
/// bus to look for, one serial line, and of the keyboard controller only its reset button. Unlike in
/// Firecracker's own default there is no `nomodule`: the agent loads modules.
fn boot_arguments(launch: &Launch) -> String {
    format!(
        "pci=off 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce {}",
        launch.command_line
    )
}

fn machine(launch: &Launch) -> Value {
    let options = &launch.firecracker;
    let mut machine = Map::new();
    machine.insert("vcpu_count".to_owned(), launch.cpus.into());
    machine.insert("mem_size_mib".to_owned(), launch.memory.into());
    machine.insert("smt".to_owned(), options.smt.into());
    put(&mut machine, "cpu_template", &options.cpu_template);
    let pages = (options.huge_pages != HugePages::None).then_some(options.huge_pages);
    put(&mut machine, "huge_pages", &pages);
    machine.into()
}

/// In the order in which the guest finds them: Firecracker gives no serial numbers of ours.
fn drives(launch: &Launch) -> Vec<Call> {
    let options = &launch.firecracker;
    let drive = |name: &str, path: String, read_only: bool| {
        let mut body = json!({
            "drive_id": name,
            "path_on_host": path,
            // The initramfs finds the root; Firecracker would add to the command line.
            "is_root_device": false,
            "is_read_only": read_only,
        });
        if !read_only {
            // The other way does not let the guest flush, so that a crash of the host loses what
            // the guest believes to be safe.
            body["cache_type"] = "Writeback".into();
        }
        if let Some(body) = body.as_object_mut() {
            put(body, "rate_limiter", &options.drive_limit);
        }
        Call::put(format!("/drives/{name}"), body)
    };
    let mut calls = Vec::new();
    for index in 0..launch.roots.len() {
        let path = jail::root(index);
        calls.push(drive(&crate::vmm::root_serial(index), path, true));
    }
    calls.push(drive("disk", DISK.to_owned(), false));
    for (index, disk) in launch.attached.iter().enumerate() {
        calls.push(drive(&disk.serial, jail::attached(index), disk.read_only));
    }
    calls
}

fn interfaces(launch: &Launch) -> Vec<Call> {
    let options = &launch.firecracker;
    let interface = |(index, interface): (usize, &crate::vmm::GuestInterface)| {
        let mut body = Map::new();
        body.insert("iface_id".to_owned(), name(index).into());
        body.insert("host_dev_name".to_owned(), interface.device.clone().into());
        body.insert("guest_mac".to_owned(), interface.mac.to_string().into());
        // The guest is the receiver; so it is Firecracker's words that are meant.
        put(&mut body, "rx_rate_limiter", &options.receive_limit);
        put(&mut body, "tx_rate_limiter", &options.send_limit);
        Call::put(format!("/network-interfaces/{}", name(index)), body.into())
    };
    launch
        .interfaces
        .iter()
        .enumerate()
        .map(interface)
        .collect()
}

/// On all devices: whichever way the guest's route goes, the metadata are there.
fn mmds(launch: &Launch) -> Value {
    let names: Vec<String> = (0..launch.interfaces.len()).map(name).collect();
    json!({
        "version": "V2",
        "network_interfaces": names,
        "ipv4_address": METADATA_ADDRESS.to_string(),
    })
}

fn name(index: usize) -> String {
    format!("net{index}")
}

fn put(body: &mut Map<String, Value>, name: &str, value: &Option<impl serde::Serialize>) {
    if let Some(value) = value
        && let Ok(value) = serde_json::to_value(value)
    {
        body.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::FirecrackerOptions;
    use super::*;
    use crate::vmm::tests::launch;

    fn paths(launch: &Launch, version: Version) -> Vec<String> {
        let calls = calls(launch, version).unwrap();
        calls.iter().map(ToString::to_string).collect()
    }

    fn body(launch: &Launch, version: Version, path: &str) -> Value {
        let calls = calls(launch, version).unwrap();
        let call = calls.into_iter().find(|call| call.path == path);
        call.unwrap().body.unwrap()
    }

    #[test]
    fn pitfall_03_calls_are_in_order_and_each_is_once() {
        let paths = paths(&launch(), super::super::version::NEWEST);
        assert_eq!(
            paths,
            [
                "PUT /logger",
                "PUT /machine-config",
                "PUT /boot-source",
                "PUT /drives/root",
                "PUT /drives/root1",
                "PUT /drives/disk",
                "PUT /drives/cache0",
                "PUT /network-interfaces/net0",
                "PUT /entropy",
                "PUT /mmds/config",
                "PUT /mmds",
                "PUT /actions",
            ]
        );
    }

    #[test]
    fn pitfall_14_what_the_guest_flushes_is_safe() {
        let launch = launch();
        for (path, cache) in [
            ("/drives/root", None),
            ("/drives/disk", Some("Writeback")),
            ("/drives/cache0", Some("Writeback")),
        ] {
            let body = body(&launch, super::super::version::NEWEST, path);
            assert_eq!(body["cache_type"].as_str(), cache, "{body}");
            assert_eq!(body["is_read_only"], cache.is_none());
            assert_eq!(body["is_root_device"], false);
        }
    }

    #[test]
    fn pitfall_16_the_command_line_makes_the_boot_quick_and_lets_modules_in() {
        let boot = body(&launch(), super::super::version::OLDEST, "/boot-source");
        let words: Vec<&str> = boot["boot_args"].as_str().unwrap().split(' ').collect();
        for word in ["pci=off", "i8042.noaux", "i8042.nomux", "i8042.dumbkbd"] {
            assert!(words.contains(&word), "{words:?}");
        }
        // What the machine says is last, so it has the last word.
        assert_eq!(words[words.len() - 2..], ["console=ttyS0", "a,b=c"]);
        assert!(!words.contains(&"nomodule"));
        assert!(!words.contains(&"i8042.noreset"));
    }

    #[test]
    fn options_are_in_the_calls() {
        use super::super::options::{Balloon, CpuTemplate, RateLimiter, TokenBucket};
        let mut launch = launch();
        let bucket = TokenBucket::per_second(7);
        let limit = Some(RateLimiter {
            bandwidth: Some(bucket),
            ops: None,
        });
        launch.firecracker = FirecrackerOptions {
            cpu_template: Some(CpuTemplate::T2CL),
            smt: true,
            huge_pages: HugePages::TwoMib,
            balloon: Some(Balloon {
                amount: 5,
                ..Balloon::default()
            }),
            entropy_limit: limit,
            drive_limit: limit,
            receive_limit: limit,
            console_limit: Some(bucket),
            ..FirecrackerOptions::default()
        };
        let newest = super::super::version::NEWEST;
        let body = |path| body(&launch, newest, path);
        let limited = json!({"bandwidth": {"size": 7, "refill_time": 1000}});
        let machine = json!({"vcpu_count": 2, "mem_size_mib": 512, "smt": true,
            "cpu_template": "T2CL", "huge_pages": "2M"});
        assert_eq!(body("/machine-config"), machine);
        assert_eq!(body("/drives/root1")["rate_limiter"], limited);
        assert_eq!(body("/network-interfaces/net0")["rx_rate_limiter"], limited);
        assert_eq!(
            body("/network-interfaces/net0")["tx_rate_limiter"],
            Value::Null
        );
        assert_eq!(body("/entropy"), json!({"rate_limiter": limited}));
        assert_eq!(
            body("/serial"),
            json!({"rate_limiter": limited["bandwidth"]})
        );
        assert_eq!(
            body("/balloon"),
            json!({"amount_mib": 5, "deflate_on_oom": false})
        );
    }

    #[test]
    fn too_much_is_refused_before_anything_starts() {
        let mut launch = launch();
        assert!(check(&launch).is_ok());
        launch.command_line = "x".repeat(COMMAND_LINE_LIMIT);
        let error = check(&launch).unwrap_err().to_string();
        assert!(error.contains("takes 2048"), "{error}");
        let mut launch = super::tests::launch();
        for number in 0..DEVICES {
            launch.attached.push(crate::vmm::AttachedDisk {
                serial: format!("a{number}"),
                file: fs_err::File::open("/dev/null").unwrap().into_parts().0,
                read_only: false,
            });
        }
        let error = check(&launch).unwrap_err().to_string();
        assert!(error.contains("at most 17 devices"), "{error}");
    }
}
