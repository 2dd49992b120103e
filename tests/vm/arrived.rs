//! An image that came compressed is a root file system like any other: for RUN, and to run.

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
