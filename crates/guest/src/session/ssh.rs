//! The image's own SSH server, beside the workload.

use std::path::PathBuf;

use firebuild_protocol::secret::{HOST_KEY, IMAGES_HOST_KEY, Ssh};

use super::tasks::Place;
use crate::console;
use crate::error::{Result, chain};
use crate::launch::{self, Isolation, Launch, Refusal, Streams};

/// Puts the keys in place, makes a host key once, and becomes the server; an init starts that by itself, and
/// needs the key that the server looks for.
/// What goes wrong is on the console.
const SCRIPT: &str = r#"
exec 2>/dev/console
set -e
line=$(grep "^$1:" /etc/passwd | head -n 1)
home=$(echo "$line" | cut -d: -f6)
owner=$(echo "$line" | cut -d: -f3,4)
if [ -z "$home" ]; then echo "firebuild: there is no user $1 for SSH" >&2; exit 1; fi
umask 077
if ! [ -d "$home" ]; then mkdir -p "$home"; chown "$owner" "$home"; fi
mkdir -p "$home/.ssh"
touch "$home/.ssh/authorized_keys"
echo "$3" | while read -r key; do
  grep -qxF "$key" "$home/.ssh/authorized_keys" || echo "$key" >> "$home/.ssh/authorized_keys"
done
chown "$owner" "$home/.ssh" "$home/.ssh/authorized_keys"
if ! [ -s "$0.pub" ]; then rm -f "$0"; ssh-keygen -q -t ed25519 -N '' -C '' -f "$0"; fi
if [ "$2" = init ]; then exit 0; fi
umask 022
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -h "$0" -o PasswordAuthentication=no -o PermitRootLogin=prohibit-password
"#;

/// Says why there can be no SSH, before anything is started.
pub(super) fn check(layers: &[PathBuf]) -> Result<Option<Refusal>> {
    let there = launch::look_into(layers, |seen| {
        launch::find_in(seen, "/usr/sbin").map(|at| at.is_some_and(|at| at.join("sshd").exists()))
    })?;
    Ok(match there {
        Ok(true) => None,
        _ => Some(Refusal::Program(
            "the image has no `/usr/sbin/sshd`: build it with the package `openssh-server`, or leave `--ssh-user` away and use `firebuild exec`"
                .to_owned(),
            0,
        )),
    })
}

/// Starts it.
pub(super) async fn start(place: &Place, ssh: &Ssh) {
    let is_init = place.launch.isolation == Isolation::Init;
    let (mode, host_key) = match is_init {
        true => ("init", IMAGES_HOST_KEY),
        false => ("", HOST_KEY),
    };
    let keys = ssh.keys.join("\n");
    let arguments = ["sh", "-c", SCRIPT, host_key, &ssh.user, mode, &keys];
    let launch = Launch {
        arguments: arguments.map(str::to_owned).to_vec(),
        environment: Vec::new(),
        user: "root".to_owned(),
        workdir: "/".to_owned(),
        streams: Streams::Nothing,
        ..place.launch.clone()
    };
    let said = match launch::start(&launch, &place.reaper).await {
        Ok(started) => match started.program {
            // The reaper knows of it; it ends with the VM.
            Ok(_) => return,
            Err(Refusal::Agent(text) | Refusal::Program(text, _)) => text,
        },
        Err(error) => chain(&error),
    };
    console::say(&format!("no SSH server: {said}"));
}
