//! A change goes out as a layer and comes back as the same change: the kernel's own overlay makes
//! it, and the kernel's own overlay shows what became of it.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::{Metadata, Timestamp};
use rustix::fs::{
    CWD, FileType, Gid, Mode, Uid, XattrFlags, chown, lsetxattr, lstat, makedev, mknodat,
};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

use super::{changes, lay};
use crate::attributes;
use crate::error::GuestError;

/// Runs a test that mounts, in a mount namespace that ends with it.
fn in_own_mounts(test: impl FnOnce(&Path) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        crate::sys::unshare(UnshareFlags::NEWNS).unwrap();
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .unwrap();
        // The build's directory: a tmpfs may lack user attributes.
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        test(directory.path());
    });
    thread.join().unwrap();
}

fn overlay(at: &Path, lowers: &[&Path], upper: Option<(&Path, &Path)>) {
    fs_err::create_dir_all(at).unwrap();
    let lowers: Vec<String> = lowers
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut options = format!(
        "lowerdir={},index=off,metacopy=off,redirect_dir=off",
        lowers.join(":")
    );
    if let Some((upper, work)) = upper {
        options += &format!(",upperdir={},workdir={}", upper.display(), work.display());
    }
    let options = std::ffi::CString::new(options).unwrap();
    mount(
        "overlay",
        at,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .unwrap();
}

fn directories<const N: usize>(base: &Path, names: [&str; N]) -> [PathBuf; N] {
    names.map(|name| {
        let path = base.join(name);
        fs_err::create_dir_all(&path).unwrap();
        path
    })
}

fn populate(lower: &Path) {
    for directory in ["kept/inner", "replaced/inner", "gone/inner", "mode"] {
        fs_err::create_dir_all(lower.join(directory)).unwrap();
    }
    for file in [
        "kept/file",
        "kept/inner/file",
        "replaced/inner/file",
        "replaced/file",
        "gone/file",
        "mode/file",
        "a-b",
    ] {
        fs_err::write(lower.join(file), file).unwrap();
    }
    fs_err::hard_link(lower.join("kept/file"), lower.join("kept/link")).unwrap();
}

/// Every kind of change.
fn change(root: &Path) {
    let at = |path: &str| root.join(path);
    fs_err::remove_dir_all(at("gone")).unwrap();
    fs_err::remove_dir_all(at("replaced")).unwrap();
    fs_err::create_dir(at("replaced")).unwrap();
    fs_err::write(at("replaced/new"), "new").unwrap();
    fs_err::remove_file(at("a-b")).unwrap();
    fs_err::create_dir(at("a-b")).unwrap();
    fs_err::write(at("a-b/c"), "").unwrap();
    fs_err::create_dir(at("a")).unwrap();
    fs_err::write(at("a/z"), "z").unwrap();
    fs_err::write(at("kept/file"), "changed").unwrap();
    fs_err::set_permissions(at("mode"), std::fs::Permissions::from_mode(0o1750)).unwrap();
    fs_err::write(at("suid"), "x").unwrap();
    chown(
        at("suid"),
        Some(Uid::from_raw(1000)),
        Some(Gid::from_raw(70_000)),
    )
    .unwrap();
    fs_err::set_permissions(at("suid"), std::fs::Permissions::from_mode(0o6755)).unwrap();
    fs_err::hard_link(at("suid"), at("a/hard")).unwrap();
    symlink("/dangling/\u{fc}", at("link")).unwrap();
    rustix::fs::link(at("link"), at("link-again")).unwrap();
    for (name, kind) in [
        ("fifo", FileType::Fifo),
        ("block", FileType::BlockDevice),
        ("char", FileType::CharacterDevice),
    ] {
        mknodat(
            CWD,
            at(name),
            kind,
            Mode::from_raw_mode(0o620),
            makedev(7, 300),
        )
        .unwrap();
    }
    drop(UnixListener::bind(at("socket")).unwrap());
    lsetxattr(at("suid"), "user.note", b"a\0b", XattrFlags::empty()).unwrap();
    // CAP_NET_BIND_SERVICE, as setcap(8) writes it.
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    lsetxattr(
        at("kept/inner/file"),
        "security.capability",
        capability,
        XattrFlags::empty(),
    )
    .unwrap();
    fs_err::write(at(&"n".repeat(255)), "long").unwrap();
    let sparse = fs_err::File::create(at("sparse")).unwrap();
    sparse.file().write_at(b"end", 3_000_000).unwrap();
    fs_err::write(at("old"), "").unwrap();
    let time = Timestamp {
        seconds: -2,
        nanoseconds: 123_456_789,
    };
    attributes::set_time(&at("old"), time).unwrap();
}

/// Everything that can be seen of a tree, but sockets; hard links by the first of their names.
fn seen(root: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        let mut entries: Vec<_> = fs_err::read_dir(&directory)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        entries.sort();
        for at in entries {
            let stat = lstat(&at).unwrap();
            let name = at.strip_prefix(root).unwrap().display().to_string();
            let kind = FileType::from_raw_mode(stat.st_mode);
            let content = match kind {
                FileType::Directory => {
                    todo.push(at.clone());
                    String::new()
                }
                FileType::RegularFile => {
                    firebuild_core::Digest::of(&fs_err::read(&at).unwrap()).to_string()
                }
                FileType::Symlink => fs_err::read_link(&at).unwrap().display().to_string(),
                FileType::Socket => continue,
                _ => stat.st_rdev.to_string(),
            };
            let first = inodes
                .entry(stat.st_ino)
                .or_insert_with(|| name.clone())
                .clone();
            let metadata = attributes::read(&at, &stat).unwrap();
            seen.insert(name, format!("{kind:?} {content} {metadata:?} {first}"));
        }
    }
    seen
}

