//! Layers that are made to hurt whoever unpacks them: each a clear error in bounded time and memory, and
//! nothing of it in the store.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::Metadata;
use firebuild_core::{Digest, Hasher, Platform};
use serde_json::{Value, json};

use crate::session as fresh;
use crate::session::{Outcome, Session};

/// More than any of them needs, in MiB: a tree of as many directories as there may be takes 1430.
const MEMORY: u64 = 1600;

/// More than any of them needs, without optimisation and on a busy machine.
const TIME: Duration = Duration::from_secs(90);

/// A layer's bytes on their way to an image layout: hashed, and compressed by `gzip`.
struct Packing {
    gzip: std::process::ChildStdin,
    hasher: Hasher,
}

impl std::io::Write for Packing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.gzip.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.gzip.flush()
    }
}

impl Packing {
    fn raw(&mut self, header: &Header, content: &[u8]) {
        self.write_all(&header.sealed()).unwrap();
        self.write_all(content).unwrap();
        let padding = content.len().next_multiple_of(512) - content.len();
        self.write_all(&vec![0; padding]).unwrap();
    }

    fn end(&mut self) {
        self.write_all(&[0; 1024]).unwrap();
    }
}

/// A header that may say anything.
struct Header([u8; 512]);

impl Header {
    fn new(name: &[u8], kind: u8, size: u64) -> Self {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(b"0000644");
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        Self(block)
    }

    fn link(mut self, target: &[u8]) -> Self {
        self.0[157..157 + target.len()].copy_from_slice(target);
        self
    }

