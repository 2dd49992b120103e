//! What VMs can run on.

use firebuild_machine::vmm::detect::Kvm;

use super::{Group, Host};

/// The versions of Firecracker that firebuild speaks: from, to, as minor versions of 1.
const FIRECRACKER: (u32, u32) = (10, 17);

pub(super) fn examine(host: &impl Host, group: &mut Group<'_>) {
    let kvm = host.kvm();
    let hardware = kvm == Kvm::Usable;
    match mend(&kvm) {
        None => group.good("KVM", kvm.to_string()),
        Some(mend) => group.advice(
            "KVM",
            format!("{kvm}: VMs are emulated, which is slow"),
            mend,
        ),
    }
    let firecracker = firecracker(host, group, hardware);
    qemu(host, group, hardware && firecracker);
}

fn mend(kvm: &Kvm) -> Option<&'static str> {
    match kvm {
        Kvm::Usable => None,
        Kvm::Missing => Some(
            "`modprobe kvm_intel` or `modprobe kvm_amd`; if that fails, turn virtualization on in the firmware, or nested virtualization where this host is a VM",
        ),
        Kvm::Denied => Some("run firebuild as root, or `setfacl -m u:$USER:rw /dev/kvm`"),
        Kvm::Broken(_) => Some("see what the kernel says with `dmesg | grep -i kvm`"),
        Kvm::Version(_) => Some("boot a kernel with a KVM of its own version"),
        Kvm::NoFlag => Some(
            "turn nested virtualization on for this VM, or use a host with hardware of its own",
        ),
    }
}

/// True if it is there with its jailer, in versions that are known.
fn firecracker(host: &impl Host, group: &mut Group<'_>, hardware: bool) -> bool {
    const GET: &str = "get `firecracker` and `jailer` of one release, 1.10 to 1.17, from the project's releases and put them into /usr/local/bin";
    let mut versions = Vec::new();
    for name in ["firecracker", "jailer"] {
        let Some(program) = host.program(name) else {
            if hardware {
                group.advice(name, "not installed", GET);
            } else {
                group.good(name, "not installed, and of no use without KVM");
            }
            continue;
        };
        let path = program.display().to_string();
        let said = host.output(&path, &["--version"], "");
        let version = said.as_deref().ok().and_then(version_of);
        match version {
            Some((1, minor)) if (FIRECRACKER.0..=FIRECRACKER.1).contains(&minor) => {
                group.good(name, format!("1.{minor}, `{path}`"));
                versions.push(minor);
            }
            Some((major, minor)) => group.advice(
                name,
                format!("`{path}` is version {major}.{minor}, which firebuild was not made for"),
                GET,
            ),
            None => group.advice(name, format!("`{path}` does not tell its version"), GET),
        }
    }
    match versions[..] {
        [firecracker, jailer] if firecracker == jailer => true,
        [_, _] => {
            group.advice("jailer", "it is of another version than firecracker", GET);
            true
        }
        _ => false,
    }
}

/// The first two numbers of the first word that looks like a version.
fn version_of(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some((major, minor))
    })
}

fn qemu(host: &impl Host, group: &mut Group<'_>, other: bool) {
    let name = match std::env::consts::ARCH {
        "aarch64" => "qemu-system-aarch64",
        _ => "qemu-system-x86_64",
    };
    const GET: &str = "`apt-get install qemu-system-x86` (or qemu-system-arm)";
    let Some(program) = host.program(name) else {
        return match other {
            true => group.good("QEMU", "not installed, and not needed beside Firecracker"),
            false => group.missing("QEMU", format!("there is no `{name}`"), GET),
        };
    };
    let path = program.display().to_string();
    match host.output(&path, &["--version"], "") {
        Ok(said) => {
            let version = version_of(&said).map(|(major, minor)| format!("{major}.{minor}, "));
            group.good("QEMU", format!("{}`{path}`", version.unwrap_or_default()));
        }
        Err(why) => group.missing("QEMU", format!("`{path}` does not work: {why}"), GET),
    }
    let virtiofsd = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"];
    let there = virtiofsd.iter().find(|path| host.exists(path));
    let there = there.map(|path| (*path).to_owned());
    let there = there.or_else(|| Some(host.program("virtiofsd")?.display().to_string()));
    match there {
        Some(path) => group.good("virtiofsd", format!("`{path}`")),
        None => group.advice(
            "virtiofsd",
            "not installed: directories of the host cannot be shared with VMs",
            "`apt-get install qemu-system-common` (Debian 12), or `virtiofsd` (later ones)",
        ),
    }
}
