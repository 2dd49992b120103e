//! What `run` takes about what is mounted in a microVM.

use std::path::{Path, PathBuf};

use clap::Args;
use firebuild_core::ByteSize;
use firebuild_core::config::ProcessConfig;
use firebuild_machine::mount::{Mount, Source};

use crate::arguments::values;
use crate::error::hinted;

/// The forms of `--volume`, for who wrote another.
const FORMS: &str =
    "write NAME:/path, /host/directory:/path, or /path alone; behind it `:ro` or `:snapshot`";

/// The words of `--mount`, for who wrote others.
const LONG_FORM: &str = "write `type=volume,source=NAME,target=/path`, `type=bind,source=/host/directory,target=/path` or `type=tmpfs,target=/path`; beside it `readonly`, `volume-size=SIZE`, `snapshot`, `tmpfs-size=SIZE`, `tmpfs-mode=MODE`";

/// Where programs expect to write, even if the root is read-only: with the permissions of each where
/// the image has none.
const ALWAYS_WRITABLE: [(&str, u16); 3] = [("/run", 0o755), ("/tmp", 0o1777), ("/var/tmp", 0o1777)];

/// What is mounted in a VM.
#[derive(Debug, Args)]
pub(super) struct VolumeArguments {
    /// Mount a volume, or a directory of this host: NAME:/path, /host/directory:/path, or /path alone
    /// for one that goes with the VM; with `:ro` read-only, with `:snapshot` as the directory is now
    /// (may be repeated)
    #[arg(
        long = "volume",
        short = 'v',
        value_name = "[SOURCE:]/PATH[:ro|:snapshot]",
        value_parser = values::form(|text: &str| checked(short(text, ANY_SIZE, &unseen))),
        help_heading = "Mounts"
    )]
    volumes: Vec<String>,
    /// The same in words, as Docker has them: type=volume|bind|tmpfs,source=…,target=…[,readonly]
    /// [,volume-size=…][,snapshot][,tmpfs-size=…][,tmpfs-mode=…] (may be repeated)
    #[arg(
        long = "mount",
        value_name = "WORDS",
        value_parser = values::form(|text: &str| checked(long(text, ANY_SIZE, &unseen))),
        help_heading = "Mounts"
    )]
    mounts: Vec<String>,
    /// Mount memory that is empty at first, with the options size=, mode=, ro and exec (may be repeated)
    #[arg(
        long = "tmpfs",
        value_name = "/PATH[:OPTIONS]",
        value_parser = values::form(|text: &str| checked(memory(text))),
        help_heading = "Mounts"
    )]
    memory: Vec<String>,
    /// How much a volume can hold that is made for this VM; it takes room only for what is written
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "10G",
        help_heading = "Mounts"
    )]
    volume_size: ByteSize,
    /// Let the workload write only to what is mounted, and to memory on /tmp, /var/tmp and /run
    #[arg(long, help_heading = "Mounts")]
    read_only: bool,
}

impl VolumeArguments {
    /// Whether the root is read-only.
    pub(super) fn read_only(&self) -> bool {
        self.read_only
    }

    /// All mounts: what was asked for, and the image's volumes as far as nothing else is in their place.
    pub(super) fn mounts(
        &self,
        config: &ProcessConfig,
        is_init: bool,
    ) -> anyhow::Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for text in &self.volumes {
            mounts.push(short(text, self.volume_size, &directory)?);
        }
        for text in &self.mounts {
            mounts.push(long(text, self.volume_size, &directory)?);
        }
        for text in &self.memory {
            mounts.push(memory(text)?);
        }
        let mut add = |mount: Mount| {
            if mounts.iter().all(|known| known.target != mount.target) {
                mounts.push(mount);
            }
        };
        for target in config.volumes.keys() {
            // Images may say `data` as well as `/data`.
            add(Mount::new(&format!("/{target}"), Source::Anonymous));
        }
        // An init would mount its own over what is there already.
        let number = match (self.read_only, is_init) {
            (true, _) => ALWAYS_WRITABLE.len(),
            (false, true) => 1,
            (false, false) => 0,
        };
        for (target, mode) in ALWAYS_WRITABLE.into_iter().take(number) {
            let source = Source::Memory {
                size: None,
                mode: Some(mode),
                executable: true,
            };
            add(Mount::new(target, source));
        }
        Ok(mounts)
    }
}

