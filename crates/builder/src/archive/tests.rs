//! Archives as the usual tools make them, and some that no tool makes.

use std::path::Path;
use std::process::{Command, Stdio};

use firebuild_core::tree::Kind;

use super::*;

struct Place {
    directory: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    fn open(&self, bytes: &[u8]) -> Result<Option<Archive>, ArchiveError> {
        open(&self.store, bytes, &Limits::default())
    }

    fn tree(&self, bytes: &[u8]) -> Vec<String> {
        listed(&self.open(bytes).unwrap().unwrap())
    }

    /// A directory with one of everything.
    fn sample(&self) -> std::path::PathBuf {
        let path = self.directory.path().join("sample");
        fs_err::create_dir_all(path.join("dir/deep")).unwrap();
        fs_err::write(path.join("dir/file"), "content").unwrap();
        fs_err::hard_link(path.join("dir/file"), path.join("dir/hard")).unwrap();
        std::os::unix::fs::symlink("../dir/file", path.join("dir/link")).unwrap();
        let long = "n".repeat(200);
        fs_err::write(path.join("dir/deep").join(&long), "x").unwrap();
        let sparse = fs_err::File::create(path.join("sparse")).unwrap();
        sparse.set_len(1 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(sparse.file(), b"end", (1 << 20) - 3).unwrap();
        path
    }
}

/// `path size`, `path/` or `path -> target` for each entry.
fn listed(archive: &Archive) -> Vec<String> {
    let tree = archive.tree(0).unwrap();
    let mut sources = firebuild_oci::Sources::new();
    sources.add_file(archive.file.try_clone().unwrap());
    let mut lines = Vec::new();
    tree.walk(&mut |path, id| {
        let path = String::from_utf8_lossy(path);
        lines.push(match &tree.node(id).kind {
            _ if path.is_empty() => return,
            Kind::Directory(_) => format!("{path}/"),
            Kind::Symlink(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Kind::File(content) => {
                let mut text = String::new();
                let mut reader = sources.open(content).unwrap();
                reader.read_to_string(&mut text).unwrap();
                format!("{path} {}", text.trim_start_matches('\0'))
            }
            _ => format!("{path} ?"),
        });
    });
    lines
}

fn run(program: &str, arguments: &[&str], directory: &Path, input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

fn tar(arguments: &[&str], directory: &Path) -> Vec<u8> {
    run(
        "tar",
        &[&["-c"], arguments, &["."]].concat(),
        directory,
        b"",
    )
}

/// A plain header of one entry, to be followed by its content.
fn header(path: &str, kind: u8, size: usize, link: &str) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..path.len()].copy_from_slice(path.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000001");
    block[116..123].copy_from_slice(b"0000002");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[test]
fn archives_of_every_form_and_compression_are_read() {
    let place = Place::new();
    let sample = place.sample();
    let long = format!("dir/deep/{} x", "n".repeat(200));
    let expected = [
        "dir/",
        "dir/deep/",
        &long,
        "dir/file content",
        "dir/hard content",
        "dir/link -> ../dir/file",
        "sparse end",
    ];
    for form in ["gnu", "oldgnu", "pax"] {
        for more in [&[][..], &["-S"], &["-P", "--transform=s,^./,/,"]] {
            let form = format!("--format={form}");
            let arguments = [&[form.as_str()], more].concat();
            let plain = tar(&arguments, &sample);
            assert_eq!(place.tree(&plain), expected, "{arguments:?}");
        }
    }
    let plain = tar(&[], &sample);
    for (program, arguments) in [
        ("gzip", &["-c"][..]),
        ("bzip2", &["-c"]),
        ("xz", &["-c"]),
        ("xz", &["-9", "-c"]),
        ("zstd", &["-q", "-c"]),
        ("zstd", &["-q", "-19", "-c"]),
    ] {
        let compressed = run(program, arguments, &sample, &plain);
        assert_eq!(place.tree(&compressed), expected, "{program}");
    }
    let old = run("tar", &["-c", "--format=v7", "dir/file"], &sample, b"");
    assert_eq!(place.tree(&old), ["dir/", "dir/file content"]);
}

#[test]
fn what_is_no_archive_is_left_alone() {
    let place = Place::new();
    let text = b"text, and not an archive. ".repeat(100);
    let here = place.directory.path();
    for bytes in [
        &b""[..],
        &text,
        &[0; 10240],
        &[0x1f, 0x8b],
        b"\x1f\x8b\x08 only begins like gzip",
        b"BZh9 and so on",
        b"\xfd7zXZ\0",
        &run("gzip", &["-c"], here, &text),
        &run("bzip2", &["-c"], here, &text),
        &run("xz", &["-c"], here, &text),
        &run("zstd", &["-q", "-c"], here, &text),
        &run("gzip", &["-c"], here, &[0; 10240]),
        // One byte of the header is wrong.
        &[b"y", &header("x", b'0', 0, "")[1..]].concat(),
        &header("x", b'0', 0, "")[..511],
    ] {
        assert!(
            place.open(bytes).unwrap().is_none(),
            "{} bytes",
            bytes.len()
        );
    }
}

#[test]
fn what_stands_after_an_archives_end_does_not_matter() {
    let place = Place::new();
    let mut archive = header("x", b'0', 0, "");
    assert_eq!(place.tree(&archive), ["x "]);
    archive.extend([0; 1024]);
    archive.extend(b"leftovers");
    assert_eq!(place.tree(&archive), ["x "]);
    let here = place.directory.path();
    let mut compressed = run("gzip", &["-c"], here, &archive);
    compressed.extend([0; 100]);
    assert_eq!(place.tree(&compressed), ["x "]);
}

#[test]
fn names_stay_inside() {
    let place = Place::new();
    for (path, expected) in [("/etc/x", "etc/x "), ("./a/../x", "x "), ("//x", "x ")] {
        let tree = place.tree(&header(path, b'0', 0, ""));
        assert_eq!(tree.last().map(String::as_str), Some(expected), "{path}");
    }
    for (path, kind, link, expected) in [
        (
            "../x",
            b'0',
            "",
            "entry `../x` of the archive is not valid: its path leads out of the archive with `..`",
        ),
        ("a/../../x", b'0', "", "leads out of the archive"),
        ("/../x", b'0', "", "leads out of the archive"),
        ("x", b'1', "../y", "leads out of the archive"),
        ("x", b'1', "/", "a hard link to the root directory"),
        ("x", b'9', "", "its kind `9` is not known"),
    ] {
        let error = place.open(&header(path, kind, 0, link)).unwrap_err();
        assert!(error.to_string().contains(expected), "{path}: {error}");
    }
}

#[test]
fn links_stay_inside() {
    let place = Place::new();
    let through = |target: &str| {
        let link = header("l", b'2', 0, target);
        [link, header("l/x", b'0', 0, "")].concat()
    };
    assert_eq!(place.tree(&through("/d")), ["d/", "d/x ", "l -> /d"]);
    assert_eq!(
        place.tree(&through("d/../e")),
        ["e/", "e/x ", "l -> d/../e"]
    );
    for target in ["..", "../../etc", "d/../../x"] {
        let archive = place.open(&through(target)).unwrap().unwrap();
        let error = archive.tree(0).unwrap_err();
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            error,
            "`l/x` leads out of the destination through a symbolic link"
        );
    }
    let looping = place.open(&through("l")).unwrap().unwrap();
    assert!(looping.tree(0).is_err());
}

#[test]
fn a_cut_off_archive_is_refused() {
    let place = Place::new();
    let sample = place.sample();
    let plain = tar(&[], &sample);
    let compressed = run("gzip", &["-c"], &sample, &plain);
    for (bytes, cut) in [(&plain, 700_000), (&plain, 10_700), (&compressed, 600)] {
        let error = place.open(&bytes[..bytes.len().min(cut)]).unwrap_err();
        assert!(matches!(error, ArchiveError::CutOff(_)), "{error:?}");
    }
}

#[test]
fn bombs_do_not_go_off() {
    let place = Place::new();
    let limits = Limits {
        free: 1 << 20,
        size: 1 << 30,
        ..Limits::default()
    };
    let mut zeros = header("zeros", b'0', 64 << 20, "");
    zeros.resize(512 + (64 << 20), 0);
    let here = place.directory.path();
    for (program, arguments) in [
        ("xz", &["-c"][..]),
        ("zstd", &["-q", "-c"]),
        ("bzip2", &["-c"]),
    ] {
        let bomb = run(program, arguments, here, &zeros);
        assert!(bomb.len() < 64 << 10, "{program}");
        let error = open(&place.store, bomb.as_slice(), &limits).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Bomb(1000)),
            "{program}: {error:?}"
        );
    }
    let small = Limits {
        size: 32 << 20,
        ..Limits::default()
    };
    let error = open(&place.store, zeros.as_slice(), &small).unwrap_err();
    assert!(matches!(error, ArchiveError::Large { .. }), "{error:?}");
    let few = Limits {
        entries: layer::Limits {
            entries: 10,
            ..layer::Limits::default()
        },
        ..Limits::default()
    };
    let many = header("x", b'0', 0, "").repeat(11);
    let error = open(&place.store, many.as_slice(), &few).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive is too large: more than 10 entries"
    );
    // Holes take nothing here and everything in a layer.
    let sparse = fs_err::File::create(here.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let holes = run("tar", &["-c", "-S", "sparse"], here, b"");
    let error = place.open(&holes).unwrap_err();
    assert!(matches!(error, ArchiveError::Large { .. }), "{error:?}");
    sparse.set_len(32 << 30).unwrap();
    let holes = run("tar", &["-c", "-S", "sparse"], here, b"");
    let error = place.open(&holes).unwrap_err();
    assert!(matches!(error, ArchiveError::Bomb(_)), "{error:?}");
    assert_eq!(
        fs_err::read_dir(place.store.path().join("tmp"))
            .unwrap()
            .count(),
        0
    );
}
