//! What the language's less usual instructions make of an image, seen in its configuration. None
//! of these builds needs a VM.

use serde_json::{Value, json};

use crate::session as fresh;
use crate::session::{Session, output_of};

/// The configuration of the image that a Dockerfile makes.
fn configuration(session: &Session, text: &str, arguments: &[&str]) -> Value {
    let mut all = vec!["-t", "image:1"];
    all.extend(arguments);
    session.build(text, &all).success();
    let image = session.json(&["image", "inspect", "image:1", "--format", "json"]);
    image["Config"].clone()
}

fn created_by(configuration: &Value) -> Vec<&str> {
    let history = configuration["history"].as_array().unwrap().iter();
    history
        .map(|entry| entry["created_by"].as_str().unwrap())
        .collect()
}

#[test]
fn a_configuration_is_as_docker_writes_it() {
    let (session, _root) = fresh();
    let text = "FROM scratch\nMAINTAINER Some Body\nHEALTHCHECK --interval=2s CMD [\"/x\"]\nONBUILD COPY . /app\nSTOPSIGNAL SIGINT\nLABEL a=1\n";
    let made = configuration(&session, text, &["--label", "a=2", "--label", "b=3"]);
    assert_eq!(made["author"], "Some Body");
    let config = &made["config"];
    assert_eq!(
        config["Healthcheck"],
        json!({"Test": ["CMD", "/x"], "Interval": 2_000_000_000})
    );
    assert_eq!(config["OnBuild"], json!(["COPY . /app"]));
    assert_eq!(config["Labels"], json!({"a": "2", "b": "3"}));
    assert_eq!(
        created_by(&made),
        [
            "MAINTAINER Some Body",
            "HEALTHCHECK {Test:[CMD /x] Interval:2s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            "STOPSIGNAL SIGINT",
            "LABEL a=1",
        ]
    );
}

#[test]
fn triggers_run_in_what_is_built_from_an_image_and_no_further() {
    let (session, _root) = fresh();
    session.write("context/file", "content");
    let text = "FROM scratch\nONBUILD ENV FROM_TRIGGER=1\nONBUILD COPY file /f\n";
    session.build(text, &["-t", "parent:1"]).success();
    let child = configuration(&session, "FROM parent:1\nENV OWN=$FROM_TRIGGER\n", &[]);
    assert_eq!(
        created_by(&child),
        ["ENV FROM_TRIGGER=1", "COPY file /f # buildkit", "ENV OWN=1"]
    );
    assert_eq!(child["config"].get("OnBuild"), None);
    session.ok(&["tag", "image:1", "child:1"]);
    let grandchild = configuration(&session, "FROM child:1\nENV MORE=1\n", &[]);
    assert_eq!(created_by(&grandchild).len(), 4);
}

#[test]
fn a_triggers_texts_come_with_it() {
    let (session, _root) = fresh();
    let text = "# escape=`\nFROM scratch\nONBUILD COPY <<A <<'B' /x/\n$V \\$V\nA\n$V\nB\nONBUILD ENV V=1\n";
    session.build(text, &["-t", "parent:1"]).success();
    let child = configuration(&session, "FROM parent:1\nCOPY <<C /x/\n$V\nC\n", &[]);
    assert_eq!(
        created_by(&child),
        [
            "COPY <<A <<B /x/ # buildkit",
            "ENV V=1",
            "COPY <<C /x/ # buildkit"
        ]
    );
    let archive = session.path("image.tar").display().to_string();
    session.ok(&[
        "image",
        "export",
        "image:1",
        "--type",
        "rootfs-tar",
        "-o",
        &archive,
    ]);
    let read = output_of("tar", &["-xOf", &archive, "x/A", "x/B", "x/C"]);
    assert_eq!(read, " $V\n$V\n1\n");
}

#[test]
fn a_trigger_that_cannot_be_is_shown_at_its_from() {
    let (session, _root) = fresh();
    session
        .build(
            "FROM scratch\nONBUILD COPY --from=late /a /b\n",
            &["-t", "parent:1"],
        )
        .success();
    let shown = session
        .build(
            "FROM parent:1\nENV A=1\nFROM scratch AS late\nFROM parent:1\n",
            &["--target", "stage-0"],
        )
        .failure();
    assert!(
        shown.contains("target stage `stage-0` could not be found"),
        "{shown}"
    );
    let shown = session
        .build("FROM parent:1 AS a\nFROM scratch AS late\nFROM a\n", &[])
        .failure();
    assert!(shown.contains("context/Dockerfile:1:6"), "{shown}");
    assert!(
        shown.contains("the base image's trigger `COPY --from=late /a /b`"),
        "{shown}"
    );
}