/// How a directory of this host is found.
type Found = dyn Fn(&Path) -> anyhow::Result<PathBuf>;

/// A size that volumes can have, where it does not matter which.
const ANY_SIZE: ByteSize = ByteSize::mib(64);

/// A directory that need not be there yet: profiles are written before.
fn unseen(path: &Path) -> anyhow::Result<PathBuf> {
    Ok(path.to_owned())
}

/// A mount that can be.
fn checked(mount: anyhow::Result<Mount>) -> anyhow::Result<Mount> {
    let mount = mount?;
    mount.check()?;
    Ok(mount)
}

/// `[SOURCE:]/PATH[:OPTIONS]`.
fn short(text: &str, size: ByteSize, found: &Found) -> anyhow::Result<Mount> {
    let no = |why: &str| hinted(format!("`{text}` is no volume: {why}"), FORMS);
    let mut parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || parts.iter().any(|part| part.is_empty()) {
        return Err(no("it has too many parts, or an empty one"));
    }
    let is_options = |part: &str| part.split(',').all(|word| word_of(word).is_some());
    let words = match parts.last() {
        Some(last) if parts.len() > 1 && is_options(last) => parts.pop(),
        Some(_) if parts.len() == 3 => return Err(no("what stands last is not known")),
        _ => None,
    };
    let words: Vec<Word> = words
        .into_iter()
        .flat_map(|w| w.split(','))
        .filter_map(word_of)
        .collect();
    let snapshot = words.contains(&Word::Snapshot);
    let (source, target) = match parts[..] {
        [target] if snapshot => {
            return Err(no(&format!("`{target}` needs a directory of this host")));
        }
        [target] => (Source::Anonymous, target),
        [source, target] => (source_of(source, snapshot, size, found)?, target),
        _ => return Err(no("it names nothing")),
    };
    Ok(Mount {
        read_only: snapshot || words.contains(&Word::ReadOnly),
        ..Mount::new(target, source)
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    ReadOnly,
    Snapshot,
    /// Of no consequence here.
    Other,
}

fn word_of(word: &str) -> Option<Word> {
    match word {
        "ro" | "readonly" => Some(Word::ReadOnly),
        "snapshot" => Some(Word::Snapshot),
        // Labels of SELinux, which a guest does not see.
        "rw" | "z" | "Z" => Some(Word::Other),
        _ => None,
    }
}

/// A directory of this host if it looks like a path, else a volume.
fn source_of(text: &str, snapshot: bool, size: ByteSize, found: &Found) -> anyhow::Result<Source> {
    if text.starts_with(['/', '.', '~']) || text.contains('/') {
        let path = found(Path::new(text))?;
        return Ok(match snapshot {
            true => Source::Snapshot(path),
            false => Source::Host(path),
        });
    }
    if snapshot {
        return Err(hinted(
            format!("`{text}` is no directory of this host, of which there could be a snapshot"),
            format!("write a path: `./{text}`"),
        ));
    }
    let name = text.parse()?;
    Ok(Source::Volume { name, size })
}

/// A directory of this host, by the path that no link leads through.
fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    let found = match fs_err::canonicalize(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(hinted(
                format!("there is no directory `{shown}` on this host"),
                format!("make it with `mkdir -p {shown}`"),
            ));
        }
        other => other?,
    };
    if !found.is_dir() {
        return Err(hinted(
            format!("`{shown}` is not a directory"),
            "only directories can be mounted; take a file in with `firebuild cp` or `--secret`",
        ));
    }
    Ok(found)
}

