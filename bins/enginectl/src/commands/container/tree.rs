//! `ps --tree`: the containers, and beneath each its processes as a tree.

use std::collections::BTreeMap;

use engine_api::container::{ContainerSummary, TopResponse};
use futures_util::stream::{self, StreamExt};

use super::path;
use crate::client::{Client, Query};
use crate::error::Error;
use crate::output::table::{cut, printable};

/// How many requests are under way at once.
const AT_ONCE: usize = 16;

/// A process: its parent, and what it is.
type Processes = BTreeMap<u64, (u64, String)>;

pub(super) async fn tree(
    containers: &[ContainerSummary],
    client: &Client,
    width: Option<usize>,
) -> Result<String, Error> {
    let looks = stream::iter(containers).map(|container| async move {
        if container.state != "running" && container.state != "paused" {
            return Ok(Processes::new());
        }
        let query = Query::new().with("ps_args", "-eo pid,ppid,args");
        match client.get_as::<TopResponse>(&path(&container.id, "/top"), &query).await {
            Ok(top) => Ok(processes(&top)),
            // It has ended between the list and the look.
            Err(Error::Daemon { status: 404 | 409, .. }) => Ok(Processes::new()),
            Err(error) => Err(error),
        }
    });
    let mut text = String::new();
    let found: Vec<_> = looks.buffered(AT_ONCE).collect().await;
    for (container, found) in containers.iter().zip(found) {
        let name = container.names.first().map_or("", |name| name.trim_start_matches('/'));
        let id: String = container.id.chars().take(12).collect();
        let line = format!("{name} ({id}, {}) {}", container.image, container.status);
        text.push_str(&fit(&line, width));
        let found = found?;
        let roots: Vec<u64> =
            found.iter().filter(|(_, (parent, _))| !found.contains_key(parent)).map(|(pid, _)| *pid).collect();
        branch(&found, &roots, "", width, &mut text);
    }
    Ok(text)
}

fn processes(top: &TopResponse) -> Processes {
    let process = |row: &Vec<String>| {
        let [pid, parent, rest @ ..] = &row[..] else { return None };
        Some((pid.parse().ok()?, (parent.parse().ok()?, rest.join(" "))))
    };
    top.processes.iter().filter_map(process).collect()
}

fn branch(all: &Processes, pids: &[u64], indent: &str, width: Option<usize>, text: &mut String) {
    for (place, pid) in pids.iter().enumerate() {
        let last = place + 1 == pids.len();
        let Some((_, what)) = all.get(pid) else { continue };
        text.push_str(&fit(&format!("{indent}{} {pid} {what}", if last { "└─" } else { "├─" }), width));
        let children: Vec<u64> =
            all.iter().filter(|(child, (parent, _))| parent == pid && *child != pid).map(|(child, _)| *child).collect();
        branch(all, &children, &format!("{indent}{}", if last { "   " } else { "│  " }), width, text);
    }
}

fn fit(line: &str, width: Option<usize>) -> String {
    let line = printable(line);
    match width {
        Some(width) => cut(&line, width) + "\n",
        None => line + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_stand_beneath_their_parents() {
        let rows = [
            ["10", "1", "sh -c x"],
            ["11", "10", "sleep 1"],
            ["12", "10", "cat"],
            ["13", "12", "tail"],
            ["20", "5", "exec"],
        ];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
        let all = processes(&TopResponse { processes: rows, titles: Vec::new() });
        let mut text = String::new();
        branch(&all, &[10, 20], "", Some(12), &mut text);
        assert_eq!(text, "├─ 10 sh -c…\n│  ├─ 11 sl…\n│  └─ 12 cat\n│     └─ 13…\n└─ 20 exec\n");
    }
}
