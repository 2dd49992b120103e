//! Instructions back to text, which parses to the same instructions.

use std::fmt;
use std::time::Duration;

use crate::{
    AddFiles, Argument, Assignments, Command, CopyFiles, Dockerfile, FromImage, Healthcheck,
    Heredoc, Instruction, InstructionKind, Network, Run, Security, Source, TransferOptions, Word,
};
use crate::{duration, json};

impl fmt::Display for Dockerfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(syntax) = &self.directives.syntax {
            writeln!(f, "# syntax={syntax}")?;
        }
        if self.directives.escape != '\\' {
            writeln!(f, "# escape={}", self.directives.escape)?;
        }
        // Ends the directives, so that no comment is taken for one.
        writeln!(f)?;
        for instruction in &self.instructions {
            for comment in &instruction.comments {
                writeln!(f, "# {comment}")?;
            }
            let text = instruction.to_string();
            writeln!(f, "{}", Ended(&text, self.directives.escape))?;
        }
        Ok(())
    }
}

/// A line whose end is not taken for a continuation.
struct Ended<'a>(&'a str, char);

impl fmt::Display for Ended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, escape) = *self;
        f.write_str(text)?;
        let rest = text.strip_suffix(escape);
        match rest {
            // Only the last line of a file can end so: a continuation of nothing.
            Some(rest) if !rest.ends_with(escape) => write!(f, " {escape}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Display for InstructionKind {
    /// The instruction in upper case, followed by the bodies of its heredocs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line(f)?;
        for heredoc in self.heredocs() {
            write!(f, "\n{}{}", heredoc.body, heredoc.name)?;
        }
        Ok(())
    }
}

impl InstructionKind {
    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Add(add) => add_files(f, add),
            Self::Arg(arg) => arguments(f, &arg.arguments),
            Self::Cmd(line) | Self::Entrypoint(line) => command(f, &line.command),
            Self::Copy(copy) => copy_files(f, copy),
            Self::Env(pairs) | Self::Label(pairs) => assignments(f, pairs),
            Self::Expose(expose) => list(f, &expose.ports, false),
            Self::From(from) => from_image(f, from),
            Self::Healthcheck(check) => healthcheck(f, check),
            Self::Maintainer(maintainer) => rest(f, &maintainer.author.text),
            Self::Onbuild(onbuild) => {
                f.write_str(" ")?;
                onbuild.inner.kind.line(f)
            }
            Self::Run(step) => run(f, step),
            Self::Shell(shell) => exec(f, &shell.shell),
            Self::StopSignal(stop) => rest(f, &stop.signal.text),
            Self::User(user) => rest(f, &user.user.text),
            Self::Volume(volume) => list(f, &volume.paths, volume.json),
            Self::Workdir(workdir) => rest(f, &workdir.path.text),
        }
    }
}

/// The rest of a line, kept from being taken for a flag.
fn rest(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    match text.starts_with("--") {
        true => write!(f, " -- {text}"),
        false => write!(f, " {text}"),
    }
}

fn exec(f: &mut fmt::Formatter<'_>, strings: &[String]) -> fmt::Result {
    f.write_str(" ")?;
    json::write(f, strings)
}

fn command(f: &mut fmt::Formatter<'_>, command: &Command) -> fmt::Result {
    match command {
        Command::Shell(text) => rest(f, text),
        Command::Exec(strings) => exec(f, strings),
    }
}

fn list(f: &mut fmt::Formatter<'_>, words: &[Word], json: bool) -> fmt::Result {
    if json {
        f.write_str(" ")?;
        return json::write(f, words);
    }
    let texts: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let joined = texts.join(" ");
    match json::array(&joined) {
        json::Array::Malformed => rest(f, &joined),
        // What looks like JSON now did not when other blanks stood in it: a vertical tab is a
        // blank here and nothing in JSON.
        _ => rest(f, &texts.join("\u{B}")),
    }
}

/// ` --name=value`, quoted where it has to be.
fn flag(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    let plain = |c: char| !(c.is_whitespace() || matches!(c, '\\' | '\'' | '"'));
    if value.chars().all(plain) {
        return write!(f, " --{name}={value}");
    }
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    write!(f, " --{name}=\"{escaped}\"")
}

fn word_flag(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&Word>) -> fmt::Result {
    value.map_or(Ok(()), |word| flag(f, name, &word.text))
}

