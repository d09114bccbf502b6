//! `ps`: the processes of a container, as the host sees them.

use std::fmt::Write;
use std::fs;

use super::failure::Failure;
use super::flags::{Place, value};
use super::state::Record;
use super::{Call, Verb};

pub(super) const PS: Verb = Verb {
    name: "ps",
    words: "ID",
    about: "List the processes of a container",
    flags: &[value(&["format", "f"], "table or json")],
    place: Place::First,
    count: (1, usize::MAX),
    run: ps,
};

fn ps(call: &Call<'_>) -> Result<u8, Failure> {
    let runtime = call.runtime()?;
    Record::read(&runtime, call.id())?;
    let pids = runtime.cgroup(call.id())?.pids()?;
    match call.given.get("format").unwrap_or("table") {
        "json" => {
            let text = serde_json::to_string(&pids).map_err(|error| Failure::new(error.to_string()))?;
            call.print(&format!("{text}\n"))?;
        }
        "table" if call.given.words.len() > 1 => {
            return Err(Failure::new("options of ps are not supported: no program of the host is run"));
        }
        "table" => {
            let mut text = format!("{:<8} {:>7} {:>7} {:>8} CMD\n", "UID", "PID", "PPID", "TIME");
            pids.iter().filter_map(|pid| line(*pid)).for_each(|line| text.push_str(&line));
            call.print(&text)?;
        }
        _ => return Err(Failure::new("invalid format option")),
    }
    Ok(0)
}

/// The line of a process; `None` when it is gone.
fn line(pid: u32) -> Option<String> {
    const TICKS: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let seconds = (fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?) / TICKS;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.to_owned();
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    let command = if command.is_empty() { format!("[{}]", name.split_once('(')?.1) } else { command };
    let mut text = String::new();
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    writeln!(text, "{user:<8} {pid:>7} {:>7} {time:>8} {}", fields.get(1)?, command.escape_debug()).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_a_line() {
        let line = line(std::process::id()).unwrap_or_default();
        assert!(line.contains(&std::process::id().to_string()) && line.ends_with('\n'), "{line}");
        assert_eq!(super::line(0), None);
    }
}
