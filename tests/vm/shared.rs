//! What of this host a VM has mounted, and what it finds around its workload.

use std::os::unix::fs::MetadataExt as _;

use crate::{BASE, session};

#[test]
fn directories_of_the_host_are_read_and_written_as_they_are() {
    let session = session();
    session.write("both/sub/file", "from the host");
    session.write("only/file", "only read");
    let script = "cat /both/sub/file; mkdir /both/new; echo from the guest > /both/new/file; \
                  chown 33:34 /both/new/file; cat /only/file; \
                  if echo x 2>&- > /only/x; then echo wrote; fi; \
                  mount -o remount,rw /only 2>&- || true; if echo x 2>&- > /only/x; then echo wrote; fi";
    let seen = session.ok(&[
        "run",
        "--rm",
        "-v",
        "./both:/both",
        "-v",
        "./only:/only:ro",
        BASE,
        "--",
        "sh",
        "-ec",
        script,
    ]);
    assert_eq!(seen, "from the hostonly read");
    let made = session.path("both/new/file");
    assert_eq!(fs_err::read_to_string(&made).unwrap(), "from the guest\n");
    let made = fs_err::metadata(made).unwrap();
    assert_eq!((made.uid(), made.gid()), (33, 34));
    assert!(!session.path("only/x").exists());
}

#[test]
fn what_serves_a_directory_ends_with_the_vm() {
    let session = session();
    session.write("shared/file", "");
    let vm = crate::live::Named::new(&session, "sharing");
    let flag = "./shared:/shared";
    session.ok(&[
        "run", "-d", "--name", vm.name, "-v", flag, BASE, "--", "sleep", "1000",
    ]);
    let path = session.path("shared");
    let serving = || {
        let all = crate::session::output_of("ps", &["-eo", "args"]);
        let path = path.to_str().unwrap();
        all.lines()
            .filter(|line| line.contains("virtiofsd") && line.contains(path))
            .count()
    };
    assert!(serving() > 0);
    let vmm = vm.inspect()["Processes"]["Vmm"]
        .as_u64()
        .unwrap()
        .to_string();
    crate::session::output_of("kill", &["-KILL", &vmm]);
    session.run(&["logs", "-f", vm.name]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while serving() > 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "virtiofsd is still there"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn names_limits_and_settings_are_as_they_were_asked_for() {
    let session = session();
    let script = "grep -c '^10.9.8.7\tdb$' /etc/hosts; getent hosts me | wc -l; \
                  grep -v '^#' /etc/resolv.conf; ulimit -Sn; ulimit -Hn; \
                  cat /proc/sys/net/core/somaxconn; df -k /dev/shm | awk 'NR == 2 { print $2 }'";
    let seen = session.ok(&[
        "run",
        "--rm",
        "--add-host",
        "db:10.9.8.7",
        "--add-host",
        "me:host-gateway",
        "--dns",
        "192.0.2.1",
        "--dns-search",
        "example",
        "--dns-option",
        "ndots:3",
        "--ulimit",
        "nofile=77:99",
        "--sysctl",
        "net.core.somaxconn=78",
        "--shm-size",
        "1m",
        BASE,
        "--",
        "sh",
        "-ec",
        script,
    ]);
    let expected =
        "1\n1\nnameserver 169.254.169.253\nsearch example\noptions ndots:3\n77\n99\n78\n1024\n";
    assert_eq!(seen, expected);
}
