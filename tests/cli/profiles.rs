//! Profiles and the environment: where a flag's value comes from.

use crate::session;
use crate::session::{Outcome, Session};

/// A Dockerfile whose plan tells the build argument `A`.
const TELLING: &str = "FROM scratch\nARG A=default\nLABEL a=$A\n";

/// What the build argument `A` is in the end.
fn told(session: &Session, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    session.write("context/Dockerfile", TELLING);
    let mut all = vec!["build", "--print", "plan", "--format", "json"];
    all.extend(arguments);
    all.push("context");
    let mut command = session.command(&all);
    let shown = Outcome::of(command.envs(variables.iter().copied())).success();
    // The operation's text has the variable, its history the value.
    let shown = shown.stdout.replace("LABEL a=$A", "");
    let at = shown.find("\"LABEL a=").unwrap() + 9;
    let rest = shown.get(at..).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn a_flag_wins_over_the_environment_over_a_profile_over_the_default() {
    let (session, _root) = session();
    session.ok(&[
        "profile",
        "create",
        "p",
        "--set",
        "build.build-arg=A=profile",
    ]);
    let variable = ("FIREBUILD_BUILD_ARG", "A=variable");
    let chosen = ("FIREBUILD_PROFILE", "p");
    for (arguments, variables, expected) in [
        (&[][..], &[][..], "default"),
        (&["--profile", "p"], &[], "profile"),
        (&[], &[chosen], "profile"),
        (&[], &[chosen, variable], "variable"),
        (
            &["--profile", "p"],
            &[("FIREBUILD_BUILD_ARG", "")],
            "profile",
        ),
        (&["--build-arg", "A=flag"], &[chosen, variable], "flag"),
        (
            &[],
            &[("FIREBUILD_BUILD_ARG", "B=1\nA=second line")],
            "second line",
        ),
    ] {
        let found = told(&session, arguments, variables);
        assert_eq!(found, expected, "{arguments:?} {variables:?}");
    }
}

#[test]
fn the_default_profile_is_made_once_and_then_holds() {
    let (session, root) = session();
    let file = root.path().join("profiles/default.toml");
    session.ok(&["ls"]);
    assert!(!file.exists(), "a command that only looks makes nothing");
    assert_eq!(told(&session, &[], &[]), "default");
    let made = fs_err::read_to_string(&file).unwrap();
    assert!(made.starts_with("# The profile that holds"), "{made}");
    fs_err::write(&file, "[build]\nbuild-arg = { A = 'mine' }\n").unwrap();
    assert_eq!(told(&session, &[], &[]), "mine");
    let nowhere = ("FIREBUILD_PROFILE_CONF_DIR", "/dev/null/profiles");
    assert_eq!(told(&session, &[], &[nowhere]), "default");
}

#[test]
fn profiles_are_made_listed_shown_and_removed() {
    let (session, root) = session();
    let directory = root.path().join("profiles");
    assert_eq!(session.ok(&["profile", "ls"]), "NAME   FLAGS   FILE\n");
    let made = session.ok(&[
        "profile",
        "create",
        "big",
        "--mem",
        "4096",
        "--env",
        "A=1",
        "--env",
        "B=2",
        "--detach",
        "--set",
        "run.cpu=8",
        "--root",
        "/elsewhere",
        "--storage-provider",
        "directory",
    ]);
    assert_eq!(made, "big\n");
    let expected = "detach = true\nenv = [\"A=1\", \"B=2\"]\nmem = 4096\nroot = \"/elsewhere\"\n\
                    storage-provider = \"directory\"\n\n[run]\ncpu = 8\n";
    assert_eq!(session.ok(&["profile", "inspect", "big"]), expected);
    let json = session.json(&["profile-inspect", "--profile", "big", "--format", "json"]);
    assert_eq!(json["run"]["cpu"], 8);
    let listed = session.json(&["profile-ls", "--format", "json"]);
    assert_eq!(listed[0]["Name"], "big");
    assert_eq!(listed[0]["Flags"], 6);
    let again = ["profile", "create", "big"];
    assert_eq!(
        session.run(&again).failure(),
        "error: there is a profile `big` already\nhint: `--overwrite` replaces it\n"
    );
    // As the original tool has it.
    session.ok(&[
        "profile-create",
        "--profile",
        "big",
        "--overwrite",
        "--mem",
        "64",
    ]);
    assert_eq!(session.ok(&["profile", "inspect", "big"]), "mem = 64\n");
    let entries = fs_err::read_dir(&directory).unwrap().count();
    assert_eq!(entries, 1, "nothing is left beside it");
    assert_eq!(session.ok(&["profile", "rm", "big"]), "big\n");
    let missing = format!(
        "error: there is no profile `big` in `{}`\n\
         hint: see `firebuild profile ls`, or make it with `firebuild profile create`\n",
        directory.display()
    );
    for arguments in [
        &["profile", "rm", "big"][..],
        &["profile", "inspect", "big"],
        &["ls", "--profile", "big"],
    ] {
        assert_eq!(session.run(arguments).failure(), missing, "{arguments:?}");
    }
}

#[test]
fn what_is_no_profile_is_neither_made_nor_used() {
    let (session, root) = session();
    let invalid = session.run(&["profile", "create", "p", "--mem", "lots"]);
    let said = invalid.failure();
    assert!(
        said.starts_with("error: `mem` in the profile `p`: invalid value 'lots'"),
        "{said}"
    );
    let unknown = session.run(&["profile", "create", "p", "--set", "run.cpus=1"]);
    let said = unknown.failure();
    assert!(said.contains("did you mean `cpu`?"), "{said}");
    let file = session.write("file.toml", "[run]\ncpus = 1\n");
    let file = file.to_str().unwrap();
    session
        .run(&["profile", "create", "p", "--toml", file])
        .failure();
    assert_eq!(session.ok(&["profile", "ls"]), "NAME   FLAGS   FILE\n");
    let directory = root.path().join("profiles");
    fs_err::create_dir_all(&directory).unwrap();
    for (text, said) in [
        (
            &b"mem = "[..],
            "error: cannot read the profile `p`\ncaused by: TOML parse error at line 1",
        ),
        (b"\xff\xfe", "error: cannot read the profile `p`\n"),
        (
            b"[ls]\nal = true\n",
            "error: `al` in `[ls]` of the profile `p` is not a flag of `firebuild ls`; did you mean `all`?",
        ),
        (
            &vec![b'#'; (1 << 20) + 1],
            "error: the profile `p` is larger than 1048576 bytes",
        ),
    ] {
        fs_err::write(directory.join("p.toml"), text).unwrap();
        let shown = session.run(&["ls", "--profile", "p"]).failure();
        assert!(shown.starts_with(said), "{shown}");
        let listed = session.run(&["profile", "ls"]).success();
        assert!(listed.stdout.contains("invalid"), "{listed}");
    }
    let shown = session.run(&["ls", "--profile", "../p"]).failure();
    assert!(shown.contains("`../p` cannot name a profile"), "{shown}");
}

#[test]
fn a_value_that_was_not_typed_is_told_with_where_it_is_from() {
    let (session, _root) = session();
    let mut command = session.command(&["run", "a"]);
    let shown = Outcome::of(command.env("FIREBUILD_MEM", "lots")).failure();
    assert!(
        shown.contains("invalid value 'lots' for '--mem <MIB>'"),
        "{shown}"
    );
    assert!(
        shown.contains("the value is that of the variable `FIREBUILD_MEM`"),
        "{shown}"
    );
    let mut command = session.command(&["run", "--mem", "lots", "a"]);
    let shown = Outcome::of(command.env("FIREBUILD_MEM", "64")).failure();
    assert!(!shown.contains("the value is that"), "{shown}");
}

#[test]
fn a_typed_word_wins_over_a_variable_that_excludes_it() {
    let (session, _root) = session();
    let mut command = session.command(&["inspect", "ghost"]);
    let shown = Outcome::of(command.env("FIREBUILD_VMM_ID", "other")).failure();
    assert!(
        shown.starts_with("error: there is no VM `ghost`"),
        "{shown}"
    );
    let mut command = session.command(&["inspect"]);
    let shown = Outcome::of(command.env("FIREBUILD_VMM_ID", "other")).failure();
    assert!(
        shown.starts_with("error: there is no VM `other`"),
        "{shown}"
    );
    let mut command = session.command(&["ls"]);
    let shown = Outcome::of(command.env("FIREBUILD_ALL", "perhaps")).failure();
    assert!(shown.contains("FIREBUILD_ALL"), "{shown}");
}

#[test]
fn help_names_each_variable() {
    let (session, _root) = session();
    let help = session.ok(&["run", "--help"]);
    for variable in [
        "FIREBUILD_MEM",
        "FIREBUILD_ENV_FILE",
        "FIREBUILD_PROFILE",
        "FIREBUILD_RM",
    ] {
        assert!(
            help.contains(&format!("[env: {variable}]")),
            "{variable}: {help}"
        );
    }
}
