//! The columns that `ps` knows by name, and the title that each name gives.

/// What a column shows of a process or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// A user's name.
    User(Whose),
    /// A user's number.
    UserId(Whose),
    /// A group's name.
    Group(Whose),
    /// A group's number.
    GroupId(Whose),
    /// Who logged in, by number.
    Login,
    /// Numbers of the supplementary groups.
    Groups,
    /// Names of the supplementary groups.
    GroupNames,
    /// The process.
    Pid,
    /// The thread.
    Thread,
    /// A number of `/proc/<pid>/stat` that belongs to a process, by its place in `proc(5)`.
    Number(usize),
    /// A number of faults, by its place in `proc(5)`; that of children stands behind it.
    Faults(usize),
    /// Use of a processor in hundredths, without fraction.
    Load,
    /// Use of a processor in hundredths.
    LoadPercent,
    /// Use of a processor in thousandths.
    LoadPerMille,
    /// Use of a processor in hundredths, with three digits behind the point.
    LoadFine,
    MemoryPercent,
    /// Kibibytes of addresses.
    Virtual,
    /// Bytes of addresses.
    VirtualBytes,
    /// Pages of addresses.
    Pages,
    /// Kibibytes in memory.
    Resident,
    /// Kibibytes in memory, those that are shared in parts.
    Proportional,
    /// Kibibytes in memory that nobody else has.
    Own,
    /// Kibibytes of data and stack.
    Swappable,
    /// Kibibytes of program text.
    Text,
    /// Kibibytes that are not program text.
    Data,
    /// How much may be in memory.
    Limit,
    /// An address, by its place in `stat`.
    Address(usize),
    Terminal,
    /// One letter.
    State,
    /// A letter and what else is to know.
    States,
    Flags,
    /// When it began: a time of the day, a day or a year.
    Start,
    /// When it began, to the second, or a day.
    StartSecond,
    /// When it began, to the minute, or a day.
    StartMinute,
    /// When it began, in full.
    StartFull,
    /// Time on a processor.
    Time,
    /// Time on a processor in minutes and seconds.
    TimeMinutes,
    /// Time on a processor in seconds.
    TimeSeconds,
    Elapsed,
    ElapsedSeconds,
    /// The command line.
    Command,
    /// The name.
    Name,
    /// The beginning of the name.
    ShortName,
    Environment,
    Executable,
    Nice,
    /// The kernel's priority, added to the one number or taken from it.
    Priority {
        negative: bool,
        plus: i64,
    },
    RealtimePriority,
    Class,
    Policy,
    Processor,
    /// The processor, when it runs.
    RunsOn,
    /// Where in the kernel it waits.
    Waits,
    /// A set of signals, as `/proc/<pid>/status` calls it.
    Signals(&'static str),
    /// Signals for the whole process; for a thread those for itself.
    Pending,
    Cgroup,
    /// The cgroup of a hierarchy that has a name.
    NamedCgroup,
    /// A namespace, as `/proc/<pid>/ns` calls it.
    Namespace(&'static str),
    Label,
    OomScore,
    OomAdjustment,
    /// A line of `/proc/<pid>/io`.
    Transfer(&'static str),
    OpenFiles,
    AutogroupId,
    AutogroupNice,
    /// What Linux does not tell.
    Nothing,
}

/// Which of the four users or groups that a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Real,
    Effective,
    Saved,
    /// Who is asked when files are.
    Files,
}

/// What a name stands for and its title.
pub(super) fn named(name: &str) -> Option<(Column, &'static str)> {
    NAMED.iter().find_map(|(names, title, column)| names.contains(&name).then_some((*column, *title)))
}

type Line = (&'static [&'static str], &'static str, Column);

const fn priority(negative: bool, plus: i64) -> Column {
    Column::Priority { negative, plus }
}

use Column as C;
use Whose::{Effective, Files, Real, Saved};

#[rustfmt::skip]
const NAMED: &[Line] = &[
    (&["user", "uname"], "USER", C::User(Effective)),
    (&["euser"], "EUSER", C::User(Effective)),
    (&["uid_hack"], "UID", C::User(Effective)),
    (&["ruser"], "RUSER", C::User(Real)),
    (&["suser"], "SUSER", C::User(Saved)),
    (&["svuser"], "SVUSER", C::User(Saved)),
    (&["fuser"], "FUSER", C::User(Files)),
    (&["fsuser"], "FSUSER", C::User(Files)),
    (&["uid"], "UID", C::UserId(Effective)),
    (&["euid"], "EUID", C::UserId(Effective)),
    (&["ruid"], "RUID", C::UserId(Real)),
    (&["suid"], "SUID", C::UserId(Saved)),
    (&["svuid"], "SVUID", C::UserId(Saved)),
    (&["fuid"], "FUID", C::UserId(Files)),
    (&["fsuid"], "FSUID", C::UserId(Files)),
    (&["group"], "GROUP", C::Group(Effective)),
    (&["egroup"], "EGROUP", C::Group(Effective)),
    (&["rgroup"], "RGROUP", C::Group(Real)),
    (&["sgroup"], "SGROUP", C::Group(Saved)),
    (&["svgroup"], "SVGROUP", C::Group(Saved)),
    (&["fgroup"], "FGROUP", C::Group(Files)),
    (&["fsgroup"], "FSGROUP", C::Group(Files)),
    (&["gid"], "GID", C::GroupId(Effective)),
    (&["egid"], "EGID", C::GroupId(Effective)),
    (&["rgid"], "RGID", C::GroupId(Real)),
    (&["sgid"], "SGID", C::GroupId(Saved)),
    (&["svgid"], "SVGID", C::GroupId(Saved)),
    (&["fgid"], "FGID", C::GroupId(Files)),
    (&["fsgid"], "FSGID", C::GroupId(Files)),
    (&["luid"], "LUID", C::Login),
    (&["supgid"], "SUPGID", C::Groups),
    (&["supgrp"], "SUPGRP", C::GroupNames),
    (&["pid"], "PID", C::Pid),
    (&["tgid"], "TGID", C::Pid),
    (&["lwp"], "LWP", C::Thread),
    (&["spid"], "SPID", C::Thread),
    (&["tid"], "TID", C::Thread),
    (&["ppid"], "PPID", C::Number(4)),
    (&["pgid"], "PGID", C::Number(5)),
    (&["pgrp"], "PGRP", C::Number(5)),
    (&["sid"], "SID", C::Number(6)),
    (&["sess", "session"], "SESS", C::Number(6)),
    (&["tpgid"], "TPGID", C::Number(8)),
    (&["nlwp"], "NLWP", C::Number(20)),
    (&["thcount"], "THCNT", C::Number(20)),
    (&["minflt"], "MINFLT", C::Faults(10)),
    (&["min_flt"], "MINFL", C::Faults(10)),
    (&["majflt"], "MAJFLT", C::Faults(12)),
    (&["maj_flt"], "MAJFL", C::Faults(12)),
    (&["pagein"], "PAGEIN", C::Faults(12)),
    (&["c", "util"], "C", C::Load),
    (&["pcpu", "%cpu"], "%CPU", C::LoadPercent),
    (&["cp"], "CP", C::LoadPerMille),
    (&["cuu"], "%CUU", C::LoadFine),
    (&["pmem", "%mem"], "%MEM", C::MemoryPercent),
    (&["vsz", "vsize"], "VSZ", C::Virtual),
    (&["m_size"], "SIZE", C::VirtualBytes),
    (&["sz"], "SZ", C::Pages),
    (&["rss", "rssize", "sgi_rss"], "RSS", C::Resident),
    (&["rsz"], "RSZ", C::Resident),
    (&["pss"], "PSS", C::Proportional),
    (&["uss"], "USS", C::Own),
    (&["size"], "SIZE", C::Swappable),
    (&["trs", "m_trs"], "TRS", C::Text),
    (&["trss"], "TRSS", C::Text),
    (&["tsiz"], "TSIZ", C::Text),
    (&["drs", "m_drs"], "DRS", C::Data),
    (&["dsiz"], "DSIZ", C::Data),
    (&["lim"], "LIM", C::Limit),
    (&["stackp", "start_stack"], "STACKP", C::Address(28)),
    (&["esp"], "ESP", C::Address(29)),
    (&["eip"], "EIP", C::Address(30)),
    (&["tname", "longtname", "tty4", "tty8"], "TTY", C::Terminal),
    (&["tty", "tt"], "TT", C::Terminal),
    (&["s", "state"], "S", C::State),
    (&["stat"], "STAT", C::States),
    (&["f", "flag", "flags"], "F", C::Flags),
    (&["stime"], "STIME", C::Start),
    (&["start_time"], "START", C::Start),
    (&["start"], "STARTED", C::StartSecond),
    (&["bsdstart"], "START", C::StartMinute),
    (&["lstart"], "STARTED", C::StartFull),
    (&["time", "cputime", "atime"], "TIME", C::Time),
    (&["bsdtime"], "TIME", C::TimeMinutes),
    (&["times", "cputimes"], "TIME", C::TimeSeconds),
    (&["etime"], "ELAPSED", C::Elapsed),
    (&["etimes"], "ELAPSED", C::ElapsedSeconds),
    (&["args", "command"], "COMMAND", C::Command),
    (&["cmd"], "CMD", C::Command),
    (&["comm", "ucomm"], "COMMAND", C::Name),
    (&["ucmd"], "CMD", C::Name),
    (&["fname"], "COMMAND", C::ShortName),
    (&["environ"], "ENVIRONMENT", C::Environment),
    (&["exe"], "EXE", C::Executable),
    (&["ni", "nice"], "NI", C::Nice),
    (&["pri"], "PRI", priority(true, 39)),
    (&["opri", "intpri"], "PRI", priority(false, 60)),
    (&["priority"], "PRI", priority(false, 0)),
    (&["pri_foo"], "FOO", priority(false, -20)),
    (&["pri_bar"], "BAR", priority(false, 1)),
    (&["pri_baz"], "BAZ", priority(false, 100)),
    (&["pri_api"], "API", priority(true, -1)),
    (&["rtprio"], "RTPRIO", C::RealtimePriority),
    (&["class", "cls"], "CLS", C::Class),
    (&["policy"], "POL", C::Class),
    (&["sched"], "SCH", C::Policy),
    (&["psr"], "PSR", C::Processor),
    (&["cpu"], "CPU", C::Processor),
    (&["cpuid"], "CPUID", C::Processor),
    (&["lastcpu"], "C", C::Processor),
    (&["sgi_p"], "P", C::RunsOn),
    (&["wchan", "wname"], "WCHAN", C::Waits),
    (&["pending", "sig"], "PENDING", C::Pending),
    (&["sig_pend"], "SIGNAL", C::Pending),
    (&["tsig"], "PENDING", C::Signals("SigPnd")),
    (&["blocked", "sigmask", "sig_block"], "BLOCKED", C::Signals("SigBlk")),
    (&["ignored", "sigignore", "sig_ignore"], "IGNORED", C::Signals("SigIgn")),
    (&["caught", "sigcatch"], "CAUGHT", C::Signals("SigCgt")),
    (&["sig_catch"], "CATCHED", C::Signals("SigCgt")),
    (&["cgroup"], "CGROUP", C::Cgroup),
    (&["cgname"], "CGNAME", C::NamedCgroup),
    (&["cgroupns"], "CGROUPNS", C::Namespace("cgroup")),
    (&["ipcns"], "IPCNS", C::Namespace("ipc")),
    (&["mntns"], "MNTNS", C::Namespace("mnt")),
    (&["netns"], "NETNS", C::Namespace("net")),
    (&["pidns"], "PIDNS", C::Namespace("pid")),
    (&["timens"], "TIMENS", C::Namespace("time")),
    (&["userns"], "USERNS", C::Namespace("user")),
    (&["utsns"], "UTSNS", C::Namespace("uts")),
    (&["label"], "LABEL", C::Label),
    (&["context"], "CONTEXT", C::Label),
    (&["zone"], "ZONE", C::Label),
    (&["oom"], "OOM", C::OomScore),
    (&["oomadj"], "OOMADJ", C::OomAdjustment),
    (&["rchars"], "RCHARS", C::Transfer("rchar")),
    (&["rops"], "ROPS", C::Transfer("syscr")),
    (&["rbytes"], "RBYTES", C::Transfer("read_bytes")),
    (&["wchars"], "WCHARS", C::Transfer("wchar")),
    (&["wops"], "WOPS", C::Transfer("syscw")),
    (&["wbytes"], "WBYTES", C::Transfer("write_bytes")),
    (&["wcbytes"], "WCBYTES", C::Transfer("cancelled_write_bytes")),
    (&["fds"], "FDS", C::OpenFiles),
    (&["ag_id"], "AGID", C::AutogroupId),
    (&["ag_nice"], "AGNI", C::AutogroupNice),
    (&["addr"], "ADDR", C::Nothing),
    (&["timeout", "tmout"], "TMOUT", C::Nothing),
    (&["alarm"], "ALARM", C::Nothing),
    (&["jobc"], "JOBC", C::Nothing),
    (&["m_swap"], "SWAP", C::Nothing),
    (&["m_share"], "SHRD", C::Nothing),
    (&["vm_lib"], "LIB", C::Nothing),
    (&["m_dt"], "DT", C::Nothing),
    (&["nwchan"], "WCHAN", C::Nothing),
];

impl Column {
    /// Whether it shows the command, before which a tree is drawn.
    pub(super) fn is_command(self) -> bool {
        matches!(self, Self::Command | Self::Name | Self::ShortName)
    }

    /// Whether an account's name is shown, which ends with a `+` when it has no room.
    pub(super) fn is_account(self) -> bool {
        matches!(self, Self::User(_) | Self::Group(_))
    }

    /// Whether it is cut to a width; figures are not.
    pub(super) fn is_text(self) -> bool {
        self.is_command()
            || self.is_account()
            || matches!(self, Self::Groups | Self::GroupNames | Self::Environment | Self::Executable | Self::Waits)
            || matches!(self, Self::Cgroup | Self::NamedCgroup)
    }

    /// Whether a list of threads below their process shows it with the process only.
    pub(super) fn is_of_processes(self) -> bool {
        match self {
            Self::Pid | Self::Number(_) | Self::MemoryPercent | Self::Resident | Self::Proportional | Self::Own => true,
            Self::Virtual | Self::VirtualBytes | Self::Pages | Self::Swappable | Self::Text | Self::Data => true,
            Self::Command | Self::Name | Self::ShortName | Self::Environment | Self::Executable => true,
            Self::Terminal | Self::Cgroup | Self::NamedCgroup | Self::Groups | Self::GroupNames => true,
            Self::Address(place) => place == 28,
            Self::OpenFiles => true,
            _ => false,
        }
    }

    /// Whether a list of threads below their process shows it with the threads only.
    pub(super) fn is_of_threads(self) -> bool {
        match self {
            Self::Thread | Self::State | Self::States | Self::Nice | Self::Priority { .. } | Self::Class => true,
            Self::Policy | Self::RealtimePriority | Self::Processor | Self::RunsOn | Self::Waits => true,
            Self::OomScore | Self::OomAdjustment | Self::Transfer(_) => true,
            Self::Address(place) => place != 28,
            Self::Signals(name) => name != "SigPnd",
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_for_one_thing() {
        let mut all: Vec<&str> = NAMED.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
        all.sort_unstable();
        assert_eq!(all.windows(2).find(|pair| pair[0] == pair[1]), None);
        assert!(all.iter().all(|name| named(name).is_some()) && named("bogus").is_none());
    }

    #[test]
    fn a_name_has_its_own_title() {
        let cases = [("args", "COMMAND"), ("cmd", "CMD"), ("comm", "COMMAND"), ("ucmd", "CMD"), ("tty", "TT")];
        let more = [("tname", "TTY"), ("rsz", "RSZ"), ("thcount", "THCNT"), ("policy", "POL"), ("start", "STARTED")];
        for (name, title) in cases.into_iter().chain(more) {
            assert_eq!(named(name).map(|(_, title)| title), Some(title), "{name}");
        }
    }
}
