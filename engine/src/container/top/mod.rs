//! The processes of a container as `ps` shows them, read from the host's `/proc`; no program is run for it.

mod columns;
mod formats;
mod machine;
mod names;
mod options;
mod process;
mod rows;
mod select;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::columns::Column;
use self::machine::Machine;
use self::names::Names;
use self::options::{Options, Threads};
use self::process::Process;
use self::rows::Row;
use self::values::{Key, Values};
use super::inventory::{blocking, not_running};
use super::{Container, Error};

/// How many bytes a list may have before what is further in it is cut to [`SHORT`].
const ENOUGH: usize = 16 << 20;
/// Characters.
const SHORT: usize = 256;

/// Processes as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// Headings of the columns.
    pub titles: Vec<String>,
    /// One row a process, or a thread where those are asked for.
    pub processes: Vec<Vec<String>>,
}

impl Container {
    /// Its processes. `arguments` are those of `ps` (`-ef`, `aux --sort=-rss`, `-o pid,args`, `-eLf` and so on), without a
    /// shell's quotes; none are `-ef`. Without a list of what to pick all of the container's are shown. Each value is whole,
    /// but for texts of columns that are given a width (`user:8`).
    ///
    /// # Errors
    /// When it does not run; [`Error::Invalid`] for arguments that `ps` has no sense for and lists without the column `PID`,
    /// as Docker has it; [`Error::Unsupported`] for those that need a screen or list no processes.
    pub async fn top(&self, arguments: &str) -> Result<Top, Error> {
        self.watch_top(arguments)?.next().await
    }

    /// Its processes, to be looked at again and again: an event tells of it once. `arguments` are as for [`Container::top`].
    ///
    /// # Errors
    /// As for [`Container::top`].
    pub fn watch_top(&self, arguments: &str) -> Result<TopWatch, Error> {
        let options = options::parse(arguments, &Names::look())?;
        let record = self.inner.record();
        if !record.state.status.has_process() {
            return Err(not_running(record.id.as_str()));
        }
        self.shared.tell(&record, "top", &[]);
        Ok(TopWatch { container: self.clone(), options: Arc::new(options), before: Look::default() })
    }
}

/// A container whose processes are looked at again and again.
#[derive(Debug)]
pub struct TopWatch {
    container: Container,
    options: Arc<Options>,
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
        let options = self.options.clone();
        let (processes, look) = blocking(move || {
            let mut pids = runtime.cgroup(record.id.as_str())?.pids()?;
            pids.sort_unstable();
            pids.dedup();
            Ok(listed(&pids, &options, &before))
        })
        .await?;
        self.before = look;
        let titles = self.options.columns.iter().map(|column| column.title.clone()).collect();
        Ok(Top { titles, processes })
    }
}

/// Rows of processes, and what they have used by now.
fn listed(pids: &[u32], options: &Options, before: &Look) -> (Vec<Vec<String>>, Look) {
    let (names, machine) = (Names::look(), Machine::look());
    let mut list = List {
        options,
        values: Values { names: &names, machine: &machine, style: options.style },
        before,
        now: Look { at: machine.uptime, used: BTreeMap::new() },
        bytes: 0,
        rows: Vec::new(),
    };
    // One that has ended meanwhile is left out.
    for process in pids.iter().filter_map(|pid| Process::read(*pid)).filter(|process| options.select.accepts(process)) {
        match options.threads {
            Threads::Hidden => list.add(process),
            Threads::Each => process.threads().into_iter().for_each(|thread| list.add(thread)),
            Threads::Below => {
                let threads = process.threads();
                list.add(process);
                threads.into_iter().for_each(|thread| list.add_below(thread));
            }
        }
    }
    (rows::arrange(list.rows, &options.sort, options.tree, &options.columns), list.now)
}

struct List<'a> {
    options: &'a Options,
    values: Values<'a>,
    before: &'a Look,
    now: Look,
    /// How long all of it is.
    bytes: usize,
    rows: Vec<Row>,
}

