//! `vminit`: the agent that is the first process of every firebuild microVM.
//!
//! It comes with the initramfs and never from the image, so an image needs no preparation. It
//! decides nothing: it loads the modules it was given, brings up the network, reads its metadata,
//! connects where that says, with the credentials that it gives, and obeys. What must hold: nothing
//! listens in the guest, nothing of the agent's is ever in an image's layer, and whatever goes
//! wrong ends with one clear line, to the host or on the console, and with the VM's end.

mod bootstrap;
mod connect;
mod console;
mod drives;
mod error;
mod forwarding;
mod init;
mod launch;
mod lines;
mod metadata;
mod modules;
mod network;
mod phases;
mod reaper;
mod session;
mod shutdown;
mod sys;
mod terminal;
mod verity;
mod volumes;

use firebuild_protocol::files::attributes;

fn main() {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == launch::ARGUMENT)
    {
        launch::run_inside();
        return;
    }
    if std::process::id() == 1 {
        std::panic::set_hook(Box::new(|panic| console::fatal(&panic.to_string())));
        init::main();
    }
}
