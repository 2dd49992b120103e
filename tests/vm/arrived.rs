//! An image that came compressed is a root file system like any other: for RUN, and to run.

use std::os::unix::fs::MetadataExt as _;

use crate::BASE;
use crate::session as ready;
use crate::session::output_of;

#[test]
fn a_vm_on_layers_that_came_compressed() {
    let session = ready();
    let (plain, packed) = (session.path("plain"), session.path("packed"));
    let out = plain.to_str().unwrap();
    session.ok(&["image", "export", BASE, "--type", "oci-dir", "-o", out]);
    let tag = BASE.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let compress = ["copy", "--dest-compress", "--dest-compress-format", "gzip"];
    let from = format!("oci:{out}:{tag}");
    let to = format!("oci:{}:there", packed.display());
    output_of("skopeo", &[&compress[..], &[&from, &to]].concat());
    let source = format!("oci:{}", packed.display());
    session.ok(&["image", "import", &source, "--tag", "arrived:1"]);
    session.write("context/file", "from outside");
    let text = "FROM arrived:1\nCOPY file /file\nRUN cat /file /etc/debian_version > /seen\n";
    session.build(text, &["-t", "arrived:2"]).success();
    let seen = session.ok(&["run", "--rm", "arrived:2", "--", "cat", "/seen"]);
    assert!(seen.starts_with("from outside12."), "{seen}");
    // Commands on an image are root's; the image's own user stays what it was.
    session
        .build("FROM arrived:2\nUSER nobody\n", &["-t", "arrived:3"])
        .success();
    let words = [
        "rootfs",
        "--docker-image",
        "arrived:3",
        "--tag",
        "arrived:4",
    ];
    let post = ["--post-build-command", "echo \"$(id -u)\" last >> /order"];
    let pre = ["--pre-build-command", "echo \"$(id -u)\" first > /order"];
    session.ok(&[&words[..], &post, &pre].concat());
    let run = [
        "run",
        "--rm",
        "arrived:4",
        "--",
        "sh",
        "-c",
        "cat /order; id -un",
    ];
    assert_eq!(session.ok(&run), "0 first\n0 last\nnobody\n");
}

#[test]
fn an_image_on_a_known_base_is_what_it_adds_and_a_vm_sees_all_of_it() {
    let session = ready();
    let taken = || {
        let images = fs_err::read_dir(session.root().join("v1/rootfs")).unwrap();
        let images = images.map(|image| image.unwrap().metadata().unwrap().blocks() * 512);
        images.sum::<u64>()
    };
    session.ok(&["run", "--rm", BASE, "--", "true"]);
    let before = taken();
    let first = format!(
        "FROM {BASE}\n\
         RUN rm -r /etc/apt && mkdir /etc/apt && echo 1 > /etc/apt/new && ln /etc/passwd /etc/same\n"
    );
    session.build(&first, &["-t", "first:1"]).success();
    let second =
        "FROM first:1\nRUN rm /etc/apt/new /etc/issue && chmod 700 /opt && echo 2 > /etc/more\n";
    let look = "ls -A /etc/apt; ls /etc/issue; stat -c %a /opt; \
                cmp /etc/passwd /etc/same && stat -c %h /etc/passwd; \
                sed -n 's/.*lowerdir=\\([^,]*\\).*/\\1/p' /proc/self/mounts | head -n 1";
    session.ok(&["run", "--rm", "first:1", "--", "cat", "/etc/apt/new"]);
    session.build(second, &["-t", "second:1"]).success();
    let seen = session.run(&["run", "--rm", "second:1", "--", "sh", "-c", look]);
    let lines: Vec<&str> = seen.stdout.lines().collect();
    assert_eq!(lines[..2], ["700", "2"], "{seen}");
    assert!(lines[2].ends_with(":/i2:/i1:/i"), "{seen}");
    assert!(seen.stderr.contains("/etc/issue"), "{seen}");
    assert!(taken() - before < 8 << 20, "{}", taken() - before);
    // Whoever makes room keeps what lies below.
    session.ok(&["image", "rm", "first:1"]);
    session.ok(&["system", "prune", "--force"]);
    let verified = session.ok(&["system", "verify"]);
    assert!(!verified.contains("damaged"), "{verified}");
}
