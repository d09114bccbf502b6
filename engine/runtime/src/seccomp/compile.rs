//! Compiles the OCI form of a filter: which architecture, then a balanced tree over ranges of numbers, then the arguments.
//!
//! Loading a filter costs the kernel a check of each instruction and, where it remembers what is always allowed, a run for each
//! number. A tree over ranges is a sixth of a list of comparisons.

use std::collections::BTreeMap;
use std::ops::Range;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Op, LinuxSyscall,
};

use super::abi::{self, Abi, X32_BIT};
use super::assembler::{AT_LEAST, Assembler, EQUAL, GREATER, Label};
use crate::Error;

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const NOTIFY: u32 = 0x7fc0_0000;
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

    /// A program that somebody else has made.
    #[cfg(test)]
    pub(super) fn of(program: &[u8]) -> Self {
        Self { flags: 0, program: program.to_vec() }
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
/// [`Error::Invalid`] for what makes no sense.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter, Error> {
    compile_on(seccomp, Abi::NATIVE)
}

pub(super) fn compile_on(seccomp: &LinuxSeccomp, native: Abi) -> Result<Filter, Error> {
    check_listener(seccomp)?;
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let calls = calls(seccomp, is_permissive(default))?;
    let mut abis = vec![native];
    abis.extend(seccomp.architectures().iter().flatten().filter_map(|arch| Abi::of(*arch)));
    abis.sort_unstable();
    abis.dedup();

    let mut tables: BTreeMap<u32, Table<'_>> = BTreeMap::new();
    for abi in abis {
        tables.entry(abi.audit()).or_default().add(abi, &calls, default);
    }
    let mut code = Assembler::default();
    let foreign = code.give(KILL_PROCESS);
    let mut next = foreign;
    for (audit, mut table) in tables {
        if audit == Abi::X86_64.audit() && !table.segments.iter().any(|segment| segment.start == X32_BIT) {
            table.push(X32_BIT, [Rule::always(KILL_PROCESS)]);
        }
        // The same as the neighbour is no segment of its own.
        let rules = &table.rules;
        table.segments.dedup_by(|next, before| rules[next.rules.clone()] == rules[before.rules.clone()]);
        let tree = tree(&mut code, &table.rules, &table.segments, &mut Vec::new());
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

/// Whether rules ask somebody who listens. Without such a rule a listener is nobody's, says the specification.
pub(crate) fn notifies(seccomp: &LinuxSeccomp) -> bool {
    seccomp.syscalls().iter().flatten().any(|call| call.action() == Action::ScmpActNotify)
}

fn check_listener(seccomp: &LinuxSeccomp) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Invalid(format!("seccomp: {text}")));
    if seccomp.default_action() == Action::ScmpActNotify {
        return invalid("SCMP_ACT_NOTIFY cannot be used as the default action");
    }
    let notified = seccomp.syscalls().iter().flatten().filter(|call| call.action() == Action::ScmpActNotify);
    if notified.flat_map(|call| call.names()).any(|name| name == "sendmsg") {
        return invalid("SCMP_ACT_NOTIFY cannot be used for sendmsg, which hands the listener over");
    }
    match (seccomp.listener_path(), notifies(seccomp)) {
        (None, true) => invalid("SCMP_ACT_NOTIFY needs a listenerPath"),
        (Some(path), true) if !path.is_absolute() => invalid("the listenerPath is not absolute"),
        (None, false) if seccomp.listener_metadata().is_some() => invalid("listenerMetadata without a listenerPath"),
        _ => Ok(()),
    }
}

/// Offsets of `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A rule for several calls: their numbers on every architecture, and what is asked and done.
struct Calls<'a> {
    numbers: Vec<abi::Numbers>,
    /// Each of these is enough for the rule to match.
    rules: Vec<Rule<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule<'a> {
    /// All of it must hold.
    when: &'a [LinuxSeccompArg],
    action: u32,
}

impl Rule<'_> {
    fn always(action: u32) -> Self {
        Self { when: &[], action }
    }
}

fn calls(seccomp: &LinuxSeccomp, permissive: bool) -> Result<Vec<Calls<'_>>, Error> {
    let one = |call| {
        if LinuxSyscall::names(call).is_empty() {
            return Err(Error::Invalid("seccomp: a rule for no system call".to_owned()));
        }
        let mut numbers = Vec::with_capacity(LinuxSyscall::names(call).len());
        for name in call.names() {
            match abi::numbers(name) {
                Some(of) => numbers.push(of),
                None if permissive && !abi::is_foreign(name) => {
                    return Err(Error::Invalid(format!(
                        "seccomp: no system call is named {name:?}, so none is refused"
                    )));
                }
                None => {}
            }
        }
        Ok(Calls { numbers, rules: rules(call)? })
    };
    seccomp.syscalls().iter().flatten().map(one).collect()
}

/// What holds from a number on, up to the next segment.
#[derive(Debug)]
struct Segment {
    start: u32,
    /// Which rules of the table, in order; the last one has no condition.
    rules: Range<usize>,
}

/// Everything about one `seccomp_data.arch`.
#[derive(Debug, Default)]
struct Table<'a> {
    rules: Vec<Rule<'a>>,
    segments: Vec<Segment>,
}

