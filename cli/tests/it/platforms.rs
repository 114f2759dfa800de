//! Steps of other platforms than the machine's own.

use std::path::PathBuf;

use crate::support::{Sandbox, containers};

/// A context of this Dockerfile.
fn context(sandbox: &Sandbox, dockerfile: &str) -> PathBuf {
    sandbox.file("context/Dockerfile", dockerfile);
    sandbox.path("context")
}

/// The headers of a program of this class (1: 32 bits, 2: 64 bits) and machine, and its code. All
/// of the file is one segment.
fn elf(class: u8, machine: u16, code: &[u8]) -> Vec<u8> {
    let (header, segment) = if class == 1 {
        (52_u16, 32_u16)
    } else {
        (64, 56)
    };
    let start = u32::from(header + segment);
    let length = start + u32::try_from(code.len()).unwrap();
    let address = 0x40_0000;
    let mut elf = b"\x7fELF".to_vec();
    elf.extend([class, 1, 1]);
    elf.resize(16, 0);
    elf.extend([2_u16, machine].map(u16::to_le_bytes).concat());
    elf.extend(1_u32.to_le_bytes());
    let words = |elf: &mut Vec<u8>, values: &[u32]| {
        for value in values {
            elf.extend(value.to_le_bytes());
            elf.resize(elf.len() + usize::from(class - 1) * 4, 0);
        }
    };
    // Entry, program headers, section headers; flags, sizes.
    words(&mut elf, &[address + start, header.into(), 0]);
    elf.extend(0_u32.to_le_bytes());
    elf.extend([header, segment, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    // PT_LOAD, all rights: the flags stand second with 64 bits, else last but one.
    elf.extend(1_u32.to_le_bytes());
    if class == 2 {
        elf.extend(7_u32.to_le_bytes());
    }
    words(&mut elf, &[0, address, address, length, length]);
    if class == 1 {
        elf.extend(7_u32.to_le_bytes());
    }
    words(&mut elf, &[0x1000]);
    elf.extend(code);
    elf
}

#[test]
#[cfg(target_arch = "x86_64")]
fn steps_for_32_bit_x86_run_on_x86_64() {
    if !containers() {
        return;
    }
    // write(1, "32 bits\n", 8); exit(0)
    let code = b"\xb8\x04\0\0\0\xbb\x01\0\0\0\xb9\x73\0\x40\0\xba\x08\0\0\0\xcd\x80\
        \xb8\x01\0\0\0\x31\xdb\xcd\x8032 bits\n";
    let program = elf(1, 3, code);
    let sandbox = Sandbox::new();
    let context = context(
        &sandbox,
        "FROM scratch\nARG TARGETPLATFORM TARGETARCH TARGETVARIANT\nCOPY --chmod=755 program /\nRUN [\"/program\"]\nLABEL is=$TARGETPLATFORM,$TARGETARCH,$TARGETVARIANT\n",
    );
    std::fs::write(context.join("program"), &program).unwrap();
    for (platform, label) in [
        ("linux/386", "linux/386,386,"),
        ("linux/amd64/v2", "linux/amd64/v2,amd64,v2"),
        ("linux/amd64/v1", "linux/amd64,amd64,"),
    ] {
        let context = context.to_str().unwrap();
        let build = ["build", "--platform", platform, "-t", "app", context];
        let output = sandbox.wythe(build).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stderr);
        if shown.contains("is a program for") {
            eprintln!("SKIPPED {platform}: needs a kernel that runs 32-bit programs");
            return;
        }
        assert!(output.status.success(), "{platform}: {shown}");
        let config = sandbox.ok(["inspect", "app"]);
        assert!(config.contains(&format!("\"{label}\"")), "{config}");
    }
}

#[test]
fn a_step_for_another_machine_says_which_and_what_is_missing() {
    if !containers() {
        return;
    }
    // A machine that no kernel has an emulator for (LoongArch, the other order of bytes).
    let mut program = elf(2, 258, b"");
    program[5] = 2;
    program[18..20].reverse();
    let sandbox = Sandbox::new();
    let context = context(
        &sandbox,
        "FROM scratch AS other\nCOPY --chmod=755 program /\nRUN [\"/program\"]\n",
    );
    std::fs::write(context.join("program"), &program).unwrap();
    let message = sandbox.fails(["build", context.to_str().unwrap()]).1;
    for part in [
        "Dockerfile:3:1",
        "it is a program for linux/loong64",
        "install qemu-user-static",
        "qemu-loongarch64",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}