/// `KEY=VALUE,…`.
fn long(text: &str, size: ByteSize, found: &Found) -> anyhow::Result<Mount> {
    let no = |why: String| hinted(format!("`{text}` is no mount: {why}"), LONG_FORM);
    let mut words = Words::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        let flag = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(no(format!("`{key}` is true or false, not `{value}`"))),
        };
        match key {
            "type" => words.kind = value,
            "source" | "src" => words.source = Some(value),
            "target" | "dst" | "destination" => words.target = Some(value),
            "readonly" | "ro" => words.read_only = flag()?,
            "snapshot" => words.snapshot = flag()?,
            "volume-size" => words.size = Some(value.parse()?),
            "tmpfs-size" => words.memory_size = Some(value.parse()?),
            "tmpfs-mode" => words.memory_mode = Some(octal(value)?),
            // A guest sees nothing of how mounts spread on this host.
            "bind-propagation" | "consistency" => {}
            _ => return Err(no(format!("`{key}` is not known"))),
        }
    }
    let target = words
        .target
        .ok_or_else(|| no("it has no target".to_owned()))?;
    let source = match (words.kind, words.source) {
        ("volume" | "", Some(name)) if !name.contains('/') && !words.snapshot => Source::Volume {
            name: name.parse()?,
            size: words.size.unwrap_or(size),
        },
        ("volume" | "", None) if !words.snapshot => Source::Anonymous,
        ("bind", Some(path)) => match (found(Path::new(path))?, words.snapshot) {
            (path, true) => Source::Snapshot(path),
            (path, false) => Source::Host(path),
        },
        ("tmpfs", None) => Source::Memory {
            size: words.memory_size,
            mode: words.memory_mode,
            executable: false,
        },
        ("volume" | "bind" | "tmpfs" | "", _) => {
            return Err(no("its source does not go with its type".to_owned()));
        }
        (other, _) => return Err(no(format!("there is no type `{other}`"))),
    };
    Ok(Mount {
        read_only: words.read_only || words.snapshot,
        ..Mount::new(target, source)
    })
}

#[derive(Debug, Default)]
struct Words<'a> {
    kind: &'a str,
    source: Option<&'a str>,
    target: Option<&'a str>,
    read_only: bool,
    snapshot: bool,
    size: Option<ByteSize>,
    memory_size: Option<ByteSize>,
    memory_mode: Option<u16>,
}

/// `/PATH[:OPTIONS]` of `--tmpfs`.
fn memory(text: &str) -> anyhow::Result<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut read_only, mut executable, mut size, mut mode) = (false, false, None, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", value) => size = Some(value.parse()?),
            ("mode", value) => mode = Some(octal(value)?),
            ("ro", "") => read_only = true,
            ("exec", "") => executable = true,
            ("noexec", "") => executable = false,
            ("rw" | "nosuid" | "nodev", "") => {}
            _ => {
                return Err(hinted(
                    format!("`{text}` has an option that is not known: `{option}`"),
                    "write /PATH, or /PATH:size=64M,mode=1777, with `ro` or `exec`",
                ));
            }
        }
    }
    let source = Source::Memory {
        size,
        mode,
        executable,
    };
    Ok(Mount {
        read_only,
        ..Mount::new(target, source)
    })
}

