//! The processes of a container as `ps` shows them, read from the host's `/proc`; no program is run for it.

use std::collections::BTreeMap;
use std::fs;

use super::inventory::{blocking, not_running};
use super::{Container, Error};

/// Processes as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// Headings of the columns.
    pub titles: Vec<String>,
    /// One row a process.
    pub processes: Vec<Vec<String>>,
}

impl Container {
    /// Its processes. `arguments` are those of `ps`: nothing or `-ef`, `aux`, or `-o` with names of columns.
    ///
    /// # Errors
    /// When it does not run, or the arguments ask for what is not known.
    pub async fn top(&self, arguments: &str) -> Result<Top, Error> {
        self.watch_top(arguments)?.next().await
    }

    /// Its processes, to be looked at again and again: an event tells of it once. `arguments` are as for [`Container::top`].
    ///
    /// # Errors
    /// When it does not run, or the arguments ask for what is not known.
    pub fn watch_top(&self, arguments: &str) -> Result<TopWatch, Error> {
        let columns = columns(arguments)?;
        let record = self.inner.record();
        if !record.state.status.has_process() {
            return Err(not_running(record.id.as_str()));
        }
        self.shared.tell(&record, "top", &[]);
        let titles = titles(arguments, &columns);
        Ok(TopWatch { container: self.clone(), columns, titles, before: Look::default() })
    }
}

/// A container whose processes are looked at again and again.
#[derive(Debug)]
pub struct TopWatch {
    container: Container,
    columns: Vec<Column>,
    titles: Vec<String>,
    before: Look,
}

impl TopWatch {
    /// Its processes now. How much of a processor each uses is told for the time since the look before, and in the first look
    /// for its whole life, as `ps` does.
    ///
    /// # Errors
    /// When it does not run any more.
    pub async fn next(&mut self) -> Result<Top, Error> {
        let record = self.container.inner.record();
        if !record.state.status.has_process() {
            return Err(not_running(record.id.as_str()));
        }
        let runtime = self.container.shared.parts.runtime.clone();
        let before = std::mem::take(&mut self.before);
        let columns = self.columns.clone();
        let (processes, look) = blocking(move || {
            let pids = runtime.cgroup(record.id.as_str())?.pids()?;
            let names = users();
            let machine = Machine::look();
            let mut look = Look { at: machine.uptime, used: BTreeMap::new() };
            // One that has ended meanwhile is left out.
            let read = pids.into_iter().filter_map(Process::read);
            let row = |mut process: Process| -> Vec<String> {
                process.load = before.load(&process, &machine);
                look.used.insert((process.pid, process.start()), process.used());
                columns.iter().map(|column| column.of(&process, &names, &machine)).collect()
            };
            Ok((read.map(row).collect(), look))
        })
        .await?;
        self.before = look;
        Ok(Top { titles: self.titles.clone(), processes })
    }
}

/// What the processes had used at an earlier moment.
#[derive(Debug, Default)]
struct Look {
    /// When that was, in ticks since boot.
    at: i64,
    /// Ticks on a processor, by process and when it began.
    used: BTreeMap<(u32, i64), i64>,
}

