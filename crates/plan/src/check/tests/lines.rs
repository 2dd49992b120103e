//! Rules about the lines of a stage.

use super::*;

#[test]
fn what_the_text_alone_tells() {
    let case = Case::default();
    case.table(
        "NoEmptyContinuation",
        &[
            ("FROM a\nRUN x \\\n\n  y", &[(3, "")]),
            ("FROM a\nRUN x \\\n# c\n  y", &[]),
            ("FROM a\nRUN x \\\n   \n\n  y", &[(3, "")]),
            ("FROM a\nRUN <<E\n\nE", &[]),
        ],
    );
    case.table(
        "ConsistentInstructionCasing",
        &[
            ("FROM a\nrun x\nRUN y", &[(2, "run")]),
            ("from a\nrun x\nRUN y", &[(3, "RUN")]),
            ("FROM a\nrun x", &[(2, "run")]),
            ("FROM a\nRun x", &[(2, "Run")]),
            ("from a\nRun x", &[(2, "Run")]),
            ("From a", &[(1, "From")]),
            // What stands before the first stage does not count.
            ("arg a\narg b\nFROM a", &[]),
            ("FROM a\nONBUILD run x", &[]),
        ],
    );
    case.table(
        "MaintainerDeprecated",
        &[
            ("FROM a\nMAINTAINER x", &[(2, "MAINTAINER")]),
            ("FROM a\nLABEL maintainer=x", &[]),
        ],
    );
    case.table(
        "InvalidCheckComment",
        &[
            (
                "FROM a\n# check=nonsense\nRUN x",
                &[(2, "# check=nonsense")],
            ),
            (
                "FROM a\n# check=error=maybe\nRUN x",
                &[(2, "# check=error=maybe")],
            ),
            ("FROM a\n# check=skip=all\nRUN x", &[]),
            ("FROM a\n# check the rest\nRUN x", &[]),
        ],
    );
}

#[test]
fn undefined_var() {
    Case::default().table(
        "UndefinedVar",
        &[
            ("FROM scratch\nENV a=$b", &[(2, "$b")]),
            ("FROM scratch\nENV b=1\nENV a=$b", &[]),
            ("FROM scratch\nENV a=1 b=$a", &[(2, "$a")]),
            ("FROM scratch\nENV $k=v", &[(2, "$k")]),
            ("FROM scratch\nENV a \"$b\"", &[(2, "$b")]),
            ("FROM scratch\nENV a='$b' c=\\$d", &[]),
            ("FROM scratch\nLABEL a=$b", &[(2, "$b")]),
            ("FROM scratch\nCOPY $a $b/", &[(2, "$a"), (2, "$b")]),
            ("FROM scratch\nCOPY $a $a/", &[(2, "$a")]),
            (
                "FROM scratch\nADD --chown=$u --chmod=$m --checksum=$c a /",
                &[(2, "$u"), (2, "$m"), (2, "$c")],
            ),
            ("FROM scratch\nCOPY --exclude=$a b /", &[]),
            ("FROM scratch\nCOPY <<E /\n$a\n$a\nE", &[(3, "$a")]),
            ("FROM scratch\nCOPY <<'E' /\n$a\nE", &[]),
            (
                "FROM scratch\nRUN --mount=type=cache,target=/$a,id=${b} x",
                &[(2, "$a"), (2, "${b}")],
            ),
            ("FROM scratch\nWORKDIR /$a", &[(2, "$a")]),
            ("FROM scratch\nUSER ${a:-b}", &[(2, "${a")]),
            ("FROM scratch\nVOLUME /$a", &[(2, "$a")]),
            ("FROM scratch\nSTOPSIGNAL $a", &[(2, "$a")]),
            ("FROM scratch\nEXPOSE 80 $a", &[(2, "$a")]),
            // The shell of the step expands these.
            (
                "FROM scratch\nRUN echo $a\nCMD echo $a\nENTRYPOINT [\"$a\"]",
                &[],
            ),
            ("FROM scratch\nHEALTHCHECK CMD $a", &[]),
            ("FROM scratch\nRUN <<E\n$a\nE", &[]),
            // A declared argument may have no value.
            ("FROM scratch\nARG a\nENV b=$a", &[]),
            ("FROM scratch\nARG a=$b", &[(2, "$b")]),
            ("FROM scratch\nARG a=1 b=$a", &[]),
            ("FROM scratch\nENV b=$a\nARG a", &[(2, "$a")]),
            ("ARG a=1\nFROM scratch\nENV b=$a", &[(3, "$a")]),
            ("ARG a=1\nFROM scratch\nARG a\nENV b=$a", &[]),
            ("FROM scratch\nENV a=$TARGETARCH", &[(2, "$TARGETARCH")]),
            ("FROM scratch\nARG TARGETARCH\nENV a=$TARGETARCH", &[]),
            ("FROM scratch\nENV PATH=/x:$PATH", &[]),
            ("FROM scratch\nENV a=$BUILDKIT_SBOM_SCAN_STAGE", &[]),
            // Of bases.
            ("FROM known\nENV a=$KNOWN$TRIGGERED", &[]),
            ("FROM shell\nENV a=$KNOWN", &[(2, "$KNOWN")]),
            ("FROM scratch AS a\nENV x=1\nARG y\nFROM a\nENV z=$x$y", &[]),
            (
                "FROM scratch AS a\nENV x=1\nFROM scratch\nENV z=$x",
                &[(4, "$x")],
            ),
            (
                "FROM scratch AS a\nONBUILD ENV x=1\nENV z=$x\nFROM a\nENV z=$x",
                &[(3, "$x")],
            ),
            (
                "FROM scratch AS a\nONBUILD ARG x\nFROM a AS b\nFROM b\nENV z=$x",
                &[],
            ),
            ("FROM scratch AS a\nONBUILD ENV x=$y", &[]),
        ],
    );
}

