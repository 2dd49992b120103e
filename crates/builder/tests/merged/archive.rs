//! Layers as archives, written by rules of their own: not by what is to be tested.

use firebuild_core::tree::{Device, Metadata};

use crate::model::{Entry, File, Form, Item, Layer};

const BLOCK: usize = 512;

/// The bytes of a layer, not compressed. Without `holes`, files of the oldest sparse form are whole.
pub(crate) fn archive(layer: &Layer, holes: bool) -> Vec<u8> {
    let mut output = Vec::new();
    for (number, entry) in layer.entries.iter().enumerate() {
        match layer.form {
            Form::Pax => pax(&mut output, entry, number),
            Form::Gnu => gnu(&mut output, entry, holes),
        }
    }
    output.resize(output.len() + 2 * BLOCK, 0);
    output
}

fn name(entry: &Entry) -> Vec<u8> {
    let path = &entry.path;
    let split = path.iter().rposition(|byte| *byte == b'/');
    let (parent, last) = path.split_at(split.map_or(0, |at| at + 1));
    match entry.item {
        Item::Whiteout => [parent, b".wh.", last].concat(),
        Item::Opaque if path.is_empty() => b".wh..wh..opq".to_vec(),
        Item::Opaque => [path, &b"/.wh..wh..opq"[..]].concat(),
        Item::Directory => [b"./", path.as_slice(), b"/"].concat(),
        _ => path.clone(),
    }
}

fn kind(item: &Item) -> (u8, &[u8], Device) {
    match item {
        Item::File(_) | Item::Whiteout | Item::Opaque => (b'0', b"", Device::default()),
        Item::HardLink(to) => (b'1', to, Device::default()),
        Item::Symlink(to) => (b'2', to, Device::default()),
        Item::Character(device) => (b'3', b"", *device),
        Item::Block(device) => (b'4', b"", *device),
        Item::Directory => (b'5', b"", Device::default()),
        Item::Fifo => (b'6', b"", Device::default()),
    }
}

fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let digits = (1..10)
        .find(|digits| (rest + digits).to_string().len() == *digits)
        .unwrap();
    records.extend(format!("{} ", rest + digits).bytes());
    records.extend(key);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

/// Seconds with nine digits, below zero where they have to be.
fn seconds(metadata: &Metadata) -> String {
    let time = metadata.mtime;
    let all = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let sign = if all < 0 { "-" } else { "" };
    let all = all.unsigned_abs();
    let (whole, part) = (all / 1_000_000_000, all % 1_000_000_000);
    format!("{sign}{whole}.{part:09}")
}

fn pax(output: &mut Vec<u8>, entry: &Entry, number: usize) {
    let metadata = &entry.metadata;
    let (kind, link, device) = kind(&entry.item);
    let mut records = Vec::new();
    record(&mut records, b"uid", metadata.uid.to_string().as_bytes());
    record(&mut records, b"gid", metadata.gid.to_string().as_bytes());
    record(&mut records, b"mtime", seconds(metadata).as_bytes());
    if !link.is_empty() {
        record(&mut records, b"linkpath", link);
    }
    for (name, value) in &metadata.xattrs {
        // As GNU tar writes it.
        let name = name.iter().flat_map(|byte| match byte {
            b'=' => b"%3D".to_vec(),
            other => vec![*other],
        });
        let key = b"SCHILY.xattr.".iter().copied().chain(name);
        record(&mut records, &key.collect::<Vec<u8>>(), value);
    }
    let mut content = Vec::new();
    match &entry.item {
        Item::File(file) if file.is_sparse() => {
            content = pax_sparse(&mut records, file, &name(entry), number.is_multiple_of(2));
        }
        Item::File(file) => content = file.bytes(),
        _ => {}
    }
    if !matches!(&entry.item, Item::File(file) if file.is_sparse()) {
        record(&mut records, b"path", &name(entry));
    }
    let mut extended = header(b"PaxHeaders/x", b'x', records.len() as u64);
    seal(output, &mut extended, b"ustar\x0000");
    padded(output, &records);
    let mut block = header(b"in-the-extended-header", kind, content.len() as u64);
    octal(&mut block[100..108], metadata.mode.into());
    octal(&mut block[329..337], device.major.into());
    octal(&mut block[337..345], device.minor.into());
    seal(output, &mut block, b"ustar\x0000");
    padded(output, &content);
}

