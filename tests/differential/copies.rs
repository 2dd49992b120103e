//! COPY and ADD.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::judge::{Case, Judge};
use crate::session::Outcome;

/// A context with something of everything that both can copy.
fn context() -> Judge {
    let judge = Judge::new();
    let context = judge.context();
    let write = |path: &str, text: &str, mode: u32| {
        let path = context.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, text).unwrap();
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("a.txt", "a", 0o644);
    write("b.txt", "bb", 0o600);
    write("tool", "#!/bin/sh", 0o4755);
    write("dir/one", "1", 0o640);
    write("dir/sub/two", "2", 0o644);
    write("dir/sub/three.txt", "3", 0o444);
    write("more/one", "other", 0o600);
    write("more/sub/four", "4", 0o644);
    write("with space/x", "odd", 0o644);
    write(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\napp:x:7:8::/:/bin/sh\n",
        0o644,
    );
    write("etc/group", "root:x:0:\napp:x:8:\nweb:x:9:\n", 0o644);
    let mode = |path: &str, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        fs_err::set_permissions(context.join(path), permissions).unwrap();
    };
    mode("dir", 0o2750);
    mode("dir/sub", 0o1700);
    mode("more/sub", 0o711);
    for (target, link) in [
        ("one", "dir/link"),
        ("/absolute", "dir/absolute"),
        ("nowhere", "dir/dangling"),
        ("dir", "tree"),
        ("a.txt", "file"),
        ("/opt/real", "links"),
    ] {
        symlink(target, context.join(link)).unwrap();
    }
    fs_err::hard_link(context.join("dir/one"), context.join("dir/hard")).unwrap();
    for arguments in [
        &["--owner=3", "--group=4", "-cf", "plain.tar", "dir", "a.txt"][..],
        &["--owner=3", "--group=4", "-czf", "zipped", "dir", "a.txt"],
        &["--owner=3", "--group=4", "-cf", "more.tar", "more"],
        &["-cjf", "dir.tbz", "./dir"],
        &["-cJf", "dir.txz", "-C", "dir", "."],
    ] {
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "--sort=name"]).args(arguments);
        Outcome::of(tar.current_dir(&context)).success();
    }
    judge
}

const fn same<'a>(name: &'a str, dockerfile: &'a str) -> Case<'a> {
    Case {
        name,
        dockerfile,
        differs: &[],
        because: "",
    }
}