fn octal(text: &str) -> anyhow::Result<u16> {
    let mode = u16::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        hinted(
            format!("`{text}` is no mode"),
            "write octal digits, such as 1777",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ByteSize = ByteSize::mib(64);

    fn volume(name: &str, size: ByteSize) -> Source {
        let name = name.parse().unwrap();
        Source::Volume { name, size }
    }

    #[test]
    fn the_short_form() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        let path = here.display();
        for (text, target, source, read_only) in [
            (
                "data:/var/lib/db".to_owned(),
                "/var/lib/db",
                volume("data", SIZE),
                false,
            ),
            ("data:/d:ro".to_owned(), "/d", volume("data", SIZE), true),
            ("data:/d:rw,z".to_owned(), "/d", volume("data", SIZE), false),
            ("/scratch".to_owned(), "/scratch", Source::Anonymous, false),
            (
                format!("{path}:/d"),
                "/d",
                Source::Host(here.clone()),
                false,
            ),
            (".:/d:ro".to_owned(), "/d", Source::Host(here.clone()), true),
            (
                "./:/d:snapshot".to_owned(),
                "/d",
                Source::Snapshot(here.clone()),
                true,
            ),
        ] {
            let mount = short(&text, SIZE, &directory).unwrap();
            let found = (mount.target.as_str(), mount.source, mount.read_only);
            assert_eq!(found, (target, source, read_only), "{text}");
        }
        for text in [
            "",
            ":",
            "a:",
            ":/a",
            "a:/b:",
            "a:/b:no",
            "a:/b:ro:rw",
            "/none/such:/a",
            "a b:/c",
            "data:/d:snapshot",
            "/d:snapshot",
            "/etc/passwd:/p",
        ] {
            let result = short(text, SIZE, &directory).and_then(|mount| Ok(mount.check()?));
            assert!(result.is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_long_form() {
        let memory = |size, mode| Source::Memory {
            size,
            mode,
            executable: false,
        };
        for (text, source, read_only) in [
            ("type=volume,source=v,target=/t", volume("v", SIZE), false),
            (
                "src=v,dst=/t,readonly,volume-size=1G",
                volume("v", ByteSize::mib(1024)),
                true,
            ),
            ("type=volume,target=/t", Source::Anonymous, false),
            (
                "type=bind,source=/,destination=/t,ro=true",
                Source::Host("/".into()),
                true,
            ),
            (
                "type=bind,source=/,target=/t,snapshot",
                Source::Snapshot("/".into()),
                true,
            ),
            (
                "type=tmpfs,target=/t,tmpfs-size=1M,tmpfs-mode=700",
                memory(Some(ByteSize::mib(1)), Some(0o700)),
                false,
            ),
        ] {
            let mount = long(text, SIZE, &directory).unwrap();
            assert_eq!(
                (mount.source, mount.read_only),
                (source, read_only),
                "{text}"
            );
            assert_eq!(mount.target, "/t");
        }
        for text in [
            "",
            "type=volume",
            "type=bind,target=/t",
            "type=tmpfs,source=x,target=/t",
            "type=x,target=/t",
            "type=volume,source=/etc,target=/t",
            "target=/t,readonly=maybe",
            "target=/t,what=1",
            "type=tmpfs,target=/t,tmpfs-mode=9",
            "type=tmpfs,target=/t,tmpfs-size=much",
        ] {
            assert!(long(text, SIZE, &directory).is_err(), "{text:?}");
        }
    }

    #[test]
    fn memory_has_options() {
        let mount = memory("/t:size=64k,mode=1777,exec,ro,nosuid").unwrap();
        let source = Source::Memory {
            size: Some(ByteSize(64 << 10)),
            mode: Some(0o1777),
            executable: true,
        };
        assert_eq!((mount.source, mount.read_only), (source, true));
        for text in ["/t:what", "/t:size=x", "/t:mode=8"] {
            assert!(memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_images_volumes_give_way_to_what_is_asked_for() {
        let mut config = ProcessConfig::default();
        for target in ["/data", "logs"] {
            config.volumes.insert(target.to_owned(), Default::default());
        }
        let arguments = VolumeArguments {
            volumes: vec!["v:/data/".to_owned()],
            mounts: Vec::new(),
            memory: vec!["/tmp".to_owned()],
            volume_size: SIZE,
            read_only: true,
        };
        let mounts = arguments.mounts(&config, false).unwrap();
        let targets: Vec<&str> = mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/data", "/tmp", "/logs", "/run", "/var/tmp"]);
        assert_eq!(mounts[0].source, volume("v", SIZE));
        assert_eq!(mounts[2].source, Source::Anonymous);
    }
}
