//! What Dockerfiles mean, by the plans that they make.

mod arguments;
mod language;
mod rules;

use super::*;
use crate::operation::{Command, Item, Run, Unpack};

/// Images with two variables and a trigger or none.
struct Known;

impl Bases for Known {
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError> {
        let mut config = ImageConfig::scratch(Platform::host());
        match image.repository() {
            "library/none" => return Err("not here".into()),
            "library/trigger" => {
                config.config.on_build.push("RUN x".into());
                config
                    .config
                    .on_build
                    .push("COPY --from=early /a /b".into());
            }
            "library/bad-trigger" => config.config.on_build.push("COPY --from=late / /".into()),
            "library/shell" => config.config.shell = Some(vec!["/bin/ash".into(), "-ec".into()]),
            _ => {}
        }
        config.config.set_variable("BASE", "from-base");
        config.config.cmd = Some(vec!["inherited".into()]);
        Ok(config)
    }
}

fn options(target: Option<&str>, build_args: &[(&str, &str)]) -> Options {
    Options {
        target: target.map(str::to_owned),
        build_args: build_args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Options::new(Platform::host())
    }
}

fn lowered(text: &str, options: &Options) -> Result<Plan, LowerError> {
    lower(
        &firebuild_dockerfile::parse(text.as_bytes()).unwrap(),
        options,
        &Known,
    )
}

fn plan(text: &str) -> Plan {
    lowered(text, &options(None, &[])).unwrap()
}

/// The message of an error and the line and column that it names.
fn error(text: &str) -> (String, u32, u32) {
    let error = lowered(text, &options(None, &[])).unwrap_err();
    (
        error.to_string(),
        error.span.start.line,
        error.span.start.column,
    )
}

fn runs(plan: &Plan) -> Vec<&Run> {
    let operations = plan.target().steps.iter().map(|step| &step.operation);
    operations
        .filter_map(|operation| {
            if let Operation::Run(run) = operation {
                Some(run)
            } else {
                None
            }
        })
        .collect()
}

fn copies(plan: &Plan) -> Vec<&crate::Copy> {
    let operations = plan.target().steps.iter().map(|step| &step.operation);
    operations
        .filter_map(|operation| {
            if let Operation::Copy(copy) = operation {
                Some(copy)
            } else {
                None
            }
        })
        .collect()
}

/// The configuration that the target's changes make of an empty one.
fn configured(plan: &Plan) -> firebuild_core::config::ProcessConfig {
    let mut config = ImageConfig::scratch(Platform::host());
    config.config.env.clear();
    config.config.working_dir.clear();
    config.config.cmd = Some(vec!["inherited".into()]);
    for step in &plan.target().steps {
        step.operation
            .changes()
            .iter()
            .for_each(|change| change.apply(&mut config));
    }
    config.config
}

#[test]
fn only_the_stages_that_the_target_needs_are_planned() {
    let text = "FROM debian AS a\nFROM debian AS unused\nRUN --mount=type=cache,target=/x true\nFROM scratch AS b\nCOPY --from=A /x /y\nFROM b\nCOPY --from=busybox /z /z\n";
    let plan = plan(text);
    let names: Vec<&str> = plan
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "stage-3"]);
    assert_eq!((plan.target, &plan.stages[2].base), (2, &Base::Stage(1)));
    let images: Vec<String> = plan.images().into_iter().map(Reference::familiar).collect();
    assert_eq!(images, ["busybox:latest", "debian:latest"]);
    assert_eq!(
        lowered(text, &options(Some("A"), &[]))
            .unwrap()
            .stages
            .len(),
        1
    );
    let error = lowered(text, &options(Some("unsed"), &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "target stage `unsed` could not be found (did you mean `unused`?)"
    );
    assert!(lowered(text, &options(Some("0"), &[])).is_err());
}

#[test]
fn stages_are_copied_from_by_name_and_by_number_and_only_backwards() {
    let plan = plan("FROM a AS x\nFROM b\nFROM c\nCOPY --from=0 / /\nCOPY --from=1 / /\n");
    let from: Vec<&Source> = copies(&plan).into_iter().map(|copy| &copy.from).collect();
    assert_eq!(from[..2], [&Source::Stage(0), &Source::Stage(1)]);
    assert_eq!(
        error("FROM a\nFROM b\nCOPY --from=7 / /\n"),
        (
            "there is no stage 7: the file has 2, counted from 0".into(),
            3,
            13
        )
    );
    assert_eq!(
        error("FROM a\nCOPY --from=late / /\nFROM b AS late\nFROM scratch\nCOPY --from=0 / /\n"),
        (
            "stage `late` needs to be defined before it is copied from".into(),
            2,
            13
        )
    );
}

