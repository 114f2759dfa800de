//! The system call filter: Docker's default profile, compiled to BPF.
//!
//! Where it differs from Docker's: a filter knows one architecture. Programs of another that the
//! kernel could also run (32-bit x86 on x86-64, 32-bit ARM on arm64) are killed with SIGSYS at
//! their first call, and the x32 calls are answered with ENOSYS; Docker allows the first two.

mod table;

use std::collections::BTreeMap;

use caps::Capability;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as ArgLen, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};

use crate::capabilities::CapabilityMask;
use crate::error::{Failure, Refusal, Stage};

/// Flags of `clone` that make namespaces: cgroup, mount, UTS, IPC, user, PID, network.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Execution domains that programs may switch to: Linux, Linux with UNAME26 (the bit 0x20000), each
/// with or without PER_LINUX32 (8), and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// x32 calls carry this bit.
const X32_BIT: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`.
const DATA_NUMBER: u32 = 0;
const DATA_ARCHITECTURE: u32 = 4;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filter for a process with these capabilities.
pub(crate) fn compile(capabilities: CapabilityMask) -> Result<BpfProgram, Failure> {
    build(capabilities)
        .map_err(|_| Failure::refused(Stage::Seccomp, "default profile", Refusal::Malformed))
}

/// Installs a filter on this thread, and what it starts.
pub(crate) fn install(filter: &BpfProgram) -> Result<(), Failure> {
    crate::sys::install_filter(filter).map_err(|error| Failure::system(Stage::Seccomp, "", &error))
}

fn build(capabilities: CapabilityMask) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = Rules::new();
    for &number in table::COMMON
        .iter()
        .chain(table::RECENT)
        .chain(table::NATIVE)
    {
        rules.insert(number, Vec::new());
    }
    add_conditional(&mut rules)?;
    for (capability, numbers) in table::BY_CAPABILITY {
        if capabilities.contains(*capability) {
            // An empty list of conditions replaces any conditions above.
            rules.extend(numbers.iter().map(|&number| (number, Vec::new())));
        }
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    let mut program = prologue(capabilities.contains(Capability::CAP_SYS_ADMIN));
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

fn add_conditional(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    let condition = |argument, op, value| {
        SeccompRule::new(vec![SeccompCondition::new(
            argument,
            ArgLen::Dword,
            op,
            value,
        )?])
    };
    let personalities = PERSONALITIES
        .into_iter()
        .map(|value| condition(0, Op::Eq, value))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_personality, personalities);
    // All families but AF_ALG (38) and AF_VSOCK (40).
    let families = vec![
        condition(0, Op::Lt, 38)?,
        condition(0, Op::Eq, 39)?,
        condition(0, Op::Gt, 40)?,
    ];
    rules.insert(libc::SYS_socket, families);
    let no_namespaces = condition(0, Op::MaskedEq(CLONE_NAMESPACES), 0)?;
    rules.insert(libc::SYS_clone, vec![no_namespaces]);
    Ok(())
}

/// What the profile answers with ENOSYS, which the compiler, knowing one error only, cannot say:
/// calls newer than the profile, x32 calls, and clone3, whose flags a filter cannot see.
fn prologue(allows_clone3: bool) -> BpfProgram {
    let load = |offset| sock_filter {
        code: 0x20,
        jt: 0,
        jf: 0,
        k: offset,
    };
    let jump_if_equal = |value, jt, jf| sock_filter {
        code: 0x15,
        jt,
        jf,
        k: value,
    };
    let jump_if_greater = |value, jt, jf| sock_filter {
        code: 0x25,
        jt,
        jf,
        k: value,
    };
    // SECCOMP_RET_ERRNO with the number in the low half.
    let refuse = sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0x0005_0000 | libc::ENOSYS as u32,
    };
    // x32 numbers are greater than the last known one as well.
    const { assert!(X32_BIT > table::LAST_KNOWN) };
    let clone3 = if allows_clone3 {
        u32::MAX
    } else {
        libc::SYS_clone3 as u32
    };
    vec![
        load(DATA_ARCHITECTURE),
        // Of another architecture: the compiled part kills it.
        jump_if_equal(ARCHITECTURE, 0, 4),
        load(DATA_NUMBER),
        jump_if_greater(table::LAST_KNOWN, 1, 0),
        jump_if_equal(clone3, 0, 1),
        refuse,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers: runs the BPF program over one call.
    fn answer(program: &BpfProgram, architecture: u32, number: i64, args: &[u64]) -> u32 {
        let mut data = [0_u32; 16];
        data[0] = number as u32;
        data[1] = architecture;
        for (index, value) in args.iter().enumerate() {
            data[4 + 2 * index] = *value as u32;
            data[5 + 2 * index] = (*value >> 32) as u32;
        }
        let (mut at, mut accumulator) = (0_usize, 0_u32);
        loop {
            let instruction = &program[at];
            at += 1;
            let branch = |taken: bool| {
                usize::from(if taken {
                    instruction.jt
                } else {
                    instruction.jf
                })
            };
            match instruction.code {
                0x20 => accumulator = data[instruction.k as usize / 4],
                0x54 => accumulator &= instruction.k,
                0x05 => at += instruction.k as usize,
                0x15 => at += branch(accumulator == instruction.k),
                0x25 => at += branch(accumulator > instruction.k),
                0x35 => at += branch(accumulator >= instruction.k),
                0x06 => return instruction.k,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;

    #[test]
    fn the_default_profile_answers_as_docker_does() {
        let program = compile(CapabilityMask::default()).unwrap();
        let rows: &[(&str, i64, &[u64], u32)] = &[
            ("read", libc::SYS_read, &[], ALLOW),
            ("execve", libc::SYS_execve, &[], ALLOW),
            ("chroot, by CAP_SYS_CHROOT", libc::SYS_chroot, &[], ALLOW),
            ("mount", libc::SYS_mount, &[], EPERM),
            ("keyctl", libc::SYS_keyctl, &[], EPERM),
            ("bpf", libc::SYS_bpf, &[], EPERM),
            ("unshare", libc::SYS_unshare, &[], EPERM),
            ("setns", libc::SYS_setns, &[], EPERM),
            ("userfaultfd", libc::SYS_userfaultfd, &[], EPERM),
            ("io_uring_setup", libc::SYS_io_uring_setup, &[], EPERM),
            ("clone, threads", libc::SYS_clone, &[0x003d_0f00], ALLOW),
            (
                "clone, user namespace",
                libc::SYS_clone,
                &[0x1000_0000],
                EPERM,
            ),
            ("clone3", libc::SYS_clone3, &[], ENOSYS),
            ("the last known", 466, &[], ALLOW),
            ("newer", 467, &[], ENOSYS),
            ("x32 read", 0x4000_0000, &[], ENOSYS),
            ("personality, Linux", libc::SYS_personality, &[0], ALLOW),
            (
                "personality, ADDR_NO_RANDOMIZE",
                libc::SYS_personality,
                &[0x0004_0000],
                EPERM,
            ),
            (
                "personality, query",
                libc::SYS_personality,
                &[0xffff_ffff],
                ALLOW,
            ),
            ("socket, AF_INET", libc::SYS_socket, &[2], ALLOW),
            ("socket, AF_ALG", libc::SYS_socket, &[38], EPERM),
            ("socket, AF_VSOCK", libc::SYS_socket, &[40], EPERM),
            ("socket, AF_XDP", libc::SYS_socket, &[44], ALLOW),
        ];
        for (name, number, args, expected) in rows {
            let actual = answer(&program, ARCHITECTURE, *number, args);
            assert_eq!(actual, *expected, "{name}: {actual:#x}");
        }
        // SECCOMP_RET_KILL_PROCESS, whatever the number.
        assert_eq!(answer(&program, 0x4000_0003, 3, &[]), 0x8000_0000);
        assert_eq!(answer(&program, 0x4000_0003, 500, &[]), 0x8000_0000);
    }

    #[test]
    fn capabilities_open_what_they_guard() {
        const NONE: [&str; 0] = [];
        let mask = CapabilityMask::from_names(&["SYS_ADMIN"], &NONE).unwrap();
        let program = compile(mask).unwrap();
        for number in [libc::SYS_mount, libc::SYS_clone3, libc::SYS_unshare] {
            assert_eq!(answer(&program, ARCHITECTURE, number, &[]), ALLOW);
        }
        assert_eq!(
            answer(&program, ARCHITECTURE, libc::SYS_clone, &[0x1000_0000]),
            ALLOW
        );
        let program = compile(CapabilityMask::EMPTY).unwrap();
        assert_eq!(answer(&program, ARCHITECTURE, libc::SYS_chroot, &[]), EPERM);
    }
}
