//! `--docker-image`: an image's own layers in place of a Dockerfile, and commands on top of them.

use clap::Args;
use firebuild_builder::provider::BuildConfig;
use firebuild_builder::rootfs;
use firebuild_core::Reference;
use firebuild_plan::{Operation, Plan};
use firebuild_store::Store;

use crate::command::image::find;
use crate::command::pulling::Pulling;
use crate::error::hinted;

/// What a command is executed by, whatever the image's own shell is.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

#[derive(Debug, Args)]
#[command(next_help_heading = "From an image")]
pub(super) struct FromImage {
    /// Take this image as it is in place of a Dockerfile; it is pulled if it is not here
    #[arg(long, value_name = "REF", conflicts_with_all = ["file", "context"])]
    pub(super) docker_image: Option<Reference>,
    /// With `--docker-image`: a command to execute as root in the image, before all others (may be
    /// repeated)
    #[arg(long, value_name = "CMD")]
    pre_build_command: Vec<String>,
    /// With `--docker-image`: a command to execute as root in the image, after all others (may be
    /// repeated)
    #[arg(long, value_name = "CMD")]
    post_build_command: Vec<String>,
    /// Not needed any more: layers tell what an image is made of
    #[arg(long, value_name = "REF", hide = true)]
    docker_image_base: Option<Reference>,
}

impl FromImage {
    /// What is executed in the image, in order.
    fn commands(&self) -> impl Iterator<Item = &String> {
        self.pre_build_command
            .iter()
            .chain(&self.post_build_command)
    }

    /// Commands are for an image; a Dockerfile has its own.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.docker_image.is_some() || self.commands().next().is_none() {
            return Ok(());
        }
        Err(hinted(
            "`--pre-build-command` and `--post-build-command` need `--docker-image`",
            "in a Dockerfile, write `RUN COMMAND` where it is to be executed",
        ))
    }

    /// What is told of how the image was made.
    pub(super) fn told(&self) -> BuildConfig {
        let familiar = |image: &Option<Reference>| {
            let name = image.as_ref().map(Reference::familiar);
            name.unwrap_or_default()
        };
        BuildConfig {
            docker_image: familiar(&self.docker_image),
            docker_image_base: familiar(&self.docker_image_base),
            pre_build_commands: self.pre_build_command.clone(),
            post_build_commands: self.post_build_command.clone(),
            ..BuildConfig::default()
        }
    }

    /// The image, if it is to become one of other names and nothing else.
    pub(super) fn as_it_is(&self) -> Option<&Reference> {
        let image = self.docker_image.as_ref();
        image.filter(|_| self.commands().next().is_none())
    }

    /// A Dockerfile that says the same.
    pub(super) fn text(&self) -> Option<String> {
        let image = self.docker_image.as_ref()?;
        let mut text = format!("FROM {image}\n");
        for command in self.commands() {
            // In this form nothing in a command means anything to a Dockerfile.
            let words = serde_json::json!([SHELL[0], SHELL[1], command]);
            text.push_str(&format!("RUN {words}\n"));
        }
        Some(text)
    }

    /// Lets the commands be root's, whoever the image's own user is.
    pub(super) fn as_root(&self, plan: &mut Plan) {
        if self.docker_image.is_none() {
            return;
        }
        for step in plan.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
            if let Operation::Run(run) = &mut step.operation {
                run.user.clear();
            }
        }
    }
}

/// Gives an image more names, and sees that its root file system is there. The result is its
/// manifest's digest.
pub(super) fn adopt(
    store: &Store,
    bases: &Pulling<'_>,
    image: &Reference,
    tags: &[Reference],
) -> anyhow::Result<firebuild_core::Digest> {
    let _lease = store.lease()?;
    bases.have(image)?;
    let found = find(store, image)?;
    rootfs::of_image(store, image)?;
    for tag in tags {
        store.tags().set(tag, found.manifest.clone())?;
    }
    Ok(found.manifest.digest)
}
