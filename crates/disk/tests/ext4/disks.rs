//! Empty disks, which Linux then writes to.

use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use firebuild_core::ByteSize;
use firebuild_disk::Error;
use firebuild_disk::ext4::{self, Options};
use fs_err as fs;

use crate::judge::Image;
use crate::sample::noise;

fn empty(size: ByteSize, options: &Options) -> Image {
    let image = Image::with(|file| ext4::write_empty(file, size, options).unwrap());
    image.check();
    image
}

#[test]
fn an_empty_disk_takes_linux_s_writes() {
    let start = Instant::now();
    let image = Image::with(|file| {
        ext4::write_empty(file, ByteSize::mib(10 << 10), &Options::default()).unwrap()
    });
    assert!(start.elapsed().as_millis() < 500);
    image.check();
    {
        let mount = image.mount("rw");
        for index in 0..300 {
            fs::create_dir(mount.path().join(format!("{index}"))).unwrap();
            fs::write(mount.path().join(format!("{index}/file")), noise(100_000)).unwrap();
        }
    }
    image.check();
}
