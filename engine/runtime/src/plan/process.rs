//! The process: limits, identity, what it may do, and what it is.

use std::os::unix::ffi::OsStrExt;

use engine_shim::plan::Op;
use oci_spec::runtime::{Capabilities, PosixRlimitType as Limit, Process};

use super::schedule;
use super::writer::Writer;
use crate::seccomp::Filter;
use crate::{Error, Host, capabilities};

/// What the specification has no words for.
#[derive(Debug)]
pub(super) struct User<'a> {
    /// Docker's USER, in place of the numbers of the specification.
    pub(super) name: Option<&'a str>,
    pub(super) groups: &'a [String],
    pub(super) make_working_directory: bool,
    /// In a user namespace, whose superuser holds every capability in it.
    pub(super) in_namespace: bool,
}

/// What may take privilege on the host, and is done before a user namespace is entered.
pub(super) fn privileged(plan: &mut Writer, process: &Process, host: &Host) -> Result<(), Error> {
    let mut limited = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        if limited.contains(&resource(limit.typ())) {
            return Err(Error::Invalid(format!("two limits of {}", limit.typ())));
        }
        limited.push(resource(limit.typ()));
        if limit.soft() > limit.hard() {
            return Err(Error::Invalid(format!(
                "{}: the soft limit {} is above the hard limit {}",
                limit.typ(),
                limit.soft(),
                limit.hard()
            )));
        }
        plan.push(Op::Rlimit { resource: resource(limit.typ()), soft: limit.soft(), hard: limit.hard() });
    }
    if let Some(value) = process.oom_score_adj() {
        if !(-1000..=1000).contains(&value) {
            return Err(Error::Invalid(format!("oomScoreAdj {value} is not between -1000 and 1000")));
        }
        plan.push(Op::OomScoreAdjust { value });
    }
    schedule::write(plan, process)?;
    schedule::labels(plan, process, host)
}

pub(super) fn write(
    plan: &mut Writer,
    process: &Process,
    user: &User<'_>,
    host: &Host,
    filter: Option<&Filter>,
) -> Result<(), Error> {
    plan.push(Op::Umask { mode: process.user().umask().unwrap_or(0o022) & 0o777 });
    for group in process.user().additional_gids().iter().flatten() {
        plan.with_text(group.to_string(), |group| Op::Group { group });
    }
    for group in user.groups {
        plan.with_text(group, |group| Op::Group { group });
    }
    let numbers = format!("{}:{}", process.user().uid(), process.user().gid());
    plan.with_text(user.name.unwrap_or(&numbers), |user| Op::User { user });
    plan.push(held(process, if user.in_namespace { u64::MAX } else { host.bounding }));
    if process.no_new_privileges().unwrap_or(false) {
        plan.push(Op::NoNewPrivileges {});
    }
    let make = user.make_working_directory.into();
    plan.with_text(process.cwd().as_os_str().as_bytes(), |path| Op::WorkingDirectory { path, make });
    if let Some(filter) = filter {
        plan.push(Op::Seccomp { flags: filter.flags(), filter: filter.program() });
    }
    for value in process.args().iter().flatten() {
        plan.with_text(value, |value| Op::Arg { value });
    }
    for value in process.env().iter().flatten() {
        plan.with_text(value, |value| Op::Env { value });
    }
    plan.push(Op::Execute {});
    Ok(())
}

/// The sets as they can be on this machine: the kernel refuses a set that is larger than the one it has to lie in.
fn held(process: &Process, most: u64) -> Op<'static> {
    let sets = process.capabilities().clone();
    let mask = |set: Option<&Option<Capabilities>>| set.and_then(Option::as_ref).map_or(0, capabilities::mask);
    let sets = sets.as_ref();
    let bounding = mask(sets.map(|sets| sets.bounding())) & most;
    let permitted = mask(sets.map(|sets| sets.permitted())) & most;
    let effective = mask(sets.map(|sets| sets.effective())) & permitted;
    let inheritable = mask(sets.map(|sets| sets.inheritable())) & bounding;
    let ambient = mask(sets.map(|sets| sets.ambient())) & permitted & inheritable;
    Op::Capabilities { bounding, effective, permitted, inheritable, ambient }
}

fn resource(limit: Limit) -> u32 {
    match limit {
        Limit::RlimitCpu => libc::RLIMIT_CPU,
        Limit::RlimitFsize => libc::RLIMIT_FSIZE,
        Limit::RlimitData => libc::RLIMIT_DATA,
        Limit::RlimitStack => libc::RLIMIT_STACK,
        Limit::RlimitCore => libc::RLIMIT_CORE,
        Limit::RlimitRss => libc::RLIMIT_RSS,
        Limit::RlimitNproc => libc::RLIMIT_NPROC,
        Limit::RlimitNofile => libc::RLIMIT_NOFILE,
        Limit::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        Limit::RlimitAs => libc::RLIMIT_AS,
        Limit::RlimitLocks => libc::RLIMIT_LOCKS,
        Limit::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        Limit::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        Limit::RlimitNice => libc::RLIMIT_NICE,
        Limit::RlimitRtprio => libc::RLIMIT_RTPRIO,
        Limit::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}
