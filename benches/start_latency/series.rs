//! Measured times, and the table that shows them.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::floor::Floor;

/// Times of one thing done again and again.
#[derive(Debug, Clone)]
pub struct Series {
    sorted: Vec<Duration>,
}

impl Series {
    /// From measured times in any order.
    pub fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Self { sorted: times }
    }

    /// Measures `rounds` calls of `work`, after a few that warm up. `work` answers how long its interesting part took.
    pub fn measure(rounds: usize, mut work: impl FnMut() -> Duration) -> Self {
        for _ in 0..(rounds / 10).clamp(1, 10) {
            work();
        }
        Self::new((0..rounds).map(|_| work()).collect())
    }

    /// The value that `part` of all (0 to 1) are below.
    pub fn quantile(&self, part: f64) -> Duration {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
        let index = (self.sorted.len() as f64 * part) as usize;
        self.sorted[index.min(self.sorted.len() - 1)]
    }

    /// The middle one.
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }
}

/// How long `work` takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// How long a command takes from spawn to exit; it must succeed.
pub fn command(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut output = None;
    let time = timed(|| output = Some(command.output().unwrap()));
    let output = output.unwrap();
    assert!(output.status.success(), "{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    time
}

/// `--repeat ROUNDS PROGRAM ARGUMENT…`: prints the nanoseconds of each run.
pub fn repeat_command(arguments: &[String]) {
    let [rounds, program, rest @ ..] = arguments else { panic!("--repeat ROUNDS PROGRAM ARGUMENT…") };
    let series = Series::measure(rounds.parse().unwrap(), || command(Command::new(program).args(rest)));
    for time in &series.sorted {
        println!("{}", time.as_nanos());
    }
}

/// What [`repeat_command`] printed.
pub fn parse_repeated(text: &str) -> Series {
    Series::new(text.lines().map(|line| Duration::from_nanos(line.parse().unwrap())).collect())
}

/// Rows of times, each beside the floor of what it does.
#[derive(Debug)]
pub struct Table<'a> {
    floor: &'a Floor,
    peer: Option<Duration>,
    rows: Vec<(String, Series, Option<Duration>)>,
}

impl<'a> Table<'a> {
    /// Begins with the floor itself.
    pub fn new(floor: &'a Floor) -> Self {
        let mut table = Self { floor, peer: None, rows: Vec::new() };
        for (network, life) in [("none", &floor.none), ("bridge", &floor.bridge)] {
            for (what, series) in
                [("until exec", &life.to_exec), ("until exit seen", &life.to_exit), ("all gone", &life.gone)]
            {
                table.row(&format!("floor, network {network}, {what}"), series.clone(), None);
            }
        }
        table
    }

    /// The floor.
    pub fn floor(&self) -> &'a Floor {
        self.floor
    }

    /// From here on the rows that have a floor are also compared with `peer`, which is `crun run`.
    pub fn compare(&mut self, peer: &Series) {
        self.peer = Some(peer.median());
    }

    /// Adds a row, compared with a floor where there is one for it.
    pub fn row(&mut self, what: &str, series: Series, floor: Option<&Series>) {
        eprintln!("{what}: {:.2} ms", milliseconds(series.median()));
        self.rows.push((what.to_owned(), series, floor.map(Series::median)));
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|(what, ..)| what.chars().count()).max().unwrap_or(0);
        writeln!(
            f,
            "{:width$}  {:>9}  {:>9}  {:>9}  {:>7}  {:>7}",
            "milliseconds", "median", "p10", "p90", "x floor", "x crun"
        )?;
        for (what, series, floor) in &self.rows {
            let [median, low, high] = [0.5, 0.1, 0.9].map(|part| milliseconds(series.quantile(part)));
            write!(f, "{what:width$}  {median:9.2}  {low:9.2}  {high:9.2}")?;
            if let Some(floor) = floor {
                let times = |other: Duration| series.median().as_secs_f64() / other.as_secs_f64();
                write!(f, "  {:7.2}", times(*floor))?;
                if let Some(peer) = self.peer {
                    write!(f, "  {:7.2}", times(peer))?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
