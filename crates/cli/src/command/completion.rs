//! `firebuild completion`: what a shell needs to complete firebuild's commands.

use clap::{Args, ValueEnum};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use super::Global;
use crate::described::COMPLETE;
use crate::terminal;

const HELP: &str = "\
Load it now:
  bash  source <(firebuild completion bash)
  zsh   source <(firebuild completion zsh)
  fish  firebuild completion fish | source
Keep it:
  bash  firebuild completion bash > /etc/bash_completion.d/firebuild
  zsh   firebuild completion zsh > /usr/local/share/zsh/site-functions/_firebuild
  fish  firebuild completion fish > /etc/fish/completions/firebuild.fish";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        let mut script = Vec::new();
        let name = "firebuild";
        shell.write_registration(COMPLETE, name, name, name, &mut script)?;
        terminal::print_bytes(&script)
    }
}
