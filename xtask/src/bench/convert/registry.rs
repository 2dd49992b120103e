//! The way from a registry to a ready root file system, against that from a directory.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use fs_err as fs;

use super::samples::Sample;
use super::{Cold, TURNS};
use crate::bench::host::{Host, time};
use crate::bench::report::{Bound, Row};
use crate::bench::statistics::{median_ratio, median_seconds};
use crate::shell;

/// The format that registries have most of.
const FORMAT: &str = "gzip";

pub(super) fn measure(host: &Host, samples: &[Sample]) -> anyhow::Result<Vec<Row>> {
    let registry = Registry::start(host)?;
    let rows = samples.iter().map(|sample| {
        let image = registry.fill(sample)?;
        let (mut pulled, mut imported) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            imported.push(Cold::new(host)?.convert(host, sample, FORMAT)?.0);
            let cold = Cold::new(host)?;
            pulled.push(time(cold.command(host).args(["pull", &image]))?);
        }
        Ok(Row {
            what: row(sample),
            figure: median_ratio(&pulled, &imported),
            bound: Bound::times(1.2),
            note: format!(
                "{:.2} s, and {:.2} s",
                median_seconds(&pulled),
                median_seconds(&imported)
            ),
        })
    });
    rows.collect()
}

fn row(sample: &Sample) -> &'static str {
    match sample.name {
        "debian" => "Debian base, pulled from a registry of this host, against its import",
        "modules" => "60,000 small files, the same",
        _ => "six layers of 800 MB, the same",
    }
}

/// Debian's `docker-registry` on loopback. It ends when it is dropped, with all that it has.
struct Registry {
    child: Child,
    directory: PathBuf,
    port: u16,
}

impl Registry {
    fn start(host: &Host) -> anyhow::Result<Self> {
        let directory = host.directory.join("registry");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let config = directory.join("config.yml");
        let data = directory.join("data");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n  secret: none\n",
            data.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut registry = Self {
            child: command.spawn().context("cannot start docker-registry")?,
            directory,
            port: 0,
        };
        let said = registry.child.stderr.take();
        let mut lines = BufReader::new(said.context("it has no standard error")?).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        registry.port = port.context("docker-registry does not say where it listens")?;
        // What it says later must go somewhere, or it would wait.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(registry)
    }

    /// Puts an image into it. Returns its name.
    fn fill(&self, sample: &Sample) -> anyhow::Result<String> {
        let image = format!("127.0.0.1:{}/{}:{FORMAT}", self.port, sample.name);
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--dest-tls-verify=false"]);
        let from = format!("oci:{}:{FORMAT}", sample.layout().display());
        shell::run(copy.args([from, format!("docker://{image}")]))?;
        Ok(image)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
