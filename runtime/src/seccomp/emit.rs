//! From answers to BPF.
//!
//! The number is found by bisection over ranges of equal answers. The order of the comparisons is
//! what installing a filter costs: the kernel runs it once for every system call to learn which
//! ones are always allowed (and then never runs it for those again).

use seccompiler::{BpfProgram, sock_filter};

use super::{Answer, Answers};

/// Offsets in `struct seccomp_data`.
const DATA_NUMBER: u32 = 0;
const DATA_ARCHITECTURE: u32 = 4;

/// Instructions of classic BPF (linux/bpf_common.h).
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Answers of a filter (linux/seccomp.h).
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_ALLOW: u32 = 0x7fff_0000;

/// A filter that gives the calls of each of these architectures its answers, and kills who makes
/// others.
pub(super) fn program(profiles: Vec<(u32, Answers)>) -> BpfProgram {
    let mut program = vec![instruction(LOAD_WORD, 0, 0, DATA_ARCHITECTURE)];
    for (architecture, answers) in profiles {
        let decision = bisect(&ranges(answers));
        // Conditional jumps reach 255 instructions far.
        program.push(instruction(JUMP_IF_EQUAL, 1, 0, architecture));
        let distance = u32::try_from(decision.len()).unwrap_or(u32::MAX);
        program.push(instruction(JUMP, 0, 0, distance.saturating_add(1)));
        program.push(instruction(LOAD_WORD, 0, 0, DATA_NUMBER));
        program.extend(decision);
    }
    program.push(leaf(RETURN_KILL_PROCESS));
    program
}

/// Numbers with one answer, as one.
fn ranges(answers: Answers) -> Vec<(u32, Answer)> {
    let mut ranges: Vec<(u32, Answer)> = Vec::new();
    for (start, answer) in answers {
        match ranges.last() {
            Some((_, before)) if is_same(before, &answer) => {}
            _ => ranges.push((start, answer)),
        }
    }
    ranges
}

fn is_same(one: &Answer, other: &Answer) -> bool {
    match (one, other) {
        (Answer::Allow, Answer::Allow)
        | (Answer::Refuse, Answer::Refuse)
        | (Answer::Unknown, Answer::Unknown) => true,
        // Conditions stand for one call each.
        _ => false,
    }
}

/// Code for a number that lies in one of these ranges.
fn bisect(ranges: &[(u32, Answer)]) -> BpfProgram {
    if let [] | [_] = ranges {
        return ranges
            .first()
            .map_or_else(|| refuse(libc::EPERM), |(_, answer)| decide(answer));
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let start = upper.first().map_or(0, |(start, _)| *start);
    let (lower, upper) = (bisect(lower), bisect(upper));
    let mut program = match u8::try_from(lower.len()) {
        Ok(distance) => vec![instruction(JUMP_IF_AT_LEAST, distance, 0, start)],
        // Conditional jumps reach 255 instructions far.
        Err(_) => {
            let distance = u32::try_from(lower.len()).unwrap_or(u32::MAX);
            vec![
                instruction(JUMP_IF_AT_LEAST, 0, 1, start),
                instruction(JUMP, 0, 0, distance),
            ]
        }
    };
    program.extend(lower);
    program.extend(upper);
    program
}

fn decide(answer: &Answer) -> BpfProgram {
    match answer {
        Answer::Allow => vec![leaf(RETURN_ALLOW)],
        Answer::Refuse => refuse(libc::EPERM),
        Answer::Unknown => refuse(libc::ENOSYS),
        Answer::AllowIf(rules) => {
            // A rule that does not match jumps over the instruction that follows it.
            let mut program = BpfProgram::new();
            for rule in rules {
                program.extend(BpfProgram::from(rule.clone()));
                program.push(leaf(RETURN_ALLOW));
            }
            program.extend(refuse(libc::EPERM));
            program
        }
    }
}

fn refuse(errno: i32) -> BpfProgram {
    // Error numbers are small and positive.
    vec![leaf(RETURN_ERRNO | errno.unsigned_abs())]
}

fn leaf(answer: u32) -> sock_filter {
    instruction(RETURN, 0, 0, answer)
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
