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
            origin["line"].as_u64() <= origin["end_line"].as_u64(),
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
