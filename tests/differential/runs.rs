//! RUN: the same commands in a microVM and in buildah's chroot. Each case is one boot, so it has
//! much in it.

use crate::judge::{Case, Judge};

/// Files that are made, changed, replaced and taken away, over those of the base, of a copy and of
/// earlier commands.
const FILES: &str = r#"
FROM debian:bookworm-slim
COPY tree /t/tree/
RUN mkdir -p /t/old/sub /t/gone/deep /t/again && cd /t && \
    touch old/a old/sub/b gone/deep/c again/before replaced && \
    echo 1 > kept && echo 2 > linked && ln linked hard && mkdir renamed && echo 3 > renamed/file
RUN cd /t && rm -r gone && rm -r old && mkdir old && echo new > old/n && \
    rm replaced && mkdir replaced && touch replaced/in && \
    mv renamed moved && echo 4 > moved/more && \
    chmod 0600 kept && chown 12:34 linked && chmod 4755 linked
RUN rm -r /t/tree/dir && rm /t/tree/one && mv /t/tree/two /t/tree/three && rm -r /t/again
RUN mkdir /t/again && touch /t/again/after && rm -r /t/again && mkdir -m 750 /t/again && touch /t/again/last
RUN cd /t && ln -s nowhere dangling && ln -s /etc/passwd absolute && ln -s old directory && \
    mkfifo -m 0640 fifo && mkdir -m 3770 sticky && chown 5:6 sticky && mknod null c 1 3 && \
    install -m 2711 -o 7 -g 8 /bin/true program && cp -a program copied && ln copied second
RUN cd /t && truncate -s 3M sparse && printf end >> sparse && truncate -s 5M empty-sparse && \
    printf begin | dd of=sparse conv=notrunc 2> /dev/null && printf x > "name with blanks" && \
    printf y > "$(printf 'n\303\244me')" && printf z > .hidden && printf w > ..data
RUN umask && (umask 077 && touch /t/private && mkdir /t/secluded) && touch /t/public && mkdir /t/open
RUN perl -e 'sub set { my ($f, $n, $v) = @_; my $l = length $v; syscall(188, $f, $n, $v, $l, 0) == 0 or die "$f $n: $!" } \
    open F, ">/t/capable"; open F, ">/t/user"; \
    set("/t/capable", "security.capability", pack("V5", 0x02000001, 0x400, 0, 0, 0)); \
    set("/t/user", "user.note", "hello"); set("/t/old", "user.note", "directory")'
RUN chown 3:4 /t/user && chmod 711 /t/old && touch /t/kept && echo again >> /t/hard
RUN rm /etc/motd /etc/issue && echo theirs > /etc/issue.net && rm -r /var/spool && chmod 700 /srv && chown 9:9 /opt && \
    mv /home /t/home && rm -rf /usr/share/doc && mkdir /usr/share/doc && ln -s /t/home /home