impl List<'_> {
    fn add(&mut self, mut process: Process) {
        let below = self.options.threads == Threads::Below;
        let cells = self.cells(&mut process, |column| below && column.is_of_threads());
        let mut keys: Vec<Key> = self.options.sort.iter().map(|sort| self.values.key(sort.column, &process)).collect();
        for key in &mut keys {
            if let Key::Text(text) = key {
                shorten(text, &mut self.bytes);
            }
        }
        let (pid, parent, start) = (process.pid, process.number(4), process.start());
        self.rows.push(Row { pid, parent, start, keys, cells, below: Vec::new() });
    }

    fn add_below(&mut self, mut thread: Process) {
        let cells = self.cells(&mut thread, Column::is_of_processes);
        if let Some(row) = self.rows.last_mut() {
            row.below.push(cells);
        }
    }

    /// What is shown of it; columns that are not for it have a dash.
    fn cells(&mut self, process: &mut Process, without: impl Fn(Column) -> bool) -> Vec<String> {
        let used = process.used(self.options.style.children);
        process.load = self.before.load(process, used, self.values.machine);
        self.now.used.insert((process.thread, process.start()), used);
        let columns = self.options.columns.iter().map(|shown| shown.column);
        let mut cells: Vec<String> = columns
            .map(|column| if without(column) { "-".to_owned() } else { self.values.of(column, process) })
            .collect();
        cells.iter_mut().for_each(|cell| shorten(cell, &mut self.bytes));
        cells
    }
}

/// Counts a text, and cuts it once there is enough of them: what processes call themselves shall not fill the memory.
fn shorten(text: &mut String, bytes: &mut usize) {
    if *bytes > ENOUGH {
        text.truncate(text.char_indices().nth(SHORT).map_or(text.len(), |(at, _)| at));
    }
    *bytes += text.len();
}

/// What the processes had used at an earlier moment.
#[derive(Debug, Default)]
struct Look {
    /// When that was, in ticks since boot.
    at: i64,
    /// Ticks on a processor, by thread and when it began.
    used: BTreeMap<(u32, i64), i64>,
}

impl Look {
    /// How much of a processor a process has used since then, or in its life when it was not there, in thousandths of
    /// a hundredth.
    fn load(&self, process: &Process, used: i64, machine: &Machine) -> i64 {
        let (used, passed) = match self.used.get(&(process.thread, process.start())) {
            Some(before) => (used - before, machine.uptime - self.at),
            None => (used, machine.uptime - process.start()),
        };
        used.max(0).saturating_mul(100_000) / passed.max(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listed_here(arguments: &str) -> Vec<Vec<String>> {
        let options = options::parse(arguments, &Names::look()).unwrap();
        listed(&[std::process::id(), u32::MAX], &options, &Look::default()).0
    }

    #[test]
    fn what_a_process_uses_is_told_since_the_look_before() {
        // It began at 1000, has used 300 in user space and 200 in the kernel, and it is 2000 now.
        let stat = b"7 (x) S 0 0 0 0 0 0 0 0 0 0 300 200 0 0 0 0 0 0 1000";
        let (process, machine) = (Process::made(7, stat, "").unwrap(), Machine::up(2000));
        let load = |look: Look| look.load(&process, process.used(false), &machine);
        assert_eq!(load(Look::default()), 50_000);
        let before = |began: i64, used: i64| Look { at: 1900, used: [((7, began), used)].into() };
        assert_eq!(load(before(1000, 475)), 25_000);
        assert_eq!(load(before(1000, 500)), 0);
        // Another one had the number then.
        assert_eq!(load(before(900, 475)), 50_000);
    }

    #[test]
    fn a_process_is_a_row_and_one_that_is_gone_is_none() {
        let pid = std::process::id().to_string();
        let rows = listed_here("-o pid,rss,args");
        assert_eq!((rows.len(), &rows[0][0]), (1, &pid));
        assert!(rows[0][1] != "0" && !rows[0][2].is_empty());
        assert!(listed_here("-p 1").is_empty() && listed_here("-fN").is_empty());
        assert_eq!(listed_here("aux")[0].len(), 11);
    }

    #[test]
    fn texts_are_whole_until_there_is_enough_of_them() {
        let mut bytes = ENOUGH;
        let mut text = "é".repeat(1000);
        shorten(&mut text, &mut bytes);
        assert_eq!((text.len(), bytes), (2000, ENOUGH + 2000));
        shorten(&mut text, &mut bytes);
        assert_eq!((text.len(), bytes), (2 * SHORT, ENOUGH + 2000 + 2 * SHORT));
    }

    #[test]
    fn threads_are_rows_of_their_own_or_below_their_process() {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        let pid = std::process::id().to_string();
        let each = listed_here("-eLo pid,lwp,nlwp");
        assert!(each.len() > 1 && each.iter().all(|row| row[0] == pid && row[2] != "1"));
        let below = listed_here("-emo pid,lwp,comm");
        assert_eq!(below[0][..2], [pid.clone(), "-".to_owned()]);
        assert!(below.len() > 2 && below[1..].iter().all(|row| row[0] == "-" && row[1] != "-" && row[2] == "-"));
        drop(hold);
        thread.join().unwrap().unwrap_err();
    }
}
