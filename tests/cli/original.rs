//! `rootfs --dockerfile`, the original tool's word, with all addresses that it takes.

use crate::copies::listing;
use crate::server::{Answer, Server};
use crate::session as fresh;
use crate::session::Outcome;
use crate::sources::{git_server, repository};

fn web() -> Server {
    Server::start(|asked| match asked.path.as_str() {
        "/x/Dockerfile" => {
            Answer::file(b"FROM scratch\nADD file /added\nCOPY file deep/other /d/\n")
        }
        "/x/Directory" => Answer::file(b"FROM scratch\nADD deep/ /d/\n"),
        "/x/file" | "/x/deep/other" => Answer::file(b"text"),
        _ => Answer::status("404 Not Found"),
    })
}

#[test]
fn a_dockerfile_may_be_in_a_repository() {
    let (session, _root) = fresh();
    let commit = repository(&session);
    let server = git_server(&session);
    let ssh = session.write(
        "ssh",
        "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n",
    );
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(&ssh, executable).unwrap();
    let remote = server.url("/one.git");
    let directory = session.path("repositories/one.git");
    let by_ssh = format!("ssh://git@host.example{}", directory.display());
    for dockerfile in [
        // Without a fragment, the default branch.
        format!("git+{remote}:/app/Dockerfile"),
        format!("git+{remote}:/app/Dockerfile#main"),
        format!("git+{remote}:/app/Dockerfile#{commit}"),
        format!("{by_ssh}:/app/Dockerfile"),
        format!("{by_ssh}:/app/Dockerfile#main"),
        format!("git+{by_ssh}:/app/Dockerfile#{commit}"),
    ] {
        let arguments = ["rootfs", "--dockerfile", &dockerfile, "--tag", "org/app:1"];
        let mut command = session.command(&arguments);
        Outcome::of(command.env("GIT_SSH_COMMAND", &ssh)).success();
        let expected = [
            "drwxr-xr-x 0/0 app/",
            "-rw-r--r-- 0/0 app/Dockerfile",
            "-rw-r--r-- 0/0 app/file",
        ];
        assert_eq!(listing(&session, "org/app:1"), expected, "{dockerfile}");
        session.ok(&["rmi", "org/app:1"]);
    }
}

#[test]
fn a_dockerfile_may_be_on_a_web_server() {
    let (session, _root) = fresh();
    let files = web();
    let dockerfile = files.url("/x/Dockerfile");
    session.ok(&["rootfs", "--dockerfile", &dockerfile, "--tag", "org/web:1"]);
    let expected = [
        "-rw-r--r-- 0/0 added",
        "drwxr-xr-x 0/0 d/",
        "-rw-r--r-- 0/0 d/file",
        "-rw-r--r-- 0/0 d/other",
    ];
    assert_eq!(listing(&session, "org/web:1"), expected);
}

/// One clear error each, and no name for what is half built.
#[test]
fn a_dockerfile_that_is_not_there_is_told() {
    let (session, _root) = fresh();
    repository(&session);
    let (server, files) = (git_server(&session), web());
    let remote = server.url("/one.git");
    let web = |name: &str| files.url(&format!("/x/{name}"));
    for (dockerfile, message) in [
        (web("Directory"), "only single files can be taken"),
        (web("None"), "the server answers 404 (it is not there)"),
        (
            format!("git+{remote}:/app/None"),
            "there is no Dockerfile `None`",
        ),
        (
            format!("git+{remote}:/none/Dockerfile"),
            "has no directory `none`",
        ),
        (
            format!("git+{remote}:/app/Dockerfile#mian"),
            "has no branch, tag or commit `mian`",
        ),
        (
            format!("git+{}:/Dockerfile", server.url("/two.git")),
            "there is no repository",
        ),
        (
            format!("git+{remote}:/app/"),
            "names no file in its repository",
        ),
    ] {
        let arguments = ["rootfs", "--dockerfile", &dockerfile, "--tag", "org/none:1"];
        let said = session.run(&arguments).stderr;
        assert!(said.contains(message), "{dockerfile}: {said}");
        assert!(!session.ok(&["images"]).contains("org/none"), "{said}");
    }
}

