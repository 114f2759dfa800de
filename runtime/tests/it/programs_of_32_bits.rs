//! Programs of 32 bits, and programs of 64 bits that enter the kernel by the door of those: both
//! run, and neither may do more than the native calls.
//!
//! No compiler is needed: the programs are made here, instruction by instruction.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use wythe_runtime::Seccomp;

use crate::fixture::{Fixture, run};
use crate::runner::tests;

tests![the_32_bit_door_is_as_narrow_as_the_native_one];

/// Where the program lies in memory: below 4 GiB, so that addresses fit 32 bits in any mode.
const ADDRESS: u32 = 0x0804_8000;

/// Numbers of 32-bit x86.
const CLONE: u32 = 120;
const SOCKETCALL: u32 = 102;
const SOCKET: u32 = 359;

/// `keyctl`: the ID of the session keyring.
const KEYCTL: [u32; 4] = [288, 0, 0xffff_fffd, 0];
/// `unshare`: a user namespace.
const UNSHARE: [u32; 4] = [310, 0x1000_0000, 0, 0];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    /// A program of 32 bits.
    Bits32,
    /// A program of 64 bits that uses `int 0x80`.
    Bits64,
}

/// The headers of an ELF file with one segment, everything in the file.
fn headers(mode: Mode, length: u32) -> Vec<u8> {
    let mut elf = b"\x7fELF".to_vec();
    // Class, little-endian, version; then padding. ET_EXEC, EM_386 or EM_X86_64, version.
    let (class, machine, header, segment) = match mode {
        Mode::Bits32 => (1, 3_u16, 52_u16, 32_u16),
        Mode::Bits64 => (2, 62, 64, 56),
    };
    elf.extend([class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend(2_u16.to_le_bytes());
    elf.extend(machine.to_le_bytes());
    elf.extend(1_u32.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| match mode {
        Mode::Bits32 => elf.extend(value.to_le_bytes()),
        Mode::Bits64 => elf.extend(u64::from(value).to_le_bytes()),
    };
    let all = u32::from(header + segment);
    // Entry, program headers, section headers, flags.
    word(&mut elf, ADDRESS + all);
    word(&mut elf, header.into());
    word(&mut elf, 0);
    elf.extend(0_u32.to_le_bytes());
    for value in [header, segment, 1, 0, 0, 0] {
        elf.extend(value.to_le_bytes());
    }
    // PT_LOAD, readable, writable and executable. The flags stand elsewhere in each class.
    elf.extend(1_u32.to_le_bytes());
    if mode == Mode::Bits64 {
        elf.extend(7_u32.to_le_bytes());
    }
    for value in [0, ADDRESS, ADDRESS, all + length, all + length] {
        word(&mut elf, value);
    }
    if mode == Mode::Bits32 {
        elf.extend(7_u32.to_le_bytes());
    }
    word(&mut elf, 0x1000);
    assert_eq!(elf.len(), all as usize);
    elf
}

/// `mov register, value`, which 64-bit code writes with the same bytes. The registers are eax,
/// ecx, edx and ebx; esi and edi follow.
fn load(code: &mut Vec<u8>, register: u8, value: u32) {
    code.push(0xb8 + register);
    code.extend(value.to_le_bytes());
}

/// A program that makes these calls through `int 0x80`, number and three arguments each, and
/// writes the four bytes of each result to its standard output.
fn program(mode: Mode, calls: &[[u32; 4]]) -> Vec<u8> {
    let mut code = Vec::new();
    for [number, one, two, three] in calls {
        for (register, value) in [(0, number), (3, one), (1, two), (2, three)] {
            load(&mut code, register, *value);
        }
        // int 0x80; push eax
        code.extend([0xcd, 0x80, 0x50]);
        load(&mut code, 2, 4);
        match mode {
            Mode::Bits32 => {
                load(&mut code, 0, 4);
                load(&mut code, 3, 1);
                // mov ecx, esp; int 0x80
                code.extend([0x89, 0xe1, 0xcd, 0x80]);
            }
            Mode::Bits64 => {
                load(&mut code, 0, 1);
                load(&mut code, 7, 1);
                // mov rsi, rsp; syscall
                code.extend([0x48, 0x89, 0xe6, 0x0f, 0x05]);
            }
        }
        // pop eax
        code.push(0x58);
    }
    // exit(0)
    load(&mut code, 0, 1);
    load(&mut code, 3, 0);
    code.extend([0xcd, 0x80]);
    // What `socketcall` reads: family, kind, protocol. Found by its place before the end.
    for value in [38_u32, 5, 0] {
        code.extend(value.to_le_bytes());
    }
    let mut program = headers(mode, u32::try_from(code.len()).unwrap());
    program.extend(code);
    program
}

fn install(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn the_32_bit_door_is_as_narrow_as_the_native_one() {
    for mode in [Mode::Bits32, Mode::Bits64] {
        // The address of the words for socketcall depends on the length, which does not.
        let calls = |words: u32| {
            [
                [20, 0, 0, 0],             // getpid
                [SOCKET, 1, 1, 0],         // AF_UNIX
                [SOCKETCALL, 1, words, 0], // AF_ALG, out of the filter's sight
                [SOCKET, 38, 5, 0],        // AF_ALG
                [SOCKET, 40, 1, 0],        // AF_VSOCK
                KEYCTL,
                [CLONE, 0x1000_0011, 0, 0], // a user namespace
                [435, 0, 0, 0],             // clone3
                [21, 0, 0, 0],              // mount
                [466 + 100, 0, 0, 0],       // no call yet
                UNSHARE,
            ]
        };
        let length = program(mode, &calls(0)).len();
        let words = ADDRESS + u32::try_from(length).unwrap() - 12;
        let bytes = program(mode, &calls(words));
        let fixture = Fixture::new();
        let outside = fixture.host().join("program");
        install(&outside, &program(mode, &[[20, 0, 0, 0]]));
        let runs = Command::new(&outside)
            .output()
            .is_ok_and(|output| output.status.success());
        if !runs {
            eprintln!("SKIPPED {mode:?}: needs a kernel that runs 32-bit programs");
            continue;
        }
        let run = |program: &[u8], seccomp: Seccomp| {
            install(&fixture.root().join("tmp/program"), program);
            let mut bundle =
                fixture.bundle(&["/bin/sh", "-c", "/tmp/program | od -An -v -td4 -w4"]);
            bundle.process.seccomp = seccomp;
            let output = run(bundle).unwrap();
            let words = output.stdout.split_whitespace();
            words
                .map(|word| word.parse().unwrap())
                .collect::<Vec<i32>>()
        };
        let (eperm, enosys) = (-libc::EPERM, -libc::ENOSYS);
        let found = run(&bytes, Seccomp::Default);
        assert!(found[0] > 0 && found[1] >= 0, "{mode:?}: {found:?}");
        // As Docker's profile has it: nobody can look into the memory.
        assert_ne!(found[2], eperm, "{mode:?}: {found:?}");
        let refused = [eperm, eperm, eperm, eperm, enosys, eperm, enosys, eperm];
        assert_eq!(found[3..], refused, "{mode:?}");
        // Nothing but the filter refuses it.
        let control = program(mode, &[UNSHARE]);
        assert_eq!(run(&control, Seccomp::Unconfined), [0], "{mode:?}");
    }
}
