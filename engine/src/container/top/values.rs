//! What the columns show of a process, and what is compared when processes are sorted.

use super::columns::Column;
use super::machine::Machine;
use super::names::{Names, terminal};
use super::process::{Process, kibibytes, line};

/// How values are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// `c`: commands by their name only.
    pub(super) short: bool,
    /// `e`: the environment behind commands.
    pub(super) environment: bool,
    /// `S`: with what children have used that have been waited for.
    pub(super) children: bool,
    /// `n`: users and groups by number.
    pub(super) numeric: bool,
}

/// What values are made with.
#[derive(Debug)]
pub(super) struct Values<'a> {
    pub(super) names: &'a Names,
    pub(super) machine: &'a Machine,
    pub(super) style: Style,
}

/// What is compared: numbers come before texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Number(i64),
    Text(String),
}

impl Values<'_> {
    pub(super) fn of(&self, column: Column, process: &Process) -> String {
        use Column as C;
        let or_none = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
        let kib = |bytes: u64| (bytes >> 10).to_string();
        let (bytes, text) = (process.unsigned(23), process.unsigned(27).saturating_sub(process.unsigned(26)));
        match column {
            C::User(whose) => self.user(process.uid(whose)),
            C::UserId(whose) => process.uid(whose).to_string(),
            C::Group(whose) => self.group(process.gid(whose)),
            C::GroupId(whose) => process.gid(whose).to_string(),
            C::Login => or_none(process.text("loginuid").filter(|id| *id != u32::MAX.to_string())),
            C::Groups => or_none(process.line("Groups").map(|list| groups(list, str::to_owned))),
            C::GroupNames => {
                let name = |id: &str| id.parse().map_or_else(|_| id.to_owned(), |id| self.names.group(id));
                or_none(process.line("Groups").map(|list| groups(list, name)))
            }
            C::Pid => process.pid.to_string(),
            C::Thread => process.thread.to_string(),
            C::Number(field) => process.number(field).to_string(),
            C::Faults(field) => self.faults(field, process).to_string(),
            C::Load => (process.load / 1000).min(99).to_string(),
            C::LoadPercent if process.load > 99_999 => (process.load / 1000).to_string(),
            C::LoadPercent => tenths(process.load / 100),
            C::LoadPerMille => (process.load / 100).min(999).to_string(),
            C::LoadFine => format!("{}.{:03}", process.load.min(99_999) / 1000, process.load.min(99_999) % 1000),
            C::MemoryPercent => tenths(self.machine.share(process.kibibytes("VmRSS")).min(999)),
            C::Virtual => kib(bytes),
            C::VirtualBytes => bytes.to_string(),
            C::Pages => (bytes / self.machine.page.unsigned_abs()).to_string(),
            C::Resident => process.kibibytes("VmRSS").to_string(),
            C::Proportional => rolled(process, &["Pss"]),
            C::Own => rolled(process, &["Private_Clean", "Private_Dirty"]),
            C::Swappable => process.kibibytes("VmData").saturating_add(process.kibibytes("VmStk")).to_string(),
            C::Text => kib(if bytes == 0 { 0 } else { text }),
            C::Data => kib(bytes.saturating_sub(text)),
            C::Limit if process.unsigned(25) == u64::MAX => "xx".to_owned(),
            C::Limit => kib(process.unsigned(25)),
            C::Address(field) => format!("{:016x}", process.unsigned(field)),
            C::Terminal => terminal(process.number(7)),
            C::State => process.state().to_string(),
            C::States => states(process),
            C::Flags => format!("{:o}", (process.number(9) >> 6) & 7),
            C::Start => self.machine.start(process.start()),
            C::StartSecond => self.machine.start_second(process.start()),
            C::StartMinute => self.machine.start_minute(process.start()),
            C::StartFull => self.machine.start_full(process.start()),
            C::Time => days(self.seconds(process), true),
            C::TimeMinutes => format!("{}:{:02}", self.seconds(process) / 60, self.seconds(process) % 60),
            C::TimeSeconds => self.seconds(process).to_string(),
            C::Elapsed => days(self.machine.age(process.start()), false),
            C::ElapsedSeconds => self.machine.age(process.start()).to_string(),
            C::Command if !self.style.short => self.with_environment(process.command(), process),
            C::Command | C::Name => self.with_environment(format!("{}{}", process.name(), process.defunct()), process),
            C::ShortName => process.name().chars().take(8).collect(),
            C::Environment => or_none(process.environment()),
            C::Executable => or_none(process.link("exe")),
            C::Nice if matches!(process.number(41), 0 | 3) => process.number(19).to_string(),
            C::Nice => "-".to_owned(),
            C::Priority { negative, plus } => {
                let priority = process.number(18);
                (plus + if negative { -priority } else { priority }).to_string()
            }
            C::RealtimePriority if process.number(41) == 0 => "-".to_owned(),
            C::RealtimePriority => process.number(40).to_string(),
            C::Class => class(process.number(41)),
            C::Policy => process.number(41).to_string(),
            C::Processor => process.number(39).to_string(),
            C::RunsOn if process.state() == 'R' => process.number(39).to_string(),
            C::RunsOn => "*".to_owned(),
            C::Waits => {
                let place = process.text("wchan").filter(|place| place != "0");
                or_none(place.map(|place| place.trim_start_matches(['.', '_']).to_owned()))
            }
            C::Signals(name) => or_none(process.line(name).map(str::to_owned)),
            C::Pending => {
                let name = if process.thread == process.pid { "ShdPnd" } else { "SigPnd" };
                or_none(process.line(name).map(str::to_owned))
            }
            C::Cgroup => or_none(process.lines("cgroup").map(|lines| cgroups(&lines))),
            C::NamedCgroup => or_none(process.lines("cgroup").map(|lines| {
                let all = cgroups(&lines);
                match all.split_once(":name=") {
                    Some((_, named)) if !named.is_empty() => named.to_owned(),
                    _ => all,
                }
            })),
            C::Namespace(kind) => or_none(
                process
                    .link(&format!("ns/{kind}"))
                    .and_then(|target| Some(target.split_once('[')?.1.strip_suffix(']')?.to_owned())),
            ),
            C::Label => {
                or_none(process.text("attr/current").map(|label| label.trim_end_matches(['?', '\0']).to_owned()))
            }
            C::OomScore => or_none(process.text("oom_score")),
            C::OomAdjustment => or_none(process.text("oom_score_adj")),
            C::Transfer(name) => or_none(process.lines("io").and_then(|io| line(&io, name).map(str::to_owned))),
            C::OpenFiles => or_none(process.entries("fd").map(|count| count.to_string())),
            C::AutogroupId => or_none(autogroup(process).map(|(id, _)| id)),
            C::AutogroupNice => or_none(autogroup(process).map(|(_, nice)| nice)),
            C::Nothing => "-".to_owned(),
        }
    }

    /// What a column is sorted by: not what is shown of times and shares but what they are made of.
    pub(super) fn key(&self, column: Column, process: &Process) -> Key {
        use Column as C;
        match column {
            C::Load | C::LoadPercent | C::LoadPerMille | C::LoadFine => Key::Number(process.load),
            C::MemoryPercent => Key::Number(i64::try_from(process.kibibytes("VmRSS")).unwrap_or(i64::MAX)),
            C::Start | C::StartSecond | C::StartMinute | C::StartFull => Key::Number(process.start()),
            C::Time | C::TimeMinutes | C::TimeSeconds => Key::Number(process.used(self.style.children)),
            C::Elapsed | C::ElapsedSeconds => Key::Number(-process.start()),
            C::Flags => Key::Number(process.number(9)),
            C::Terminal => Key::Number(process.number(7)),
            C::Nice => Key::Number(process.number(19)),
            C::User(_) | C::Group(_) | C::Command | C::Name | C::ShortName => Key::Text(self.of(column, process)),
            _ => {
                let value = self.of(column, process);
                value.parse().map_or(Key::Text(value), Key::Number)
            }
        }
    }

    fn user(&self, id: u32) -> String {
        if self.style.numeric { id.to_string() } else { self.names.user(id) }
    }

    fn group(&self, id: u32) -> String {
        if self.style.numeric { id.to_string() } else { self.names.group(id) }
    }

    fn faults(&self, field: usize, process: &Process) -> i64 {
        let of_children = if self.style.children { process.number(field + 1) } else { 0 };
        process.number(field).saturating_add(of_children)
    }

    fn seconds(&self, process: &Process) -> i64 {
        process.used(self.style.children) / self.machine.ticks
    }

    fn with_environment(&self, command: String, process: &Process) -> String {
        match process.environment().filter(|_| self.style.environment) {
            Some(environment) => format!("{command} {environment}"),
            None => command,
        }
    }
}

