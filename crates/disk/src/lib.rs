//! File systems and disks made in user space: ext4.
