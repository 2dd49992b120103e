//! Tables by the rows of what Dockerfiles mean: where variables are expanded, and what stages,
//! platforms and instructions may be.

use super::*;

/// The messages of Dockerfiles that cannot be, and where: the text behind the first line.
fn refuse(cases: &[(&str, u32, u32, &str)]) {
    for (text, line, column, message) in cases {
        let (found, at, from) = error(text);
        assert_eq!(
            (found.as_str(), at, from),
            (*message, *line, *column),
            "{text}"
        );
    }
}

#[test]
fn variables_are_expanded_where_they_should_be_and_nowhere_else() {
    let text = |line: &str| format!("FROM scratch\nARG a=b\nARG two=\"c d\"\nARG one=1\n{line}\n");
    for (line, expected) in [
        ("ADD $a /$a", vec!["ADD b /b # buildkit"]),
        (
            "COPY --chown=$one:${one} $a ${two} /$a",
            vec!["COPY --chown=1:1 b c d /b # buildkit"],
        ),
        (
            "COPY --chmod=7$one$one x y",
            vec!["COPY --chmod=711 x y # buildkit"],
        ),
        ("COPY [\"$two\", \"/$a\"]", vec!["COPY c d /b # buildkit"]),
        ("ENV $a=$two", vec!["ENV b=c d"]),
        ("EXPOSE $one", vec!["EXPOSE [1/tcp]"]),
        ("LABEL $a=\"$two\" '$a'='$a'", vec!["LABEL b=c d $a=$a"]),
        ("STOPSIGNAL $one", vec!["STOPSIGNAL 1"]),
        ("USER $a:$one", vec!["USER b:1"]),
        ("VOLUME $two /$a", vec!["VOLUME [c d /b]"]),
        ("VOLUME [\"/$a\"]", vec!["VOLUME [/b]"]),
        ("WORKDIR /$a/$two", vec!["WORKDIR /b/c d"]),
        ("ARG x=$a$one", vec!["ARG x=b1"]),
        // Those that processes read, and those that nobody reads.
        (
            "RUN x $a",
            vec!["RUN |3 a=b two=c d one=1 /bin/sh -c x $a # buildkit"],
        ),
        (
            "RUN [\"$a\"]",
            vec!["RUN |3 a=b two=c d one=1 $a # buildkit"],
        ),
        ("CMD $a", vec!["CMD [\"/bin/sh\" \"-c\" \"$a\"]"]),
        ("ENTRYPOINT [\"$a\"]", vec!["ENTRYPOINT [\"$a\"]"]),
        ("SHELL [\"$a\"]", vec!["SHELL [$a]"]),
        ("MAINTAINER $a", vec!["MAINTAINER $a"]),
        (
            "HEALTHCHECK CMD $a",
            vec![
                "HEALTHCHECK {Test:[CMD-SHELL $a] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            ],
        ),
        ("ONBUILD WORKDIR $a", vec![]),
    ] {
        let plan = plan(&text(line));
        let steps = plan.target().steps.iter().skip(3);
        let history: Vec<&str> = steps.filter_map(|step| step.history.as_deref()).collect();
        assert_eq!(history, expected, "{line}");
    }
    // One word stays one.
    let plan = plan(&text("COPY $two /x"));
    assert_eq!(copies(&plan)[0].items, [Item::Path("c d".into())]);
    let digest = format!("sha256:{}", "1".repeat(64));
    let line = format!("ARG sum={digest}\nADD --checksum=$sum http://h.example/$a /");
    let plan = super::plan(&text(&line));
    let item = &copies(&plan)[0].items[0];
    assert!(
        matches!(item, Item::Http { url, checksum: Some(sum), .. } if url == "http://h.example/b" && sum.to_string() == digest),
        "{item:?}"
    );
}

#[test]
fn a_base_may_be_for_the_targets_platform_only() {
    let architecture = Platform::host().architecture;
    for platform in [
        "linux",
        "$TARGETPLATFORM",
        "${BUILDPLATFORM}",
        "linux/$TARGETARCH",
        &architecture,
        &format!("linux/{architecture}"),
        &format!("Linux/{architecture}"),
    ] {
        plan(&format!("FROM --platform={platform} debian\n"));
    }
    if architecture == "amd64" {
        plan("FROM --platform=linux/x86_64/v1 debian\n");
    }
    let other =
        format!("a platform other than the target's `linux/{architecture}` is not supported yet");
    refuse(&[
        ("FROM --platform=linux/s390x debian\n", 1, 17, &other),
        ("FROM --platform=windows debian\n", 1, 17, &other),
        (
            "FROM --platform=$NONE debian\n",
            1,
            17,
            "the platform is empty",
        ),
        (
            "FROM --platform=nonsense debian\n",
            1,
            17,
            "`nonsense` is not a platform",
        ),
        (
            "FROM --platform=a/b/c/d debian\n",
            1,
            17,
            "`a/b/c/d` is not a platform",
        ),
        // Also where nobody needs it.
        (
            "FROM --platform=nonsense debian\nFROM scratch\n",
            1,
            17,
            "`nonsense` is not a platform",
        ),
    ]);
}

#[test]
fn names_of_stages_are_looked_up_in_any_case_and_the_last_one_counts() {
    let base = |text: &str| {
        let plan = plan(text);
        match &plan.target().base {
            Base::Stage(index) => format!("line {}", plan.stages[*index].origin.line),
            Base::Image(reference) => reference.familiar(),
            other => format!("{other:?}"),
        }
    };
    for (text, expected) in [
        ("FROM a AS Build\nFROM build\n", "line 1"),
        ("FROM a AS build\nFROM BUILD\n", "line 1"),
        ("FROM a AS x\nFROM b AS x\nFROM x\n", "line 2"),
        ("FROM a AS x\nFROM x AS x\n", "line 1"),
        ("FROM a AS debian\nFROM debian\n", "line 1"),
        // A number is a name.
        ("FROM a AS x\nFROM 0\n", "0:latest"),
        ("FROM x\nFROM a AS x\nFROM y\n", "y:latest"),
        ("FROM later\n", "later:latest"),
        // The language's own names stay its own.
        ("FROM a AS scratch\nFROM scratch\n", "Scratch"),
    ] {
        assert_eq!(base(text), expected, "{text}");
    }
    let mut options = options(None, &[]);
    for name in ["scratch", "Context", "other"] {
        options
            .contexts
            .insert(name.to_owned(), NamedContext::Files);
    }
    let text = "FROM scratch AS context\nFROM other AS x\nFROM x\nCOPY --from=context / /\nCOPY --from=scratch / /\n";
    let plan = lowered(text, &options).unwrap();
    assert_eq!(plan.stages[0].base, Base::Scratch);
    assert_eq!(plan.stages[1].base, Base::Context("other".into()));
    let from: Vec<_> = copies(&plan).iter().map(|copy| copy.from.clone()).collect();
    assert_eq!(from, [Source::Stage(0), Source::Empty]);
}

#[test]
fn sources_that_can_be_none_are_refused() {
    refuse(&[
        (
            "FROM a AS x\nCOPY --from=x / /\n",
            2,
            13,
            "stage `x` needs to be defined before it is copied from",
        ),
        (
            "FROM a AS x\nCOPY --from=X / /\n",
            2,
            13,
            "stage `X` needs to be defined before it is copied from",
        ),
        (
            "FROM a AS x\nCOPY --from=0 / /\n",
            2,
            13,
            "stage `0` needs to be defined before it is copied from",
        ),
        (
            "FROM a AS x\nRUN --mount=from=x,target=/m y\n",
            2,
            13,
            "stage `x` needs to be defined before it is copied from",
        ),
        // In a stage that nobody needs.
        (
            "FROM a\nCOPY --from=9 / /\nFROM b\n",
            2,
            13,
            "there is no stage 9: the file has 2, counted from 0",
        ),
    ]);
    for name in ["Upper", "-1", "a//b", ":tag"] {
        let text = format!("FROM a\nCOPY --from={name} / /\nFROM b\n");
        assert_eq!(error(&text).1, 2, "{name}");
    }
    // A stage that nobody needs may copy from one that comes later.
    plan("FROM a\nCOPY --from=late / /\nFROM b AS late\n");
}

#[test]
fn the_last_of_several_counts() {
    let config = configured(&plan(
        "FROM debian\nCMD a\nCMD [\"b\"]\nENTRYPOINT c\nENTRYPOINT [\"d\"]\nHEALTHCHECK --retries=2 CMD e\n\
         HEALTHCHECK CMD [\"f\"]\nSTOPSIGNAL 9\nSTOPSIGNAL SIGUSR1\nUSER g\nUSER h\nLABEL l=1 l=2\nLABEL m=1\nLABEL m=2\n",
    ));
    assert_eq!(config.cmd.unwrap(), ["b"]);
    assert_eq!(config.entrypoint.unwrap(), ["d"]);
    assert_eq!(
        config.healthcheck.unwrap().to_string(),
        r#"{"Test":["CMD","f"]}"#
    );
    assert_eq!(
        (config.stop_signal.as_deref(), config.user.as_str()),
        (Some("SIGUSR1"), "h")
    );
    assert_eq!(
        (config.labels["l"].as_str(), config.labels["m"].as_str()),
        ("2", "2")
    );
    let none = "FROM debian\nHEALTHCHECK CMD a\nHEALTHCHECK NONE\n";
    assert_eq!(
        configured(&plan(none)).healthcheck.unwrap().to_string(),
        r#"{"Test":["NONE"]}"#
    );
}

#[test]
fn values_are_checked_when_their_variables_are_known() {
    refuse(&[
        (
            "FROM scratch\nCOPY \"a b\" /c\n",
            2,
            6,
            "unexpected end of statement while looking for matching double-quote",
        ),
        (
            "FROM scratch\nVOLUME /a $none\n",
            2,
            11,
            "a volume's path is empty",
        ),
        (
            "FROM scratch\nVOLUME [\"$none\"]\n",
            2,
            10,
            "a volume's path is empty",
        ),
        ("FROM scratch\nEXPOSE ${p:-x}\n", 2, 8, "invalid port `x`"),
        ("FROM scratch\nEXPOSE 80-70\n", 2, 8, "invalid port `80-70`"),
        (
            "FROM scratch\nEXPOSE 80/icmp\n",
            2,
            8,
            "invalid protocol `icmp`",
        ),
        (
            "FROM scratch\nSTOPSIGNAL $none\n",
            2,
            12,
            "`` is not a signal",
        ),
        (
            "FROM scratch\nSTOPSIGNAL 65\n",
            2,
            12,
            "`65` is not a signal",
        ),
        (
            "FROM scratch\nWORKDIR ${none:?say where}\n",
            2,
            9,
            "none: say where",
        ),
        (
            "FROM scratch\nENV a=${b\n",
            2,
            7,
            "syntax error: missing '}'",
        ),
        ("FROM ${x%%\n", 1, 6, "syntax error: missing '}'"),
        ("FROM \"\"\n", 1, 6, "the base's name is empty"),
        (
            "FROM scratch\nRUN --mount=type=$t,target=/x y\n",
            2,
            13,
            "invalid value `` of key `type`",
        ),
        (
            "FROM scratch\nRUN --mount=target=.. y\n",
            2,
            13,
            "a mount cannot cover the root directory",
        ),
        (
            "FROM scratch\nRUN --mount=type=tmpfs y\n",
            2,
            13,
            "a mount cannot cover the root directory",
        ),
    ]);
}

#[test]
fn caches_without_a_name_have_that_of_their_target() {
    for (mount, expected) in [
        ("target=/c/../d/", "/d"),
        ("target=/$t/x", "/v/x"),
        ("target=./e/", "e"),
        ("target=../f", "../f"),
        ("target=g,id=/h/", "/h/"),
        ("target=g,id=$t", "v"),
    ] {
        let text =
            format!("FROM debian\nARG t=v\nWORKDIR /w/x\nRUN --mount=type=cache,{mount} y\n");
        let plan = plan(&text);
        let crate::Mount::Cache(cache) = &runs(&plan)[0].mounts[0] else {
            panic!("{mount}");
        };
        assert_eq!(cache.id, expected, "{mount}");
    }
}
