//! The less usual instructions and flags, by the plans that they make.

use super::*;
use crate::mount::{Access, Bind, Cache, Secret, Ssh, Tmpfs};
use crate::{Change, ModeChange, Network, Security, Sharing};

fn first_run(text: &str) -> Run {
    runs(&plan(text))[0].clone()
}

fn first_copy(text: &str) -> crate::Copy {
    copies(&plan(text))[0].clone()
}

fn histories(plan: &Plan) -> Vec<Option<&str>> {
    let steps = plan.target().steps.iter();
    steps.map(|step| step.history.as_deref()).collect()
}

#[test]
fn triggers_of_a_base_run_first_and_bring_their_stages() {
    let text = "FROM debian AS early\nFROM debian AS other\nFROM trigger AS x\nRUN y\n";
    let plan = plan(text);
    let names: Vec<&str> = plan
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    assert_eq!(names, ["early", "x"]);
    let steps = &plan.target().steps;
    assert_eq!(steps[0].origin.text, "ONBUILD RUN x");
    assert_eq!((steps[0].origin.line, steps[2].origin.line), (3, 4));
    assert_eq!(copies(&plan)[0].from, Source::Stage(0));
    assert_eq!(steps[2].origin.text, "RUN y");
}

#[test]
fn triggers_of_a_stage_run_in_its_children_and_no_further() {
    let text = "FROM debian AS a\nONBUILD ENV N=1\nONBUILD RUN echo $N\nRUN own\nFROM a AS b\nRUN x\nFROM b\nRUN y\n";
    let plan = plan(text);
    let texts = |index: usize| -> Vec<String> {
        let steps = plan.stages[index].steps.iter();
        steps.map(|step| step.origin.text.clone()).collect()
    };
    assert_eq!(
        texts(0),
        ["ONBUILD ENV N=1", "ONBUILD RUN echo $N", "RUN own"]
    );
    assert_eq!(
        texts(1),
        ["ONBUILD ENV N=1", "ONBUILD RUN echo $N", "RUN x"]
    );
    assert_eq!(texts(2), ["RUN y"]);
    // BuildKit writes no history of an ONBUILD itself.
    assert_eq!(plan.stages[0].steps[0].history, None);
    assert!(matches!(
        plan.stages[0].steps[0].operation.changes(),
        [Change::OnBuild { trigger }] if trigger == "ENV N=1"
    ));
}

#[test]
fn a_triggers_mistake_is_told_at_the_from_that_brings_it() {
    assert_eq!(
        error("FROM debian\nFROM bad-trigger\nFROM debian AS late\nFROM debian AS c\nCOPY --from=1 / /\n").1,
        2
    );
    let text = "FROM debian AS a\nONBUILD RUN --mount=target=/ x\nFROM a\n";
    let (message, line, _) = error(text);
    assert_eq!(line, 3);
    assert_eq!(
        message,
        "the base image's trigger `RUN --mount=target=/ x`: a mount cannot cover the root directory"
    );
}