RUN useradd -m -u 4321 someone && rm -f /var/log/lastlog /var/log/faillog /etc/*-
"#;

/// What a process is given.
const PROCESSES: &str = r#"
ARG GLOBAL=unseen
FROM debian:bookworm-slim
ENV FROM_ENV="a b" BOTH=env
ARG FROM_ARG=default
ARG BOTH=arg
ARG UNSET
ARG GLOBAL
RUN mkdir /seen && for name in FROM_ENV FROM_ARG UNSET GLOBAL HOME PATH PWD; do eval "echo $name=\${$name-unset}"; done > /seen/1 && echo $BOTH > /seen/both
ENV FROM_ARG=env BOTH=later
RUN for name in FROM_ENV FROM_ARG BOTH GLOBAL; do eval "echo $name=\${$name-unset}"; done > /seen/2
RUN ["/bin/sh", "-c", "echo $0 $@ $FROM_ENV > /seen/3", "zero", "one two", "$FROM_ENV"]
WORKDIR /work/place
RUN pwd > /seen/4 && touch here
WORKDIR inner
RUN pwd >> /seen/4 && touch here && chmod 1777 /seen
USER games
RUN (id -u; id -g; id -G; echo $HOME; umask; pwd) > /seen/5
WORKDIR /work/of-games
USER 12:34
RUN (id -u; id -g; id -G; echo $HOME) > /seen/6
USER 99
RUN (id -u; id -g; id -G; echo $HOME) > /seen/7
USER daemon:games
RUN (id -u; id -g; id -G; echo $HOME) > /seen/8
USER root
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN set -o | grep pipefail > /seen/9; echo "${BASH_VERSINFO[0]}" >> /seen/9
RUN --mount=type=tmpfs,target=/mnt/memory --mount=type=bind,source=tree,target=/mnt/bound \
    --mount=type=bind,source=tree,target=/usr/share/new/deep,rw --mount=type=cache,target=/var/cache/mine \
    touch /mnt/memory/x /var/cache/mine/x /usr/share/new/deep/x && cat /mnt/bound/one > /seen/10
RUN touch /dev/shm/x /proc/none 2> /dev/null; ls -d /proc/self /dev/null /sys > /seen/11
RUN env | cut -d= -f1 | grep -v HOSTNAME | sort > /seen/12; cat > /seen/13; \
    (sleep 1000 &); tty > /seen/14; cat /dev/fd/0 >> /seen/14
CMD echo "${BASH_VERSION}"
ENTRYPOINT ["/bin/echo", "$FROM_ENV"]
HEALTHCHECK --interval=5s --retries=4 CMD true | true
LABEL first=1 second="two words"
EXPOSE 80 53/udp
VOLUME /data /work/place
RUN touch /work/place/later && rm /work/place/here
STOPSIGNAL SIGUSR1
ONBUILD RUN echo triggered
"#;

/// Results of commands on their way through stages.
const STAGES: &str = r#"
FROM debian:bookworm-slim AS made
RUN mkdir -p /out/a/b && cd /out && echo 1 > a/one && ln a/one a/two && ln -s one a/link && \
    chown -R 7:8 a && chmod 2750 a/b && chmod 4711 a/one && truncate -s 1M a/b/sparse && mkfifo a/pipe && \
    perl -e 'my ($f, $n, $v) = ("a/one", "security.capability", pack("V5", 0x02000001, 0x400, 0, 0, 0)); syscall(188, $f, $n, $v, 20, 0) == 0 or die $!'
RUN rm -r /out/a/b && mkdir /out/a/b && touch /out/a/b/anew
FROM debian:bookworm-slim
RUN mkdir -p /got/a && touch /got/a/before && ln -s /got /link
COPY --from=made /out /got
COPY --from=made /out/a/link /link/file
COPY --from=made --chown=games:games /out/a/one /link/owned/
COPY --from=made /usr/bin/env /usr/bin/true /got/tools/
RUN echo more >> /got/a/one && rm /got/a/two && mv /got/a/b /got/b
COPY --from=0 /out/a/b /got/b
"#;

/// Commands and copies that meet in one place.
const MEETING: &str = r#"
FROM debian:bookworm-slim AS parent
COPY tree /x/
RUN rm -r /x/dir && chmod 711 /x
COPY tree/dir /x/dir/
RUN find /x | sort > /seen && rm /x/dir/a && chown -R 5:6 /x/dir
COPY tree/kept /x/dir
COPY tree/dir/deep /x/dir/deep/
RUN rm -r /x/dir && ln -s kept /x/dir && useradd -m -u 4321 -G games,audio someone && rm -f /var/log/lastlog /var/log/faillog /etc/*-
COPY --chown=someone tree/one /x/dir/
COPY --chown=:audio tree/two /x/dir/new
RUN mv /x/kept /x/elsewhere && mkdir -m 711 /x/kept && ln -s /x/one /x/two.link
COPY tree/two /x/two.link
COPY tree /x/kept/
RUN rm /x/one && rm -r /x/kept/dir/deep && echo changed > /x/kept/two
USER someone
WORKDIR /x/made/here
RUN id > /home/someone/id && echo $HOME >> /home/someone/id && touch ~/mine && ls -ld /x/made /x/made/here | cut -d' ' -f1-4 >> ~/id
ENV BASE=1
ARG WHAT=parent
FROM parent
RUN echo $BASE $WHAT > ~/inherited
"#;

/// An image with nothing but a shell.
const SCRATCH: &str = r#"
FROM debian:bookworm-slim AS base
RUN for file in $(ldd /bin/dash | grep -o '/[^ ]*'); do install -D $file /tiny$file; done; install -D /bin/dash /tiny/bin/sh
FROM scratch
COPY --from=base /tiny /
RUN echo "$PATH $HOME $PWD" > file
USER 5
WORKDIR /made/here
RUN echo "$PATH $HOME $PWD" > file
"#;

fn context() -> Judge {
    let judge = Judge::with_base();
    for file in ["one", "two", "dir/a", "dir/deep/b", "kept/c"] {
        let path = judge.context().join("tree").join(file);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, file).unwrap();
    }
    judge
}

#[test]
fn commands_leave_what_they_leave_in_a_chroot() {
    context().compare(&[
        Case {
            name: "files",
            dockerfile: FILES,
            differs: &[
                "+ t/hard: 644 0:0 file of 8 bytes 3182e769e8b4",
                "+ t/linked: 4755 12:34 file of 2 bytes 53c234e5e847",
                "- t/hard: 4755 12:34 file of 8 bytes 3182e769e8b4",
                "- t/linked: 4755 12:34 file of 8 bytes 3182e769e8b4 same as t/hard",
            ],
            because: "a command that changes one of an earlier file's names makes a file of its own: \
                      steps lie on one another in BuildKit too, and are one directory in buildah",
        },
        Case {
            name: "processes",
            dockerfile: PROCESSES,
            differs: &[
                "+ config Cmd: /bin/bash | -o | pipefail | -c | echo \"${BASH_VERSION}\"",
                "+ seen/both: 644 0:0 file of 4 bytes 3baf131c77a1",
                "+ work/place/later: 644 0:0 file of 0 bytes e3b0c44298fc",
                "- config Cmd: /bin/sh | -c | echo \"${BASH_VERSION}\"",
                "- data: 755 0:0 directory",
                "- seen/both: 644 0:0 file of 4 bytes 367c9b4686a7",
                "- usr/share/new: 755 0:0 directory",
                "- work/place/here: 644 0:0 file of 0 bytes e3b0c44298fc",
            ],
            because: "BuildKit takes the shell in force for CMD and the last of ARG and ENV for RUN, leaves \
                      nothing of a mount's place, makes no volumes and keeps what is done in them",
        },
        Case {
            name: "stages",
            dockerfile: STAGES,
            differs: &[],
            because: "",
        },
        Case {
            name: "scratch",
            dockerfile: SCRATCH,
            differs: &["- etc: 755 0:0 directory", "- run: 755 0:0 directory"],
            because: "of what a RUN is given, only the system's directories stay in BuildKit",
        },
        Case {
            name: "meeting",
            dockerfile: MEETING,
            differs: &[
                "+ home/someone/inherited: 644 4321:4321 file of 9 bytes 9968cd1422d7",
                "+ x/two.link: 777 0:0 link to /x/one",
                "- home/someone/inherited: 644 4321:4321 file of 2 bytes 4355a46b19d3",
                "- x/two.link: 644 0:0 file of 3 bytes 3fc4ccfe7458",
            ],
            because: "in BuildKit a stage has its parent's arguments, and a link that is named as \
                      destination is written through",
        },
    ]);
}
