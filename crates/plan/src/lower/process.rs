//! RUN, to the process that it is and what that process sees.

use firebuild_dockerfile::{
    self as dockerfile, Instruction, Invocation, Network, Security, Span, mount,
};

use super::stage::Lowering;
use super::{LowerError, LowerErrorKind, history, path};
use crate::mount::{Access, Bind, Cache, Mount, Secret, Ssh, Tmpfs};
use crate::operation::{Command, Operation, Run, RunFile, Source};

impl Lowering<'_> {
    pub(super) fn process(
        &mut self,
        instruction: &Instruction,
        run: &dockerfile::Run,
    ) -> Result<(), LowerError> {
        if !run.devices.is_empty() {
            let span = flag(run, "device", instruction.keyword.span);
            return Err(LowerError::unsupported(span, "`RUN --device`"));
        }
        let mut files = Vec::new();
        let command = match run.invocation() {
            Invocation::Shell(text) => Command::Shell(text.into_owned()),
            Invocation::Exec(arguments) => Command::Exec(arguments.to_vec()),
            Invocation::Script { name, content } => {
                let path = format!("/dev/pipes/{name}");
                files.push(RunFile {
                    path: path.clone(),
                    mode: 0o755,
                    content: content.into_owned(),
                });
                Command::Shell(path)
            }
        };
        let config = &self.config().config;
        let environment = config.env.iter().filter_map(|entry| entry.split_once('='));
        let operation = Run {
            command,
            shell: self.shell(),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            build_args: self.scope().arguments(),
            workdir: path::absolute(self.workdir_in_force(), ""),
            user: config.user.clone(),
            hostname: self.settings.hostname.clone(),
            network: run.network.unwrap_or(Network::Default),
            security: run.security.unwrap_or(Security::Sandbox),
            files,
            mounts: self.mounts(run)?,
        };
        let history = history::run(&operation, &self.scope().declared());
        self.step(instruction, history, Operation::Run(operation));
        Ok(())
    }

    fn mounts(&self, run: &dockerfile::Run) -> Result<Vec<Mount>, LowerError> {
        let mut mounts = Vec::new();
        let mut sockets = 0;
        for flag in &run.mounts {
            let span = flag.word.span;
            let mount = flag
                .resolve(self.expander, self.scope())
                .map_err(|error| LowerError::value(error.span, &error))?;
            let mount = match mount {
                mount::Mount::Bind(bind) => Mount::Bind(Bind {
                    target: self.target(bind.target.as_deref(), span)?,
                    from: match &bind.from {
                        Some(from) => self.mounted(from, span)?,
                        None => Source::Context,
                    },
                    path: rooted(bind.source.as_deref()),
                    read_only: bind.read_only,
                }),
                mount::Mount::Cache(cache) => Mount::Cache(self.cache(&cache, span)?),
                mount::Mount::Tmpfs(tmpfs) => Mount::Tmpfs(Tmpfs {
                    target: self.target(tmpfs.target.as_deref(), span)?,
                    size: tmpfs.size,
                    read_only: tmpfs.read_only,
                }),
                mount::Mount::Secret(secret) => Mount::Secret(self.secret(secret, span)?),
                mount::Mount::Ssh(ssh) => {
                    let usual = format!("/run/buildkit/ssh_agent.{sockets}");
                    sockets += 1;
                    Mount::Ssh(Ssh {
                        target: self.target(Some(ssh.target.as_deref().unwrap_or(&usual)), span)?,
                        id: ssh.id,
                        required: ssh.required,
                        access: access(ssh.access, 0o600),
                    })
                }
            };
            mounts.push(mount);
        }
        Ok(mounts)
    }

    fn cache(&self, cache: &mount::CacheMount, span: Span) -> Result<Cache, LowerError> {
        let target = self.target(cache.target.as_deref(), span)?;
        // Without a name it is known by its target, as that is written.
        let written = || path::clean(cache.target.as_deref().unwrap_or_default());
        let name = cache.id.clone().unwrap_or_else(written);
        let id = match self.settings.cache_namespace.as_str() {
            "" => name,
            namespace => format!("{namespace}/{name}"),
        };
        if id.len() > MAX_CACHE_ID {
            let what = format!("a cache's name of more than {MAX_CACHE_ID} bytes");
            return Err(LowerError::unsupported(span, what));
        }
        Ok(Cache {
            id,
            from: match &cache.from {
                Some(from) => self.mounted(from, span)?,
                None => Source::Empty,
            },
            path: rooted(cache.source.as_deref()),
            read_only: cache.read_only,
            sharing: cache.sharing,
            access: access(cache.access, 0o755),
            target,
        })
    }

    fn secret(&self, secret: mount::SecretMount, span: Span) -> Result<Secret, LowerError> {
        let target = match (&secret.target, &secret.env) {
            (Some(target), _) => Some(self.target(Some(target), span)?),
            (None, Some(_)) => None,
            (None, None) => Some(format!("/run/secrets/{}", path::base_name(&secret.id))),
        };
        Ok(Secret {
            id: secret.id,
            target,
            variable: secret.env,
            required: secret.required,
            access: access(secret.access, 0o400),
        })
    }

    /// Where a mount appears, relative to the working directory; never the root itself.
    fn target(&self, written: Option<&str>, span: Span) -> Result<String, LowerError> {
        let target = path::absolute(self.workdir_in_force(), written.unwrap_or_default());
        if target == "/" {
            let kind = LowerErrorKind::Value("a mount cannot cover the root directory".to_owned());
            return Err(LowerError::new(span, kind));
        }
        Ok(target)
    }

    fn mounted(&self, from: &str, span: Span) -> Result<Source, LowerError> {
        self.stages.mount_source(from, span, self.index)
    }
}

/// The longest name of a cache, in bytes.
const MAX_CACHE_ID: usize = 4096;

fn access(access: mount::Access, mode: u16) -> Access {
    Access {
        mode: access
            .mode
            .and_then(|mode| u16::try_from(mode & 0o7777).ok())
            .unwrap_or(mode),
        uid: access.uid.unwrap_or(0),
        gid: access.gid.unwrap_or(0),
    }
}

fn rooted(path: Option<&str>) -> String {
    path::absolute("/", path.unwrap_or_default())
}

fn flag(run: &dockerfile::Run, name: &str, keyword: Span) -> Span {
    run.flags
        .iter()
        .find(|flag| flag.text.trim_start_matches('-') == name)
        .map_or(keyword, |flag| flag.span)
}
