//! What the filter answers, by running it.

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
const KILL: u32 = 0x8000_0000;

const OWN: u32 = table::OWN_ARCHITECTURE;
const I386: u32 = 0x4000_0003;
const ARM: u32 = 0x4000_0028;

/// The filter as it is on x86-64 and arm64 together, so that each is tested everywhere.
fn all_architectures(capabilities: CapabilityMask) -> BpfProgram {
    let tables = [table::TABLES[0], &table::I386, &table::ARM];
    let profile = |table: &&Table| (table.architecture, answers(table, capabilities).unwrap());
    emit::program(tables.iter().map(profile).collect())
}

fn with(names: &[&str]) -> CapabilityMask {
    const NONE: [&str; 0] = [];
    CapabilityMask::from_names(names, &NONE).unwrap()
}

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
        ("clone, user", libc::SYS_clone, &[0x1000_0000], EPERM),
        ("clone3", libc::SYS_clone3, &[], ENOSYS),
        ("the last known", 466, &[], ALLOW),
        ("newer", 467, &[], ENOSYS),
        ("far away", 0x7fff_ffff, &[], ENOSYS),
        ("negative", 0xffff_ffff, &[], ENOSYS),
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
        let actual = answer(&program, OWN, *number, args);
        assert_eq!(actual, *expected, "{name}: {actual:#x}");
    }
    // m68k, big-endian MIPS, and what no kernel has: whatever the number.
    for architecture in [0x4, 0x8, 0, u32::MAX] {
        for number in [3, 500, 0x4000_0003] {
            assert_eq!(answer(&program, architecture, number, &[]), KILL);
        }
    }
}

