//! The images that are converted: made here, the same on every day.

use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use fs_err as fs;
use serde_json::{Value, json};

use crate::bench::BASE;
use crate::bench::host::Host;
use crate::shell;

/// How a layer is compressed, and what its media type says of it.
pub(super) const FORMATS: [&str; 2] = ["gzip", "zstd"];

/// An image to convert.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) directory: PathBuf,
    /// How many layers it has.
    pub(super) layers: usize,
}

impl Sample {
    /// The OCI image layout, whose images are named like [`FORMATS`].
    pub(super) fn layout(&self) -> PathBuf {
        self.directory.join("layout")
    }

    /// A layer as a plain or compressed archive.
    pub(super) fn archive(&self, layer: usize, format: &str) -> PathBuf {
        let ending = match format {
            "gzip" => "tar.gz",
            "zstd" => "tar.zst",
            _ => "tar",
        };
        self.directory.join(format!("{layer}.{ending}"))
    }
}

/// The Debian base, a tree of many small files, and an image of six layers.
pub(super) fn prepare(host: &Host) -> anyhow::Result<[Sample; 3]> {
    let sample = |name, layers, fill: &dyn Fn(usize, &Path) -> anyhow::Result<()>| {
        let directory = host.directory.join("samples").join(name);
        let sample = Sample {
            name,
            directory,
            layers,
        };
        if !sample.layout().exists() {
            make(&sample, fill).with_context(|| format!("cannot make the image `{name}`"))?;
        }
        Ok::<_, anyhow::Error>(sample)
    };
    Ok([
        sample("debian", 1, &|_, archive| debian(host, archive))?,
        sample("modules", 1, &|_, archive| packed(archive, modules))?,
        sample("development", SIZES.len(), &|layer, archive| {
            packed(archive, |tree| development(layer, tree))
        })?,
    ])
}

/// What the six layers of the large image have, in MiB.
const SIZES: [u32; 6] = [300, 200, 120, 90, 60, 30];

/// A minimal Debian with Perl and git: about 180 MB.
fn debian(host: &Host, archive: &Path) -> anyhow::Result<()> {
    let name = "bench/debian:1";
    let suite = BASE.split('-').next().unwrap_or(BASE);
    let words = [
        "baseos",
        "--bootstrap",
        suite,
        "--include",
        "perl,git",
        "--tag",
        name,
    ];
    shell::run(host.command().args(words))?;
    let mut export = host.command();
    export.args(["image", "export", name, "--type", "rootfs-tar", "-o"]);
    shell::run(export.arg(archive))?;
    shell::run(host.command().args(["image", "rm", name]))
}

/// 60,000 files of 100 bytes to 4 KB in 6,000 directories.
fn modules(tree: &Path) -> anyhow::Result<()> {
    let mut words = Words(1);
    for package in 0..6000_u32 {
        let directory = tree.join(format!(
            "node_modules/package-{}/{package}/lib",
            package % 700
        ));
        fs::create_dir_all(&directory)?;
        for file in 0..10 {
            let length = 100 + words.next() % 4000;
            let mut text = Vec::new();
            words.fill(&mut text, length as usize);
            fs::write(directory.join(format!("file{file}.js")), text)?;
        }
    }
    Ok(())
}

/// One layer of the image of six: files of 1 KB to 16 MB; what an upper layer has in place of a lower
/// one's is a tenth.
fn development(layer: usize, tree: &Path) -> anyhow::Result<()> {
    let mut words = Words(u32::try_from(layer)? + 7);
    let mut left = SIZES[layer] << 20;
    let mut number = 0;
    while left > 0 {
        let length = (1024 << (words.next() % 14)).min(left);
        left -= length;
        let owner = if number % 10 == 0 { 0 } else { layer };
        let directory = tree.join(format!("usr/lib/part{owner}/{}", number % 50));
        fs::create_dir_all(&directory)?;
        let mut text = Vec::new();
        words.fill(&mut text, length as usize);
        fs::write(directory.join(format!("lib{number}.so")), text)?;
        number += 1;
    }
    Ok(())
}

/// Text of words that a generator chooses: it compresses like programs do, to about a third.
struct Words(u32);

impl Words {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    fn fill(&mut self, text: &mut Vec<u8>, length: usize) {
        while text.len() < length {
            let word = self.next() % 5000;
            let scrambled = word.wrapping_mul(2_654_435_761).to_le_bytes();
            let size = 3 + (word % 11) as usize;
            text.extend(
                scrambled
                    .iter()
                    .cycle()
                    .take(size)
                    .zip(0_u8..)
                    .map(|(byte, at)| byte ^ at),
            );
        }
        text.truncate(length);
    }
}

