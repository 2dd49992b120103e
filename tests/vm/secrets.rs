//! Secrets, which only memory holds; and SSH, which an image has to offer.

use crate::live::Named;
use crate::{BASE, session};

#[test]
fn a_secret_is_in_the_vm_and_in_no_file_of_the_host() {
    let session = session();
    let hushed = format!("hush-{}-{:x}", std::process::id(), 0x5eed_u32);
    let file = session.write("key", &hushed);
    let vm = Named::new(&session, "secretive");
    let one = format!("id=one,src={},uid=33,mode=440", file.display());
    let flags = [
        "--secret",
        &one,
        "--secret",
        "id=two,env=HUSHED,target=/etc/two",
    ];
    let mut arguments = vec!["run", "-d", "--name", vm.name];
    arguments.extend(flags);
    arguments.extend([BASE, "--", "sleep", "1000"]);
    let mut command = session.command(&arguments);
    command.env("HUSHED", format!("{hushed}-too"));
    crate::session::Outcome::of(&mut command).success();
    let script = "cat /run/secrets/one; echo; cat /etc/two; echo; \
                  stat -c %u:%a /run/secrets/one /etc/two";
    let seen = session.ok(&["exec", vm.name, "--", "sh", "-c", script]);
    assert_eq!(seen, format!("{hushed}\n{hushed}-too\n33:440\n0:400\n"));
    let record = vm.inspect();
    assert!(!record.to_string().contains(&hushed));
    let directory = record["Directories"]["State"].as_str().unwrap();
    let supervisor = record["Processes"]["Owner"].as_u64().unwrap();
    let places = [
        directory.to_owned(),
        format!("/proc/{supervisor}/environ"),
        format!("/proc/{supervisor}/cmdline"),
    ];
    let mut grep = std::process::Command::new("grep");
    let grep = grep.args(["-rlaF", &hushed]).args(places).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
}

#[test]
fn an_image_without_an_ssh_server_is_refused() {
    let session = session();
    let key = session.write("key.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHV2 test\n");
    let key = key.to_str().unwrap();
    let arguments = [
        "run",
        "--rm",
        "--ssh-user",
        "root",
        "--identity-file",
        key,
        BASE,
    ];
    let said = session.run(&arguments).failure();
    assert!(
        said.contains("openssh-server") && said.contains("firebuild exec"),
        "{said}"
    );
}
