//! What the kernel's schedulers, its memory and its security modules are told of the process.

use engine_shim::plan::Op;
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxIOPriority, LinuxPersonalityDomain, LinuxSchedulerFlag as Flag,
    LinuxSchedulerPolicy as Policy, MemoryPolicyFlagType, MemoryPolicyModeType as Mode, Process, Scheduler,
};

use super::writer::Writer;
use crate::{Error, Host};

/// The highest processor or memory node that can be named.
const MOST: usize = 1024;

pub(super) fn write(plan: &mut Writer, process: &Process) -> Result<(), Error> {
    if let Some(scheduler) = process.scheduler() {
        scheduling(plan, scheduler)?;
    }
    if let Some(priority) = process.io_priority() {
        io(plan, priority)?;
    }
    Ok(())
}

fn scheduling(plan: &mut Writer, scheduler: &Scheduler) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Invalid(format!("scheduler: {text}")));
    let policy = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => return Err(Error::Unsupported("the scheduler SCHED_ISO; no kernel has it".to_owned())),
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let (nice, priority) = (scheduler.nice().unwrap_or(0), scheduler.priority().unwrap_or(0));
    if !(-20..=19).contains(&nice) {
        return invalid(&format!("nice {nice} is not between -20 and 19"));
    }
    let realtime = matches!(policy, 1 | 2);
    if priority != 0 && !realtime {
        return invalid("a priority is for SCHED_FIFO and SCHED_RR");
    }
    let Ok(priority) = u32::try_from(priority) else { return invalid(&format!("priority {priority} is negative")) };
    let times = [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|time| time.unwrap_or(0));
    if policy != 6 && times != [0; 3] {
        return invalid("runtime, deadline and period are for SCHED_DEADLINE");
    }
    let mut flags = 0;
    for flag in scheduler.flags().iter().flatten() {
        flags |= match flag {
            Flag::SchedResetOnFork => 0x01,
            Flag::SchedFlagReclaim => 0x02,
            Flag::SchedFlagDLOverrun => 0x04,
            Flag::SchedFlagKeepPolicy => 0x08,
            Flag::SchedFlagKeepParams => 0x10,
            Flag::SchedFlagUtilClampMin | Flag::SchedFlagUtilClampMax => {
                return Err(Error::Unsupported("scheduler: a clamp, for which there is no value".to_owned()));
            }
        };
    }
    let [runtime, deadline, period] = times;
    plan.push(Op::Scheduler { policy, nice, priority, flags, runtime, deadline, period });
    Ok(())
}

fn io(plan: &mut Writer, priority: &LinuxIOPriority) -> Result<(), Error> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = priority.priority();
    let level = u32::try_from(level).ok().filter(|level| *level <= 7);
    let level = level.ok_or_else(|| Error::Invalid("ioPriority: the priority is between 0 and 7".to_owned()))?;
    plan.push(Op::IoPriority { value: class << 13 | level });
    Ok(())
}

/// The processors on which a process runs; of `0-3,7`.
pub(super) fn affinity(plan: &mut Writer, list: Option<&str>) -> Result<(), Error> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(()) };
    plan.push(Op::Affinity { mask: &mask("execCPUAffinity", list)? });
    Ok(())
}

pub(super) fn personality(plan: &mut Writer, linux: &Linux) -> Result<(), Error> {
    if let Some(personality) = linux.personality() {
        if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
            return Err(Error::Invalid("personality: there are no flags that could be set".to_owned()));
        }
        let persona = match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        };
        plan.push(Op::Personality { persona });
    }
    if let Some(policy) = linux.memory_policy() {
        let mut mode = match policy.mode() {
            Mode::MpolDefault => 0,
            Mode::MpolPreferred => 1,
            Mode::MpolBind => 2,
            Mode::MpolInterleave => 3,
            Mode::MpolLocal => 4,
            Mode::MpolPreferredMany => 5,
            Mode::MpolWeightedInterleave => 6,
        };
        for flag in policy.flags().iter().flatten() {
            mode |= match flag {
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            };
        }
        let nodes = policy.nodes().as_deref().filter(|nodes| !nodes.is_empty());
        let nodes = nodes.map(|nodes| mask("memoryPolicy", nodes)).transpose()?.unwrap_or_default();
        plan.push(Op::MemoryPolicy { mode, nodes: &nodes });
    }
    Ok(())
}

/// What security modules make of the process at its `execve`.
pub(super) fn labels(plan: &mut Writer, process: &Process, host: &Host) -> Result<(), Error> {
    let profile = process.apparmor_profile().as_deref().unwrap_or_default();
    if !matches!(profile, "" | "unconfined") {
        if !host.features.apparmor {
            return Err(Error::Unsupported(format!("the AppArmor profile {profile:?}; this kernel has no AppArmor")));
        }
        plan.with_texts("apparmor/exec", format!("exec {profile}"), |file, label| Op::SecurityLabel { file, label });
    }
    let label = process.selinux_label().as_deref().unwrap_or_default();
    if !label.is_empty() {
        if !host.features.selinux {
            return Err(Error::Unsupported(format!("the SELinux label {label:?}; this kernel has no SELinux")));
        }
        plan.with_texts("exec", label, |file, label| Op::SecurityLabel { file, label });
    }
    Ok(())
}

/// A mask of the numbers of a list such as `0-3,7`.
fn mask(what: &str, list: &str) -> Result<Vec<u8>, Error> {
    let invalid = || Error::Invalid(format!("{what}: {list:?} is not of the form 0-3,7, with numbers below {MOST}"));
    let mut mask = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MOST);
        let (first, last) = (number(first).ok_or_else(invalid)?, number(last).ok_or_else(invalid)?);
        if first > last {
            return Err(invalid());
        }
        // The kernel reads whole words.
        mask.resize(mask.len().max((last / 64 + 1) * 8), 0);
        for number in first..=last {
            if let Some(byte) = mask.get_mut(number / 8) {
                *byte |= 1 << (number % 8);
            }
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::mask;

    #[test]
    fn lists_become_masks() {
        assert_eq!(mask("x", "0-3,7").unwrap(), [0x8f, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask("x", "64").unwrap()[8..], [1, 0, 0, 0, 0, 0, 0, 0]);
        for bad in ["", "x", "3-1", "0-", "1024", "0,,1", "-1"] {
            assert!(mask("x", bad).is_err(), "{bad}");
        }
    }
}
