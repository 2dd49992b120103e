//! `build --print`: what was understood, without a VM and without anything in the store.

use serde_json::{Value, json};

use crate::session;

fn example() -> String {
    format!("{}/../../examples/postgres", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_example_is_understood() {
    let (session, _root) = session();
    let print = |what| session.json(&["build", "--print", what, "--format", "json", &example()]);
    let read = print("instructions");
    let words: Vec<&str> = read["instructions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|instruction| instruction["instruction"].as_str().unwrap())
        .collect();
    assert_eq!(
        words,
        [
            "FROM",
            "ENV",
            "RUN",
            "COPY",
            "COPY",
            "COPY",
            "RUN",
            "USER",
            "WORKDIR",
            "EXPOSE",
            "VOLUME",
            "ENTRYPOINT",
            "CMD"
        ]
    );
    let plan = print("plan");
    assert_eq!(plan["version"], 2);
    let [stage] = &plan["stages"].as_array().unwrap()[..] else {
        panic!("{plan}");
    };
    assert_eq!(
        stage["base"],
        json!({"image": "docker.io/library/debian:bookworm-slim"})
    );
    let steps = stage["steps"].as_array().unwrap();
    for step in steps {
        let origin = &step["origin"];
        assert!(
            origin["line"].as_u64() <= origin["end-line"].as_u64(),
            "{step}"
        );
    }
    let runs: Vec<&Value> = steps
        .iter()
        .filter(|step| step["operation"] == "run")
        .collect();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0]["shell"], json!(["/bin/sh", "-c"]));
    assert_eq!(runs[0]["origin"]["line"], 8);
}

#[test]
fn a_plan_has_only_what_the_target_needs() {
    let (session, _root) = session();
    session.write(
        "context/Dockerfile",
        "\
FROM scratch AS unused
COPY a /
FROM scratch AS files
ARG WHAT=default
COPY $WHAT /here
FROM scratch
COPY --from=files /here /there
",
    );
    let plan = session.json(&[
        "build",
        "--print",
        "plan",
        "--format",
        "json",
        "--build-arg",
        "WHAT=mine",
        "context",
    ]);
    let names: Vec<&str> = plan["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"files") && !names.contains(&"unused"),
        "{names:?}"
    );
    assert!(plan.to_string().contains(r#"{"path":"mine"}"#), "{plan}");
    let shown = session
        .run(&["build", "--target", "fles", "context"])
        .failure();
    assert!(
        shown.contains("`fles`") && shown.contains("files"),
        "{shown}"
    );
}

fn plan_of_everything() -> serde_json::Value {
    let (session, _root) = session();
    session.write(
        "context/Dockerfile",
        "\
FROM debian AS files
FROM scratch
ENV A=1
WORKDIR /w
RUN --mount=type=cache,target=/c --mount=type=secret,id=s --network=none make
RUN [\"/x\"]
COPY --from=files --chown=1 --chmod=644 --exclude=*.o /a /b/
ADD http://h.example/f https://h.example/r.git#v1 /d/
",
    );
    session.json(&[
        "build",
        "--print",
        "plan",
        "--format",
        "json",
        "--label",
        "l=1",
        "--source-date-epoch",
        "5",
        "context",
    ])
}

fn fields(value: &serde_json::Value) -> Vec<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// docs/plan.md describes this form; who changes it here changes it there, and counts up its version
/// if a field goes away or means something else.
#[test]
fn the_form_of_a_plan_is_kept() {
    let plan = plan_of_everything();
    assert_eq!(
        fields(&plan),
        ["epoch", "labels", "platform", "stages", "target", "version"]
    );
    let stage = &plan["stages"][1];
    assert_eq!(fields(stage), ["base", "name", "origin", "steps"]);
    assert_eq!(stage["base"], "scratch");
    let steps = stage["steps"].as_array().unwrap();
    let operations: Vec<_> = steps
        .iter()
        .map(|step| step["operation"].as_str().unwrap())
        .collect();
    assert_eq!(
        operations,
        ["configure", "directory", "run", "run", "copy", "copy"]
    );
    assert_eq!(
        steps[0],
        json!({
            "operation": "configure",
            "changes": [{"change": "environment", "name": "A", "value": "1"}],
            "origin": {"line": 3, "end-line": 3, "text": "ENV A=1"},
            "history": "ENV A=1",
        })
    );
}

#[test]
fn the_form_of_its_steps_is_kept() {
    let plan = plan_of_everything();
    let steps = plan["stages"][1]["steps"].as_array().unwrap();
    assert_eq!(
        fields(&steps[2]),
        [
            "build-args",
            "command",
            "environment",
            "history",
            "hostname",
            "mounts",
            "network",
            "operation",
            "origin",
            "security",
            "shell",
            "user",
            "workdir"
        ]
    );
    assert_eq!(steps[2]["command"], json!({"shell": "make"}));
    assert_eq!(steps[3]["command"], json!({"exec": ["/x"]}));
    assert_eq!(
        steps[2]["mounts"],
        json!([
            {
                "type": "cache", "target": "/c", "id": "/c", "from": "empty", "path": "/",
                "read-only": false, "sharing": "shared", "mode": 0o755, "uid": 0, "gid": 0,
            },
            {
                "type": "secret", "id": "s", "target": "/run/secrets/s", "required": false,
                "mode": 0o400, "uid": 0, "gid": 0,
            },
        ])
    );
    assert_eq!(
        fields(&steps[4]),
        [
            "destination",
            "exclude",
            "from",
            "history",
            "items",
            "mode",
            "operation",
            "origin",
            "owner",
            "unpack"
        ]
    );
    assert_eq!(
        (&steps[4]["from"], &steps[4]["mode"], &steps[4]["unpack"]),
        (&json!({"stage": 0}), &json!("0644"), &json!("never"))
    );
    assert_eq!(
        steps[5]["items"][0],
        json!({"http": {"url": "http://h.example/f", "file-name": "f"}})
    );
    assert_eq!(
        steps[5]["items"][1]["git"]["written"],
        "https://h.example/r.git#v1"
    );
}
