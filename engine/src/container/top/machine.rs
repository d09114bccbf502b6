//! What of the machine is needed to make sense of its numbers: its ticks, pages, memory and clock.

use std::fs;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The machine at one moment.
#[derive(Debug)]
pub(super) struct Machine {
    /// How many ticks a second has.
    pub(super) ticks: i64,
    /// Bytes of a page.
    pub(super) page: i64,
    /// Ticks since boot.
    pub(super) uptime: i64,
    /// Kibibytes.
    memory: i64,
    /// When it was booted, in seconds since 1970.
    boot: i64,
    now: i64,
    zone: TimeZone,
}

impl Machine {
    pub(super) fn look() -> Self {
        let first = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (uptime, memory, stat) = (first("/proc/uptime"), first("/proc/meminfo"), first("/proc/stat"));
        let kib =
            memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
        let ticks = i64::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100).max(1);
        // Seconds with two digits behind the point.
        let hundredths = uptime.split_whitespace().next().and_then(|first| first.replace('.', "").parse::<i64>().ok());
        let uptime = hundredths.unwrap_or(0).saturating_mul(ticks) / 100;
        let now = crate::container::inventory::now() / 1_000_000_000;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let zone = fs::read("/etc/localtime").ok().and_then(|rules| TimeZone::tzif("", &rules).ok());
        Self {
            ticks,
            page: i64::try_from(rustix::param::page_size()).unwrap_or(4096).max(1),
            uptime,
            memory: kib.unwrap_or(1),
            boot: boot.unwrap_or(now - uptime / ticks),
            now,
            zone: zone.unwrap_or(TimeZone::UTC),
        }
    }

    /// Which part of the memory some kibibytes are, in thousandths.
    pub(super) fn share(&self, kibibytes: u64) -> i64 {
        i64::try_from(kibibytes).unwrap_or(i64::MAX).saturating_mul(1000) / self.memory.max(1)
    }

    /// Seconds since a tick.
    pub(super) fn age(&self, start: i64) -> i64 {
        ((self.uptime - start) / self.ticks).max(0)
    }

    /// When a tick was: a time of today, else a day of this year, else a year.
    pub(super) fn start(&self, start: i64) -> String {
        let (then, now) = (self.at(start), self.local(self.now));
        if then.year() != now.year() {
            return then.strftime("%Y").to_string();
        }
        then.strftime(if then.date() == now.date() { "%H:%M" } else { "%b%d" }).to_string()
    }

    /// When a tick was: a time when it is less than a day ago, else a day.
    pub(super) fn start_second(&self, start: i64) -> String {
        let then = self.at(start);
        then.strftime(if self.is_recent(start) { "%H:%M:%S" } else { "%b %d" }).to_string()
    }

    /// As [`Machine::start_second`], to the minute.
    pub(super) fn start_minute(&self, start: i64) -> String {
        let then = self.at(start);
        then.strftime(if self.is_recent(start) { "%H:%M" } else { "%b %e" }).to_string()
    }

    /// When a tick was, in full.
    pub(super) fn start_full(&self, start: i64) -> String {
        self.at(start).strftime("%a %b %e %H:%M:%S %Y").to_string()
    }

    fn is_recent(&self, start: i64) -> bool {
        self.seconds(start) + 86_400 > self.now
    }

    fn at(&self, start: i64) -> DateTime {
        self.local(self.seconds(start))
    }

    /// When a tick was, in seconds since 1970.
    fn seconds(&self, start: i64) -> i64 {
        self.boot.saturating_add(start / self.ticks)
    }

    fn local(&self, seconds: i64) -> DateTime {
        self.zone.to_datetime(Timestamp::from_second(seconds).unwrap_or_default())
    }
}

#[cfg(test)]
impl Machine {
    /// The machine with another uptime.
    pub(super) fn up(uptime: i64) -> Self {
        Self { uptime, ..Self::look() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_by_how_long_ago_it_was() {
        // Booted on 5 January 2024 at 00:00, and it is 3 March of that year, 12:00:30.
        let machine = Machine {
            ticks: 100,
            boot: 1_704_412_800,
            now: 1_709_467_230,
            uptime: 505_443_000,
            zone: TimeZone::UTC,
            ..Machine::look()
        };
        let ago = |seconds: i64| machine.uptime - seconds * 100;
        let told = |seconds| {
            let start = ago(seconds);
            [machine.start(start), machine.start_second(start), machine.start_minute(start)]
        };
        assert_eq!(told(90), ["11:59", "11:59:00", "11:59"]);
        assert_eq!(told(80_000), ["Mar02", "13:47:10", "13:47"]);
        assert_eq!(told(200_000), ["Mar01", "Mar 01", "Mar  1"]);
        assert_eq!(machine.start(-1_000_000 * 100), "2023");
        assert_eq!(machine.start_full(ago(90)), "Sun Mar  3 11:59:00 2024");
        assert_eq!([machine.age(ago(90)), machine.age(machine.uptime + 1)], [90, 0]);
    }
}
