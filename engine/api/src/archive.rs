//! Files of containers: what a path is, and what was changed.

use serde::{Deserialize, Serialize};

/// The header that tells what a path is: base64 of [`PathStat`] as JSON.
pub const PATH_STAT: &str = "x-docker-container-path-stat";

/// What a path in a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathStat {
    /// Its last name.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Kind and permissions as Go has them: see [`go_mode`] and [`GoMode`].
    pub mode: u32,
    /// When its content was changed, in RFC 3339.
    pub mtime: String,
    /// Where a symbolic link leads in the end.
    pub link_target: String,
}

/// The bits of Go's file mode that are not the permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoMode(pub u32);

impl GoMode {
    const DIRECTORY: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const PIPE: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const SET_USER: u32 = 1 << 23;
    const SET_GROUP: u32 = 1 << 22;
    const CHARACTER: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;

    /// Whether it is a directory.
    pub fn is_directory(self) -> bool {
        self.0 & Self::DIRECTORY != 0
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(self) -> bool {
        self.0 & Self::SYMLINK != 0
    }
}

/// Go's file mode of what `st_mode` says.
pub fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => GoMode::DIRECTORY,
        0o120_000 => GoMode::SYMLINK,
        0o060_000 => GoMode::DEVICE,
        0o020_000 => GoMode::DEVICE | GoMode::CHARACTER,
        0o010_000 => GoMode::PIPE,
        0o140_000 => GoMode::SOCKET,
        _ => 0,
    };
    let special = [(0o4000, GoMode::SET_USER), (0o2000, GoMode::SET_GROUP), (0o1000, GoMode::STICKY)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0).fold(0, |sum, (_, bit)| sum | bit);
    kind | special | (mode & 0o777)
}

/// A path that is not as the image has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Change {
    /// The path.
    pub path: String,
    /// 0: modified, 1: added, 2: deleted.
    pub kind: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o040_755, 0o755 | 1 << 31),
            (0o041_777, 0o777 | 1 << 31 | 1 << 20),
            (0o120_777, 0o777 | 1 << 27),
            (0o020_666, 0o666 | 1 << 26 | 1 << 21),
            (0o104_755, 0o755 | 1 << 23),
        ] {
            assert_eq!(go_mode(unix), go, "{unix:o}");
        }
        assert!(GoMode(go_mode(0o040_755)).is_directory() && GoMode(go_mode(0o120_777)).is_symlink());
    }
}
