//! `SOURCE_DATE_EPOCH` with commands: two machines, two times, one image.

use std::process::Command;

use crate::session as ready;
use crate::session::Session;

const TEXT: &str = "FROM debian:bookworm-slim\n\
                    COPY file /copied\n\
                    RUN mkdir -p /made/by && date > /dev/null && echo made > /made/by/run && ln -s run /made/by/link && rm /etc/issue\n\
                    WORKDIR /later\n\
                    RUN [\"cp\", \"/made/by/run\", \"/later/again\"]\n";

#[test]
fn two_machines_make_the_same_image() {
    let here = ready();
    let other = tempfile::tempdir().unwrap();
    // Another machine: the same base and kernel, and nothing that was built.
    fs_err::create_dir(other.path().join("v1")).unwrap();
    for part in ["images", "kernels"] {
        let mut copy = Command::new("cp");
        copy.arg("-a")
            .arg(here.root().join("v1").join(part))
            .arg(other.path().join("v1"));
        assert!(copy.status().unwrap().success());
    }
    let there = Session::at(other.path());
    let arguments = [
        "--no-cache",
        "--source-date-epoch",
        "1600000000",
        "-t",
        "dated:1",
    ];
    let digest = |session: &Session| {
        session.write("context/file", "content");
        session.build(TEXT, &arguments).success().stdout
    };
    assert_eq!(digest(&here), digest(&there));
    let image = there.json(&["image", "inspect", "dated:1", "--format", "json"]);
    assert_eq!(image["Config"]["created"], "2020-09-13T12:26:40Z");
    here.ok(&["rmi", "dated:1"]);
}
