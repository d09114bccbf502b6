//! The command lines: every round asks each runtime once, so that what disturbs the machine disturbs all.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::bundle::Bundle;
use crate::{milliseconds, summary};

/// How many containers are started at once, and how many at a time.
const MANY: usize = 200;
const AT_A_TIME: usize = 8;

struct Runtime {
    name: &'static str,
    program: Vec<OsString>,
}

impl Runtime {
    fn call(&self, bundle: &Bundle, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).arg("--root").arg(bundle.state().join(self.name)).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// How long a call takes from spawn to exit; it must succeed.
    fn time(&self, bundle: &Bundle, words: &[&str]) -> Duration {
        let begin = Instant::now();
        let status = self.call(bundle, words).status().unwrap();
        let time = begin.elapsed();
        assert!(status.success(), "{} {words:?}: {status}", self.name);
        time
    }
}

fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// This project's first: the program that cargo has built beside this one.
fn runtimes() -> Vec<Runtime> {
    let built = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("enginectl");
    assert!(built.exists(), "{} is not built: cargo build --release -p enginectl", built.display());
    let mut all = vec![Runtime { name: "engine", program: vec![built.into(), "oci".into()] }];
    for name in ["crun", "runc", "youki"] {
        match find(name) {
            Some(path) => all.push(Runtime { name, program: vec![path.into()] }),
            None => eprintln!("{name} is not installed"),
        }
    }
    all
}

/// Prints the tables.
pub fn measure(rounds: usize) {
    let runtimes = runtimes();
    let bundle = Bundle::new(&["sleep", "1000"]);
    let short = Bundle::new(&["true"]);
    let names = ["create", "start", "delete --force", "all three", "exec true", "run true"];
    let mut times = vec![vec![Vec::new(); names.len()]; runtimes.len()];
    let path = bundle.path().to_str().unwrap();
    let short_path = short.path().to_str().unwrap();
    for runtime in &runtimes {
        runtime.time(&bundle, &["run", "--detach", "--bundle", path, "bench-busy"]);
    }
    for round in 0..rounds + 3 {
        for (runtime, times) in runtimes.iter().zip(&mut times) {
            let life = [
                runtime.time(&bundle, &["create", "--bundle", path, "bench-one"]),
                runtime.time(&bundle, &["start", "bench-one"]),
                runtime.time(&bundle, &["delete", "--force", "bench-one"]),
            ];
            let rest = [
                life.iter().sum(),
                runtime.time(&bundle, &["exec", "bench-busy", "true"]),
                runtime.time(&bundle, &["run", "--bundle", short_path, "bench-run"]),
            ];
            // The first few warm up.
            if round >= 3 {
                times.iter_mut().zip(life.into_iter().chain(rest)).for_each(|(all, time)| all.push(time));
            }
        }
    }
    println!("{:<16}  {:<8} {:>8} {:>8} {:>8} {:>8}", "milliseconds", "", "median", "p10", "p90", "x crun");
    let crun = runtimes.iter().position(|runtime| runtime.name == "crun");
    for (at, name) in names.iter().enumerate() {
        let medians: Vec<_> = times.iter_mut().map(|times| summary(&mut times[at])).collect();
        for (runtime, [median, low, high]) in runtimes.iter().zip(&medians) {
            let ratio = crun.map(|crun| median.as_secs_f64() / medians[crun][0].as_secs_f64());
            let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:8.2}"));
            let [median, low, high] = [median, low, high].map(|time| milliseconds(*time));
            println!("{name:<16}  {:<8} {median:8.2} {low:8.2} {high:8.2} {ratio}", runtime.name);
        }
    }
    for runtime in &runtimes {
        runtime.time(&bundle, &["delete", "--force", "bench-busy"]);
    }
    for runtime in &runtimes {
        let mut all = [many(runtime, &bundle), many(runtime, &bundle), many(runtime, &bundle)];
        let [median, ..] = summary(&mut all);
        println!(
            "{MANY} x create and start, {AT_A_TIME} at a time: {:<8} {:8.0} ms",
            runtime.name,
            milliseconds(median)
        );
    }
    let _ = std::fs::remove_dir_all(bundle.state());
}

fn many(runtime: &Runtime, bundle: &Bundle) -> Duration {
    let path = bundle.path().to_str().unwrap();
    let each = |work: &(dyn Fn(&str) + Sync)| {
        let next = AtomicUsize::new(0);
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= MANY {
                            break;
                        }
                        work(&format!("bench-many-{number}"));
                    }
                });
            }
        });
        begin.elapsed()
    };
    let time = each(&|id| {
        runtime.time(bundle, &["create", "--bundle", path, id]);
        runtime.time(bundle, &["start", id]);
    });
    each(&|id| {
        runtime.time(bundle, &["delete", "--force", id]);
    });
    time
}