#[test]
fn a_dockerfiles_folder_is_its_context() {
    let (session, _root) = fresh();
    session.write("folder/file", "content");
    let dockerfile = session.write("folder/Dockerfile", "FROM scratch\nCOPY file /f\n");
    let dockerfile = dockerfile.to_str().unwrap();
    session.ok(&["rootfs", "--dockerfile", dockerfile, "--tag", "org/app:1"]);
    session.ok(&["image", "inspect", "org/app:1"]);
}

/// What the original documents, in its form: nothing of it is refused as unknown, and what does nothing
/// any more is told once.
#[test]
fn every_flag_of_the_original_is_known() {
    let (session, _root) = fresh();
    let dockerfile = session.write("folder/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let dockerfile = dockerfile.to_str().unwrap();
    let everywhere = "--log-level debug --log-color --log-force-color --tracing-log-enable \
        --tracing-collector-host-port 127.0.0.1:6831";
    let machine = "--cpu 1 --mem 128 --cpu-template= --vmlinux-id none --ip-address 10.77.0.9 \
        --ht-enabled --ssh-user root --log-firecracker-http-calls --shutdown-graceful-timeout-seconds 30 \
        --binary-firecracker /none --binary-jailer /none --chroot-base /srv/jailer --jailer-uid 7 \
        --jailer-gid 7 --jailer-numa-node 0 --netns /var/lib/netns \
        --bootstrap-certs-key-size 2048 --bootstrap-certs-validity 5m \
        --bootstrap-initial-communication-timeout 30s --bootstrap-server-bind-interface eth0";
    let cni = "--cni-bin-dir /opt/cni/bin --cni-conf-dir /etc/cni/conf.d --cni-cache-dir /var/lib/cni \
        --cni-network-name none";
    let command = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = session.command(&words);
        Outcome::of(command.env(
            "FIREBUILD_KERNEL_ARGS",
            "console=ttyS0 noapic reboot=k pci=off rw",
        ))
    };
    let rootfs = command(&format!(
        "rootfs --dockerfile {dockerfile} --tag org/app:1.0 --build-arg A=b --docker-image-base debian \
         --print plan {everywhere} {machine} {cni}"
    ))
    .success();
    for gone in [
        "--bootstrap-certs-key-size",
        "--bootstrap-certs-validity",
        "--bootstrap-server-bind-interface",
        "--ip-address",
        "--ssh-user",
        "--shutdown-graceful-timeout-seconds",
        "--tracing-log-enable",
    ] {
        let told = format!("`{gone}` does nothing");
        assert_eq!(rootfs.stderr.matches(&told).count(), 1, "{gone}: {rootfs}");
    }
    let run = command(&format!(
        "run --from org/none:1 --daemonize --env A=b --hostname h --name vm20 --port 8080:80/tcp \
         --identity-file {dockerfile} {everywhere} {machine} {cni}"
    ));
    assert!(run.stderr.contains("`org/none:1`"), "{run}");
    let unknown = command("run --from org/none:1 --no-such-flag");
    assert!(
        unknown.stderr.contains("no flag `--no-such-flag`"),
        "{unknown}"
    );
    for line in ["kill --shutdown-timeout 15s --vmm-id none", "purge"] {
        let given = command(&format!("{line} {everywhere} {cni}"));
        let told = "`--cni-network-name` does nothing";
        assert_eq!(given.stderr.matches(told).count(), 1, "{given}");
        assert!(!given.stderr.contains("unexpected"), "{given}");
    }
    let base = command(&format!(
        "baseos --dockerfile {dockerfile} --filesystem-size-mbs 500 --print plan {everywhere}"
    ));
    base.success();
}
