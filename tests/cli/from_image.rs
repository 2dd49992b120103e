//! `rootfs --docker-image`: an image in place of a Dockerfile.

use serde_json::json;

use crate::session as fresh;

#[test]
fn an_image_gets_another_name_and_a_root_file_system() {
    let (session, _root) = fresh();
    session.write("context/file", "content");
    let text = "FROM scratch\nCOPY file /file\nUSER nobody\nONBUILD RUN false\n";
    let digest = session.build(text, &["-t", "org/one:1"]).success().stdout;
    let rootfs = session.root().join("v1/rootfs");
    assert_eq!(fs_err::read_dir(&rootfs).unwrap().count(), 0);
    let words = [
        "rootfs",
        "--docker-image",
        "org/one:1",
        "--tag",
        "org/two:2",
    ];
    assert_eq!(session.ok(&words), digest);
    assert_eq!(fs_err::read_dir(&rootfs).unwrap().count(), 1);
    let two = session.json(&["image", "inspect", "org/two:2"]);
    assert_eq!(two["Digest"], digest.trim_end());
    // The older flag beside it is of no use any more.
    let more = ["--docker-image-base", "alpine:3"];
    assert_eq!(session.ok(&[&words[..], &more].concat()), digest);
}

#[test]
fn commands_are_roots_and_mean_what_they_say() {
    let (session, _root) = fresh();
    session.write("context/file", "content");
    let text = "FROM scratch\nCOPY file /file\nUSER nobody\nSHELL [\"/bin/other\"]\n";
    session.build(text, &["-t", "org/one:1"]).success();
    let last = "of <<a \"text\" \\";
    let plan = session.json(&[
        "rootfs",
        "--docker-image",
        "org/one:1",
        &format!("--post-build-command={last}"),
        "--pre-build-command",
        "first $x",
        "--print",
        "plan",
        "--format",
        "json",
    ]);
    let steps = plan["stages"][0]["steps"].as_array().unwrap();
    let runs: Vec<_> = steps
        .iter()
        .filter(|step| step["operation"] == "run")
        .collect();
    let commands: Vec<_> = runs
        .iter()
        .map(|step| step["command"]["exec"].clone())
        .collect();
    let expected = [
        json!(["/bin/sh", "-c", "first $x"]),
        json!(["/bin/sh", "-c", last]),
    ];
    assert_eq!(commands, expected, "{plan:#}");
    for run in runs {
        assert_eq!(run["user"], "");
    }
}

#[test]
fn what_does_not_go_together_is_said() {
    let (session, _root) = fresh();
    let failed = session
        .run(&["rootfs", "--docker-image", "none:1", "--tag", "x"])
        .failure();
    assert!(
        failed.contains("image `none:1` is not in the store"),
        "{failed}"
    );
    let failed = session
        .run(&["rootfs", "--docker-image", "a", "--dockerfile", "b"])
        .failure();
    assert!(failed.contains("cannot be used with"), "{failed}");
    let failed = session
        .run(&["rootfs", "--pre-build-command", "a", "--dockerfile", "b"])
        .failure();
    assert!(failed.contains("need `--docker-image`"), "{failed}");
}