fn tenths(thousandths: i64) -> String {
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

/// Seconds as `[days-][hours:]minutes:seconds`.
fn days(seconds: i64, always_hours: bool) -> String {
    let (days, hours, rest) =
        (seconds / 86_400, seconds / 3600 % 24, format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60));
    match (days, hours) {
        (0, 0) if !always_hours => rest,
        (0, _) => format!("{hours:02}:{rest}"),
        _ => format!("{days}-{hours:02}:{rest}"),
    }
}

/// The state with what else is to know: priority, locked memory, leading a session, threads, the foreground.
fn states(process: &Process) -> String {
    let pid = i64::from(process.pid);
    let marks = [
        (process.number(19) < 0, '<'),
        (process.number(19) > 0, 'N'),
        (process.kibibytes("VmLck") > 0, 'L'),
        (process.number(6) == pid, 's'),
        (process.number(20) > 1, 'l'),
        (process.number(5) == process.number(8), '+'),
    ];
    std::iter::once(process.state()).chain(marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark)).collect()
}

/// A scheduling policy by its number in `sched(7)`.
fn class(policy: i64) -> String {
    match policy {
        0 => "TS".to_owned(),
        1 => "FF".to_owned(),
        2 => "RR".to_owned(),
        3 => "B".to_owned(),
        4 => "ISO".to_owned(),
        5 => "IDL".to_owned(),
        6 => "DLN".to_owned(),
        other => format!("#{other}"),
    }
}