impl Look {
    /// How much of a processor a process has used since then, or in its life when it was not there, in thousandths.
    fn load(&self, process: &Process, machine: &Machine) -> i64 {
        let (used, passed) = match self.used.get(&(process.pid, process.start())) {
            Some(before) => (process.used() - before, machine.uptime - self.at),
            None => (process.used(), machine.uptime - process.start()),
        };
        per_mille(used, passed.max(1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    User,
    Uid,
    Pid,
    ParentPid,
    Load,
    ProcessorPercent,
    MemoryPercent,
    Virtual,
    Resident,
    Terminal,
    State,
    Start,
    Time,
    Command,
    Name,
    Nice,
    Threads,
    Group,
    Elapsed,
}

const NAMED: [(&str, Column); 30] = [
    ("user", Column::User),
    ("euser", Column::User),
    ("uid", Column::Uid),
    ("euid", Column::Uid),
    ("pid", Column::Pid),
    ("tgid", Column::Pid),
    ("ppid", Column::ParentPid),
    ("c", Column::Load),
    ("pcpu", Column::ProcessorPercent),
    ("%cpu", Column::ProcessorPercent),
    ("pmem", Column::MemoryPercent),
    ("%mem", Column::MemoryPercent),
    ("vsz", Column::Virtual),
    ("vsize", Column::Virtual),
    ("rss", Column::Resident),
    ("rssize", Column::Resident),
    ("tty", Column::Terminal),
    ("tt", Column::Terminal),
    ("stat", Column::State),
    ("state", Column::State),
    ("s", Column::State),
    ("stime", Column::Start),
    ("start", Column::Start),
    ("time", Column::Time),
    ("etime", Column::Elapsed),
    ("args", Column::Command),
    ("cmd", Column::Command),
    ("command", Column::Command),
    ("comm", Column::Name),
    ("ucmd", Column::Name),
];

/// The headings, which `ps` has others of in each of its long forms.
fn titles(arguments: &str, columns: &[Column]) -> Vec<String> {
    const FULL: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    const USER: [&str; 11] = ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"];
    let known: &[&str] = match arguments.trim() {
        "" | "-ef" | "-fe" => &FULL,
        "aux" | "-aux" | "auxw" | "auxww" => &USER,
        _ => &[],
    };
    if known.len() == columns.len() {
        return known.iter().map(|&title| title.to_owned()).collect();
    }
    columns.iter().map(|column| column.title().to_owned()).collect()
}

fn columns(arguments: &str) -> Result<Vec<Column>, Error> {
    use Column as C;
    let unknown = || {
        Error::unsupported(format!("ps arguments \"{arguments}\" are not supported: use -ef, aux, or -o with columns"))
    };
    let words: Vec<&str> = arguments.split_whitespace().collect();
    match words[..] {
        [] | ["-ef"] | ["-fe"] => {
            Ok(vec![C::User, C::Pid, C::ParentPid, C::Load, C::Start, C::Terminal, C::Time, C::Command])
        }
        ["-e"] | ["-A"] | ["ax"] => Ok(vec![C::Pid, C::Terminal, C::Time, C::Name]),
        ["aux"] | ["-aux"] | ["auxw"] | ["auxww"] => Ok(vec![
            C::User,
            C::Pid,
            C::ProcessorPercent,
            C::MemoryPercent,
            C::Virtual,
            C::Resident,
            C::Terminal,
            C::State,
            C::Start,
            C::Time,
            C::Command,
        ]),
        _ => {
            let mut list = Vec::new();
            let mut words = words.into_iter().peekable();
            while let Some(word) = words.next() {
                let names = match word {
                    "-o" | "-eo" | "-Ao" | "-axo" | "axo" | "o" => words.next().ok_or_else(unknown)?,
                    "-e" | "-A" | "ax" => continue,
                    _ => word.strip_prefix("-o").ok_or_else(unknown)?,
                };
                for name in names.split(',') {
                    let extra = [
                        ("ni", C::Nice),
                        ("nlwp", C::Threads),
                        ("thcount", C::Threads),
                        ("pgid", C::Group),
                        ("pgrp", C::Group),
                    ];
                    let known = NAMED.iter().chain(&extra).find(|(known, _)| known.eq_ignore_ascii_case(name));
                    list.push(known.ok_or_else(unknown)?.1);
                }
            }
            // The engine picks the rows by it, and so does everybody who reads them.
            if list.contains(&C::Pid) { Ok(list) } else { Err(Error::invalid("Couldn't find PID field in ps output")) }
        }
    }
}

/// What one process looks like.
#[derive(Debug, Default)]
struct Process {
    pid: u32,
    name: String,
    command: String,
    uid: u32,
    /// How much of a processor it uses, in thousandths.
    load: i64,
    /// The fields of `/proc/<pid>/stat` from the state on.
    stat: Vec<String>,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, parentheses too.
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command: String = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
        Some(Self {
            pid,
            command: if command.is_empty() { format!("[{name}]") } else { command },
            name,
            load: 0,
            uid: uids.split_whitespace().nth(1)?.parse().ok()?,
            stat: after.split_whitespace().map(str::to_owned).collect(),
        })
    }

    /// A number of `stat`, counted as in `proc(5)`.
    fn number(&self, field: usize) -> i64 {
        self.stat.get(field - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Ticks on a processor.
    fn used(&self) -> i64 {
        self.number(14).saturating_add(self.number(15))
    }

    /// When it began, in ticks since boot.
    fn start(&self) -> i64 {
        self.number(22)
    }

    /// Seconds on a processor.
    fn seconds(&self, machine: &Machine) -> i64 {
        self.used() / machine.ticks
    }

    /// Seconds since it began.
    fn age(&self, machine: &Machine) -> i64 {
        ((machine.uptime - self.start()) / machine.ticks).max(0)
    }
}

/// What of the machine is needed to make sense of its numbers.
#[derive(Debug)]
struct Machine {
    /// How many ticks a second has.
    ticks: i64,
    page: i64,
    /// Ticks since boot.
    uptime: i64,
    memory: i64,
    now: i64,
}

impl Machine {
    fn look() -> Self {
        let first = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let uptime = first("/proc/uptime");
        let memory = first("/proc/meminfo");
        let kib =
            memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
        let ticks = i64::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100).max(1);
        // Seconds with two digits behind the point.
        let hundredths = uptime.split_whitespace().next().and_then(|first| first.replace('.', "").parse::<i64>().ok());
        Self {
            ticks,
            page: i64::try_from(rustix::param::page_size()).unwrap_or(4096),
            uptime: hundredths.unwrap_or(0).saturating_mul(ticks) / 100,
            memory: kib.unwrap_or(1_i64).max(1) * 1024,
            now: super::inventory::now() / 1_000_000_000,
        }
    }
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::Uid => "UID",
            Self::Pid => "PID",
            Self::ParentPid => "PPID",
            Self::Load => "C",
            Self::ProcessorPercent => "%CPU",
            Self::MemoryPercent => "%MEM",
            Self::Virtual => "VSZ",
            Self::Resident => "RSS",
            Self::Terminal => "TTY",
            Self::State => "STAT",
            Self::Start => "STIME",
            Self::Time => "TIME",
            Self::Command => "CMD",
            Self::Name => "COMMAND",
            Self::Nice => "NI",
            Self::Threads => "NLWP",
            Self::Group => "PGID",
            Self::Elapsed => "ELAPSED",
        }
    }

    fn of(self, process: &Process, users: &BTreeMap<u32, String>, machine: &Machine) -> String {
        let percent = |per_mille: i64| format!("{}.{}", per_mille / 10, per_mille % 10);
        match self {
            Self::User => users.get(&process.uid).cloned().unwrap_or_else(|| process.uid.to_string()),
            Self::Uid => process.uid.to_string(),
            Self::Pid => process.pid.to_string(),
            Self::ParentPid => process.number(4).to_string(),
            Self::Load => (process.load / 10).to_string(),
            Self::ProcessorPercent => percent(process.load),
            Self::MemoryPercent => percent(per_mille(process.number(24).saturating_mul(machine.page), machine.memory)),
            Self::Virtual => (process.number(23) / 1024).to_string(),
            Self::Resident => (process.number(24) * machine.page / 1024).to_string(),
            Self::Terminal => match process.number(7) {
                0 => "?".to_owned(),
                device => format!("pts/{}", (device & 0xff) | ((device >> 12) & 0xfff00)),
            },
            Self::State => process.stat.first().cloned().unwrap_or_default(),
            Self::Start => clock(machine.now - process.age(machine)),
            Self::Time => hours(process.seconds(machine)),
            Self::Elapsed => {
                let age = process.age(machine);
                if age < 3600 { format!("{:02}:{:02}", age / 60, age % 60) } else { hours(age) }
            }
            Self::Command => process.command.clone(),
            Self::Name => process.name.clone(),
            Self::Nice => process.number(19).to_string(),
            Self::Threads => process.number(20).to_string(),
            Self::Group => process.number(5).to_string(),
        }
    }
}

fn per_mille(part: i64, whole: i64) -> i64 {
    part.max(0).saturating_mul(1000) / whole.max(1)
}

fn hours(seconds: i64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The time of the day, in UTC.
fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60)
}

