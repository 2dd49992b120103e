use clap::CommandFactory as _;

use super::*;
use crate::command::Cli;

fn parse(text: &str) -> Result<Profile, ProfileError> {
    let name: ProfileName = "p".parse().unwrap();
    Profile::parse(&name, text, &Schema::of(Cli::command))
}

#[test]
fn what_is_no_flag_or_no_value_of_it_is_refused_by_its_place() {
    for (text, said) in [
        (
            "mme = 1",
            "`mme` in the profile `p` is not a flag of any command; did you mean `mem`?",
        ),
        (
            "[run]\ncpus = 1",
            "`cpus` in `[run]` of the profile `p` is not a flag of `firebuild run`; did you mean `cpu`?",
        ),
        (
            "[rnu]\ncpu = 1",
            "`rnu` in the profile `p` is not a flag of any command; did you mean `run`?",
        ),
        (
            "profile = 'x'",
            "`profile` in the profile `p` is not a flag of any command",
        ),
        (
            "[supervise]\nroot = '/'",
            "`supervise` in the profile `p` is not a flag of any command",
        ),
        (
            "[profile.create]\noverwrite = true",
            "`profile` in the profile `p` is not a flag",
        ),
        (
            "detach = 1",
            "`detach` in the profile `p` has to be true or false",
        ),
        (
            "mem = [1, 2]",
            "`mem` in the profile `p` has to be a text or a number",
        ),
        (
            "env = [[1]]",
            "`env` in the profile `p` has to be a text, a number, or a list of them",
        ),
        (
            "mem = 'lots'",
            "`mem` in the profile `p`: invalid value 'lots' for '--mem <MIB>'",
        ),
        (
            "[run]\ncpu = 0",
            "`cpu` in `[run]` of the profile `p`: invalid value '0' for '--cpu <N>'",
        ),
        (
            "kernel = 'a'\nvmlinux-id = 'b'",
            "is given twice, by two names of one flag",
        ),
        (
            "[image]\nls = 3",
            "`ls` in `[image]` of the profile `p` is not a flag of `firebuild image`",
        ),
        ("= 3", "cannot read the profile `p`"),
        ("mem = 1\nmem = 2", "cannot read the profile `p`"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn a_list_may_be_a_table_of_names() {
    let text = "[run]\nstorage-provider-property-string = { kernel-storage-root = '/k', rootfs-storage-root = '/r' }\n";
    let profile = parse(text).unwrap();
    let path = ["run".to_owned()];
    let given = profile.value(&path, "storage-provider-property-string");
    let expected = ["kernel-storage-root=/k", "rootfs-storage-root=/r"];
    assert_eq!(
        given,
        Some(&Given::Values(expected.map(str::to_owned).to_vec()))
    );
}

#[test]
fn an_alias_is_the_command_and_the_flag_that_it_stands_for() {
    let profile = parse("[ps]\nall = true\n[run]\nport = '80'\n").unwrap();
    assert_eq!(
        profile.value(&["ls".to_owned()], "all"),
        Some(&Given::Switch(true))
    );
    let ports = profile.value(&["run".to_owned()], "publish");
    assert_eq!(ports, Some(&Given::Values(vec!["80".to_owned()])));
}

#[test]
fn names_are_those_of_files() {
    for good in ["a", "A-1_b.c", "0", &"x".repeat(63)] {
        assert!(good.parse::<ProfileName>().is_ok(), "{good}");
    }
    for bad in [
        "",
        ".",
        "..",
        "a/b",
        "-a",
        "ä",
        "a b",
        "a\0",
        &"x".repeat(64),
    ] {
        assert!(bad.parse::<ProfileName>().is_err(), "{bad}");
    }
}

proptest::proptest! {
    /// Whatever a file holds, it is a profile or an error.
    #[test]
    fn no_text_does_harm(text in "(\\[?[a-z.\\-]{1,8}\\]?( ?= ?['\\[{]?[a-z0-9=,]{0,6}['\\]}]?)?\n){0,6}") {
        let _ = parse(&text);
    }
}