impl<'a> Table<'a> {
    fn push(&mut self, start: u32, rules: impl IntoIterator<Item = Rule<'a>>) {
        if self.segments.last().is_some_and(|last| last.start == start) {
            self.segments.pop();
        }
        let first = self.rules.len();
        self.rules.extend(rules);
        self.segments.push(Segment { start, rules: first..self.rules.len() });
    }

    fn add(&mut self, abi: Abi, calls: &[Calls<'a>], default: u32) {
        let of =
            |calls: &Calls<'a>| calls.numbers.iter().filter_map(|numbers| abi.of_table(numbers)).collect::<Vec<_>>();
        let mut all: Vec<(u32, &[Rule<'a>])> = Vec::with_capacity(512);
        for calls in calls {
            all.extend(of(calls).into_iter().map(|number| (number, calls.rules.as_slice())));
        }
        // The order of the rules of one number stays.
        all.sort_by_key(|(number, _)| *number);
        let ordinary = |number: &u32| *number < ARM_PRIVATE || abi != Abi::Arm;
        let newest = all.iter().map(|(number, _)| *number).filter(ordinary).max();
        let unknown = ERRNO | libc::ENOSYS.unsigned_abs();
        let permissive = is_permissive(default);
        self.push(abi.base(), [Rule::always(default)]);
        for group in all.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((number, _)) = group.first() else { continue };
            let rules = group.iter().flat_map(|(_, rules)| rules.iter().copied());
            // What comes after a rule without conditions is never asked.
            let mut ended = false;
            let rules = rules.chain([Rule::always(default)]).take_while(|rule| {
                let goes_on = !ended;
                ended |= rule.when.is_empty();
                goes_on
            });
            self.push(*number, rules);
            let after = if !permissive && Some(*number) >= newest { unknown } else { default };
            self.push(number + 1, [Rule::always(after)]);
        }
    }
}

/// A rule of the OCI form: its conditions together, or each for itself when an argument stands there twice.
fn rules(call: &LinuxSyscall) -> Result<Vec<Rule<'_>>, Error> {
    let action = action(call.action(), call.errno_ret())?;
    let arguments = call.args().as_deref().unwrap_or_default();
    let mut seen = [false; 6];
    let mut twice = false;
    for argument in arguments {
        let seen = seen.get_mut(argument.index()).ok_or_else(|| {
            Error::Invalid(format!("seccomp: argument {} of a system call; there are 6", argument.index()))
        })?;
        twice |= std::mem::replace(seen, true);
    }
    let parts = if twice { arguments.chunks(1).collect() } else { vec![arguments] };
    Ok(parts.into_iter().map(|when| Rule { when, action }).collect())
}

/// Writes a balanced tree of comparisons over segments. `chains` is what was written already: calls of one rule share its
/// conditions.
fn tree<'r>(
    code: &mut Assembler,
    rules: &'r [Rule<'_>],
    segments: &[Segment],
    chains: &mut Vec<(&'r [Rule<'r>], Label)>,
) -> Label {
    match segments {
        [] => code.give(KILL_PROCESS),
        [one] => {
            let rules = &rules[one.rules.clone()];
            if rules.len() == 1 {
                return chain(code, rules);
            }
            if let Some((_, label)) = chains.iter().find(|(known, _)| *known == rules) {
                return *label;
            }
            let label = chain(code, rules);
            chains.push((rules, label));
            label
        }
        many => {
            let (low, high) = many.split_at(many.len() / 2);
            let start = high[0].start;
            let high = tree(code, rules, high, chains);
            let low = tree(code, rules, low, chains);
            code.test(AT_LEAST, start, high, low)
        }
    }
}

fn chain(code: &mut Assembler, rules: &[Rule<'_>]) -> Label {
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
    if errno.is_some() && !matches!(action, Action::ScmpActErrno | Action::ScmpActTrace) {
        return Err(Error::Invalid(format!("seccomp: an errno for {action}, which has none")));
    }
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
        Action::ScmpActNotify => NOTIFY,
    })
}

fn flags(seccomp: &LinuxSeccomp) -> Result<u32, Error> {
    let listener = if notifies(seccomp) { NEW_LISTENER } else { 0 };
    // Without a word a filter does not slow speculation down, as with runc.
    let Some(flags) = seccomp.flags() else { return Ok(SPEC_ALLOW | listener) };
    flags.iter().try_fold(listener, |all, flag| match flag {
        Flag::SeccompFilterFlagLog => Ok(all | FLAG_LOG),
        Flag::SeccompFilterFlagSpecAllow => Ok(all | SPEC_ALLOW),
        // It spreads a filter to other threads; there is one.
        Flag::SeccompFilterFlagTsync => Ok(all),
        Flag::SeccompFilterFlagWaitKillableRecv if listener != 0 => Ok(all | WAIT_KILLABLE),
        Flag::SeccompFilterFlagWaitKillableRecv => Err(Error::Invalid(
            "seccomp: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without a rule that notifies".to_owned(),
        )),
    })
}

const FLAG_LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const NEW_LISTENER: u32 = 1 << 3;
const WAIT_KILLABLE: u32 = 1 << 5;
