//! Makes the committed gRPC code anew from `firebuild.proto`, and the reference of the commands.

use std::path::Path;

use anyhow::Context as _;

const PROTO: &str = "crates/protocol/proto";
const REFERENCE: &str = "docs/cli.md";
const GENERATED: &str = "crates/protocol/src/generated";

/// Writes the generated code; with `check`, only compares it with what is committed.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let proto = root.join(PROTO);
    let files = protox::compile([proto.join("firebuild.proto")], [&proto])
        .context("cannot compile firebuild.proto")?;
    let generated = root.join(GENERATED);
    let output = if check {
        std::env::temp_dir().join("firebuild-generated")
    } else {
        generated.clone()
    };
    fs_err::create_dir_all(&output)?;
    tonic_prost_build::configure()
        .out_dir(&output)
        .bytes(".")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .build_transport(false)
        .compile_fds(files)?;
    if check {
        let name = "firebuild.v1.rs";
        let same = fs_err::read(output.join(name))? == fs_err::read(generated.join(name))?;
        anyhow::ensure!(
            same,
            "{GENERATED}/{name} is not what firebuild.proto makes; run `cargo xtask generate`"
        );
    }
    reference(root, check)
}

/// Writes the reference of all commands; with `check`, only compares it.
fn reference(root: &Path, check: bool) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let made = std::process::Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--package",
            "firebuild",
            "--",
            "man",
            "--markdown",
        ])
        .current_dir(root)
        .output()?;
    anyhow::ensure!(made.status.success(), "`firebuild man --markdown` failed");
    let file = root.join(REFERENCE);
    if check {
        let same = fs_err::read(&file)? == made.stdout;
        anyhow::ensure!(
            same,
            "{REFERENCE} is not what the commands say; run `cargo xtask generate`"
        );
        return Ok(());
    }
    fs_err::write(&file, made.stdout)?;
    Ok(())
}