/// Names of the host's users.
fn users() -> BTreeMap<u32, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entries = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn arguments_of_ps_become_columns() {
        use Column as C;
        assert_eq!(columns("").unwrap(), columns("-ef").unwrap());
        assert_eq!(columns("aux").unwrap().len(), 11);
        assert_eq!(columns("-o pid,comm").unwrap(), [C::Pid, C::Name]);
        assert_eq!(columns("-eo pid -o args").unwrap(), [C::Pid, C::Command]);
        assert_eq!(columns("-o comm").unwrap_err().to_string(), "Couldn't find PID field in ps output");
        assert!(columns("-o bogus").is_err() && columns("--forest").is_err() && columns("-o").is_err());
    }

    #[test]
    fn what_a_process_uses_is_told_since_the_look_before() {
        // It began at 1000, has used 300 in user space and 200 in the kernel, and it is 2000 now.
        let mut stat = vec!["0".to_owned(); 25];
        for (field, value) in [(14, "300"), (15, "200"), (22, "1000")] {
            stat[field - 3] = value.to_owned();
        }
        let process = Process { pid: 7, stat, ..Process::default() };
        let machine = Machine { uptime: 2000, ..Machine::look() };
        assert_eq!(Look::default().load(&process, &machine), 500);
        let before = |began: i64, used: i64| Look { at: 1900, used: [((7, began), used)].into() };
        assert_eq!(before(1000, 475).load(&process, &machine), 250);
        assert_eq!(before(1000, 500).load(&process, &machine), 0);
        // Another one had the number then.
        assert_eq!(before(900, 475).load(&process, &machine), 500);
    }

    #[test]
    fn this_process_is_read() {
        let process = Process::read(std::process::id()).unwrap();
        let (users, machine) = (users(), Machine::look());
        let shown = |column: Column| column.of(&process, &users, &machine);
        assert_eq!(shown(Column::Pid), std::process::id().to_string());
        assert_ne!(shown(Column::Resident), "0");
        assert!(!shown(Column::Command).is_empty());
        assert_eq!(shown(Column::Time).len(), 8);
        assert!(Process::read(u32::MAX).is_none());
    }
}
