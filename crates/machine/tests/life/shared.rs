//! What VMs share on the host, when whoever took the last one down died before it got to that.

use std::process::Command;

use firebuild_machine::reconcile;

use crate::host::{Place, network};

fn nft(words: &[&str]) -> String {
    let output = Command::new("nft").args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn purge_removes_what_no_vm_uses_any_more() {
    let place = Place::new();
    let name = network(place.root());
    nft(&["add", "table", "inet", &name]);
    assert!(nft(&["list", "tables"]).contains(&name));
    reconcile::purge(&place.host).unwrap();
    assert!(!nft(&["list", "tables"]).contains(&name));
}
