//! The smallest program that prints a line: what a hand-started QEMU boots as its `init`, and what
//! the images of the measurement run. No compiler for another target is needed for it.

use std::path::Path;

/// What it prints, without the line's end.
pub(super) const LINE: &str = "started";

/// What it does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Exits with status 0.
    Exit,
    /// Restarts the machine, as the first process of a VM.
    Restart,
}

const BASE: u64 = 0x40_0000;
const HEADERS: usize = 0x40 + 0x38;
const WRITE: u32 = 1;
const EXIT: u32 = 60;
const REBOOT: u32 = 169;

/// A static ELF program for x86-64 (System V ABI, AMD64 supplement): one segment, no sections.
pub(super) fn elf(then: Then) -> Vec<u8> {
    let text = format!("{LINE}\n");
    let mut code = Vec::new();
    let (eax, edi, esi, edx) = (0xb8, 0xbf, 0xbe, 0xba);
    let mut set = |register: u8, value: u32| {
        code.push(register);
        code.extend(value.to_le_bytes());
    };
    set(eax, WRITE);
    set(edi, 1);
    // Patched below: where the text is depends on the code's length.
    let text_at = 2 * 5 + 1;
    set(esi, 0);
    set(edx, u32::try_from(text.len()).unwrap_or_default());
    code.extend(SYSCALL);
    let ending: &[(u8, u32)] = match then {
        Then::Exit => &[(eax, EXIT), (edi, 0)],
        // reboot(2): the two magic numbers and RB_AUTOBOOT.
        Then::Restart => &[
            (eax, REBOOT),
            (edi, 0xfee1_dead),
            (esi, 0x2812_1969),
            (edx, 0x0123_4567),
        ],
    };
    for (register, value) in ending {
        code.push(*register);
        code.extend(value.to_le_bytes());
    }
    code.extend(SYSCALL);
    let address = BASE + (HEADERS + code.len()) as u64;
    let address = u32::try_from(address).unwrap_or_default().to_le_bytes();
    code[text_at..text_at + 4].copy_from_slice(&address);
    code.extend(text.as_bytes());
    let mut program = headers(code.len() as u64);
    program.extend(code);
    program
}

const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// A program that writes its parent's number, of four bytes, to the pipe of that name, and then waits
/// until it is killed.
pub(super) fn notifier(pipe: &Path) -> Vec<u8> {
    const CODE: [&[u8]; 7] = [
        // open(pipe, O_WRONLY); the address is patched below.
        &[0xb8, 2, 0, 0, 0, 0xbf, 0, 0, 0, 0, 0xbe, 1, 0, 0, 0],
        &[0x0f, 0x05, 0x89, 0xc7],
        // getppid(), onto the stack.
        &[0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0x50],
        // write(its descriptor, the stack, 4).
        &[0x48, 0x89, 0xe6, 0xba, 4, 0, 0, 0, 0xb8, 1, 0, 0, 0],
        &[0x0f, 0x05],
        // pause(), again and again.
        &[0xb8, 34, 0, 0, 0, 0x0f, 0x05],
        &[0xeb, 0xf7],
    ];
    const PIPE_AT: usize = 6;
    let mut code = CODE.concat();
    let address = BASE + (HEADERS + code.len()) as u64;
    let address = u32::try_from(address).unwrap_or_default().to_le_bytes();
    code[PIPE_AT..PIPE_AT + 4].copy_from_slice(&address);
    code.extend(pipe.as_os_str().as_encoded_bytes());
    code.push(0);
    let mut program = headers(code.len() as u64);
    program.extend(code);
    program
}

fn headers(length: u64) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for x86-64, version 1.
    for half in [2_u16, 0x3e, 1, 0] {
        bytes.extend(half.to_le_bytes());
    }
    // The entry, the program headers, no section headers.
    for word in [BASE + HEADERS as u64, 0x40, 0] {
        bytes.extend(word.to_le_bytes());
    }
    // Flags; the sizes of this header and of a program header; one of these; no sections.
    for half in [0_u16, 0, 0x40, 0x38, 1, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    // To load, to read and to execute.
    for half in [1_u32, 5] {
        bytes.extend(half.to_le_bytes());
    }
    let size = HEADERS as u64 + length;
    for word in [0, BASE, BASE, size, size, 0x1000] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// A `newc` cpio archive with nothing but a console and `program` as `/init`.
pub(super) fn initramfs(program: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    entry(&mut archive, "dev", 0o040_755, (0, 0), b"");
    entry(&mut archive, "dev/console", 0o020_600, (5, 1), b"");
    entry(&mut archive, "init", 0o100_755, (0, 0), program);
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), b"");
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: usize, device: (usize, usize), content: &[u8]) {
    let (size, named) = (content.len(), name.len() + 1);
    archive.extend(b"070701");
    for field in [
        0, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, named, 0,
    ] {
        archive.extend(format!("{field:08x}").as_bytes());
    }
    for bytes in [format!("{name}\0").as_bytes(), content] {
        archive.extend(bytes);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn it_prints_its_line_and_exits() {
        let directory = std::env::temp_dir().join(format!("xtask-{}", std::process::id()));
        fs_err::create_dir_all(&directory).unwrap();
        let path = directory.join("program");
        // Another process writes it: what this one has open for writing, a child that another
        // thread has just forked may still have, and then nobody can execute it.
        let mut cat = Command::new("sh");
        cat.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped());
        let mut cat = cat.spawn().unwrap();
        let program = elf(Then::Exit);
        cat.stdin.take().unwrap().write_all(&program).unwrap();
        assert!(cat.wait().unwrap().success());
        let output = Command::new(&path).output().unwrap();
        fs_err::remove_dir_all(&directory).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{LINE}\n"));
        assert!(output.status.success());
    }

    #[test]
    fn cpio_reads_the_archive() {
        let mut cpio = Command::new("cpio");
        cpio.args(["--quiet", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = cpio.spawn().unwrap();
        let archive = initramfs(&elf(Then::Restart));
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "dev\ndev/console\ninit\n"
        );
    }
}