#[test]
fn programs_of_32_bits_have_the_same_profile() {
    let program = all_architectures(CapabilityMask::default());
    // Name, number on x86, on ARM (0 where there is none), arguments, answer.
    let rows: &[(&str, i64, i64, &[u64], u32)] = &[
        ("read", 3, 3, &[], ALLOW),
        ("execve", 11, 11, &[], ALLOW),
        ("waitpid", 7, 0, &[], ALLOW),
        ("mmap2", 192, 192, &[], ALLOW),
        ("set_thread_area", 243, 0, &[], ALLOW),
        ("futex_time64", 422, 422, &[], ALLOW),
        ("socketcall", 102, 0, &[], ALLOW),
        ("ipc", 117, 0, &[], ALLOW),
        ("modify_ldt", 123, 0, &[], ALLOW),
        ("arch_prctl", 384, 0, &[], ALLOW),
        ("chroot", 61, 61, &[], ALLOW),
        ("mount", 21, 21, &[], EPERM),
        ("umount", 22, 0, &[], EPERM),
        ("umount2", 52, 52, &[], EPERM),
        ("stime", 25, 0, &[], EPERM),
        ("pivot_root", 217, 218, &[], EPERM),
        ("swapon", 87, 87, &[], EPERM),
        ("reboot", 88, 88, &[], EPERM),
        ("init_module", 128, 128, &[], EPERM),
        ("kexec_load", 283, 347, &[], EPERM),
        ("add_key", 286, 309, &[], EPERM),
        ("request_key", 287, 310, &[], EPERM),
        ("keyctl", 288, 311, &[], EPERM),
        ("unshare", 310, 337, &[], EPERM),
        ("setns", 346, 375, &[], EPERM),
        ("bpf", 357, 386, &[], EPERM),
        ("userfaultfd", 374, 388, &[], EPERM),
        ("perf_event_open", 336, 364, &[], EPERM),
        ("open_by_handle_at", 342, 371, &[], EPERM),
        ("iopl", 110, 0, &[], EPERM),
        ("ioperm", 101, 0, &[], EPERM),
        ("vm86", 166, 0, &[], EPERM),
        ("clock_settime64", 404, 404, &[], EPERM),
        ("io_uring_setup", 425, 425, &[], EPERM),
        ("open_tree", 428, 428, &[], EPERM),
        ("fsopen", 430, 430, &[], EPERM),
        ("clone, threads", 120, 120, &[0x003d_0f00], ALLOW),
        ("clone, user", 120, 120, &[0x1000_0000], EPERM),
        ("clone, mount", 120, 120, &[0x0002_0011], EPERM),
        ("clone3", 435, 435, &[], ENOSYS),
        ("personality, 32 bits", 136, 136, &[8], ALLOW),
        (
            "personality, ADDR_NO_RANDOMIZE",
            136,
            136,
            &[0x4_0000],
            EPERM,
        ),
        ("socket, AF_INET", 359, 281, &[2], ALLOW),
        ("socket, AF_ALG", 359, 281, &[38], EPERM),
        ("socket, AF_VSOCK", 359, 281, &[40], EPERM),
        ("the last known", 466, 466, &[], ALLOW),
        ("newer", 467, 467, &[], ENOSYS),
        ("far away", 0x4000_0003, 0x4000_0003, &[], ENOSYS),
    ];
    for (name, x86, arm, args, expected) in rows {
        let actual = answer(&program, I386, *x86, args);
        assert_eq!(actual, *expected, "{name}, x86: {actual:#x}");
        if *arm != 0 {
            let actual = answer(&program, ARM, *arm, args);
            assert_eq!(actual, *expected, "{name}, ARM: {actual:#x}");
        }
    }
    let own: [(i64, u32); 7] = [
        (0xf_0000, ENOSYS),
        (0xf_0001, ALLOW),
        (0xf_0002, ALLOW),
        (0xf_0003, ENOSYS),
        (0xf_0004, ENOSYS),
        (0xf_0005, ALLOW),
        (0xf_0006, ENOSYS),
    ];
    for (number, expected) in own {
        assert_eq!(answer(&program, ARM, number, &[]), expected, "{number:#x}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_x32_have_the_same_profile() {
    let program = compile(CapabilityMask::default()).unwrap();
    let rows: &[(&str, i64, &[u64], u32)] = &[
        ("read", libc::SYS_read, &[], ALLOW),
        ("mount", libc::SYS_mount, &[], EPERM),
        ("keyctl", libc::SYS_keyctl, &[], EPERM),
        ("clone, threads", libc::SYS_clone, &[0x003d_0f00], ALLOW),
        ("clone, user", libc::SYS_clone, &[0x1000_0000], EPERM),
        ("clone3", libc::SYS_clone3, &[], ENOSYS),
        ("socket, AF_ALG", libc::SYS_socket, &[38], EPERM),
        ("the last known", 466, &[], ALLOW),
        ("newer", 467, &[], ENOSYS),
        ("between", 511, &[], ENOSYS),
        ("execve", 520, &[], ALLOW),
        ("kexec_load", 528, &[], EPERM),
        ("move_pages", 533, &[], EPERM),
        ("preadv2", 546, &[], ALLOW),
        ("pwritev2", 547, &[], ALLOW),
        ("beyond", 548, &[], ENOSYS),
    ];
    for (name, number, args, expected) in rows {
        let actual = answer(&program, OWN, 0x4000_0000 | *number, args);
        assert_eq!(actual, *expected, "{name}: {actual:#x}");
    }
    // Old kernels take the numbers of x32 without its bit too.
    for number in 467..600 {
        assert_eq!(answer(&program, OWN, number, &[]), ENOSYS, "{number}");
    }
}

#[test]
fn the_program_is_small_and_every_number_has_the_profiles_answer() {
    // Installing costs the kernel one run per system call and architecture.
    let own = compile(CapabilityMask::default()).unwrap();
    assert!(own.len() < 900, "{}", own.len());
    let program = all_architectures(CapabilityMask::default());
    for table in [table::TABLES[0], &table::I386, &table::ARM] {
        let mut expected = Answer::Refuse;
        let answers = answers(table, CapabilityMask::default()).unwrap();
        for number in 0..1000 {
            expected = answers.get(&number).cloned().unwrap_or(expected);
            let expected = match &expected {
                Answer::Allow => ALLOW,
                Answer::Refuse => EPERM,
                Answer::Unknown => ENOSYS,
                Answer::AllowIf(_) => continue,
            };
            let actual = answer(&program, table.architecture, number.into(), &[]);
            assert_eq!(actual, expected, "{:#x} {number}", table.architecture);
        }
    }
}

#[test]
fn capabilities_open_what_they_guard() {
    let program = compile(with(&["SYS_ADMIN"])).unwrap();
    for number in [libc::SYS_mount, libc::SYS_clone3, libc::SYS_unshare] {
        assert_eq!(answer(&program, OWN, number, &[]), ALLOW);
    }
    assert_eq!(
        answer(&program, OWN, libc::SYS_clone, &[0x1000_0000]),
        ALLOW
    );
    let program = all_architectures(with(&["SYS_ADMIN", "SYS_TIME", "SYS_RAWIO"]));
    // mount, umount, unshare, stime, clock_settime64, iopl, clone3, clone.
    for number in [21, 22, 310, 25, 404, 110, 435, 120] {
        assert_eq!(answer(&program, I386, number, &[0x1000_0000]), ALLOW);
    }
    let program = compile(CapabilityMask::EMPTY).unwrap();
    assert_eq!(answer(&program, OWN, libc::SYS_chroot, &[]), EPERM);
}
