//! The columns of the formats that `ps` has letters for.

/// A format that stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `-f`
    Full,
    /// `-l`
    Long,
    /// `j`
    BsdJobs,
    /// `l`
    BsdLong,
    /// `s`
    BsdSignals,
    /// `u`
    BsdUser,
    /// `v`
    BsdMemory,
    /// `X`
    Registers,
    /// `m` where letters with a dash turn out to be BSD's.
    OldMemory,
    /// `--context`
    Context,
}

/// The formats that are asked for and what changes them.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) formats: Vec<Format>,
    /// `-j`
    pub(super) jobs: bool,
    /// `-F`, which is `-f` as well.
    pub(super) extra: bool,
    /// `-M` and `Z`
    pub(super) label: bool,
    /// `-P`
    pub(super) processor: bool,
    /// `-c`
    pub(super) classes: bool,
    /// `-y`
    pub(super) resident: bool,
    /// `-L`
    pub(super) lwp: bool,
    /// `-T`
    pub(super) spid: bool,
    /// Something was written the BSD way, so that BSD's columns are preferred.
    pub(super) bsd: bool,
}

impl Layout {
    pub(super) fn add(&mut self, format: Format) {
        if !self.formats.contains(&format) {
            self.formats.push(format);
        }
    }

    /// Whether anything says which columns there are to be, other than names of columns.
    pub(super) fn is_given(&self) -> bool {
        let changed = self.jobs || self.extra || self.label || self.processor || self.classes || self.resident;
        changed || !self.formats.is_empty()
    }

    /// Names of its columns.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn names(&self) -> Result<Vec<&'static str>, &'static str> {
        if self.resident && !self.has(Format::Long) {
            return Err("-y goes with -l only");
        }
        let list = match self.formats[..] {
            [] | [Format::Full | Format::Long] => return Ok(self.system_v()),
            [Format::Full, Format::Long] | [Format::Long, Format::Full] => return Ok(self.system_v()),
            [Format::BsdJobs] => "ppid,pid,pgid,sid,tname,tpgid,stat,uid,bsdtime,args",
            [Format::BsdLong] => "flags,uid,pid,ppid,priority,nice,vsz,rss,wchan,stat,tname,bsdtime,args",
            [Format::BsdSignals] => "uid,pid,pending,sig_block,sig_ignore,caught,stat,tname,bsdtime,args",
            [Format::BsdUser] => "user,pid,pcpu,pmem,vsz,rss,tname,stat,start_time,bsdtime,args",
            [Format::BsdMemory] => "pid,tname,stat,bsdtime,maj_flt,m_trs,m_drs,rss,pmem,args",
            [Format::Registers] => "pid,start_stack,esp,eip,timeout,alarm,stat,tname,bsdtime,args",
            [Format::OldMemory] => "pid,tname,majflt,minflt,m_trs,m_drs,m_size,m_swap,rss,m_share,vm_lib,m_dt,args",
            [Format::Context] => "pid,context,command",
            _ => return Err("the formats exclude each other"),
        };
        if self.classes || self.processor {
            return Err("-c and -P go with formats of System V only");
        }
        Ok(self.changed(list.split(',').collect()))
    }

    fn has(&self, format: Format) -> bool {
        self.formats.contains(&format)
    }

    /// A fixed list with the columns put in that go with it.
    fn changed(&self, mut list: Vec<&'static str>) -> Vec<&'static str> {
        let mut after = |places: &[&str], names: &[&'static str]| {
            let place = places.iter().find_map(|place| list.iter().position(|name| name == place));
            if let Some(place) = place {
                list.splice(place + 1..place + 1, names.iter().copied());
            }
        };
        if self.jobs {
            after(&["ppid", "pid"], &["pgid", "sid"]);
        }
        if self.spid {
            after(&["pid"], &["spid"]);
        }
        if self.lwp {
            after(&["sid", "sess", "pgid", "pgrp", "ppid", "pid"], &["lwp"]);
            after(&["pcpu"], &["nlwp"]);
        }
        if self.label {
            list.insert(0, "label");
        }
        list
    }

    /// What the letters of System V add up to.
    fn system_v(&self) -> Vec<&'static str> {
        let (full, long) = (self.has(Format::Full), self.has(Format::Long));
        let parts: &[(bool, &'static str)] = &[
            (self.label, "label"),
            (long && !self.resident, "f"),
            (long, "s"),
            (full, "uid_hack"),
            (long && !full, "uid"),
            (true, "pid"),
            (self.spid, "spid"),
            (full || long, "ppid"),
            (self.jobs, "pgid"),
            (self.jobs, "sid"),
            (self.lwp, "lwp"),
            (self.processor, "psr"),
            ((full || long) && !self.classes, "c"),
            (self.lwp && full, "nlwp"),
            (self.classes, "class"),
            (self.classes, "pri"),
            (long && !self.classes, "opri"),
            (long && !self.classes, "ni"),
            (long && !self.resident, "addr"),
            (long && self.resident, "rss"),
            (long || self.extra, "sz"),
            (long, "wchan"),
            (self.extra && !(long && self.resident), "rss"),
            (self.extra && !self.processor, "psr"),
            (full, "stime"),
            (true, "tname"),
            (self.bsd && !long, "stat"),
            (self.bsd, "bsdtime"),
            (!self.bsd, "time"),
            (self.bsd && !full && !long, "args"),
            (full || self.bsd && long, "cmd"),
            (!self.bsd && !full, "ucmd"),
        ];
        parts.iter().filter(|(shown, _)| *shown).map(|(_, name)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::top::columns;

    const ALL: [Format; 10] = [
        Format::Full,
        Format::Long,
        Format::BsdJobs,
        Format::BsdLong,
        Format::BsdSignals,
        Format::BsdUser,
        Format::BsdMemory,
        Format::Registers,
        Format::OldMemory,
        Format::Context,
    ];

    #[test]
    fn every_column_of_a_format_is_known() {
        for format in ALL {
            for (jobs, lwp, spid, label) in
                [(false, false, false, false), (true, true, false, true), (true, false, true, true)]
            {
                let layout = Layout { formats: vec![format], jobs, lwp, spid, label, ..Layout::default() };
                let names = layout.names().unwrap();
                assert!(names.contains(&"pid"), "{format:?}");
                assert!(names.iter().all(|name| columns::named(name).is_some()), "{format:?}: {names:?}");
            }
        }
    }

    #[test]
    fn formats_that_contradict_each_other_are_refused() {
        let layout = |formats: &[Format]| Layout { formats: formats.to_vec(), ..Layout::default() };
        assert!(layout(&[Format::BsdUser, Format::Full]).names().is_err());
        assert!(layout(&[Format::BsdUser, Format::BsdJobs]).names().is_err());
        assert!(Layout { resident: true, ..layout(&[Format::Full]) }.names().is_err());
        assert!(Layout { classes: true, ..layout(&[Format::BsdUser]) }.names().is_err());
    }
}
