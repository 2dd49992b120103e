//! The host's VMs and its store in numbers, as Prometheus reads them.
//!
//! * [`text`]: families of samples, in Prometheus' text format.
//! * [`process`]: what the kernel tells of a VMM.
//! * [`serve`]: the same over HTTP.

mod process;
pub(crate) mod serve;
mod text;

use firebuild_builder::care;
use firebuild_machine::{Host, Record, client, reconcile};
use firebuild_store::Category;

use text::{Families, Kind};

/// The most VMs that are told; the oldest of more are left out, and how many there are is told.
const MOST: usize = 5000;

/// Everything, as it is now.
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn gather(host: &Host) -> anyhow::Result<String> {
    reconcile::reconcile(host)?;
    let records = client::list(host)?;
    let mut families = Families::default();
    let version = env!("CARGO_PKG_VERSION");
    families.sample(
        "info",
        Kind::Gauge,
        "firebuild itself.",
        &[("version", version)],
        1.0,
    );
    let count = f64::from(u32::try_from(records.len()).unwrap_or(u32::MAX));
    families.sample(
        "vms",
        Kind::Gauge,
        "VMs that have a record, ended ones too.",
        &[],
        count,
    );
    let newest = records.len().saturating_sub(MOST);
    for record in records.iter().skip(newest) {
        machine(&mut families, record);
    }
    store(&mut families, host)?;
    Ok(families.to_string())
}

fn machine(families: &mut Families, record: &Record) {
    let id = record.id.to_string();
    let name = record.spec.name.as_ref().map(ToString::to_string);
    let image = record
        .spec
        .image
        .as_ref()
        .map(|image| image.reference.clone());
    let of = [
        ("id", id.as_str()),
        ("name", name.as_deref().unwrap_or_default()),
    ];
    let state = [
        of[0],
        of[1],
        ("image", image.as_deref().unwrap_or_default()),
        ("state", record.state.word()),
    ];
    let mut sample = |name, kind, help, value| families.sample(name, kind, help, &of, value);
    sample(
        "vm_cpus",
        Kind::Gauge,
        "Processors of the VM.",
        f64::from(record.spec.cpus),
    );
    let memory = f64::from(record.spec.memory) * 1_048_576.0;
    sample("vm_memory_bytes", Kind::Gauge, "Memory of the VM.", memory);
    let created = seconds(record.created);
    sample(
        "vm_created_time_seconds",
        Kind::Gauge,
        "When the VM was made.",
        created,
    );
    if let Some(started) = record.started {
        let help = "When its workload was started last.";
        sample("vm_start_time_seconds", Kind::Gauge, help, seconds(started));
    }
    let help = "How often its restart policy started it again.";
    sample(
        "vm_restarts_total",
        Kind::Counter,
        help,
        f64::from(record.restart_count),
    );
    let running = !record.state.is_final();
    if let Some(pid) = record.processes.vmm.filter(|_| running) {
        process::samples(pid, record, &mut sample);
    }
    families.sample(
        "vm_state",
        Kind::Gauge,
        "The state that the VM is in.",
        &state,
        1.0,
    );
}

fn seconds(time: jiff::Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

fn store(families: &mut Families, host: &Host) -> anyhow::Result<()> {
    for usage in care::usage(&host.store)? {
        let of = [("category", category(usage.category))];
        #[allow(
            clippy::cast_precision_loss,
            reason = "Prometheus has no other numbers"
        )]
        let (bytes, count, free) = (
            usage.bytes as f64,
            usage.count as f64,
            usage.reclaimable as f64,
        );
        let help = "What the store takes on the disk.";
        families.sample("store_bytes", Kind::Gauge, help, &of, bytes);
        let help = "What of that is in no use.";
        families.sample("store_reclaimable_bytes", Kind::Gauge, help, &of, free);
        let help = "How many there are in the store: images, results of builds, kernels, VMs.";
        families.sample("store_entries", Kind::Gauge, help, &of, count);
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "Prometheus has no other numbers"
    )]
    let free = host.store.free_space()? as f64;
    let help = "Free space of the store's file system.";
    families.sample("store_free_bytes", Kind::Gauge, help, &[], free);
    Ok(())
}

fn category(category: Category) -> &'static str {
    match category {
        Category::Images => "images",
        Category::RootFileSystems => "root-file-systems",
        Category::BuildCache => "build-cache",
        Category::Downloads => "downloads",
        Category::CacheMounts => "cache-mounts",
        Category::Volumes => "volumes",
        Category::Kernels => "kernels",
        Category::Machines => "microvms",
        Category::Other => "other",
    }
}
