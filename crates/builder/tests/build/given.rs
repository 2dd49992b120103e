//! What a command is given beside its image: variables, secrets, agents, mounts; and what of it
//! counts when its result is looked for.

use firebuild_builder::SecretSource;
use firebuild_oci::find_image;

use crate::files::{built, cached, place_failure};
use crate::place::{Place, Told, name};

/// What the command of step `step` was told, line by line.
fn told(told: &Told, step: usize) -> Vec<&str> {
    let prefix = format!("stage-0 {step} Stdout: ");
    let events = told.events.iter();
    events
        .filter_map(|event| event.strip_prefix(&prefix))
        .collect()
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn created_by(place: &Place) -> Vec<String> {
    let history = find_image(&place.host.store, &name())
        .unwrap()
        .config
        .history;
    history
        .into_iter()
        .filter_map(|entry| entry.created_by)
        .collect()
}

#[test]
fn proxies_are_seen_by_every_command_and_are_nothing_to_the_cache() {
    let mut place = Place::new();
    let text = "FROM scratch\nARG A=1\nRUN tell x\n";
    let plain = built(&place, text);
    assert_eq!(told(&plain, 3), [PATH, "A=1"]);
    for (name, value) in [("http_proxy", "p"), ("NO_PROXY", "n"), ("UNDECLARED", "u")] {
        place.build_args.insert(name.to_owned(), value.to_owned());
    }
    let again = built(&place, text);
    assert_eq!(cached(&again), ["stage-0 3"]);
    assert_eq!(again.result.unwrap().digest, plain.result.unwrap().digest);
    place.no_cache = firebuild_builder::NoCache::All;
    let anew = built(&place, text);
    let mut seen = told(&anew, 3);
    seen.sort_unstable();
    let mut expected = [
        "A=1",
        "HTTP_PROXY=p",
        "NO_PROXY=n",
        PATH,
        "http_proxy=p",
        "no_proxy=n",
    ];
    expected.sort_unstable();
    assert_eq!(seen, expected);
    assert_eq!(
        created_by(&place)[1],
        "RUN |1 A=1 /bin/sh -c tell x # buildkit"
    );
    // One that is declared is an argument like any other.
    place.no_cache = firebuild_builder::NoCache::Nothing;
    let declared = built(&place, "FROM scratch\nARG http_proxy\nRUN tell x\n");
    assert!(told(&declared, 3).contains(&"http_proxy=p"));
    assert_eq!(
        created_by(&place)[1],
        "RUN |1 http_proxy=p /bin/sh -c tell x # buildkit"
    );
}

#[test]
fn what_a_command_can_do_without_may_be_missing() {
    let mut place = Place::new();
    let text = "FROM scratch\nRUN --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY \\\n\
                --mount=type=ssh,id=a tell x\n";
    let without = built(&place, text);
    // Of an agent the socket's place is told all the same: `SSH_AUTH_SOCK` is set.
    let [path, agent] = told(&without, 2)[..] else {
        panic!("{:?}", without.events);
    };
    assert_eq!(path, PATH);
    assert!(agent.contains("/run/buildkit/ssh_agent.0"), "{agent}");
    let required = text.replace("id=key ", "id=key,required ");
    // A known result needs no secret, and a secret's content makes no other result.
    for content in ["one-secret", "other-secret"] {
        let path = place.root().join("secret");
        fs_err::write(&path, content).unwrap();
        place
            .secrets
            .insert("key".to_owned(), SecretSource::File(path));
        assert_eq!(cached(&built(&place, text)), ["stage-0 2"]);
        let done = built(&place, &required);
        let known = content == "other-secret";
        assert_eq!(cached(&done).len(), usize::from(known));
        assert!(done.events.iter().all(|event| !event.contains(content)));
    }
    place.secrets = firebuild_builder::Secrets::default();
    assert_eq!(cached(&built(&place, &required)), ["stage-0 2"]);
    place.no_cache = firebuild_builder::NoCache::All;
    let error = place_failure(&place, &required);
    assert!(
        error.ends_with("failed <- the build has no secret `key`"),
        "{error}"
    );
}

#[test]
fn what_is_mounted_counts_by_its_content() {
    let place = Place::new();
    for path in ["dir/a", "dir/ignored", "other"] {
        place.write(path, "text");
    }
    place.write(".dockerignore", "dir/ignored\n");
    let text = "FROM scratch\nRUN --mount=source=dir,target=/m touch x\n";
    assert!(cached(&built(&place, text)).is_empty());
    for (path, known) in [
        ("other", true),
        ("dir/ignored", true),
        ("dir/a", false),
        ("dir/b", false),
    ] {
        place.write(path, "changed");
        assert_eq!(!cached(&built(&place, text)).is_empty(), known, "{path}");
    }
    let error = place_failure(&place, &text.replace("source=dir", "source=dir/ignored"));
    assert!(
        error.contains("`/dir/ignored` is not there to be mounted"),
        "{error}"
    );
}
