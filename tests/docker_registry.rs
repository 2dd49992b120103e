//! Debian's `docker-registry` on loopback: the other side that was written by others.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};

/// A registry with a directory of its own. It ends when it is dropped.
pub(crate) struct DockerRegistry {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
    /// What it says, and what it said until now.
    said: Mutex<(mpsc::Receiver<String>, Vec<String>)>,
}

/// Whom a registry lets in, and how it speaks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Guards<'a> {
    /// A file as `htpasswd -B` writes it.
    pub(crate) htpasswd: Option<&'a Path>,
    /// A certificate and its key.
    pub(crate) tls: Option<(&'a Path, &'a Path)>,
    /// The authority of the clients' certificates.
    pub(crate) clients: Option<&'a Path>,
}

impl DockerRegistry {
    /// One that lets everybody in, without encryption.
    pub(crate) fn start() -> Self {
        Self::guarded(Guards::default())
    }

    pub(crate) fn guarded(guards: Guards<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n  secret: none\n",
            directory.path().join("data").display()
        );
        if let Some((certificate, key)) = guards.tls {
            config += &format!(
                "  tls:\n    certificate: {}\n    key: {}\n",
                certificate.display(),
                key.display()
            );
        }
        if let Some(authority) = guards.clients {
            config += &format!("    clientcas:\n      - {}\n", authority.display());
        }
        if let Some(htpasswd) = guards.htpasswd {
            config += &format!(
                "auth:\n  htpasswd:\n    realm: here\n    path: {}\n",
                htpasswd.display()
            );
        }
        let path = directory.path().join("config.yml");
        fs_err::write(&path, config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more when the test is at its end.
                let _ = sender.send(line);
            }
        });
        Self {
            port: port.unwrap(),
            child,
            directory,
            said: Mutex::new((said, Vec::new())),
        }
    }

    /// As references have it.
    pub(crate) fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// A reference to an image here.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.name())
    }

    /// What it wrote of the questions that it was asked: all up to one that is asked here.
    #[allow(dead_code, reason = "not every test reads it")]
    pub(crate) fn log(&self) -> Vec<String> {
        let mut said = self.said.lock().unwrap();
        let (receiver, lines) = &mut *said;
        let mark = format!("/v2/mark-{}/tags/list", lines.len());
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {mark} HTTP/1.0\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        loop {
            let line = receiver.recv().unwrap();
            let marked = line.contains(&mark);
            lines.push(line);
            if marked {
                return lines.clone();
            }
        }
    }

    /// Where its blobs' bytes are.
    #[allow(dead_code, reason = "not every test damages them")]
    pub(crate) fn blob(&self, hex: &str) -> PathBuf {
        let blobs = self
            .directory
            .path()
            .join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
