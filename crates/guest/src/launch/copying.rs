//! A process that is no program of the image's: it copies files between its standard streams and the
//! root that it has joined. All its paths lead through that root, so nothing else is in reach.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;

use firebuild_protocol::files::{self, Condenser, Destination, Expander};

use super::{Copying, Order, inside};

/// Does it, and ends: with the status 0 or, with a word on standard error, 1.
pub(super) fn perform(copying: &Copying, order: &Order, mut socket: UnixStream) {
    let ready = inside::go_there(order, &socket).and_then(|()| {
        std::env::set_current_dir("/")
            .map_err(|error| super::Refusal::Agent(format!("cannot enter the root: {error}")))?;
        order.launch.streams.take(0, &socket).map_err(Into::into)
    });
    if let Err(refusal) = ready {
        let text = serde_json::to_vec(&refusal).unwrap_or_default();
        // The agent may be gone, and then nobody listens.
        let _ = socket.write_all(&text);
        return;
    }
    // As an exec would.
    drop(socket);
    let copied = match copying {
        Copying::Pack(path, follow) => {
            let condenser = Condenser::new(io::stdout().lock());
            let packed = files::pack(path, *follow, condenser);
            packed.and_then(|condenser| condenser.finish().map(drop))
        }
        Copying::Unpack(path, contents, archive) => {
            let destination = Destination {
                path: path.clone(),
                contents: *contents,
                archive: *archive,
                trusted: true,
            };
            files::unpack(Expander::new(io::stdin().lock()), &destination)
        }
    };
    if let Err(error) = copied {
        let _ = writeln!(io::stderr(), "{error}");
        std::process::exit(1);
    }
}
