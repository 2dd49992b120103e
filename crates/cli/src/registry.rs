//! How registries are asked: as whom, whom to believe, and whether without encryption.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use firebuild_builder::logins::LoginFiles;
use firebuild_builder::progress::{Event, Progress};
use firebuild_core::Reference;
use firebuild_oci::Trust;
use firebuild_oci::registry::{
    ConfError, FixedLogin, Login, Mirror, Options, PlainHttp, Registry, Rules,
};

/// What holds for every registry: the logins of people's other tools, and these authorities.
pub(crate) fn options(trust: Trust) -> Options {
    Options {
        trust,
        logins: Arc::new(LoginFiles::usual(|name| std::env::var_os(name))),
        ..Options::default()
    }
}

/// How one registry is asked.
#[derive(Debug, Args)]
pub(crate) struct RegistryArguments {
    /// Who asks; without it the logins of `docker login` and `podman login` are used
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "FIREBUILD_CREDS",
        hide_env_values = true,
        help_heading = "Registry"
    )]
    creds: Option<Credentials>,
    /// Speak to the registry without encryption
    #[arg(long, help_heading = "Registry")]
    plain_http: bool,
    /// Ask a mirror of a registry first: `docker.io=HOST[:PORT][/PATH]` (may be repeated)
    #[arg(
        long = "mirror",
        value_name = "REGISTRY=MIRROR",
        env = "FIREBUILD_REGISTRY_MIRRORS",
        value_delimiter = ',',
        help_heading = "Registry"
    )]
    mirrors: Vec<MirrorArgument>,
    #[command(flatten)]
    rules: RulesArgument,
    /// A directory with the registry's authorities (`*.crt`), and a certificate of ours with its key
    /// (`*.cert`, `*.key`)
    #[arg(long, value_name = "DIR", help_heading = "Registry")]
    cert_dir: Option<PathBuf>,
    /// Believe these authorities too: a file (PEM)
    #[arg(
        long,
        env = "FIREBUILD_CA_CERTIFICATES",
        value_name = "FILE",
        help_heading = "Registry"
    )]
    ca_certificates: Option<PathBuf>,
}

/// `REGISTRY=MIRROR`
#[derive(Debug, Clone)]
pub(crate) struct MirrorArgument(Mirror);

/// Where people's other tools are told, too, where images really are.
#[derive(Debug, Clone, Args)]
pub(crate) struct RulesArgument {
    /// Read mirrors, other places and blocked registries from this file, in place of
    /// /etc/containers/registries.conf and /etc/containers/registries.conf.d
    #[arg(
        long,
        value_name = "FILE",
        env = "FIREBUILD_REGISTRIES_CONF",
        help_heading = "Registry"
    )]
    registries_conf: Option<PathBuf>,
}

impl RulesArgument {
    /// What they say; of what is passed over there are warnings.
    pub(crate) fn rules(&self, shown: &dyn Progress) -> Result<Rules, ConfError> {
        let mut warn = |text: String| {
            let (stage, text) = (None, text.as_str());
            shown.event(Event::Warning { stage, text });
        };
        match &self.registries_conf {
            Some(file) => Rules::of_file(file, &mut warn),
            None => Rules::of_host(&mut warn),
        }
    }
}

/// The mirrors of these arguments.
pub(crate) fn mirrors(arguments: &[MirrorArgument]) -> Vec<Mirror> {
    arguments
        .iter()
        .map(|argument| argument.0.clone())
        .collect()
}

impl FromStr for MirrorArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "a mirror has the form REGISTRY=HOST[:PORT][/PATH]".to_owned();
        let (of, place) = text.split_once('=').ok_or_else(wrong)?;
        // Each must be what could stand before an image's name.
        for part in [of, place] {
            let example = format!("{part}/x").parse::<Reference>();
            let host = part.split('/').next();
            if example.ok().as_ref().map(Reference::registry) != host {
                return Err(wrong());
            }
        }
        Ok(Self(Mirror {
            of: of.to_owned(),
            place: place.to_owned(),
        }))
    }
}

/// `USER:PASSWORD`
#[derive(Clone)]
struct Credentials {
    user: String,
    password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.user)
    }
}

impl FromStr for Credentials {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, password) = text
            .split_once(':')
            .ok_or("credentials have the form USER:PASSWORD")?;
        Ok(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

impl RegistryArguments {
    /// A client for the registry of this image.
    pub(crate) fn client(
        &self,
        reference: &Reference,
        shown: &dyn Progress,
    ) -> anyhow::Result<Registry> {
        let mut options = options(self.trust()?);
        options.rules = self.rules.rules(shown)?;
        options.mirrors = mirrors(&self.mirrors);
        options.certificate_directory.clone_from(&self.cert_dir);
        if self.plain_http {
            options.plain_http = PlainHttp::All;
        }
        if let Some(Credentials { user, password }) = &self.creds {
            options.logins = Arc::new(FixedLogin {
                registry: reference.registry().to_owned(),
                login: Login::Password {
                    user: user.clone(),
                    password: password.clone(),
                },
            });
        }
        Ok(Registry::new(options))
    }

    fn trust(&self) -> anyhow::Result<Trust> {
        let trust = Trust::host();
        match &self.ca_certificates {
            Some(path) if path.as_os_str() != "host" => {
                let pem = fs_err::read(path).context("cannot read the certificates")?;
                Ok(trust.and_pem(&pem, &path.display().to_string())?)
            }
            _ => Ok(trust),
        }
    }
}