    fn sealed(&self) -> [u8; 512] {
        let mut block = self.0;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (1..10).find(|digits| (rest + digits).to_string().len() == *digits);
    let length = rest + digits.unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

struct Case {
    what: &'static str,
    layer: fn(&mut Packing),
    /// What the error says.
    said: &'static str,
}

const CASES: &[Case] = &[
    Case {
        what: "a path with a NUL byte",
        layer: |out| {
            let records = record("path", b"etc/passwd\0.txt");
            out.raw(&Header::new(b"x", b'x', records.len() as u64), &records);
            out.raw(&Header::new(b"f", b'0', 0), b"");
            out.end();
        },
        said: "its path has a NUL byte",
    },
    Case {
        what: "a name that a terminal would obey",
        layer: |out| {
            out.raw(&Header::new(b"\x1b]0;owned\x07\n\x1b[2J", b'z', 0), b"");
            out.end();
        },
        said: "entry `\\u{1b}]0;owned\\u{7}\\n\\u{1b}[2J`",
    },
    Case {
        what: "a hundred thousand directories in each other",
        layer: |out| {
            let records = record("path", &b"d/".repeat(100_000));
            out.raw(&Header::new(b"x", b'x', records.len() as u64), &records);
            out.raw(&Header::new(b"f", b'5', 0), b"");
            out.end();
        },
        said: "exceeds the limit of 4096 bytes of a path",
    },
    Case {
        what: "16 EB in a header",
        layer: |out| out.raw(&Header::new(b"f", b'0', (1 << 63) - 512), b"x"),
        said: "bytes of file content",
    },
    Case {
        what: "16 EB of holes",
        layer: |out| {
            let size = (u64::MAX >> 1).to_string();
            let map = format!("{size},0");
            let records = [
                record("GNU.sparse.size", size.as_bytes()),
                record("GNU.sparse.name", b"f"),
                record("GNU.sparse.map", map.as_bytes()),
            ]
            .concat();
            out.raw(&Header::new(b"x", b'x', records.len() as u64), &records);
            out.raw(&Header::new(b"f", b'0', 0), b"");
            out.end();
        },
        said: "bytes of file content",
    },
    Case {
        what: "an extended header of 1 GB",
        layer: |out| {
            out.write_all(&Header::new(b"x", b'x', 1 << 30).sealed())
                .unwrap();
            for _ in 0..64 {
                out.write_all(&[b'1'; 1 << 20]).unwrap();
            }
        },
        said: "exceeds the limit of 2097152 bytes of an extended header",
    },
    Case {
        what: "eighty thousand attributes",
        layer: |out| {
            let names = (0..80_000).map(|number| format!("SCHILY.xattr.{number:x}"));
            let records: Vec<u8> = names.flat_map(|name| record(&name, b"")).collect();
            for _ in 0..20 {
                out.raw(&Header::new(b"x", b'x', records.len() as u64), &records);
                out.raw(&Header::new(b"f", b'0', 0), b"");
            }
            out.raw(&Header::new(b"../x", b'0', 0), b"");
        },
        said: "`..` part",
    },
    Case {
        what: "attributes of more than is allowed",
        layer: |out| {
            let names = (0..20).map(|number| format!("SCHILY.xattr.user.{number}"));
            let records: Vec<u8> = names
                .flat_map(|name| record(&name, &[b'v'; 65_000]))
                .collect();
            out.raw(&Header::new(b"x", b'x', records.len() as u64), &records);
            out.raw(&Header::new(b"f", b'0', 0), b"");
        },
        said: "exceeds the limit of 1048576 bytes of extended attributes",
    },
    Case {
        what: "a header for all that is copied for each",
        layer: |out| {
            let map = record("GNU.sparse.map", &b",0,0".repeat(400_000)[1..]);
            out.raw(&Header::new(b"g", b'g', map.len() as u64), &map);
            for _ in 0..200_000 {
                out.raw(&Header::new(b"d", b'5', 0), b"");
            }
            out.end();
        },
        said: "bytes of names and attributes",
    },
    Case {
        what: "directories that nobody lists",
        layer: |out| {
            let mut writer = LayerWriter::new(out);
            let metadata = Metadata::root_owned(0o644);
            for number in 0..2500 {
                let path = format!("{number}/{}f", "d/".repeat(2000));
                writer
                    .entry(path.as_bytes(), &metadata, Entry::Fifo)
                    .unwrap();
            }
            writer.finish().unwrap();
        },
        said: "the tree has more than 4 million entries",
    },
    Case {
        what: "directories that links lead to",
        layer: |out| {
            let mut writer = LayerWriter::new(out);
            let metadata = Metadata::root_owned(0o777);
            for number in 0..2500 {
                let target = format!("{number}/{}", "d/".repeat(2000));
                let name = format!("l{number}");
                let link = Entry::Symlink(target.as_bytes());
                writer.entry(name.as_bytes(), &metadata, link).unwrap();
                let path = format!("{name}/f");
                writer
                    .entry(path.as_bytes(), &metadata, Entry::Fifo)
                    .unwrap();
            }
            writer.finish().unwrap();
        },
        said: "the tree has more than 4 million entries",
    },
    Case {
        what: "long ways through links, again and again",
        layer: |out| {
            let mut writer = LayerWriter::new(out);
            let metadata = Metadata::root_owned(0o777);
            let long = "d/../".repeat(800);
            writer.entry(b"d", &metadata, Entry::Directory).unwrap();
            writer
                .entry(b"l0", &metadata, Entry::Symlink(b"."))
                .unwrap();
            for number in 1..39 {
                let target = format!("{long}l{}", number - 1);
                let link = Entry::Symlink(target.as_bytes());
                let name = format!("l{number}");
                writer.entry(name.as_bytes(), &metadata, link).unwrap();
            }
            for number in 0..200_000 {
                let path = format!("l38/{number}");
                writer
                    .entry(path.as_bytes(), &metadata, Entry::Fifo)
                    .unwrap();
            }
            writer.finish().unwrap();
        },
        said: "lead too far through symbolic links",
    },
    Case {
        what: "hard links to each other, and to nothing",
        layer: |out| {
            out.raw(&Header::new(b"a", b'1', 0).link(b"b"), b"");
            out.raw(&Header::new(b"b", b'1', 0).link(b"a"), b"");
            out.end();
        },
        said: "`b` does not exist",
    },
    Case {
        what: "a hard link to a directory",
        layer: |out| {
            out.raw(&Header::new(b"d", b'5', 0), b"");
            out.raw(&Header::new(b"l", b'1', 0).link(b"d"), b"");
            out.end();
        },
        said: "is a directory, which can have only one name",
    },
    Case {
        what: "a hard link out",
        layer: |out| {
            out.raw(&Header::new(b"l", b'1', 0).link(b"../../etc/shadow"), b"");
            out.end();
        },
        said: "`..` part",
    },
    Case {
        what: "an end within a file",
        layer: |out| {
            out.write_all(&Header::new(b"f", b'0', 1 << 30).sealed())
                .unwrap();
            out.write_all(&[1; 4096]).unwrap();
        },
        said: "within entry `f`",
    },
];

fn put(layout: &Path, bytes: &[u8], kind: &str) -> Value {
    let digest = Digest::of(bytes);
    fs_err::write(layout.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    let kind = format!("application/vnd.oci.image.{kind}");
    json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
}

/// A layout with an image of one layer.
fn layout(session: &Session, layer: fn(&mut Packing)) {
    let layout = session.path("layout");
    fs_err::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let mut gzip = Command::new("gzip")
        .arg("-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut packing = Packing {
        gzip: gzip.stdin.take().unwrap(),
        hasher: Hasher::new(),
    };
    let (diff_id, packed) = std::thread::scope(|scope| {
        let packer = scope.spawn(move || {
            layer(&mut packing);
            packing.hasher.finish()
        });
        let packed = gzip.wait_with_output().unwrap().stdout;
        (packer.join().unwrap(), packed)
    });
    let host = Platform::host();
    let config = json!({
        "architecture": host.architecture, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]},
    });
    let config = put(&layout, config.to_string().as_bytes(), "config.v1+json");
    let layer = put(&layout, &packed, "layer.v1.tar+gzip");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = put(&layout, manifest.to_string().as_bytes(), "manifest.v1+json");
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs_err::write(layout.join("index.json"), index.to_string()).unwrap();
}

/// Runs a command, and writes how many KiB it had in memory at most to a file.
const PEAK: &str = "
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], 'w').write(str(peak))
sys.exit(status)
";

