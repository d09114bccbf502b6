//! Names of the host's users, groups and terminals, which `ps` shows and takes for numbers.

use std::collections::BTreeMap;
use std::fs;

/// Names by number.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    /// Those of the host.
    pub(super) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::new(&read("/etc/passwd"), &read("/etc/group"))
    }

    /// Those of files as `passwd(5)` and `group(5)` have it; the first name of a number counts.
    pub(super) fn new(users: &str, groups: &str) -> Self {
        let named = |text: &str| {
            let mut names = BTreeMap::new();
            for line in text.lines() {
                let mut fields = line.split(':');
                if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
                    names.entry(id).or_insert_with(|| name.to_owned());
                }
            }
            names
        };
        Self { users: named(users), groups: named(groups) }
    }

    /// A user's name, or its number when it has none.
    pub(super) fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// A group's name, or its number when it has none.
    pub(super) fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The number of a user, which may be given as one.
    pub(super) fn user_id(&self, text: &str) -> Option<u32> {
        id(&self.users, text)
    }

    /// The number of a group, which may be given as one.
    pub(super) fn group_id(&self, text: &str) -> Option<u32> {
        id(&self.groups, text)
    }
}

fn id(names: &BTreeMap<u32, String>, text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| names.iter().find(|(_, name)| *name == text).map(|(id, _)| *id))
}

/// What a terminal is called, by the number that `/proc/<pid>/stat` has for it; `?` is none.
pub(super) fn terminal(device: i64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match (major, minor) {
        (4, 0..64) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".to_owned(),
        (136..=143, _) => format!("pts/{}", minor + (major - 136) * 256),
        (204, 64..80) => format!("ttyAMA{}", minor - 64),
        (229, _) => format!("hvc{minor}"),
        _ => "?".to_owned(),
    }
}

/// The name that [`terminal`] gives for what people write: `/dev/pts/1`, `pts/1`, `1`, `tty1`, `S0`, and `-` or `?` for none.
pub(super) fn terminal_name(text: &str) -> Option<String> {
    let name = text.strip_prefix("/dev/").unwrap_or(text);
    let whole = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name {
        "-" | "?" => Some("?".to_owned()),
        "console" | "co" => Some("console".to_owned()),
        _ if whole(name) => Some(format!("pts/{name}")),
        _ if ["pts/", "tty", "ttyS", "ttyAMA", "hvc"].iter().any(|kind| name.strip_prefix(kind).is_some_and(whole)) => {
            Some(name.to_owned())
        }
        _ if name.strip_prefix('S').is_some_and(whole) => Some(format!("tty{name}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_names_and_numbers() {
        let names =
            Names::new("root:x:0:0::/:\ntoor:x:0:0::/:\nbroken\nx:y:z\nann:x:7:8::/:", "root:x:0:\nstaff:x:50:ann");
        assert_eq!([names.user(0), names.user(7), names.user(9)], ["root", "ann", "9"]);
        assert_eq!([names.group(50), names.group(51)], ["staff", "51"]);
        assert_eq!(["ann", "12", "bob", "-1"].map(|text| names.user_id(text)), [Some(7), Some(12), None, None]);
        assert_eq!(["staff", "ann"].map(|text| names.group_id(text)), [Some(50), None]);
    }

    #[test]
    fn terminals_have_names() {
        let cases = [(0, "?"), (0x8803, "pts/3"), (0x8901, "pts/257"), (0x10_8805, "pts/261"), (0x401, "tty1")];
        for (device, name) in cases.into_iter().chain([(0x440, "ttyS0"), (0x501, "console"), (0x0a01, "?")]) {
            assert_eq!(terminal(device), name);
        }
        let written =
            [("/dev/pts/1", "pts/1"), ("2", "pts/2"), ("tty7", "tty7"), ("S0", "ttyS0"), ("-", "?"), ("?", "?")];
        for (text, name) in written {
            assert_eq!(terminal_name(text).as_deref(), Some(name));
        }
        for wrong in ["", "pts/", "pts/x", "../etc", "/dev/sda", "tty"] {
            assert_eq!(terminal_name(wrong), None, "{wrong}");
        }
    }
}
