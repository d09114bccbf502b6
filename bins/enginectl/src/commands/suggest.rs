//! When there is no container of a name, but one of nearly that name.

use std::io::IsTerminal;

use engine_api::container::ContainerSummary;

use crate::client::{Client, Query};
use crate::error::Error;
use crate::session::Session;

/// A further line for people at a terminal; scripts see what Docker says, and nobody waits for it who got what he wanted.
pub(crate) async fn suggest(session: &Session, client: &Client, error: &Error) -> Option<String> {
    let Error::Daemon { status: 404, message } = error else { return None };
    let name = message.strip_prefix("No such container: ")?;
    if !session.io.stderr.is_terminal() {
        return None;
    }
    let all: Vec<ContainerSummary> = client.get_as("/containers/json", &Query::new().flag("all", true)).await.ok()?;
    let names = all.iter().flat_map(|container| &container.names).map(|name| name.trim_start_matches('/'));
    nearest(name, names).map(|name| format!("Did you mean {name:?}?"))
}

/// The name that takes the fewest changes, if they are few.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    let near = names.map(|name| (distance(wanted, name), name)).filter(|(changes, _)| *changes <= limit);
    near.min().map(|(_, name)| name)
}

/// How many letters are to be changed, added, taken away or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    if left.len().abs_diff(right.len()) > 3 {
        return usize::MAX;
    }
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let changed = last[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                let swapped: &Vec<usize> = &before;
                best = best.min(swapped[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        let check = |wanted: &str, expected: Option<&str>| {
            assert_eq!(nearest(wanted, ["web", "database", "web2"].into_iter()), expected, "{wanted}");
        };
        check("wbe", Some("web"));
        check("wep", Some("web"));
        check("databsae", Some("database"));
        check("datbase", Some("database"));
        check("nginx", None);
        check("x", None);
    }
}
