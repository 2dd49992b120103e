//! Archives there and back, and archives that nobody should trust.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::{Device, Metadata};

use super::*;

fn to(path: &Path, contents: bool, trusted: bool) -> Destination {
    Destination {
        path: path.to_owned(),
        contents,
        archive: false,
        trusted,
    }
}

fn packed(source: &Path) -> Vec<u8> {
    pack(source, false, Vec::new()).unwrap()
}

#[test]
fn a_tree_is_the_same_on_the_other_side() {
    let place = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let at = |path: &str| place.path().join(path);
    fs_err::create_dir_all(at("tree/.wh.sub")).unwrap();
    fs_err::write(at("tree/.wh.sub/file"), b"text").unwrap();
    fs_err::hard_link(at("tree/.wh.sub/file"), at("tree/again")).unwrap();
    symlink("/nowhere/else", at("tree/link")).unwrap();
    let sparse = fs_err::File::create(at("tree/sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(sparse.file(), b"end", (8 << 20) - 3).unwrap();
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    fs_err::set_permissions(at("tree/again"), mode(0o4711)).unwrap();
    fs_err::set_permissions(at("tree/.wh.sub"), mode(0o1750)).unwrap();
    std::os::unix::fs::chown(at("tree/.wh.sub"), Some(7), Some(8)).unwrap();
    rustix::fs::setxattr(
        at("tree/again"),
        "user.x",
        b"1",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let bytes = packed(&at("tree"));
    fs_err::create_dir(at("there")).unwrap();
    unpack(&bytes[..], &to(&at("there"), false, false)).unwrap();
    let facts = |root: &Path| {
        let found = ["", ".wh.sub", ".wh.sub/file", "again", "link", "sparse"].map(|path| {
            let found = fs_err::symlink_metadata(root.join(path)).unwrap();
            let times = (found.mtime(), found.mtime_nsec());
            (
                found.mode(),
                found.uid(),
                found.gid(),
                found.nlink(),
                found.len(),
                times,
            )
        });
        // How long a directory is says nothing.
        found.map(|(mode, uid, gid, links, length, times)| {
            let length = if mode & 0o170_000 == 0o040_000 {
                0
            } else {
                length
            };
            (mode, uid, gid, links, length, times)
        })
    };
    assert_eq!(facts(&at("there/tree")), facts(&at("tree")));
    let copy = fs_err::metadata(at("there/tree/sparse")).unwrap();
    assert!(copy.blocks() * 512 <= 64 << 10, "{}", copy.blocks());
    assert_eq!(
        fs_err::read(at("there/tree/sparse")).unwrap(),
        fs_err::read(at("tree/sparse")).unwrap()
    );
    let mut value = [0; 4];
    let length = rustix::fs::getxattr(at("there/tree/again"), "user.x", &mut value[..]);
    assert_eq!(length, Ok(1));
    // The second time, over what is there.
    unpack(&bytes[..], &to(&at("there"), false, false)).unwrap();
    assert_eq!(facts(&at("there/tree")), facts(&at("tree")));
}

/// The rules of `cp`: what is copied, what is there, and what is there afterwards.
#[test]
fn copies_land_where_cp_puts_them() {
    for (source, destination, contents, expected) in [
        ("file", "new", false, Ok("new")),
        ("file", "dir", false, Ok("dir/file")),
        ("file", "dir/", false, Ok("dir/file")),
        ("file", "old", false, Ok("old")),
        ("file", "to-old", false, Ok("old")),
        ("file", "to-dir", false, Ok("dir/file")),
        ("file", "none/", false, Err("there is no directory")),
        ("file", "none/new", false, Err("there is no directory")),
        ("tree", "new", false, Ok("new/inner")),
        ("tree", "new/", false, Ok("new/inner")),
        ("tree", "new", true, Ok("new/inner")),
        ("tree", "dir", false, Ok("dir/tree/inner")),
        ("tree", "dir", true, Ok("dir/inner")),
        ("tree", "old", false, Err("is not a directory")),
        ("tree", "full", false, Err("not a directory")),
    ] {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for directory in ["from/tree", "dir", "full"] {
            fs_err::create_dir_all(at(directory)).unwrap();
        }
        for file in ["from/file", "from/tree/inner", "old", "full/tree"] {
            fs_err::write(at(file), file).unwrap();
        }
        symlink("old", at("to-old")).unwrap();
        symlink("dir", at("to-dir")).unwrap();
        let bytes = packed(&at("from").join(source));
        let result = unpack(&bytes[..], &to(&at(destination), contents, false));
        let case = format!("{source} {destination} {contents}: {result:?}");
        match expected {
            Ok(path) => {
                result.unwrap();
                let text = fs_err::read_to_string(at(path)).unwrap_or_default();
                assert!(text == "from/file" || text == "from/tree/inner", "{case}");
            }
            Err(text) => {
                let error = result.unwrap_err().to_string().to_lowercase();
                assert!(error.contains(text), "{case}");
            }
        }
    }
}

#[test]
fn nothing_is_written_elsewhere() {
    let metadata = Metadata::root_owned(0o644);
    let archive = |entries: &[(&[u8], Entry<'_>)]| {
        let mut writer = LayerWriter::new(Vec::new());
        for (path, entry) in entries {
            match entry {
                Entry::File(_) => writer.file(path, &metadata, 4, &mut &b"evil"[..]).unwrap(),
                entry => writer.entry(path, &metadata, *entry).unwrap(),
            }
        }
        writer.finish().unwrap()
    };
    let file = Entry::File(4);
    let null = Entry::CharacterDevice(Device { major: 1, minor: 3 });
    for entries in [
        &[(&b"x"[..], Entry::Symlink(b"../out")), (b"x/file", file)][..],
        &[(b"x", Entry::Symlink(b"/tmp")), (b"x/file", file)],
        &[
            (b"x", Entry::Directory),
            (b"x/a", Entry::Symlink(b"../../out")),
            (b"x/a/file", file),
        ],
        &[
            (b"x", Entry::Symlink(b"../out/file")),
            (b"y", Entry::HardLink(b"x/../../out/file")),
        ],
        &[(b"x", null)],
        &[(b"x", Entry::Directory), (b"x/y", null)],
    ] {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for directory in ["in", "out"] {
            fs_err::create_dir(at(directory)).unwrap();
        }
        fs_err::write(at("out/file"), "mine").unwrap();
        assert!(
            unpack(&archive(entries)[..], &to(&at("in"), false, false)).is_err(),
            "{entries:?}"
        );
        assert_eq!(fs_err::read_to_string(at("out/file")).unwrap(), "mine");
        assert_eq!(fs_err::read_dir(at("out")).unwrap().count(), 1);
    }
    // `..` stays inside.
    let place = tempfile::tempdir().unwrap();
    let inside = place.path().join("in");
    fs_err::create_dir(&inside).unwrap();
    let _ = unpack(
        &archive(&[(b"../../up", file)])[..],
        &to(&inside, false, false),
    );
    assert!(!place.path().join("up").exists());
    // What is cut off is told, and so is what is no archive.
    let whole = archive(&[(b"x", file)]);
    for bytes in [&whole[..600], &b"nonsense"[..], &[7; 2000]] {
        assert!(unpack(bytes, &to(&inside, false, false)).is_err());
    }
}
