//! The fuzz targets `layer` and `manifest` for some seconds: see `fuzz/README.md`.

#[path = "../../../fuzz/harness.rs"]
mod harness;
#[path = "../../../fuzz/images/layer.rs"]
mod layer;
#[path = "../../../fuzz/images/manifest.rs"]
mod manifest;

#[test]
fn layers() {
    harness::hold("layer", layer::layer, 3000);
}

#[test]
fn manifests() {
    harness::hold("manifest", manifest::manifest, 3000);
}
