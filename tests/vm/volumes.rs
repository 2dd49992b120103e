//! What is mounted in a VM: volumes that outlive it, what an image declares, snapshots, memory.

use std::os::unix::fs::chown;

use crate::BASE;
use crate::live::Named;

/// The tests' session, without the volumes of an earlier run.
fn session() -> crate::session::Session {
    let session = crate::session();
    session.ok(&["volume", "prune"]);
    session
}

/// What a shell in a VM prints, with these flags.
fn shell(session: &crate::session::Session, flags: &[&str], script: &str) -> String {
    let mut arguments = vec!["run", "--rm"];
    arguments.extend(flags);
    arguments.extend([BASE, "--", "sh", "-ec", script]);
    session.ok(&arguments)
}

#[test]
fn a_volume_outlives_its_vm_with_data_and_owners() {
    let session = session();
    // It is made by its first use, with what the image has there.
    let script = "test -e /etc/apt/sources.list; echo kept > /etc/apt/own; \
                  chown 33:34 /etc/apt/own; chmod 640 /etc/apt/own; rm /etc/apt/sources.list";
    shell(&session, &["-v", "apt:/etc/apt"], script);
    let listed = session.json(&["volume", "ls", "--format", "json"]);
    assert_eq!(listed[0]["Name"], "apt");
    assert_eq!(listed[0]["Usage"], "free");
    assert!(listed[0]["Taken"].as_u64().unwrap() < 16 << 20);
    let script = "cat /data/own; stat -c %u:%g:%a /data/own; ls /data; \
                  if echo x 2>&- > /data/more; then exit 9; fi";
    let seen = shell(&session, &["-v", "apt:/data:ro"], script);
    assert!(seen.starts_with("kept\n33:34:640\n"), "{seen}");
    assert!(
        seen.contains("apt.conf.d") && !seen.contains("sources.list\n"),
        "{seen}"
    );
    session.ok(&["volume", "rm", "apt"]);
    assert_eq!(
        session.json(&["volume", "ls", "--format", "json"]),
        serde_json::json!([])
    );
}

#[test]
fn one_vm_writes_to_a_volume_and_its_end_gives_it_back() {
    let session = session();
    let vm = Named::new(&session, "writer");
    session.ok(&[
        "run",
        "-d",
        "--name",
        vm.name,
        "-v",
        "data:/data",
        BASE,
        "--",
        "sleep",
        "1000",
    ]);
    let refused = session
        .run(&["run", "--rm", "-v", "data:/data", BASE, "--", "true"])
        .failure();
    assert!(
        refused.contains("volume `data` is in use by a VM that writes to it"),
        "{refused}"
    );
    assert!(refused.contains("hint: "), "{refused}");
    let refused = session.run(&["volume", "rm", "data"]).failure();
    assert!(refused.contains("belongs to VM `writer`"), "{refused}");
    let vmm = vm.inspect()["Processes"]["Vmm"]
        .as_u64()
        .unwrap()
        .to_string();
    // However it ends.
    crate::session::output_of("kill", &["-KILL", &vmm]);
    // Ends with the VM.
    session.run(&["logs", "-f", vm.name]);
    shell(&session, &["-v", "data:/data:ro"], "test -d /data");
}

#[test]
fn a_vm_that_comes_back_has_its_volumes_and_secrets() {
    let session = session();
    let vm = Named::new(&session, "returning");
    let key = session.write("key", "geheim");
    let secret = format!("id=key,src={}", key.display());
    let script = "echo x >> /data/starts; sync; \
                  echo \"start $(wc -l < /data/starts) $(cat /run/secrets/key) $(ls /own)\"; \
                  touch /own/kept; test $(wc -l < /data/starts) -ge 3 || exit 3";
    session.ok(&[
        "run",
        "-d",
        "--name",
        vm.name,
        "--restart",
        "on-failure:1",
        "-v",
        "returning:/data",
        "-v",
        "/own",
        "--secret",
        &secret,
        BASE,
        "--",
        "sh",
        "-ec",
        script,
    ]);
    assert_eq!(session.ok(&["wait", vm.name]), "3\n");
    session.ok(&["start", vm.name]);
    assert_eq!(session.ok(&["wait", vm.name]), "0\n");
    assert_eq!(
        session.ok(&["logs", vm.name]),
        "start 1 geheim \nstart 2 geheim kept\nstart 3 geheim kept\n"
    );
    session.ok(&["rm", vm.name]);
    session.ok(&["volume", "rm", "returning"]);
}

#[test]
fn an_images_volumes_have_its_content_and_go_with_the_vm() {
    let session = session();
    let dockerfile = format!(
        "FROM {BASE}\nRUN mkdir -p /var/lib/db && echo seed > /var/lib/db/seed && chown -R 33:33 /var/lib/db\n\
         VOLUME /var/lib/db /srv/empty\n"
    );
    session
        .build(&dockerfile, &["-t", "test/volumes:1"])
        .success();
    let script = "cat /var/lib/db/seed; stat -c %u /var/lib/db /var/lib/db/seed; \
                  grep -c ' /var/lib/db ext4 \\| /srv/empty ext4 ' /proc/mounts";
    let seen = session.ok(&["run", "--rm", "test/volumes:1", "--", "sh", "-ec", script]);
    assert_eq!(seen, "seed\n33\n33\n2\n");
    assert_eq!(
        session.json(&["volume", "ls", "--format", "json"]),
        serde_json::json!([])
    );
}

#[test]
fn a_snapshot_memory_and_a_root_that_cannot_be_written() {
    let session = session();
    let file = session.write("shared/sub/file", "from the host");
    chown(file, Some(1234), Some(1234)).unwrap();
    let flags = [
        "-v",
        "./shared:/shared:snapshot",
        "--tmpfs",
        "/scratch:size=1m,mode=700",
        "--read-only",
        "--mount",
        "type=tmpfs,target=/more,tmpfs-size=64k",
    ];
    let script = "cat /shared/sub/file; stat -c ' %u' /shared/sub/file; stat -c %a /scratch; \
                  for at in /x /etc/x /shared/x; do if touch $at 2>&-; then echo wrote $at; fi; done; \
                  for at in /tmp /var/tmp /run /scratch /dev/shm; do touch $at/x; done; \
                  df -k /scratch /more | awk '{ print $2 }'";
    let seen = shell(&session, &flags, script);
    assert_eq!(seen, "from the host 1234\n700\n1K-blocks\n1024\n64\n");
    let missing = session
        .run(&["run", "--rm", "-v", "/none/such:/x", BASE])
        .failure();
    assert!(
        missing.contains("hint: make it with `mkdir -p /none/such`"),
        "{missing}"
    );
}

#[test]
fn more_devices_than_there_are_is_said_at_once() {
    let session = session();
    let mut arguments = vec!["run".to_owned(), "--rm".to_owned()];
    for number in 0..30 {
        arguments.extend(["-v".to_owned(), format!("v{number}:/v{number}")]);
    }
    arguments.extend([BASE, "--", "true"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = session.run(&arguments).failure();
    assert!(said.contains("devices, and qemu has room for 24"), "{said}");
    assert_eq!(
        session.json(&["ls", "-a", "--format", "json"]),
        serde_json::json!([])
    );
}
