//! Compiles the OCI form of a filter: which architecture, then a balanced tree over ranges of numbers, then the arguments.
//!
//! Loading a filter costs the kernel a check of each instruction and, where it remembers what is always allowed, a run for each
//! number. A tree over ranges is a sixth of a list of comparisons.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Op, LinuxSyscall,
};

use super::abi::{self, Abi, X32_BIT};
use super::assembler::{AT_LEAST, Assembler, EQUAL, GREATER, Label};
use crate::Error;

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const TRACE: u32 = 0x7ff0_0000;
const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_THREAD: u32 = 0;
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;

/// The most instructions that the kernel takes.
const MAX_INSTRUCTIONS: usize = 4096;
/// Arm's own calls begin here, far behind the others.
const ARM_PRIVATE: u32 = 0xf_0000;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    flags: u32,
    program: Vec<u8>,
}

impl Filter {
    /// The flags of `seccomp(SECCOMP_SET_MODE_FILTER)`.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// The program as `struct sock_filter[]`.
    #[must_use]
    pub fn program(&self) -> &[u8] {
        &self.program
    }
}

/// Compiles a filter.
///
/// Of several rules for one call the first that matches counts; within a rule all arguments must match, but when one index
/// stands there twice, each of its conditions is a rule of its own (as runc has it). A call through an architecture that is not
/// listed kills the process. A call that is newer than all that the filter names fails with `ENOSYS` where the filter would
/// refuse it, so that a program falls back to an older one.
///
/// # Errors
/// [`Error::Unsupported`] for a listener, [`Error::Invalid`] for what makes no sense.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter, Error> {
    compile_on(seccomp, Abi::NATIVE)
}

pub(super) fn compile_on(seccomp: &LinuxSeccomp, native: Abi) -> Result<Filter, Error> {
    if seccomp.listener_path().is_some() || seccomp.listener_metadata().is_some() {
        return Err(Error::Unsupported("a listener for seccomp notifications".to_owned()));
    }
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let calls = seccomp.syscalls().as_deref().unwrap_or_default();
    let mut abis = vec![native];
    abis.extend(seccomp.architectures().iter().flatten().filter_map(|arch| Abi::of(*arch)));
    abis.sort_unstable();
    abis.dedup();

    let mut tables: BTreeMap<u32, Vec<Segment>> = BTreeMap::new();
    for abi in abis {
        tables.entry(abi.audit()).or_default().extend(segments(abi, calls, default)?);
    }
    let mut code = Assembler::default();
    let foreign = code.give(KILL_PROCESS);
    let mut next = foreign;
    for (audit, mut table) in tables {
        if audit == Abi::X86_64.audit() && !table.iter().any(|segment| segment.start == X32_BIT) {
            table.push(Segment { start: X32_BIT, rules: vec![Rule::always(KILL_PROCESS)] });
        }
        // The same as the neighbour is no segment of its own.
        table.dedup_by(|next, before| next.rules == before.rules);
        let tree = tree(&mut code, &table, &mut Vec::new());
        code.go(tree);
        let number = code.load(NUMBER);
        next = code.test(EQUAL, audit, number, next);
    }
    code.go(next);
    code.load(ARCHITECTURE);
    if code.len() > MAX_INSTRUCTIONS {
        return Err(Error::Invalid(format!(
            "seccomp filter of {} instructions; the kernel takes {MAX_INSTRUCTIONS}",
            code.len()
        )));
    }
    Ok(Filter { flags: flags(seccomp)?, program: code.finish() })
}

/// Offsets of `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What holds from a number on, up to the next segment.
#[derive(Debug)]
struct Segment {
    start: u32,
    /// In order; the last one has no condition.
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    when: Vec<LinuxSeccompArg>,
    action: u32,
}

impl Rule {
    fn always(action: u32) -> Self {
        Self { when: Vec::new(), action }
    }
}

fn segments(abi: Abi, calls: &[LinuxSyscall], default: u32) -> Result<Vec<Segment>, Error> {
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    let permissive = is_permissive(default);
    for call in calls {
        let action = action(call.action(), call.errno_ret())?;
        let conditions = conditions(call)?;
        for name in call.names() {
            match abi.number(name) {
                Some(number) => {
                    let rules = rules.entry(number).or_default();
                    rules.extend(conditions.iter().map(|when| Rule { when: when.clone(), action }));
                }
                None if permissive && !abi::is_known(name) => {
                    return Err(Error::Invalid(format!(
                        "seccomp: no system call is named {name:?}, so none is refused"
                    )));
                }
                None => {}
            }
        }
    }
    let newest = rules.keys().filter(|number| **number < ARM_PRIVATE || abi != Abi::Arm).max().copied();
    let mut segments = vec![Segment { start: abi.base(), rules: vec![Rule::always(default)] }];
    let after =
        |number: u32| if !permissive && Some(number) >= newest { ERRNO | libc::ENOSYS.unsigned_abs() } else { default };
    for (number, mut rules) in rules {
        if segments.last().is_some_and(|last| last.start == number) {
            segments.pop();
        }
        // What comes after a rule without conditions is never asked.
        match rules.iter().position(|rule| rule.when.is_empty()) {
            Some(last) => rules.truncate(last + 1),
            None => rules.push(Rule::always(default)),
        }
        segments.push(Segment { start: number, rules });
        segments.push(Segment { start: number + 1, rules: vec![Rule::always(after(number))] });
    }
    Ok(segments)
}