#[test]
fn what_is_said_of_variables() {
    let case = Case::default();
    for (text, message) in [
        (
            "FROM scratch\nENV foobar=1\nENV a=$fobar",
            "the variable `$fobar` is not set; did you mean `$foobar`?",
        ),
        (
            "FROM scratch\nENV a=$PAHT",
            "the variable `$PAHT` is not set; did you mean `$PATH`?",
        ),
        ("FROM scratch\nENV a=$b", "the variable `$b` is not set"),
        (
            "FROM unknown\nENV a=$quite",
            "the variable `$quite` is not set here; what the base image sets is not known",
        ),
    ] {
        assert_eq!(case.message(text), message, "{text}");
    }
    // A default is not looked at where another value is given.
    let given = Case::given(&[("a", "1")]);
    given.table("UndefinedVar", &[("FROM scratch\nARG a=$b\nENV c=$a", &[])]);
}

#[test]
fn json_args_recommended() {
    Case::default().table(
        "JSONArgsRecommended",
        &[
            ("FROM a\nCMD x", &[(2, "CMD")]),
            ("FROM a\nentrypoint x", &[(2, "entrypoint")]),
            ("FROM a\nCMD ['x']", &[(2, "CMD")]),
            ("FROM a\nCMD [\"x\"]\nENTRYPOINT []", &[]),
            ("FROM a\nHEALTHCHECK CMD x\nRUN y", &[]),
            ("FROM a\nSHELL [\"x\"]\nCMD x", &[]),
            ("FROM a\nCMD x\nSHELL [\"x\"]", &[(2, "CMD")]),
            ("FROM a\nSHELL [\"x\"]\nFROM b\nCMD x", &[(4, "CMD")]),
            ("FROM a AS b\nSHELL [\"x\"]\nFROM b\nCMD x", &[]),
            ("FROM shell\nCMD x", &[]),
            ("FROM a\nONBUILD CMD x", &[]),
        ],
    );
}

#[test]
fn only_the_last_counts() {
    Case::default().table(
        "MultipleInstructionsDisallowed",
        &[
            ("FROM a\nCMD []\nCMD []", &[(2, "CMD")]),
            ("FROM a\nCMD []\nCMD []\nCMD []", &[(2, "CMD"), (3, "CMD")]),
            ("FROM a\nENTRYPOINT []\nENTRYPOINT []", &[(2, "ENTRYPOINT")]),
            (
                "FROM a\nHEALTHCHECK NONE\nHEALTHCHECK NONE",
                &[(2, "HEALTHCHECK")],
            ),
            ("FROM a\nCMD []\nENTRYPOINT []\nHEALTHCHECK NONE", &[]),
            ("FROM a\nCMD []\nFROM b\nCMD []", &[]),
            ("FROM a AS b\nCMD []\nFROM b\nCMD []", &[]),
            ("FROM known\nCMD []", &[]),
            ("FROM a\nUSER a\nUSER b\nSHELL [\"a\"]\nSHELL [\"b\"]", &[]),
        ],
    );
}