#[test]
fn a_change_comes_back_as_it_went_out() {
    in_own_mounts(|base| {
        let [lower, upper, work, again] = directories(base, ["lower", "upper", "work", "again"]);
        let (merged, shown) = (base.join("merged"), base.join("shown"));
        populate(&lower);
        attributes::copy(&lower, &upper).unwrap();
        overlay(&merged, &[&lower], Some((&upper, &work)));
        change(&merged);
        let below = attributes::read(&lower, &lstat(&lower).unwrap()).unwrap();
        let layer = changes::write(&upper, &below, Vec::new()).unwrap();
        assert_eq!(layer, changes::write(&upper, &below, Vec::new()).unwrap());
        attributes::copy(&lower, &again).unwrap();
        lay::unpack(&layer[..], &again).unwrap();
        overlay(&shown, &[&again, &lower], None);
        let (expected, found) = (seen(&merged), seen(&shown));
        assert_eq!(
            expected.keys().collect::<Vec<_>>(),
            found.keys().collect::<Vec<_>>()
        );
        for (name, entry) in &expected {
            assert_eq!(Some(entry), found.get(name), "{name}");
        }
        let attributes_of = |at: &Path| attributes::read(at, &lstat(at).unwrap()).unwrap();
        assert_eq!(attributes_of(&merged), attributes_of(&shown));
        assert_eq!(layer, changes::write(&again, &below, Vec::new()).unwrap());
        for at in [&shown, &merged] {
            rustix::mount::unmount(at, rustix::mount::UnmountFlags::empty()).unwrap();
        }
    });
}

#[test]
fn nothing_changed_is_an_empty_layer() {
    let directory = tempfile::tempdir().unwrap();
    let below = attributes::read(directory.path(), &lstat(directory.path()).unwrap()).unwrap();
    let layer = changes::write(directory.path(), &below, Vec::new()).unwrap();
    assert_eq!(layer, LayerWriter::new(Vec::new()).finish().unwrap());
}

#[test]
fn a_name_that_means_something_else_in_a_layer_is_refused() {
    for name in [".wh.x", ".wh..wh..opq", ".wh."] {
        let upper = tempfile::tempdir().unwrap();
        fs_err::create_dir(upper.path().join("d")).unwrap();
        fs_err::write(upper.path().join("d").join(name), "").unwrap();
        let below = Metadata::default();
        let error = changes::write(upper.path(), &below, Vec::new()).unwrap_err();
        let expected = format!("`/d/{name}` cannot be in an image");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

fn laid(
    write: impl FnOnce(&mut LayerWriter<Vec<u8>>),
) -> (tempfile::TempDir, Result<(), GuestError>) {
    let mut writer = LayerWriter::new(Vec::new());
    write(&mut writer);
    let directory = tempfile::tempdir().unwrap();
    let result = lay::unpack(&writer.finish().unwrap()[..], directory.path());
    (directory, result)
}

#[test]
fn nothing_is_laid_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().as_os_str().as_encoded_bytes().to_vec();
    let (_directory, result) = laid(|w| {
        let metadata = Metadata::root_owned(0o644);
        w.entry(b"link", &metadata, Entry::Symlink(&target))
            .unwrap();
        w.file(b"link/file", &metadata, 1, &mut &b"x"[..]).unwrap();
    });
    assert!(matches!(result, Err(GuestError::Layer(_))), "{result:?}");
    assert_eq!(fs_err::read_dir(outside.path()).unwrap().count(), 0);
    let (_directory, result) = laid(|w| {
        let metadata = Metadata::root_owned(0o644);
        w.entry(b"link", &metadata, Entry::Symlink(b"/etc"))
            .unwrap();
        w.entry(b"stolen", &metadata, Entry::HardLink(b"link/passwd"))
            .unwrap();
    });
    assert!(matches!(result, Err(GuestError::Layer(_))), "{result:?}");
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let (directory, result) = laid(|w| {
        let metadata = Metadata::root_owned(0o644);
        w.file(b"x", &metadata, 3, &mut &b"one"[..]).unwrap();
        w.file(b"x", &metadata, 3, &mut &b"two"[..]).unwrap();
        w.entry(b"y", &metadata, Entry::Fifo).unwrap();
        w.whiteout(b"y").unwrap();
        w.whiteout(b"z").unwrap();
        w.entry(b"z", &Metadata::root_owned(0o755), Entry::Directory)
            .unwrap();
    });
    result.unwrap();
    let at = |name: &str| directory.path().join(name);
    assert_eq!(fs_err::read(at("x")).unwrap(), b"two");
    let stat = lstat(at("y")).unwrap();
    assert_eq!(
        (FileType::from_raw_mode(stat.st_mode), stat.st_rdev),
        (FileType::CharacterDevice, 0)
    );
    assert!(attributes::is_opaque(&at("z")).unwrap());
}

#[test]
fn a_layer_that_is_cut_off_is_refused() {
    let mut writer = LayerWriter::new(Vec::new());
    let metadata = Metadata::root_owned(0o644);
    writer
        .file(b"x", &metadata, 5000, &mut &[7; 5000][..])
        .unwrap();
    let layer = writer.finish().unwrap();
    for length in [0, 100, 512, 3000, layer.len() - 1024] {
        let directory = tempfile::tempdir().unwrap();
        assert!(
            lay::unpack(&layer[..length], directory.path()).is_err(),
            "{length}"
        );
    }
}