fn packed(archive: &Path, fill: impl Fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let tree = archive.with_extension("tree");
    fs::create_dir_all(&tree)?;
    fill(&tree)?;
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--mtime=@1700000000",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ])
    .args(["--mode=go-w", "--format=pax"])
    .arg("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime")
    .arg("-cf")
    .arg(archive)
    .arg("-C")
    .arg(&tree)
    .arg(".");
    shell::run(&mut tar)?;
    Ok(fs::remove_dir_all(&tree)?)
}

fn make(sample: &Sample, fill: &dyn Fn(usize, &Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if sample.directory.exists() {
        fs::remove_dir_all(&sample.directory)?;
    }
    let partial = sample.directory.join("partial");
    fs::create_dir_all(partial.join("blobs/sha256"))?;
    let mut manifests = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in 0..sample.layers {
        let plain = sample.archive(layer, "plain");
        fill(layer, &plain)?;
        diff_ids.push(digest(&plain)?);
        for (program, options) in [("gzip", ["-6", "-nk"]), ("zstd", ["-3", "-qk"])] {
            shell::run(Command::new(program).args(options).arg(&plain))?;
        }
    }
    for format in FORMATS {
        let archives = (0..sample.layers).map(|layer| sample.archive(layer, format));
        let archives: Vec<_> = archives.collect();
        manifests.push(manifest(&partial, (format, format), &archives, &diff_ids)?);
    }
    finish(&partial, &sample.layout(), &manifests)
}

/// An image of these archives as an entry of a layout's index, called `name`.
fn manifest(
    layout: &Path,
    (name, format): (&str, &str),
    archives: &[PathBuf],
    diff_ids: &[String],
) -> anyhow::Result<Value> {
    let media_type = format!("application/vnd.oci.image.layer.v1.tar+{format}");
    let layers = archives.iter();
    let layers = layers.map(|path| linked(layout, path, &media_type));
    let layers = layers.collect::<anyhow::Result<Vec<_>>>()?;
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = written(layout, &config, "application/vnd.oci.image.config.v1+json")?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    let mut manifest = written(layout, &manifest, media_type)?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    Ok(manifest)
}

fn finish(partial: &Path, layout: &Path, manifests: &[Value]) -> anyhow::Result<()> {
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(partial.join("index.json"), index.to_string())?;
    let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
    fs::write(partial.join("oci-layout"), version)?;
    Ok(fs::rename(partial, layout)?)
}

/// A layout with three images: `base` is the first layer of a sample, `added` a layer of another, and
/// `both` has one over the other.
pub(super) fn on_base(
    host: &Host,
    base: &Sample,
    (added, layer): (&Sample, usize),
) -> anyhow::Result<PathBuf> {
    let layout = host
        .directory
        .join("samples")
        .join(format!("{}-on-{}", added.name, base.name));
    if layout.exists() {
        return Ok(layout);
    }
    let partial = layout.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(partial.join("blobs/sha256"))?;
    let archives = [base.archive(0, "gzip"), added.archive(layer, "gzip")];
    let diff_ids = [
        digest(&base.archive(0, "plain"))?,
        digest(&added.archive(layer, "plain"))?,
    ];
    let image = |name, range: Range<usize>| {
        manifest(
            &partial,
            (name, "gzip"),
            &archives[range.clone()],
            &diff_ids[range],
        )
    };
    let manifests = [
        image("base", 0..1)?,
        image("added", 1..2)?,
        image("both", 0..2)?,
    ];
    finish(&partial, &layout, &manifests)?;
    Ok(layout)
}

fn digest(path: &Path) -> anyhow::Result<String> {
    let line = shell::output(Command::new("sha256sum").arg(path))?;
    let hex = line.split(' ').next().unwrap_or_default();
    Ok(format!("sha256:{hex}"))
}

fn place(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn linked(layout: &Path, path: &Path, media_type: &str) -> anyhow::Result<Value> {
    let digest = digest(path)?;
    let place = place(layout, &digest);
    if !place.exists() {
        fs::hard_link(path, place)?;
    }
    let size = fs::metadata(path)?.len();
    Ok(json!({"mediaType": media_type, "digest": digest, "size": size}))
}

fn written(layout: &Path, value: &Value, media_type: &str) -> anyhow::Result<Value> {
    let text = value.to_string();
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no pipe")?
        .write_all(text.as_bytes())?;
    let line = String::from_utf8(child.wait_with_output()?.stdout)?;
    let digest = format!("sha256:{}", line.split(' ').next().unwrap_or_default());
    fs::write(place(layout, &digest), &text)?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": text.len()}))
}
