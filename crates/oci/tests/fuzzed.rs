//! The fuzz target `layer` for some seconds: see `fuzz/README.md`.

#[path = "../../../fuzz/harness.rs"]
mod harness;
#[path = "../../../fuzz/images/layer.rs"]
mod invariants;

#[test]
fn layers() {
    harness::hold("layer", invariants::layer, 3000);
}