/// Forms 0.1, with the map in the header, and 1.0, with the map before the bytes. Gives the bytes.
fn pax_sparse(records: &mut Vec<u8>, file: &File, name: &[u8], newest: bool) -> Vec<u8> {
    let length = file.length.to_string();
    let mut content = Vec::new();
    let runs = file.runs.iter();
    if newest {
        record(records, b"GNU.sparse.major", b"1");
        record(records, b"GNU.sparse.minor", b"0");
        record(records, b"GNU.sparse.name", name);
        record(records, b"GNU.sparse.realsize", length.as_bytes());
        content = format!("{}\n", file.runs.len()).into_bytes();
        for (start, run) in runs {
            content.extend(format!("{start}\n{}\n", run.len()).bytes());
        }
        content.resize(content.len().next_multiple_of(BLOCK), 0);
    } else {
        let map: Vec<String> = runs
            .map(|(start, run)| format!("{start},{}", run.len()))
            .collect();
        record(records, b"path", b"GNUSparseFile.0/name");
        record(records, b"GNU.sparse.size", length.as_bytes());
        record(
            records,
            b"GNU.sparse.numblocks",
            map.len().to_string().as_bytes(),
        );
        record(records, b"GNU.sparse.name", name);
        record(records, b"GNU.sparse.map", map.join(",").as_bytes());
    }
    content.extend(file.runs.iter().flat_map(|(_, run)| run));
    content
}

fn gnu(output: &mut Vec<u8>, entry: &Entry, holes: bool) {
    let metadata = &entry.metadata;
    let (kind, link, device) = kind(&entry.item);
    let name = name(entry);
    for (long, kind) in [(name.as_slice(), b'L'), (link, b'K')] {
        if long.len() > 99 {
            let mut block = header(b"././@LongLink", kind, long.len() as u64 + 1);
            seal(output, &mut block, b"ustar  \0");
            padded(output, &[long, b"\0"].concat());
        }
    }
    let mut content = Vec::new();
    let mut map = Vec::new();
    let mut block = header(&name[..name.len().min(99)], kind, 0);
    if let Item::File(file) = &entry.item {
        content = file.bytes();
        if holes && file.is_sparse() {
            block[156] = b'S';
            content = file.runs.iter().flat_map(|(_, run)| run.clone()).collect();
            map = gnu_map(&mut block, file);
        }
    }
    block[157..157 + link.len().min(99)].copy_from_slice(&link[..link.len().min(99)]);
    octal(&mut block[100..108], metadata.mode.into());
    number(&mut block[108..116], metadata.uid.into());
    number(&mut block[116..124], metadata.gid.into());
    number(&mut block[124..136], content.len() as u64);
    number(&mut block[136..148], metadata.mtime.seconds.unsigned_abs());
    octal(&mut block[329..337], device.major.into());
    octal(&mut block[337..345], device.minor.into());
    seal(output, &mut block, b"ustar  \0");
    output.extend(map);
    padded(output, &content);
}

/// Four runs in the header, 21 in each block that is given back.
fn gnu_map(block: &mut [u8], file: &File) -> Vec<u8> {
    octal(&mut block[483..495], file.length);
    let write = |place: &mut [u8], (start, run): &(u64, Vec<u8>)| {
        octal(&mut place[..12], *start);
        octal(&mut place[12..24], run.len() as u64);
    };
    for (at, run) in file.runs.iter().take(4).enumerate() {
        write(&mut block[386 + 24 * at..], run);
    }
    let mut blocks = Vec::new();
    if file.runs.len() > 4 {
        block[482] = 1;
        let mut more = [0; BLOCK];
        for (at, run) in file.runs[4..].iter().enumerate() {
            write(&mut more[24 * at..], run);
        }
        blocks.extend(more);
    }
    blocks
}

fn header(name: &[u8], kind: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    for field in [100..108, 108..116, 116..124, 136..148] {
        octal(&mut block[field], 0);
    }
    octal(&mut block[124..136], size);
    block[156] = kind;
    block
}

fn octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let digits = format!("{number:0width$o}");
    field[..width].copy_from_slice(digits.as_bytes());
}

/// Octal, or in GNU's way big-endian with the highest bit set.
fn number(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    if format!("{number:o}").len() <= width {
        octal(field, number);
        return;
    }
    field.fill(0);
    let start = field.len() - 8;
    field[start..].copy_from_slice(&number.to_be_bytes());
    field[0] |= 0x80;
}

fn seal(output: &mut Vec<u8>, block: &mut [u8; BLOCK], magic: &[u8]) {
    block[257..257 + magic.len()].copy_from_slice(magic);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    output.extend(*block);
}

fn padded(output: &mut Vec<u8>, bytes: &[u8]) {
    output.extend(bytes);
    output.resize(output.len().next_multiple_of(BLOCK), 0);
}