#[test]
fn copies_are_as_buildahs() {
    context().compare(&[
        same("a file to a name", "FROM scratch\nCOPY a.txt /x/y\n"),
        same("a file to a directory", "FROM scratch\nCOPY a.txt /x/y/\n"),
        same("a file to the working directory", "FROM scratch\nWORKDIR /w/x\nCOPY a.txt .\nCOPY b.txt ./\n"),
        same("several files", "FROM scratch\nCOPY a.txt b.txt /x/\n"),
        same("a directory's contents", "FROM scratch\nCOPY more /x/\n"),
        same("a directory and a file", "FROM scratch\nCOPY more a.txt /x/\n"),
        same("merged directories", "FROM scratch\nCOPY more /x/\nCOPY dir /x/\n"),
        Case {
            name: "the whole context",
            dockerfile: "FROM scratch\nCOPY . /x/\n",
            differs: &[
                "+ x/dir: 2750 0:0 directory",
                "+ x/tool: 4755 0:0 file of 9 bytes 3af71adb278a",
                "- x/dir: 750 0:0 directory",
                "- x/tool: 755 0:0 file of 9 bytes 3af71adb278a",
            ],
            because: "BuildKit keeps the set-id bits of a context's files",
        },
        same("merged with other owners", "FROM scratch AS s\nCOPY --chown=100:200 dir /dir/\nCOPY --chown=101:201 dir/sub /dir/sub/\nFROM scratch\nCOPY --chown=500:600 more /e/\nCOPY --from=s /dir /e/\nCOPY --from=s /dir/one /e/sub/\nCOPY --from=s --chown=7:8 /dir/sub /e/sub\n"),
        same("wildcards in the middle", "FROM scratch\nCOPY */sub/t* /x/\nCOPY d*/o?e /x/y\nCOPY */sub /z/\n"),
        same("wildcards", "FROM scratch\nCOPY *.txt d* /x/\n"),
        same("a class", "FROM scratch\nCOPY [ab].txt more/s?b/f* /x/\n"),
        same("names in JSON", "FROM scratch\nCOPY [\"with space/x\", \"/to here/\"]\n"),
        same("a path that goes up", "FROM scratch\nCOPY ../../a.txt /x/\n"),
        same("named links are followed", "FROM scratch\nCOPY tree /x/\nCOPY file /y\n"),
        same("an owner by number", "FROM scratch\nCOPY --chown=5:6 dir /p/q/\nCOPY --chown=7 a.txt /r/\n"),
        same("an owner by name", "FROM scratch\nCOPY etc /etc/\nCOPY --chown=app dir /x/\nCOPY --chown=app:web a.txt /y/\nCOPY --chown=1:web a.txt /z/\n"),
        same("a mode of a file", "FROM scratch\nCOPY --chmod=751 a.txt /y\n"),
        same("a file over a file", "FROM scratch\nCOPY a.txt /x\nCOPY b.txt /x\n"),
        same("into a directory that is there", "FROM scratch\nCOPY more /x/\nCOPY a.txt /x/sub\n"),
        same("from a stage", "FROM scratch AS one\nCOPY --chown=5:6 dir /from/dir/\nFROM scratch\nCOPY --from=one /from /to/\nCOPY --from=0 /from/dir/one /file\n"),
        same("a configuration", "FROM scratch\nENV A=1 B=\"2 3\"\nLABEL l=m\nEXPOSE 80 53/udp\nVOLUME /v\nUSER 5:6\nSTOPSIGNAL SIGINT\nCMD [\"/x\"]\nENTRYPOINT [\"/e\"]\nCOPY a.txt /\n"),
    ]);
}

#[test]
fn archives_are_as_buildahs() {
    context().compare(&[
        same("a plain archive", "FROM scratch\nADD plain.tar /x/\n"),
        same(
            "a compressed one by another name",
            "FROM scratch\nADD zipped /x\n",
        ),
        same("bzip2", "FROM scratch\nADD dir.tbz /x\n"),
        Case {
            name: "xz, with an entry for its top",
            dockerfile: "FROM scratch\nADD dir.txz /y/\n",
            differs: &["+ y: 755 0:0 directory", "- y: 2750 0:0 directory"],
            because: "an archive's `./` does not change the destination in BuildKit",
        },
        same(
            "over what is there",
            "FROM scratch\nCOPY more /x/dir/\nADD plain.tar /x/\n",
        ),
        same(
            "copied as it is",
            "FROM scratch\nCOPY zipped plain.tar /x/\n",
        ),
        Case {
            name: "an owner",
            dockerfile: "FROM scratch\nADD --chown=5:6 more.tar /x/\n",
            differs: &[
                "+ x/more/one: 600 5:6 file of 5 bytes d9298a10d1b0",
                "+ x/more/sub/four: 644 5:6 file of 1 bytes 4b227777d4dd",
                "+ x/more/sub: 711 5:6 directory",
                "+ x/more: 755 5:6 directory",
                "- x/more/one: 600 3:4 file of 5 bytes d9298a10d1b0",
                "- x/more/sub/four: 644 3:4 file of 1 bytes 4b227777d4dd",
                "- x/more/sub: 711 3:4 directory",
                "- x/more: 755 3:4 directory",
            ],
            because: "`--chown` covers an archive's entries in BuildKit",
        },
        same(
            "all that a wildcard finds",
            "FROM scratch\nADD *.tar /x\nADD [pz]* a.txt /y/\n",
        ),
        same("a file that is none", "FROM scratch\nADD a.txt dir /x/\n"),
    ]);
}
