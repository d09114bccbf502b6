//! The options of a mount in `fstab` words, sorted by what the kernel does with them.

use crate::Error;

pub(super) const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

pub(super) const MS_REC: u64 = 0x4000;
pub(super) const MS_UNBINDABLE: u64 = 1 << 17;
pub(super) const MS_PRIVATE: u64 = 1 << 18;
pub(super) const MS_SLAVE: u64 = 1 << 19;
pub(super) const MS_SHARED: u64 = 1 << 20;

/// What a mount is to be like.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    /// A bind mount; with everything below it or not.
    pub(super) bind: Option<bool>,
    /// `MOUNT_ATTR_*` of this mount.
    pub(super) set: u64,
    pub(super) clear: u64,
    /// The same for this mount and all below it.
    pub(super) set_all: u64,
    pub(super) clear_all: u64,
    /// An `MS_*` flag, 0 when the options do not say, and whether it is for all mounts below too.
    pub(super) propagation: u64,
    pub(super) propagation_all: bool,
    /// What is mounted at the destination already is changed.
    pub(super) remount: bool,
    /// What the image has there is copied into the new file system.
    pub(super) copy_up: bool,
    /// Files are shown as those of other users; with everything below or not.
    pub(super) mapped: Option<bool>,
    /// Flags and settings of the file system itself.
    pub(super) settings: Vec<(String, Option<String>)>,
}

impl Attributes {
    pub(super) fn parse(options: &[String]) -> Result<Self, Error> {
        let mut all = Self::default();
        for option in options {
            all.option(option)?;
        }
        Ok(all)
    }

    fn option(&mut self, option: &str) -> Result<(), Error> {
        let (set, clear) = match option {
            "" | "defaults" | "async" | "loud" | "silent" | "nolazytime" | "nomand" | "noiversion" => (0, 0),
            "ro" => (RDONLY, 0),
            "rw" => (0, RDONLY),
            "nosuid" => (NOSUID, 0),
            "suid" => (0, NOSUID),
            "nodev" => (NODEV, 0),
            "dev" => (0, NODEV),
            "noexec" => (NOEXEC, 0),
            "exec" => (0, NOEXEC),
            "noatime" => (NOATIME, ATIME),
            "strictatime" => (STRICTATIME, ATIME),
            "relatime" | "atime" | "norelatime" | "nostrictatime" => (0, ATIME),
            "nodiratime" => (NODIRATIME, 0),
            "diratime" => (0, NODIRATIME),
            "nosymfollow" => (NOSYMFOLLOW, 0),
            "symfollow" => (0, NOSYMFOLLOW),
            "bind" => return self.bound(false),
            "rbind" => return self.bound(true),
            "private" | "slave" | "shared" | "unbindable" => return self.propagate(option, false),
            "rprivate" | "rslave" | "rshared" | "runbindable" => return self.propagate(&option[1..], true),
            "rro" | "rrw" | "rnosuid" | "rsuid" | "rnodev" | "rdev" | "rnoexec" | "rexec" | "rnoatime" | "ratime"
            | "rstrictatime" | "rrelatime" | "rnorelatime" | "rnostrictatime" | "rnodiratime" | "rdiratime"
            | "rnosymfollow" | "rsymfollow" => {
                let mut one = Self::default();
                one.option(&option[1..])?;
                self.set_all = (self.set_all & !one.clear) | one.set;
                self.clear_all = (self.clear_all & !one.set) | one.clear;
                return Ok(());
            }
            "remount" => {
                self.remount = true;
                return Ok(());
            }
            "tmpcopyup" => {
                self.copy_up = true;
                return Ok(());
            }
            "idmap" | "ridmap" => {
                self.mapped = Some(option == "ridmap");
                return Ok(());
            }
            "copy-symlink" | "src-nofollow" | "dest-nofollow" | "mand" => {
                return Err(Error::Unsupported(format!("mount option {option}")));
            }
            setting => {
                let (key, value) = match setting.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_owned())),
                    None => (setting, None),
                };
                self.settings.push((key.to_owned(), value));
                return Ok(());
            }
        };
        // A later option overrules an earlier one.
        self.set = (self.set & !clear) | set;
        self.clear = (self.clear & !set) | clear;
        Ok(())
    }

    fn bound(&mut self, recursive: bool) -> Result<(), Error> {
        self.bind = Some(self.bind.unwrap_or(false) || recursive);
        Ok(())
    }

    fn propagate(&mut self, word: &str, all: bool) -> Result<(), Error> {
        self.propagation = match word {
            "private" => MS_PRIVATE,
            "slave" => MS_SLAVE,
            "shared" => MS_SHARED,
            _ => MS_UNBINDABLE,
        };
        self.propagation_all = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(options: &[&str]) -> Attributes {
        Attributes::parse(&options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_last_option_counts() {
        let all = parse(&["ro", "rw", "noatime", "strictatime", "nosuid"]);
        assert_eq!(all.set, STRICTATIME | NOSUID);
        assert_eq!(all.clear & RDONLY, RDONLY);
    }

    #[test]
    fn recursion_is_told_apart() {
        let all = parse(&["rbind", "rro", "nosuid", "rslave"]);
        assert_eq!((all.bind, all.set, all.set_all), (Some(true), NOSUID, RDONLY));
        assert_eq!((all.propagation, all.propagation_all), (MS_SLAVE, true));
    }

    #[test]
    fn the_rest_goes_to_the_file_system() {
        let all = parse(&["size=64m", "mode=1777", "sync", "iversion"]);
        let setting = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let expected = [("size", Some("64m")), ("mode", Some("1777")), ("sync", None), ("iversion", None)];
        assert_eq!(all.settings, expected.map(|(key, value)| setting(key, value)));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert!(Attributes::parse(&["mand".to_owned()]).is_err());
        assert!(Attributes::parse(&["copy-symlink".to_owned()]).is_err());
    }
}