#[test]
fn global_arguments_reach_stages_only_when_declared_again() {
    let text = "ARG V=1\nARG T=tag$V\nFROM debian:$T\nRUN a\nARG V\nRUN b\nARG V=2\nRUN c\nARG NEW\nRUN d\n";
    let plan = plan(text);
    assert_eq!(
        plan.stages[0].base,
        Base::Image("debian:tag1".parse().unwrap())
    );
    let seen: Vec<Vec<(String, String)>> = runs(&plan)
        .into_iter()
        .map(|run| run.build_args.clone())
        .collect();
    let v = |value: &str| vec![("V".to_owned(), value.to_owned())];
    assert_eq!(seen, [vec![], v("1"), v("2"), v("2")]);
    let given = lowered(
        text,
        &options(None, &[("V", "9"), ("NEW", ""), ("UNDECLARED", "x")]),
    )
    .unwrap();
    assert_eq!(
        given.stages[0].base,
        Base::Image("debian:tag9".parse().unwrap())
    );
    let last = runs(&given).pop().unwrap();
    assert_eq!(
        last.build_args,
        [
            ("V".to_owned(), "9".to_owned()),
            ("NEW".to_owned(), String::new())
        ]
    );
}

#[test]
fn of_env_and_arg_the_last_one_wins_for_a_process() {
    let plan = plan("FROM scratch\nENV X=1\nARG X=2\nRUN a\nENV X=3\nRUN b\nENV Y=$X\n");
    let runs = runs(&plan);
    assert_eq!(runs[0].build_args, [("X".to_owned(), "2".to_owned())]);
    assert!(
        runs[0]
            .environment
            .contains(&("X".to_owned(), "1".to_owned()))
    );
    assert_eq!(runs[1].build_args, []);
    assert_eq!(configured(&plan).variable("Y"), Some("3"));
}

#[test]
fn one_env_line_sees_the_values_before_it() {
    let plan = plan(
        "FROM debian\nENV abc=hello\nENV abc=bye def=$abc base=$BASE-$NONE\nARG A=1 B=$A\nRUN x\n",
    );
    let config = configured(&plan);
    assert_eq!(
        (
            config.variable("abc"),
            config.variable("def"),
            config.variable("base")
        ),
        (Some("bye"), Some("hello"), Some("from-base-"))
    );
    assert_eq!(
        runs(&plan)[0].build_args[1],
        ("B".to_owned(), "1".to_owned())
    );
}

#[test]
fn a_stage_inherits_environment_and_arguments_of_its_parent() {
    let plan = plan(
        "FROM scratch AS p\nENV E=1\nARG A=2\nWORKDIR /w\nUSER u\nSHELL [\"/s\", \"-x\"]\nFROM p\nRUN echo\nCMD run\n",
    );
    let run = runs(&plan)[0];
    assert!(run.environment.contains(&("E".to_owned(), "1".to_owned())));
    assert_eq!(run.build_args, [("A".to_owned(), "2".to_owned())]);
    assert_eq!(
        (run.workdir.as_str(), run.user.as_str(), run.shell.join(" ")),
        ("/w", "u", "/s -x".to_owned())
    );
    assert_eq!(configured(&plan).cmd.unwrap(), ["/s", "-x", "run"]);
}

#[test]
fn shell_forms_take_the_shell_in_force_at_their_line() {
    let plan = plan(
        "FROM shell\nCMD one\nSHELL [\"/bin/bash\", \"-c\"]\nRUN two\nENTRYPOINT three\nRUN [\"four\", \"$X\"]\n",
    );
    let config = configured(&plan);
    assert_eq!(config.cmd.unwrap(), ["/bin/ash", "-ec", "one"]);
    assert_eq!(config.entrypoint.unwrap(), ["/bin/bash", "-c", "three"]);
    assert_eq!(
        runs(&plan)[1].command,
        Command::Exec(vec!["four".into(), "$X".into()])
    );
}

#[test]
fn entrypoint_takes_away_only_an_inherited_command() {
    assert_eq!(
        configured(&plan("FROM debian\nENTRYPOINT [\"e\"]\n")).cmd,
        None
    );
    assert_eq!(
        configured(&plan("FROM debian\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n"))
            .cmd
            .unwrap(),
        ["c"]
    );
}

