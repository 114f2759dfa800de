//! The system call filter: Docker's default profile, compiled to BPF.
//!
//! It knows the architectures whose programs the kernel may run: our own, and beside it those that
//! Docker's profile has too (32-bit x86 and x32 on x86-64, 32-bit ARM on arm64). A program may make
//! calls of all of them, whatever it was built for, so each has the whole profile. Calls of any
//! other architecture end the program.

mod emit;
mod table;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompCmpArgLen as ArgLen, SeccompCmpOp as Op, SeccompCondition, SeccompRule,
};

use crate::capabilities::CapabilityMask;
use crate::error::{Failure, Refusal, Stage};
use table::Table;

/// Flags of `clone` that make namespaces: cgroup, mount, UTS, IPC, user, PID, network.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Execution domains that programs may switch to: Linux, Linux with UNAME26 (the bit 0x20000), each
/// with or without PER_LINUX32 (8), and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// What the filter answers to one system call.
#[derive(Debug, Clone)]
enum Answer {
    Allow,
    /// "Operation not permitted".
    Refuse,
    /// "No such system call": for those where programs have something older to fall back to.
    Unknown,
    /// Allowed where one of the rules matches.
    AllowIf(Vec<SeccompRule>),
}

type Answers = BTreeMap<u32, Answer>;

/// The filter for a process with these capabilities.
pub(crate) fn compile(capabilities: CapabilityMask) -> Result<BpfProgram, Failure> {
    let profile = |table: &&Table| Ok((table.architecture, answers(table, capabilities)?));
    let profiles: Result<Vec<_>, seccompiler::BackendError> =
        table::TABLES.iter().map(profile).collect();
    profiles
        .map(emit::program)
        .map_err(|_| Failure::refused(Stage::Seccomp, "default profile", Refusal::Malformed))
}

/// Installs a filter on this thread, and what it starts.
pub(crate) fn install(filter: &BpfProgram) -> Result<(), Failure> {
    crate::sys::install_filter(filter).map_err(|error| Failure::system(Stage::Seccomp, "", &error))
}

/// The profile: the answer from each number on, up to the next one that is listed.
fn answers(
    table: &Table,
    capabilities: CapabilityMask,
) -> Result<Answers, seccompiler::BackendError> {
    let mut answers: Answers = (0..=table::LAST_KNOWN)
        .map(|number| (number, Answer::Refuse))
        .chain([(table::LAST_KNOWN + 1, Answer::Unknown)])
        .collect();
    let mut set = |number: i64, answer: Answer| {
        if let Ok(number) = u32::try_from(number) {
            answers.insert(number, answer);
            // Above those we know there may be single ones, with nothing between them.
            answers
                .entry(number.saturating_add(1))
                .or_insert(Answer::Unknown);
        }
    };
    for &number in table.allowed.iter().copied().flatten() {
        set(number, Answer::Allow);
    }
    // A filter cannot see the flags of clone3; C libraries fall back to clone.
    set(table.clone3, Answer::Unknown);
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
    set(table.personality, Answer::AllowIf(personalities));
    // All families but AF_ALG (38) and AF_VSOCK (40).
    let families = vec![
        condition(0, Op::Lt, 38)?,
        condition(0, Op::Eq, 39)?,
        condition(0, Op::Gt, 40)?,
    ];
    set(table.socket, Answer::AllowIf(families));
    let no_namespaces = condition(0, Op::MaskedEq(CLONE_NAMESPACES), 0)?;
    set(table.clone, Answer::AllowIf(vec![no_namespaces]));
    for (capability, numbers) in table.by_capability {
        if capabilities.contains(*capability) {
            numbers
                .iter()
                .for_each(|&number| set(number, Answer::Allow));
        }
    }
    #[cfg(target_arch = "x86_64")]
    if table.architecture == table::OWN_ARCHITECTURE {
        add_x32(&mut answers);
    }
    Ok(answers)
}

/// The same answers for the calls of x32.
#[cfg(target_arch = "x86_64")]
fn add_x32(answers: &mut Answers) {
    use table::x32;
    let own = x32::OWN.iter().zip(x32::FIRST_OWN..);
    let own = own.filter_map(|(&like, number)| {
        let answer = answers.get(&u32::try_from(like).ok()?)?;
        Some((number, answer.clone()))
    });
    let own: Vec<_> = own.collect();
    let known: Vec<_> = answers
        .iter()
        .map(|(&number, answer)| (number, answer.clone()))
        .collect();
    let end = x32::FIRST_OWN.saturating_add(u32::try_from(own.len()).unwrap_or(0));
    let all = known.into_iter().chain(own).chain([(end, Answer::Unknown)]);
    answers.extend(all.map(|(number, answer)| (number | x32::BIT, answer)));
}

#[cfg(test)]
mod tests;
