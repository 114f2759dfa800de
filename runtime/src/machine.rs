//! For which machine a program was made: the few bytes of an ELF header that say so.
//!
//! Asked only when the kernel would not run a program, to say why.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// As much of the header as is looked at.
const HEADER_BYTES: usize = 20;

/// An architecture, as ELF headers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `e_machine`.
    number: u16,
    is_64_bit: bool,
    is_big_endian: bool,
}

impl Machine {
    /// That of a file that is a program of another architecture than ours.
    pub(crate) fn foreign(path: &Path) -> Option<Self> {
        let mut options = File::options();
        options.read(true);
        // Whatever else lies there, it is not waited for.
        options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY);
        let mut file = options.open(path).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).ok()?;
        Self::parse(&header).filter(|machine| machine.number != OWN)
    }

    fn parse(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let [0x7f, b'E', b'L', b'F', class, order, .., low, high] = *header else {
            return None;
        };
        let is_big_endian = order == 2;
        let number = match is_big_endian {
            true => u16::from_be_bytes([low, high]),
            false => u16::from_le_bytes([low, high]),
        };
        Some(Self {
            number,
            is_64_bit: class == 2,
            is_big_endian,
        })
    }

    /// What images of this architecture are called, and Debian's packages of QEMU.
    fn names(self) -> Option<(&'static str, &'static str)> {
        Some(match (self.number, self.is_64_bit, self.is_big_endian) {
            (3, ..) => ("386", "i386"),
            (8, true, false) => ("mips64le", "mips64el"),
            (8, true, true) => ("mips64", "mips64"),
            (8, false, false) => ("mipsle", "mipsel"),
            (8, false, true) => ("mips", "mips"),
            (20, ..) => ("ppc", "ppc"),
            (21, _, false) => ("ppc64le", "ppc64le"),
            (21, _, true) => ("ppc64", "ppc64"),
            (22, ..) => ("s390x", "s390x"),
            (40, ..) => ("arm", "arm"),
            (62, ..) => ("amd64", "x86_64"),
            (183, ..) => ("arm64", "aarch64"),
            (243, true, _) => ("riscv64", "riscv64"),
            (258, ..) => ("loong64", "loongarch64"),
            _ => return None,
        })
    }

    /// The name of the emulator that runs such programs.
    pub(crate) fn emulator(self) -> Option<String> {
        self.names().map(|(_, name)| format!("qemu-{name}"))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names() {
            Some((name, _)) => write!(f, "linux/{name}"),
            None => write!(f, "machine {} of ELF", self.number),
        }
    }
}

#[cfg(target_arch = "x86_64")]
const OWN: u16 = 62;
#[cfg(target_arch = "aarch64")]
const OWN: u16 = 183;
#[cfg(target_arch = "riscv64")]
const OWN: u16 = 243;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, order: u8, machine: [u8; 2]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order]);
        header[18..].copy_from_slice(&machine);
        header
    }

    #[test]
    fn programs_say_for_which_machine_they_are() {
        for (header, name, emulator) in [
            (header(2, 1, [183, 0]), "linux/arm64", Some("qemu-aarch64")),
            (header(1, 1, [40, 0]), "linux/arm", Some("qemu-arm")),
            (header(1, 1, [3, 0]), "linux/386", Some("qemu-i386")),
            (header(2, 2, [0, 22]), "linux/s390x", Some("qemu-s390x")),
            (header(2, 2, [0, 21]), "linux/ppc64", Some("qemu-ppc64")),
            (header(2, 1, [21, 0]), "linux/ppc64le", Some("qemu-ppc64le")),
            (
                header(2, 1, [8, 0]),
                "linux/mips64le",
                Some("qemu-mips64el"),
            ),
            (
                header(2, 1, [2, 1]),
                "linux/loong64",
                Some("qemu-loongarch64"),
            ),
            (header(2, 1, [255, 255]), "machine 65535 of ELF", None),
        ] {
            let machine = Machine::parse(&header).unwrap();
            assert_eq!(machine.to_string(), name);
            assert_eq!(machine.emulator().as_deref(), emulator);
        }
        assert_eq!(Machine::parse(b"#!/bin/sh\n\0\0\0\0\0\0\0\0\0\0"), None);
    }

    #[test]
    fn only_files_of_another_machine_are_foreign() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let foreign = || Machine::foreign(&path);
        assert_eq!(foreign(), None);
        std::fs::write(&path, header(2, 1, OWN.to_le_bytes())).unwrap();
        assert_eq!(foreign(), None);
        std::fs::write(&path, header(2, 1, [1, 2])).unwrap();
        assert!(foreign().is_some());
        std::fs::write(&path, b"\x7fELF").unwrap();
        assert_eq!(foreign(), None);
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(foreign(), None);
        assert_eq!(Machine::foreign(folder.path()), None);
    }
}