#[test]
fn workdir_relative_path() {
    Case::default().table(
        "WorkdirRelativePath",
        &[
            ("FROM a\nWORKDIR app", &[(2, "app")]),
            ("FROM a\nWORKDIR /app\nWORKDIR src", &[]),
            // Each later one is mended with the first.
            ("FROM a\nWORKDIR app\nWORKDIR src", &[(2, "app")]),
            ("FROM a\nENV d=/x\nWORKDIR $d", &[]),
            ("FROM a\nENV d=x\nWORKDIR $d", &[(3, "$d")]),
            // What a base image has may change.
            ("FROM known\nWORKDIR app", &[(2, "app")]),
            ("FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y", &[]),
            ("FROM a\nWORKDIR /x\nFROM b\nWORKDIR y", &[(4, "y")]),
        ],
    );
}

#[test]
fn legacy_key_value_format() {
    Case::default().table(
        "LegacyKeyValueFormat",
        &[
            ("FROM a\nENV a b", &[(2, "a b")]),
            ("FROM a\nENV a b c=d", &[(2, "a b c=d")]),
            ("FROM a\nLABEL a b", &[(2, "a b")]),
            ("FROM a\nENV a=b c=d\nLABEL e=f\nARG g h", &[]),
        ],
    );
}

#[test]
fn secrets_used_in_arg_or_env() {
    Case::default().table(
        "SecretsUsedInArgOrEnv",
        &[
            ("FROM a\nARG TOKEN", &[(2, "TOKEN")]),
            ("FROM a\nARG a API_KEY=1", &[(2, "API_KEY")]),
            (
                "FROM a\nENV passwd=1 secret=2",
                &[(2, "passwd"), (2, "secret")],
            ),
            ("FROM a\nENV DB_PASSWORD 1", &[(2, "DB_PASSWORD")]),
            (
                "FROM a\nENV PASSWORD_FILE=/run/x PUBLIC_KEY=1 KEY_VERSION=2",
                &[],
            ),
            ("FROM a\nLABEL token=1", &[]),
            ("FROM a\nRUN --mount=type=secret,id=token x", &[]),
            ("FROM a\nENV MONKEY=1", &[]),
        ],
    );
}

#[test]
fn copy_ignored_file() {
    let case = Case {
        ignore: "*.log\nsecret\n**/deep\n",
        ..Case::default()
    };
    case.table(
        "CopyIgnoredFile",
        &[
            ("FROM a\nCOPY x.log /", &[(2, "x.log")]),
            ("FROM a\nADD a ./x.log b /", &[(2, "./x.log")]),
            ("FROM a\nCOPY [\"secret/x\", \"/\"]", &[(2, "secret/x")]),
            ("FROM a\nENV n=y\nCOPY $n.log /", &[(3, "$n.log")]),
            ("FROM a\nCOPY a/b/deep/c /", &[(2, "a/b/deep/c")]),
            ("FROM a\nCOPY . /", &[]),
            ("FROM a\nCOPY x /", &[]),
            ("FROM a\nADD https://example.org/x.log /", &[]),
            ("FROM a AS b\nFROM a\nCOPY --from=b x.log /", &[]),
            ("FROM a\nCOPY <<x.log /\nx.log", &[]),
        ],
    );
    let excepting = Case {
        ignore: "secret\n!secret/x",
        ..Case::default()
    };
    excepting.table("CopyIgnoredFile", &[("FROM a\nCOPY secret /", &[])]);
}

#[test]
fn ports() {
    Case::default().table(
        "ExposeProtoCasing",
        &[
            ("FROM a\nEXPOSE 80/TCP 53/udp", &[(2, "80/TCP")]),
            ("FROM a\nEXPOSE 80/tcp 81", &[]),
            ("FROM a\nENV p=Sctp\nEXPOSE 80/$p", &[(3, "80/$p")]),
            ("FROM a\nEXPOSE 1:80/Udp", &[(2, "1:80/Udp")]),
            ("FROM a\nEXPOSE nonsense/TCP", &[]),
        ],
    );
    Case::default().table(
        "ExposeInvalidFormat",
        &[
            ("FROM a\nEXPOSE 127.0.0.1:80:80", &[(2, "127.0.0.1:80:80")]),
            ("FROM a\nEXPOSE 80:80", &[(2, "80:80")]),
            ("FROM a\nEXPOSE [::1]:5000:5000", &[(2, "[::1]:5000:5000")]),
            ("FROM a\nEXPOSE 80 90-92/udp", &[]),
            ("FROM a\nENV p=\"1:2 3\"\nEXPOSE $p", &[(3, "$p")]),
        ],
    );
}