/// The lines of `/proc/<pid>/cgroup` in one, without those of roots.
fn cgroups(lines: &str) -> String {
    let lines: Vec<&str> = lines.lines().filter(|line| !line.ends_with('/')).collect();
    lines.join(",").chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn groups(list: &str, name: impl Fn(&str) -> String) -> String {
    list.split_ascii_whitespace().map(name).collect::<Vec<_>>().join(",")
}

/// The sum of some lines of `smaps_rollup`, in kibibytes.
fn rolled(process: &Process, names: &[&str]) -> String {
    let text = process.lines("smaps_rollup").unwrap_or_default();
    names.iter().map(|name| kibibytes(&text, name)).sum::<u64>().to_string()
}

/// Number and niceness of its autogroup, which stand as `/autogroup-7 nice 0`.
fn autogroup(process: &Process) -> Option<(String, String)> {
    let text = process.text("autogroup")?;
    let (id, nice) = text.strip_prefix("/autogroup-")?.split_once(" nice ")?;
    Some((id.to_owned(), nice.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::columns::{Whose, named};
    use super::*;

    /// A column, fields of `stat`, lines of `status`, and what is shown.
    type Case<'a> = (&'a str, &'a [(usize, i64)], &'a str, &'a str);

    /// The fields from the state on; places count as in `proc(5)`.
    fn stat(fields: &[(usize, i64)]) -> Vec<u8> {
        let mut all = vec!["0".to_owned(); 50];
        all[0] = "S".to_owned();
        for (place, value) in fields {
            all[place - 3] = value.to_string();
        }
        format!("70 (cat) {}", all.join(" ")).into_bytes()
    }

    fn shown(column: &str, fields: &[(usize, i64)], status: &str, style: Style) -> String {
        let process = Process::made(70, &stat(fields), status).unwrap();
        let names = Names::new("ann:x:7:7::/:", "staff:x:50:");
        Values { names: &names, machine: &Machine::look(), style }.of(named(column).unwrap().0, &process)
    }

    #[test]
    fn values_are_told_as_ps_tells_them() {
        let ticks = Machine::look().ticks;
        let cases: &[Case] = &[
            ("user", &[], "Uid:\t1\t7\t2\t3", "ann"),
            ("ruser", &[], "Uid:\t1\t7\t2\t3", "1"),
            ("fsuid", &[], "Uid:\t1\t7\t2\t3", "3"),
            ("egroup", &[], "Gid:\t1\t50\t2\t3", "staff"),
            ("supgid", &[], "Groups:\t4 50 ", "4,50"),
            ("supgrp", &[], "Groups:\t4 50 ", "4,staff"),
            ("supgrp", &[], "Groups:\t", "-"),
            ("ppid", &[(4, 12)], "", "12"),
            ("stat", &[(19, -5), (6, 70), (20, 3), (5, 9), (8, 9)], "VmLck:\t  8 kB", "S<Lsl+"),
            ("stat", &[(19, 5), (8, -1)], "", "SN"),
            ("pri", &[(18, 20)], "", "19"),
            ("opri", &[(18, 20)], "", "80"),
            ("pri_api", &[(18, -51)], "", "50"),
            ("ni", &[(19, 5)], "", "5"),
            ("ni", &[(41, 1)], "", "-"),
            ("rtprio", &[], "", "-"),
            ("rtprio", &[(40, 50), (41, 2)], "", "50"),
            ("cls", &[(41, 2)], "", "RR"),
            ("policy", &[], "", "TS"),
            ("f", &[(9, 0x0040_0140)], "", "5"),
            ("time", &[(14, 90_061 * ticks)], "", "1-01:01:01"),
            ("bsdtime", &[(14, 3_601 * ticks)], "", "60:01"),
            ("times", &[(14, 61 * ticks), (15, 60 * ticks)], "", "121"),
            ("vsz", &[(23, 4096)], "", "4"),
            ("rss", &[(24, 9)], "VmRSS:\t    12 kB", "12"),
            ("rss", &[(24, 9)], "", "0"),
            ("size", &[], "VmData:\t 10 kB\nVmStk:\t 3 kB", "13"),
            ("trs", &[(23, 1), (26, 1024), (27, 4096)], "", "3"),
            ("lim", &[(25, -1)], "", "0"),
            ("tty", &[(7, 0x8801)], "", "pts/1"),
            ("sig", &[], "ShdPnd:\t0000000000000001", "0000000000000001"),
            ("args", &[], "", "[cat]"),
            ("addr", &[], "", "-"),
            ("cgroup", &[], "", "-"),
        ];
        for (column, fields, status, value) in cases {
            assert_eq!(shown(column, fields, status, Style::default()), *value, "{column} {fields:?}");
        }
    }

    #[test]
    fn a_style_changes_values() {
        let status = "Uid:\t1\t7\t2\t3";
        assert_eq!(shown("user", &[], status, Style { numeric: true, ..Style::default() }), "7");
        let faults = [(10, 3), (11, 4)];
        assert_eq!(shown("minflt", &faults, "", Style::default()), "3");
        assert_eq!(shown("minflt", &faults, "", Style { children: true, ..Style::default() }), "7");
        assert_eq!(shown("args", &[], "", Style { short: true, ..Style::default() }), "cat");
    }

    #[test]
    fn load_is_told_in_hundredths_of_a_processor() {
        let shown = |load: i64| {
            let mut process = Process::made(70, &stat(&[]), "").unwrap();
            process.load = load;
            let (names, machine) = (Names::default(), Machine::look());
            let values = Values { names: &names, machine: &machine, style: Style::default() };
            ["c", "pcpu", "cp", "cuu"].map(|name| values.of(named(name).unwrap().0, &process))
        };
        assert_eq!(shown(0), ["0", "0.0", "0", "0.000"]);
        assert_eq!(shown(12_345), ["12", "12.3", "123", "12.345"]);
        assert_eq!(shown(250_000), ["99", "250", "999", "99.999"]);
    }

    #[test]
    fn elapsed_time_has_hours_and_days_when_it_lasts() {
        let cases = [(0, "00:00"), (61, "01:01"), (3600, "01:00:00"), (90_000, "1-01:00:00"), (86_400, "1-00:00:00")];
        for (seconds, text) in cases {
            assert_eq!(days(seconds, false), text);
        }
        assert_eq!(days(59, true), "00:00:59");
    }

    #[test]
    fn cgroups_of_roots_are_left_out() {
        assert_eq!(cgroups("2:cpu:/a\n1:name=systemd:/\n0::/b\x1b\n"), "2:cpu:/a,0::/b?");
    }

    #[test]
    fn every_column_can_be_shown_of_this_process_and_of_one_that_is_gone() {
        let (names, machine) = (Names::look(), Machine::look());
        let values = Values { names: &names, machine: &machine, style: Style::default() };
        let here = Process::read(std::process::id()).unwrap();
        let gone = Process::made(70, b"70 (cat) S", "").unwrap();
        for name in
            ["pss", "uss", "wchan", "label", "exe", "netns", "oom", "rchars", "fds", "luid", "environ", "lstart"]
        {
            let column = named(name).unwrap().0;
            assert!(!values.of(column, &here).is_empty() && !values.of(column, &gone).is_empty(), "{name}");
        }
        assert_eq!(values.of(Column::Executable, &here), std::env::current_exe().unwrap().display().to_string());
        assert_eq!(values.of(Column::Executable, &gone), "-");
        assert_eq!(values.of(Column::UserId(Whose::Real), &gone), u32::MAX.to_string());
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let names = Names::default();
        let values = Values { names: &names, machine: &Machine::look(), style: Style::default() };
        let key = |name: &str, fields: &[(usize, i64)]| {
            values.key(named(name).unwrap().0, &Process::made(7, &stat(fields), "").unwrap())
        };
        assert!(key("vsz", &[(23, 9 << 10)]) < key("vsz", &[(23, 10 << 10)]));
        assert!(key("time", &[(14, 9)]) < key("time", &[(14, 10)]));
        assert!(key("etime", &[(22, 9)]) > key("etime", &[(22, 10)]), "the younger one first");
        assert_eq!(key("comm", &[]), Key::Text("cat".to_owned()));
        assert!(key("ppid", &[]) < key("comm", &[]));
    }
}