#[test]
fn another_architecture_is_a_clear_error() {
    let (session, _root) = fresh();
    let shown = session
        .build("FROM scratch\nENV A=1\n", &["--platform", "linux/riscv64"])
        .failure();
    assert!(
        shown.contains("cannot build for `linux/riscv64`"),
        "{shown}"
    );
    assert!(shown.contains("hint: "), "{shown}");
}

#[test]
fn the_stages_of_a_file_are_shown() {
    let (session, _root) = fresh();
    session.write(
        "context/Dockerfile",
        "FROM debian AS build\nFROM nothing AS unused\nFROM scratch\nCOPY --from=build / /\n",
    );
    let shown = session.json(&["build", "--print", "stages", "--format", "json", "context"]);
    assert_eq!(
        shown,
        json!({"version": 2, "target": "stage-2", "stages": [
            {"name": "build", "line": 1, "base": "debian:latest", "needs": [], "needed": true},
            {"name": "unused", "line": 2, "base": "nothing:latest", "needs": [], "needed": false},
            {"name": "stage-2", "line": 3, "base": "scratch", "needs": ["build"], "needed": true},
        ]})
    );
}

#[test]
fn the_same_inputs_give_the_same_image_on_any_day() {
    let text = "FROM scratch\nWORKDIR /made\nCOPY file dir /\nENV A=1\n";
    let build = |age: u64| {
        let (session, _root) = fresh();
        let file = session.write("context/file", "content");
        let inner = session.write("context/dir/inner", "more");
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        for path in [file, inner] {
            let file = fs_err::File::options().append(true).open(path).unwrap();
            file.file().set_modified(time).unwrap();
        }
        let dated = ["--source-date-epoch", "1500000000", "-t", "image:1"];
        let digest = session.build(text, &dated).success().stdout;
        let again = session.build(text, &dated).success();
        assert_eq!(again.stdout, digest);
        let image = session.json(&["image", "inspect", "image:1", "--format", "json"]);
        assert_eq!(image["Config"]["created"], "2017-07-14T02:40:00Z");
        let other = session.build(text, &["--source-date-epoch", "1500000001"]);
        assert_ne!(other.success().stdout, digest);
        digest
    };
    assert_eq!(build(10), build(100_000));
}

#[test]
fn what_went_into_an_image_is_told_by_digests() {
    let (session, _root) = fresh();
    session.write("context/file", "content");
    session
        .build("FROM scratch\nCOPY file /base\n", &["-t", "base:1"])
        .success();
    let base = session.json(&["image", "inspect", "base:1", "--format", "json"]);
    let text = "ARG V\nFROM base:1\nARG V\nARG TOKEN\nCOPY . /all/$V\n";
    let built = session
        .build(
            text,
            &[
                "-t",
                "image:1",
                "--build-arg",
                "V=1",
                "--build-arg",
                "TOKEN=hunter2",
                "--provenance",
                "statement.json",
            ],
        )
        .success();
    let written = fs_err::read_to_string(session.path("statement.json")).unwrap();
    assert!(!written.contains("hunter2"), "{written}");
    let statement: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let digest = |value: &Value| format!("sha256:{}", value["digest"]["sha256"].as_str().unwrap());
    assert_eq!(digest(&statement["subject"][0]), built.stdout.trim_end());
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(
        definition["externalParameters"]["buildArgs"],
        json!({"TOKEN": null, "V": "1"})
    );
    // A build without a VM fetches no kernel to tell of it.
    assert_eq!(definition["internalParameters"]["kernel"], json!(null));
    assert_eq!(
        session.json(&["kernel", "ls", "--format", "json"]),
        json!([])
    );
    let dependencies = definition["resolvedDependencies"].as_array().unwrap();
    let of = |name: &str| {
        dependencies
            .iter()
            .find(|found| found["name"] == name)
            .unwrap()
    };
    assert_eq!(digest(of("base")), base["Digest"].as_str().unwrap());
    let context = digest(of("context"));
    session.write("context/file", "other");
    session
        .build(text, &["--build-arg", "V=1", "--provenance", "other.json"])
        .success();
    let other = fs_err::read_to_string(session.path("other.json")).unwrap();
    assert!(
        !other.contains(context.strip_prefix("sha256:").unwrap()),
        "{other}"
    );
}