#[test]
fn health_checks_are_written_as_docker_reads_them() {
    let check = |line: &str| {
        let plan = plan(&format!("FROM scratch\n{line}\n"));
        configured(&plan).healthcheck.unwrap().to_string()
    };
    assert_eq!(check("HEALTHCHECK NONE"), r#"{"Test":["NONE"]}"#);
    assert_eq!(
        check("HEALTHCHECK CMD curl -f http://x"),
        r#"{"Test":["CMD-SHELL","curl -f http://x"]}"#
    );
    let all = check(
        "HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --start-interval=500ms --retries=2 CMD [\"a\", \"b\"]",
    );
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert_eq!(
        all,
        serde_json::json!({
            "Test": ["CMD", "a", "b"], "Interval": 300_000_000_000_u64,
            "Timeout": 3_000_000_000_u64, "StartPeriod": 1_000_000_000,
            "StartInterval": 500_000_000, "Retries": 2,
        })
    );
}

#[test]
fn the_history_is_as_buildkit_writes_it() {
    let text = "FROM scratch\nARG A=1\nARG B\nENV A=2\nRUN [\"/x\", \"y z\"]\nMAINTAINER Some Body\nSHELL [\"/bin/bash\", \"-c\"]\nCMD [\"a\", \"b\"]\nEXPOSE 90/UDP 80\nVOLUME /a /b\nUSER 5\nWORKDIR w\nADD --chown=1:2 --chmod=644 --link <<E https://h.example/f a /d\nE\nCOPY --parents . x/\nHEALTHCHECK --timeout=90s CMD true\nLABEL a=b c=\"d e\"\nSTOPSIGNAL 9\n";
    let plan = plan(text);
    let expected = [
        "ARG A=1",
        "ARG B",
        "ENV A=2",
        "RUN |2 A=2 B= /x y z # buildkit",
        "MAINTAINER Some Body",
        "SHELL [/bin/bash -c]",
        "CMD [\"a\" \"b\"]",
        "EXPOSE [80/tcp 90/udp]",
        "VOLUME [/a /b]",
        "USER 5",
        "WORKDIR /w",
        "ADD --chown=1:2 --chmod=644 https://h.example/f a <<E /d # buildkit",
        "COPY --parents . x/ # buildkit",
        "HEALTHCHECK {Test:[CMD-SHELL true] Interval:0s Timeout:1m30s StartPeriod:0s StartInterval:0s Retries:0}",
        "LABEL a=b c=d e",
        "STOPSIGNAL 9",
    ];
    assert_eq!(histories(&plan), expected.map(Some));
}

#[test]
fn mounts_of_all_types() {
    let text = "FROM debian AS files\nFROM debian\nARG T=/cache\nWORKDIR /w\nRUN --mount=target=x --mount=type=bind,from=files,source=../etc,dst=/e,rw --mount=type=cache,target=$T,sharing=locked,mode=0700,uid=3 --mount=type=cache,target=c,id=i,from=files,source=s,ro --mount=type=tmpfs,target=/t,size=1m --mount=type=secret,id=dir/key --mount=type=secret,id=k,env=K --mount=type=ssh --mount=type=ssh,id=b,mode=0666,required x\n";
    let run = first_run(text);
    let access = |mode, uid| Access { mode, uid, gid: 0 };
    let expected = [
        Mount::Bind(Bind {
            target: "/w/x".into(),
            from: Source::Context,
            path: "/".into(),
            read_only: true,
        }),
        Mount::Bind(Bind {
            target: "/e".into(),
            from: Source::Stage(0),
            path: "/etc".into(),
            read_only: false,
        }),
        Mount::Cache(Cache {
            target: "/cache".into(),
            id: "/cache".into(),
            from: Source::Empty,
            path: "/".into(),
            read_only: false,
            sharing: Sharing::Locked,
            access: access(0o700, 3),
        }),
        Mount::Cache(Cache {
            target: "/w/c".into(),
            id: "i".into(),
            from: Source::Stage(0),
            path: "/s".into(),
            read_only: true,
            sharing: Sharing::Shared,
            access: access(0o755, 0),
        }),
        Mount::Tmpfs(Tmpfs {
            target: "/t".into(),
            size: Some(1 << 20),
            read_only: false,
        }),
        Mount::Secret(Secret {
            id: "dir/key".into(),
            target: Some("/run/secrets/key".into()),
            variable: None,
            required: false,
            access: access(0o400, 0),
        }),
        Mount::Secret(Secret {
            id: "k".into(),
            target: None,
            variable: Some("K".into()),
            required: false,
            access: access(0o400, 0),
        }),
        Mount::Ssh(Ssh {
            id: "default".into(),
            target: "/run/buildkit/ssh_agent.0".into(),
            required: false,
            access: access(0o600, 0),
        }),
        Mount::Ssh(Ssh {
            id: "b".into(),
            target: "/run/buildkit/ssh_agent.1".into(),
            required: true,
            access: access(0o666, 0),
        }),
    ];
    for (mount, expected) in run.mounts.iter().zip(&expected) {
        assert_eq!(mount, expected);
    }
    assert_eq!(run.mounts.len(), expected.len());
}

#[test]
fn mounts_name_stages_by_name_only() {
    let from = |text: &str| match &first_run(text).mounts[0] {
        Mount::Bind(bind) => bind.from.clone(),
        other => panic!("{other:?}"),
    };
    let text = "FROM debian AS a\nFROM debian\nRUN --mount=from=0,target=/x y\n";
    assert_eq!(from(text), Source::Image("0".parse().unwrap()));
    let text = "FROM debian AS a\nFROM debian\nRUN --mount=from=A,target=/x y\n";
    assert_eq!(from(text), Source::Stage(0));
    let text = "FROM debian\nRUN --mount=from=scratch,target=/x y\n";
    assert_eq!(from(text), Source::Empty);
    assert_eq!(
        error("FROM debian\nRUN --mount=from=b,target=/x y\nFROM debian AS b\nFROM debian\nCOPY --from=0 / /\n").1,
        2
    );
}

#[test]
fn networks_security_and_the_machines_name() {
    let run = first_run("FROM debian\nRUN --network=none --security=insecure x\n");
    assert_eq!(
        (run.network, run.security),
        (Network::None, Security::Insecure)
    );
    let run = first_run("FROM debian\nRUN x\n");
    assert_eq!(
        (run.network, run.security),
        (Network::Default, Security::Sandbox)
    );
    assert_eq!(run.hostname, "buildkitsandbox");
    let given = [
        ("BUILDKIT_SANDBOX_HOSTNAME", "me"),
        ("BUILDKIT_CACHE_MOUNT_NS", "ns"),
    ];
    let text = "FROM debian\nRUN --mount=type=cache,target=/c x\n";
    let plan = lowered(text, &options(None, &given)).unwrap();
    assert_eq!(runs(&plan)[0].hostname, "me");
    assert!(matches!(&runs(&plan)[0].mounts[0], Mount::Cache(cache) if cache.id == "ns//c"));
}

#[test]
fn flags_of_copies() {
    let copy = first_copy(
        "FROM scratch\nARG M=755\nCOPY --chmod=$M --parents --exclude=*.a --exclude=$x --link a b\n",
    );
    assert_eq!(copy.mode, Some(ModeChange::Octal(0o755)));
    assert!(copy.parents && !copy.link);
    assert_eq!(copy.exclude, ["*.a", "$x"]);
    assert!(first_copy("FROM scratch\nCOPY --link a b\n").link);
    assert_eq!(
        first_copy("FROM scratch\nADD --unpack=false a b\n").unpack,
        Unpack::Never
    );
    assert_eq!(
        first_copy("FROM scratch\nADD --unpack=true a b\n").unpack,
        Unpack::Always
    );
    assert_eq!(
        first_copy("FROM scratch\nCOPY --from=scratch a b\n").from,
        Source::Empty
    );
    assert_eq!(first_copy("FROM scratch\nCOPY --chown= a b\n").owner, None);
}

#[test]
fn downloads_and_repositories() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let copy = first_copy(&format!(
        "FROM scratch\nADD --checksum={digest} http://h.example/a/b.txt?q /\n"
    ));
    assert_eq!(
        copy.items,
        [Item::Http {
            url: "http://h.example/a/b.txt?q".into(),
            file_name: "b.txt".into(),
            checksum: Some(digest.parse().unwrap()),
        }]
    );
    let text = "FROM scratch\nADD --keep-git-dir --checksum=abc https://h.example/r.git#v1:d /\n";
    match &first_copy(text).items[0] {
        Item::Git { source, written } => {
            assert_eq!(written, "https://h.example/r.git#v1:d");
            assert_eq!(source.keep_git_dir, Some(true));
            assert_eq!(source.checksum.as_deref(), Some("abc"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn copies_that_cannot_be() {
    for (line, message, column) in [
        (
            "COPY https://h.example/x /",
            "the source of COPY can't be a URL; use ADD",
            6,
        ),
        (
            "COPY git@h.example:x /",
            "the source of COPY can't be a repository; use ADD",
            6,
        ),
        (
            "ADD --checksum=sha256:00 a /",
            "only a download or a repository has a checksum",
            16,
        ),
        (
            "ADD --checksum=abc http://h.example/a http://h.example/b /",
            "a checksum goes with one source only",
            16,
        ),
        (
            "ADD --keep-git-dir=false https://h.example/a.git?keep-git-dir=true /",
            "the address and `--keep-git-dir` contradict each other",
            26,
        ),
        (
            "COPY --chmod=${M:-999} a /",
            "`999` is not an octal number between 0 and 07777",
            14,
        ),
    ] {
        let found = error(&format!("FROM scratch\n{line}\n"));
        assert_eq!(found, (message.to_owned(), 2, column), "{line}");
    }
}

#[test]
fn named_contexts_take_the_place_of_stages_and_images() {
    let image: Reference = "other:1".parse().unwrap();
    let mut options = options(None, &[]);
    options.contexts = BTreeMap::from([
        ("base".to_owned(), NamedContext::Files),
        (
            "docker.io/library/debian:latest".to_owned(),
            NamedContext::Image(image.clone()),
        ),
    ]);
    let text = "FROM nowhere/at-all:1 AS base\nRUN never\nFROM debian\nCOPY --from=base /a /\nCOPY --from=debian /b /\nRUN --mount=from=base,target=/m x\n";
    let plan = lowered(text, &options).unwrap();
    assert_eq!(plan.stages[0].base, Base::Context("base".into()));
    assert!(plan.stages[0].steps.is_empty());
    assert_eq!(plan.target().base, Base::Image(image.clone()));
    let from: Vec<&Source> = copies(&plan).into_iter().map(|copy| &copy.from).collect();
    assert_eq!(from, [&Source::Stage(0), &Source::Image(image)]);
}

#[test]
fn labels_and_the_time_are_the_plans() {
    let epoch = |given: &[(&str, &str)], text: &str| {
        let mut options = options(None, given);
        options.times = [("context".to_owned(), Some(7)), ("none".to_owned(), None)].into();
        lowered(text, &options)
            .map(|plan| plan.epoch)
            .map_err(|error| error.to_string())
    };
    let plain = "FROM scratch\n";
    assert_eq!(epoch(&[], plain), Ok(None));
    assert_eq!(epoch(&[("SOURCE_DATE_EPOCH", "5")], plain), Ok(Some(5)));
    assert_eq!(
        epoch(&[("SOURCE_DATE_EPOCH", "context")], plain),
        Ok(Some(7))
    );
    assert_eq!(
        epoch(&[], "ARG SOURCE_DATE_EPOCH=6\nFROM scratch\n"),
        Ok(Some(6))
    );
    assert!(
        epoch(&[("SOURCE_DATE_EPOCH", "-1x")], plain)
            .unwrap_err()
            .contains("-1x")
    );
    let mut options = options(None, &[]);
    options.epoch = Some(Epoch::Seconds(1));
    options.labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let plan = lowered(plain, &options).unwrap();
    assert_eq!((plan.epoch, plan.labels), (Some(1), options.labels));
}

#[test]
fn the_targets_name_is_known_to_the_stages() {
    let target = |text: &str, target| {
        let plan = lowered(text, &options(target, &[])).unwrap();
        configured(&plan).labels["t"].clone()
    };
    let text = "FROM scratch AS a\nARG TARGETSTAGE\nLABEL t=$TARGETSTAGE\n";
    assert_eq!(target(text, None), "a");
    let text = "FROM scratch\nARG TARGETSTAGE\nLABEL t=$TARGETSTAGE\n";
    assert_eq!(target(text, None), "default");
}

#[test]
fn an_outline_shows_every_stage_and_what_it_needs() {
    let text = "# a: makes things\nFROM debian AS a\nFROM a AS unused\nFROM scratch\nRUN --mount=from=a,target=/x y\n";
    let dockerfile = firebuild_dockerfile::parse(text.as_bytes()).unwrap();
    let outline = outline(&dockerfile, &options(None, &[])).unwrap();
    assert_eq!(outline.target, "stage-2");
    let seen: Vec<_> = outline
        .stages
        .iter()
        .map(|stage| {
            (
                stage.name.as_str(),
                stage.base.as_str(),
                stage.needs.join(","),
                stage.needed,
            )
        })
        .collect();
    let expected = [
        ("a", "debian:latest", String::new(), true),
        ("unused", "a", "a".to_owned(), false),
        ("stage-2", "scratch", "a".to_owned(), true),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn stages_cannot_inherit_without_end() {
    let variables: String = (0..2000)
        .map(|number| format!("ENV V{number}=1\n"))
        .collect();
    let stages: String = (0..2000)
        .map(|number| format!("FROM s{number} AS s{}\n", number + 1))
        .collect();
    let (message, line, _) = error(&format!("FROM scratch AS s0\n{variables}{stages}"));
    assert!(message.contains("variables together"), "{message}");
    assert!(line > 2001, "{line}");
}
