//! A storage as the original tool makes it: file systems by Linux's own tools, metadata, plain kernels.

use serde_json::json;

use crate::session::{Outcome, Session, output_of};
use crate::{BASE, session as ready};

/// The files of [`BASE`] and one more, at `org/app/1.0` of a storage.
fn make(session: &Session) {
    let (archive, tree) = (session.path("base.tar"), session.path("tree"));
    let (archive, tree) = (archive.to_str().unwrap(), tree.to_str().unwrap());
    let export = ["image", "export", BASE, "--type", "rootfs-tar", "-o"];
    session.ok(&[&export[..], &[archive]].concat());
    session.write("tree/etc/who", "the original\n");
    output_of("tar", &["-xpf", archive, "-C", tree]);
    let place = "storage/org/app/1.0";
    let metadata = json!({
        "BuildConfig": {"BuildArgs": {}, "Dockerfile": "", "PreBuildCommands": null},
        "CreatedAtUTC": 1_620_000_000,
        "EntrypointInfo": {
            "EntryPoint": ["cat /etc/$FILE; id -u; pwd; df --output=fstype / | tail -n 1; exec echo"],
            "Cmd": ["it's", "quoted"],
            "Env": {"FILE": "who"},
            "Shell": ["/bin/sh", "-c"],
            "User": "0:0",
            "Workdir": "/var/tmp",
        },
        "Image": {"Org": "org", "Image": "app", "Version": "1.0"},
        "Labels": {},
        "Parent": {"Type": "baseos"},
        "Ports": [],
        "Tag": "org/app:1.0",
        "Type": "rootfs",
        "Volumes": null,
    });
    let metadata = metadata.to_string();
    session.write(&format!("{place}/metadata.json"), metadata);
    let rootfs = session.path(&format!("{place}/rootfs"));
    let rootfs = rootfs.to_str().unwrap();
    output_of("mke2fs", &["-q", "-t", "ext4", "-d", tree, rootfs, "500M"]);
}

#[test]
fn what_the_original_tool_made_runs_and_is_built_on() {
    let session = ready();
    make(&session);
    let with = |arguments: &[&str]| {
        let mut command = session.command(arguments);
        let property = format!("rootfs-storage-root={}", session.path("storage").display());
        command
            .env("FIREBUILD_STORAGE_PROVIDER", "directory")
            .env("FIREBUILD_STORAGE_PROVIDER_PROPERTY_STRING", property);
        Outcome::of(&mut command)
    };
    let run = ["run", "--rm", "--from", "org/app:1.0"];
    let ran = with(&run).success();
    assert!(
        ran.stderr.contains("took `org/app:1.0` from its storage\n"),
        "{ran}"
    );
    assert_eq!(
        ran.stdout,
        "the original\n0\n/var/tmp\noverlay\nit's quoted\n"
    );
    let again = with(&run).success();
    assert_eq!(
        (again.stdout, again.stderr.contains("took")),
        (ran.stdout, false)
    );
    session.write(
        "context/Dockerfile",
        "FROM org/app:1.0\nRUN cat /etc/who /etc/$FILE > /twice\n",
    );
    with(&["build", "-t", "org/app:1.1", "context"]).success();
    let words = [
        "run",
        "--rm",
        "org/app:1.1",
        "--entrypoint",
        "cat",
        "--",
        "/twice",
    ];
    let words = [&words[..2], &words[3..5], &words[2..3], &words[5..]].concat();
    assert_eq!(session.ok(&words), "the original\nthe original\n");
    // The other direction: this is as good a root file system for others.
    let rootfs = session.path("storage/org/app/1.1/rootfs");
    output_of("e2fsck", &["-fn", rootfs.to_str().unwrap()]);
    for name in ["org/app:1.0", "org/app:1.1"] {
        session.ok(&["rmi", name]);
    }
}

#[test]
fn a_plain_kernel_is_found_by_its_id() {
    let session = ready();
    let kernels = session.json(&["kernel", "ls", "--format", "json"]);
    let id = kernels[0]["Id"].as_str().unwrap();
    let kernel = session.root().join("v1/kernels").join(id).join("vmlinux");
    fs_err::create_dir(session.path("kernels")).unwrap();
    fs_err::copy(kernel, session.path("kernels/vmlinux-v5.8")).unwrap();
    let property = format!("kernel-storage-root={}", session.path("kernels").display());
    let property = format!("--storage-provider-property-string={property}");
    let root = tempfile::tempdir().unwrap();
    let other = Session::at(root.path());
    let kernel = [
        "--vmlinux-id=vmlinux-v5.8",
        "--storage-provider=directory",
        &property,
    ];
    let built = other.build("FROM scratch\nENV a=b\n", &kernel).success();
    assert!(
        built
            .stderr
            .contains("took kernel `vmlinux-v5.8` from its storage\n"),
        "{built}"
    );
    let kernels = other.json(&["kernel", "ls", "--format", "json"]);
    assert_eq!(kernels[0]["Id"], "vmlinux-v5.8");
    let again = other.build("FROM scratch\nENV a=b\n", &kernel).success();
    assert!(!again.stderr.contains("took"), "{again}");
}