/// Each of these is enough for the rule to match; all of its parts must hold.
fn conditions(call: &LinuxSyscall) -> Result<Vec<Vec<LinuxSeccompArg>>, Error> {
    let arguments = call.args().as_deref().unwrap_or_default();
    let mut seen = [false; 6];
    let mut twice = false;
    for argument in arguments {
        let seen = seen.get_mut(argument.index()).ok_or_else(|| {
            Error::Invalid(format!("seccomp: argument {} of a system call; there are 6", argument.index()))
        })?;
        twice |= std::mem::replace(seen, true);
    }
    Ok(if twice { arguments.iter().map(|one| vec![*one]).collect() } else { vec![arguments.to_vec()] })
}

/// `chains`: what was written already; calls of one rule share its conditions.
fn tree<'a>(code: &mut Assembler, segments: &'a [Segment], chains: &mut Vec<(&'a [Rule], Label)>) -> Label {
    match segments {
        [] => code.give(KILL_PROCESS),
        [Segment { rules, .. }] if rules.len() > 1 => {
            if let Some((_, label)) = chains.iter().find(|(known, _)| *known == rules) {
                return *label;
            }
            let label = chain(code, rules);
            chains.push((rules, label));
            label
        }
        [one] => chain(code, &one.rules),
        many => {
            let (low, high) = many.split_at(many.len() / 2);
            let start = high[0].start;
            let high = tree(code, high, chains);
            let low = tree(code, low, chains);
            code.test(AT_LEAST, start, high, low)
        }
    }
}

fn chain(code: &mut Assembler, rules: &[Rule]) -> Label {
    let Some((first, rest)) = rules.split_first() else { return code.give(KILL_PROCESS) };
    if first.when.is_empty() {
        return code.give(first.action);
    }
    let no = chain(code, rest);
    let mut yes = code.give(first.action);
    for condition in first.when.iter().rev() {
        yes = compare(code, *condition, yes, no);
    }
    yes
}

/// Compares a 64-bit argument by its halves.
fn compare(code: &mut Assembler, condition: LinuxSeccompArg, yes: Label, no: Label) -> Label {
    #[allow(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    #[allow(clippy::cast_possible_truncation, reason = "the index was checked to be below 6")]
    let low_at = ARGUMENTS + 8 * condition.index() as u32;
    let (low_at, high_at) = if cfg!(target_endian = "big") { (low_at + 4, low_at) } else { (low_at, low_at + 4) };
    let (high, low) = halves(condition.value());
    let (test, yes, no) = match condition.op() {
        Op::ScmpCmpEq => (EQUAL, yes, no),
        Op::ScmpCmpNe => (EQUAL, no, yes),
        Op::ScmpCmpGt => (GREATER, yes, no),
        Op::ScmpCmpLe => (GREATER, no, yes),
        Op::ScmpCmpGe => (AT_LEAST, yes, no),
        Op::ScmpCmpLt => (AT_LEAST, no, yes),
        Op::ScmpCmpMaskedEq => {
            let (high_wanted, low_wanted) = halves(condition.value_two().unwrap_or(0));
            code.test(EQUAL, low_wanted, yes, no);
            code.and(low);
            let mut next = code.load(low_at);
            if (high, high_wanted) != (0, 0) {
                code.test(EQUAL, high_wanted, next, no);
                code.and(high);
                next = code.load(high_at);
            }
            return next;
        }
    };
    code.test(test, low, yes, no);
    let low_half = code.load(low_at);
    // What is not the same in the upper half is decided there.
    let same = code.test(EQUAL, high, low_half, no);
    if test != EQUAL {
        code.test(GREATER, high, yes, same);
    }
    code.load(high_at)
}

fn is_permissive(action: u32) -> bool {
    matches!(action & 0xffff_0000, ALLOW | LOG | TRACE)
}

fn action(action: Action, errno: Option<u32>) -> Result<u32, Error> {
    let value = errno.unwrap_or(libc::EPERM.unsigned_abs());
    let most = if matches!(action, Action::ScmpActErrno) { 4095 } else { 0xffff };
    if value > most {
        return Err(Error::Invalid(format!("seccomp: errno {value} is above {most}")));
    }
    Ok(match action {
        Action::ScmpActAllow => ALLOW,
        Action::ScmpActErrno => ERRNO | value,
        Action::ScmpActTrace => TRACE | value,
        Action::ScmpActLog => LOG,
        Action::ScmpActTrap => TRAP,
        Action::ScmpActKill | Action::ScmpActKillThread => KILL_THREAD,
        Action::ScmpActKillProcess => KILL_PROCESS,
        Action::ScmpActNotify => return Err(Error::Unsupported("seccomp notifications".to_owned())),
    })
}

fn flags(seccomp: &LinuxSeccomp) -> Result<u32, Error> {
    // Without a word a filter does not slow speculation down, as with runc.
    let Some(flags) = seccomp.flags() else { return Ok(SPEC_ALLOW) };
    flags.iter().try_fold(0, |all, flag| match flag {
        Flag::SeccompFilterFlagLog => Ok(all | FLAG_LOG),
        Flag::SeccompFilterFlagSpecAllow => Ok(all | SPEC_ALLOW),
        // It spreads a filter to other threads; there is one.
        Flag::SeccompFilterFlagTsync => Ok(all),
        Flag::SeccompFilterFlagWaitKillableRecv => {
            Err(Error::Unsupported("a seccomp flag that needs a listener".to_owned()))
        }
    })
}

const FLAG_LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