#[test]
fn paths_are_joined_and_cleaned() {
    let plan = plan(
        "FROM scratch\nWORKDIR a/../b\nWORKDIR c/\nCOPY x .\nCOPY x d\nCOPY x /e/\nCOPY x ../f/.\nADD x ./\n",
    );
    assert_eq!(configured(&plan).working_dir, "/b/c");
    let destinations: Vec<&str> = copies(&plan)
        .into_iter()
        .map(|copy| copy.destination.as_str())
        .collect();
    assert_eq!(destinations, ["/b/c/", "/b/c/d", "/e/", "/b/f/", "/b/c/"]);
    assert_eq!(copies(&plan)[4].unpack, Unpack::Local);
    assert_eq!(copies(&plan)[0].unpack, Unpack::Never);
}

#[test]
fn here_documents() {
    let text = "FROM scratch\nARG N=1\nRUN <<E\necho $N\nE\nRUN <<S\n#!/usr/bin/python\nx\nS\nCOPY <<f <<\"g\" /d/\n$N\nf\n$N\ng\n";
    let plan = plan(text);
    assert_eq!(runs(&plan)[0].command, Command::Shell("echo $N\n".into()));
    assert_eq!(
        runs(&plan)[1].command,
        Command::Shell("/dev/pipes/S".into())
    );
    assert_eq!(runs(&plan)[1].files[0].content, "#!/usr/bin/python\nx\n");
    let inline = |name: &str, content: &str| Item::Inline {
        name: name.into(),
        content: content.into(),
    };
    assert_eq!(
        copies(&plan)[0].items,
        [inline("f", "1\n"), inline("g", "$N\n")]
    );
}

#[test]
fn ports_signals_and_volumes_are_checked() {
    let plan = plan(
        "FROM scratch\nENV P=\"80 90-91/UDP\"\nEXPOSE $P\nSTOPSIGNAL SIGINT\nVOLUME /a /b\nLABEL a=1 b=\"x y\"\n",
    );
    let config = configured(&plan);
    assert_eq!(
        config.exposed_ports.keys().collect::<Vec<_>>(),
        ["80/tcp", "90/udp", "91/udp"]
    );
    assert_eq!(
        (
            config.stop_signal.as_deref(),
            config.volumes.len(),
            config.labels["b"].as_str()
        ),
        (Some("SIGINT"), 2, "x y")
    );
    assert_eq!(error("FROM scratch\nEXPOSE 80 0x/tcp\n").1, 2);
    assert_eq!(error("FROM scratch\nSTOPSIGNAL SIGNONE\n").1, 2);
}

#[test]
fn what_is_not_supported_yet_says_so_with_its_place() {
    assert_eq!(
        error("FROM scratch\nRUN --device=x y\n"),
        ("`RUN --device` is not supported yet".into(), 2, 5)
    );
    assert!(
        error("FROM --platform=linux/riscv64 x\n")
            .0
            .contains("a platform other than")
    );
}

#[test]
fn bases_that_are_none() {
    assert_eq!(
        error("FROM $X\n"),
        (
            "the base's name is empty: a variable in it is not set before the first `FROM`".into(),
            1,
            6
        )
    );
    assert_eq!(error("FROM a\nFROM UPPER\n").1, 2);
    let missing = lowered("FROM none\n", &options(None, &[])).unwrap_err();
    assert!(
        std::error::Error::source(&missing)
            .unwrap()
            .to_string()
            .contains("not here")
    );
    assert_eq!(
        error("ARG X=${Y?needed}\nFROM a\n"),
        ("Y: needed".into(), 1, 7)
    );
}

#[test]
fn a_plan_prints_what_will_be_done_and_where_it_is_written() {
    let plan = plan("FROM scratch\nWORKDIR /w\nRUN echo \\\n  hi\n");
    let json = serde_json::to_value(&plan).unwrap();
    let step = &json["stages"][0]["steps"][1];
    assert_eq!(step["operation"], "run");
    assert_eq!(
        (
            step["origin"]["line"].as_u64(),
            step["origin"]["end-line"].as_u64()
        ),
        (Some(3), Some(4))
    );
    assert_eq!(step["history"], "RUN /bin/sh -c echo   hi # buildkit");
    assert_eq!(json["version"], 2);
}

#[test]
fn ports_are_declared_once_and_not_without_end() {
    let text = format!("FROM scratch\nEXPOSE 80 80/tcp {}\n", "1-9 ".repeat(100));
    let changes = plan(&text).target().steps[0].operation.changes().len();
    assert_eq!(changes, 10);
    let text = format!("FROM scratch\n{}", "EXPOSE 0-65535\n".repeat(4));
    let (message, line, column) = error(&text);
    assert_eq!((line, column), (5, 8));
    assert!(message.contains("more than 196608 ports"), "{message}");
}
