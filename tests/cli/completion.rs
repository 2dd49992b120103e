//! Completion in the real shells of Debian, manual pages, and the reference.

use std::path::Path;
use std::process::Command;

use crate::session;
use crate::session::{Outcome, Session, output_of};

/// What a shell offers, run with `firebuild` in its path and the session's store.
fn offered(session: &Session, shell: &str, arguments: &[&str], script: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_firebuild"));
    let directory = program.parent().unwrap().display();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    let mut command = Command::new(shell);
    command
        .args(arguments)
        .arg(script)
        .env("PATH", path)
        .env("HOME", session.path(""))
        .env("FIREBUILD_ROOT", session.root())
        .env(
            "FIREBUILD_PROFILE_CONF_DIR",
            session.root().join("profiles"),
        );
    Outcome::of(&mut command).success().stdout
}

fn bash(session: &Session, words: &[&str]) -> String {
    let script = format!(
        "source <(firebuild completion bash)\n\
         COMP_WORDS=({}); COMP_CWORD={}\n\
         spec=$(complete -p firebuild); function=${{spec##* -F }}; function=${{function%% *}}\n\
         $function firebuild \"${{COMP_WORDS[COMP_CWORD]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        quoted(words),
        words.len() - 1
    );
    offered(session, "bash", &["--norc", "-c"], &script)
}

fn zsh(session: &Session, words: &[&str]) -> String {
    // What is offered is printed in place of a menu.
    let script = format!(
        "autoload -U compinit; compinit -D -u\n\
         source <(firebuild completion zsh)\n\
         [[ -n $_comps[firebuild] ]] || exit 9\n\
         _describe() {{ local name=${{@[-1]}}; print -rl -- ${{(P)name}} }}\n\
         compadd() {{ print -rl -- $@ }}\n\
         words=({}); CURRENT={}\n\
         $_comps[firebuild]; true\n",
        quoted(words),
        words.len()
    );
    offered(session, "zsh", &["-f", "-c"], &script)
}

fn fish(session: &Session, words: &[&str]) -> String {
    let script = format!(
        "firebuild completion fish | source; complete -C '{}'",
        words.join(" ")
    );
    offered(session, "fish", &["--no-config", "-c"], &script)
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    words.join(" ")
}

#[test]
fn shells_offer_commands_flags_values_and_names() {
    let (session, _root) = session();
    session.ok(&["profile", "create", "large", "--mem", "4096"]);
    session.write("context/file", "x");
    let built = session.build("FROM scratch\nCOPY file /\n", &["-t", "org/app:1"]);
    built.success();
    for (name, shell) in [
        ("bash", bash as fn(&Session, &[&str]) -> String),
        ("zsh", zsh),
        ("fish", fish),
    ] {
        for (words, expected, unexpected) in [
            (&["firebuild", "ru"][..], "run", "rootfs"),
            (&["firebuild", "image", "in"], "inspect", "export"),
            (&["firebuild", "run", "--hostn"], "--hostname", "--mem"),
            (&["firebuild", "ls", "--format", "j"], "json", "text"),
            (&["firebuild", "--profile", "l"], "large", "default"),
            (&["firebuild", "image", "rm", "org"], "org/app", "large"),
        ] {
            let shown = shell(&session, words);
            assert!(shown.contains(expected), "{name} {words:?}: {shown}");
            assert!(!shown.contains(unexpected), "{name} {words:?}: {shown}");
        }
    }
}

/// Nothing is made, and nothing is said, where there is no store.
#[test]
fn completion_makes_no_store() {
    let (session, root) = session();
    let nowhere = root.path().join("nowhere");
    let mut command = session.command(&["--", "firebuild", "stop", ""]);
    command
        .env("FIREBUILD_ROOT", &nowhere)
        .env("FIREBUILD_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "2");
    let shown = Outcome::of(&mut command).success();
    assert_eq!(shown.stderr, "");
    assert!(!nowhere.exists());
}

#[test]
fn manual_pages_are_ones_for_man() {
    let (session, _root) = session();
    let directory = session.path("man");
    session.ok(&["man", directory.to_str().unwrap()]);
    let page = directory.join("firebuild-run.1");
    // groff is what `man` itself uses; with warnings it says what is wrong with a page.
    let shown = output_of(
        "groff",
        &["-man", "-Tutf8", "-ww", "-P-c", page.to_str().unwrap()],
    );
    assert!(shown.contains("Start a microVM from an image"), "{shown}");
    assert!(directory.join("firebuild.1").exists());
    assert!(directory.join("firebuild-image-export.1").exists());
    assert!(!directory.join("firebuild-supervise.1").exists());
}
