//! VMs in the hands of a process that is no supervisor, as builds have them, with processes in
//! place of VMs. Needs root.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use firebuild_machine::machine::Ended;
use firebuild_machine::record::{Record, State};
use firebuild_machine::testing::no_calls;
use firebuild_machine::vmm::VmmExit;
use firebuild_machine::{Host, Machine, MachineSpec, Purpose, Report, client, reconcile};

use crate::host::{Place, spec};

fn build() -> MachineSpec {
    MachineSpec {
        purpose: Purpose::Build,
        ..spec(&["build"])
    }
}

async fn connected(host: &Host) -> Machine {
    let mut machine = Machine::create(host, build()).unwrap();
    machine.start(no_calls()).await.unwrap();
    machine.connected().await.unwrap();
    machine.mark_running().unwrap();
    machine
}

/// A builder that never ends.
pub(crate) fn be_builder() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let machine = connected(&crate::host::host(&crate::host::root())).await;
        println!("\nconnected");
        machine.ended().await;
    });
    std::process::exit(1);
}

fn records(place: &Place) -> Vec<Record> {
    client::list(&place.host).unwrap()
}

#[tokio::test]
async fn a_build_vm_lives_until_it_is_released() {
    let place = Place::new();
    let machine = connected(&place.host).await;
    let record = records(&place).remove(0);
    assert_eq!(record, *machine.record());
    assert_eq!(record.state, State::Running);
    assert!(place.host.store.machines().is_running(&record.id).unwrap());
    let reason = Report::new("the build is done");
    machine.release(State::Failed { reason }).await.unwrap();
    assert!(records(&place).is_empty());
    place.assert_released(&record);
}

#[tokio::test]
async fn a_killed_vmm_is_noticed() {
    let place = Place::new();
    let machine = connected(&place.host).await;
    machine.kill();
    assert_eq!(machine.ended().await, Ended::Vmm(VmmExit::Signal(9)));
}

#[tokio::test]
async fn a_vm_that_is_dropped_is_released() {
    let place = Place::new();
    let machine = connected(&place.host).await;
    let record = machine.record().clone();
    drop(machine);
    assert!(records(&place).is_empty());
    place.assert_released(&record);
    // One that never started, too.
    let machine = Machine::create(&place.host, build()).unwrap();
    assert_eq!(records(&place).len(), 1);
    drop(machine);
    assert!(records(&place).is_empty());
}

#[tokio::test]
async fn a_guest_that_does_not_call_is_told_by_time() {
    let place = Place::new();
    let spec = MachineSpec {
        connect_time: Some(Duration::from_millis(300)),
        kernel_arguments: vec!["test=never-calls".to_owned()],
        ..build()
    };
    let mut machine = Machine::create(&place.host, spec).unwrap();
    machine.start(no_calls()).await.unwrap();
    let error = machine.connected().await.unwrap_err();
    assert!(
        error.to_string().contains("did not reach the host"),
        "{error}"
    );
}

#[test]
fn a_builder_that_is_killed_is_cleaned_up_after() {
    let place = Place::new();
    let mut builder = crate::host::program("builder", place.root());
    let mut builder = builder.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(builder.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap() == "connected"));
    let record = records(&place).remove(0);
    assert!(reconcile::reconcile(&place.host).unwrap().is_empty());
    builder.kill().unwrap();
    builder.wait().unwrap();
    let dead = reconcile::reconcile(&place.host).unwrap();
    assert_eq!(dead, std::slice::from_ref(&record.id));
    assert!(records(&place).is_empty());
    place.assert_released(&record);
}