fn bool_flag(f: &mut fmt::Formatter<'_>, name: &str, value: Option<bool>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " --{name}={value}"))
}

fn arguments(f: &mut fmt::Formatter<'_>, arguments: &[Argument]) -> fmt::Result {
    let written = |argument: &Argument| match &argument.value {
        Some(value) => format!("{}={value}", argument.name),
        None => argument.name.text.clone(),
    };
    let texts: Vec<String> = arguments.iter().map(written).collect();
    rest(f, &texts.join(" "))
}

fn assignments(f: &mut fmt::Formatter<'_>, pairs: &Assignments) -> fmt::Result {
    let separator = if pairs.legacy { " " } else { "=" };
    let texts: Vec<String> = pairs
        .assignments
        .iter()
        .map(|pair| format!("{}{separator}{}", pair.name, pair.value))
        .collect();
    rest(f, &texts.join(" "))
}

fn from_image(f: &mut fmt::Formatter<'_>, from: &FromImage) -> fmt::Result {
    word_flag(f, "platform", from.platform.as_ref())?;
    rest(f, &from.image.text)?;
    from.name
        .as_ref()
        .map_or(Ok(()), |name| write!(f, " AS {name}"))
}

fn healthcheck(f: &mut fmt::Formatter<'_>, check: &Healthcheck) -> fmt::Result {
    let Healthcheck::Cmd(check) = check else {
        return f.write_str(" NONE");
    };
    for (name, time) in [
        ("interval", check.interval),
        ("timeout", check.timeout),
        ("start-period", check.start_period),
        ("start-interval", check.start_interval),
    ] {
        if time != Duration::ZERO {
            flag(f, name, &duration::write(time))?;
        }
    }
    if check.retries != 0 {
        write!(f, " --retries={}", check.retries)?;
    }
    f.write_str(" CMD")?;
    match &check.command {
        Command::Shell(text) => write!(f, " {text}"),
        Command::Exec(strings) => exec(f, strings),
    }
}

fn run(f: &mut fmt::Formatter<'_>, run: &Run) -> fmt::Result {
    for mount in &run.mounts {
        flag(f, "mount", &mount.word.text)?;
    }
    match run.network {
        None => {}
        Some(Network::Default) => f.write_str(" --network=default")?,
        Some(Network::None) => f.write_str(" --network=none")?,
        Some(Network::Host) => f.write_str(" --network=host")?,
    }
    match run.security {
        None => {}
        Some(Security::Sandbox) => f.write_str(" --security=sandbox")?,
        Some(Security::Insecure) => f.write_str(" --security=insecure")?,
    }
    for device in &run.devices {
        let name = device.name.text.replace('"', "\"\"");
        flag(
            f,
            "device",
            &format!("\"name={name}\",required={}", device.required),
        )?;
    }
    command(f, &run.command)
}

fn copy_files(f: &mut fmt::Formatter<'_>, copy: &CopyFiles) -> fmt::Result {
    word_flag(f, "from", copy.from.as_ref())?;
    bool_flag(f, "parents", copy.parents.then_some(true))?;
    options(f, &copy.options)?;
    paths(f, &copy.sources, &copy.destination, copy.json)
}

fn add_files(f: &mut fmt::Formatter<'_>, add: &AddFiles) -> fmt::Result {
    word_flag(f, "checksum", add.checksum.as_ref())?;
    bool_flag(f, "keep-git-dir", add.keep_git_dir)?;
    bool_flag(f, "unpack", add.unpack)?;
    options(f, &add.options)?;
    paths(f, &add.sources, &add.destination, add.json)
}

fn options(f: &mut fmt::Formatter<'_>, options: &TransferOptions) -> fmt::Result {
    word_flag(f, "chown", options.chown.as_ref())?;
    word_flag(f, "chmod", options.chmod.as_ref())?;
    bool_flag(f, "link", options.link.then_some(true))?;
    let mut exclude = options.exclude.iter();
    exclude.try_for_each(|pattern| flag(f, "exclude", &pattern.text))
}

fn paths(
    f: &mut fmt::Formatter<'_>,
    sources: &[Source],
    destination: &Word,
    json: bool,
) -> fmt::Result {
    let mut words: Vec<Word> = sources
        .iter()
        .map(|source| match source {
            Source::Path(path) => path.clone(),
            Source::Heredoc(Heredoc { token, .. }) => token.clone(),
        })
        .collect();
    words.push(destination.clone());
    list(f, &words, json)
}