/// What an import says, and its peak in MiB.
fn import(session: &Session) -> (Outcome, u64) {
    let inner = session.command(&["image", "import", "oci:layout", "--tag", "hostile"]);
    let peak = session.path("peak");
    let mut command = Command::new("python3");
    command.args(["-c", PEAK]).arg(&peak);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(inner.get_current_dir().unwrap());
    let outcome = Outcome::of(&mut command);
    let peak: u64 = fs_err::read_to_string(peak).unwrap().parse().unwrap();
    (outcome, peak >> 10)
}

#[test]
fn each_is_one_error_in_bounded_time_and_memory() {
    for case in CASES {
        let (session, _root) = fresh();
        let before = session.ok(&["system", "df", "--format", "json"]);
        layout(&session, case.layer);
        let start = Instant::now();
        let (outcome, peak) = import(&session);
        let took = start.elapsed();
        println!("{}: {peak} MiB, {took:.1?}", case.what);
        let said = outcome.failure();
        println!("{said}");
        assert!(said.contains(case.said), "{}: {said}", case.what);
        assert!(!said.replace('\n', "").contains(char::is_control), "{said}");
        let errors = said.lines().filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{said}");
        assert!(peak < MEMORY, "{}: {peak} MiB", case.what);
        assert!(took < TIME, "{}: {took:?}", case.what);
        session.ok(&["system", "verify"]);
        assert_eq!(session.ok(&["system", "df", "--format", "json"]), before);
        let left = fs_err::read_dir(session.root().join("v1/tmp")).unwrap();
        assert_eq!(left.count(), 0, "{}", case.what);
    }
}
