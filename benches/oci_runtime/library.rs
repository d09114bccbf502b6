//! The library: launches with monitors, as the engine makes them, many at a time, and what the monitors keep in memory.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine_runtime::{Launched, Rootfs, Runtime, RuntimeSettings, defaults};

use crate::bundle::Bundle;
use crate::{milliseconds, summary};

const MANY: usize = 200;
const AT_A_TIME: usize = 8;

/// Prints the figures.
pub fn measure() {
    let files = Bundle::new(&[]);
    let room = tempfile::tempdir_in("/run").unwrap();
    let settings = RuntimeSettings {
        run_directory: room.path().to_owned(),
        cgroup_parent: format!("oci-bench-{}", std::process::id()),
        open_files: None,
    };
    let runtime = Runtime::open(settings).unwrap();
    runtime.warm().unwrap();
    let mut spec = defaults::spec(runtime.host());
    let process = spec.process_mut().as_mut().unwrap();
    process.set_args(Some(["sleep", "1000"].map(str::to_owned).to_vec()));
    let bundle = |number: usize| {
        let rootfs = Rootfs::Directory(files.path().join("rootfs"));
        engine_runtime::Bundle::new(format!("bench-{number}"), spec.clone(), rootfs)
    };
    let mut one_by_one: Vec<_> = (0..20)
        .map(|number| {
            let begin = Instant::now();
            drop(runtime.launch(&bundle(number), None).unwrap());
            let time = begin.elapsed();
            runtime.remove(&format!("bench-{number}")).unwrap();
            time
        })
        .collect();
    let [median, low, high] = summary(&mut one_by_one).map(milliseconds);
    println!("library: a launch, one by one: {median:.2} ms ({low:.2} to {high:.2})");

    let mut times = Vec::new();
    for round in 0..3 {
        let (time, launched) = many(&runtime, &bundle);
        times.push(time);
        if round == 2 {
            println!("{}", memory(&launched));
        }
        for number in 0..MANY {
            runtime.remove(&format!("bench-{number}")).unwrap();
        }
    }
    let [median, ..] = summary(&mut times);
    println!("library: {MANY} launches, {AT_A_TIME} at a time: {:.0} ms", milliseconds(median));
}

fn many(runtime: &Runtime, bundle: &(dyn Fn(usize) -> engine_runtime::Bundle + Sync)) -> (Duration, Vec<Launched>) {
    let launched = Mutex::new(Vec::new());
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
                    let one = runtime.launch(&bundle(number), None).unwrap();
                    launched.lock().unwrap().push(one);
                }
            });
        }
    });
    (begin.elapsed(), launched.into_inner().unwrap())
}

/// Proportional and resident size of the monitors together, and each on average.
fn memory(launched: &[Launched]) -> String {
    let (mut proportional, mut resident) = (0, 0);
    for one in launched {
        let status = fs::read_to_string(format!("/proc/{}/status", one.pid)).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
        let rollup = fs::read_to_string(format!("/proc/{parent}/smaps_rollup")).unwrap();
        let field = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<usize>().unwrap()
        };
        proportional += field("Pss:");
        resident += field("Rss:");
    }
    let count = launched.len();
    format!(
        "{count} monitors: PSS {proportional} kB, each {:.1} kB; RSS {resident} kB, each {:.1} kB",
        proportional as f64 / count as f64,
        resident as f64 / count as f64
    )
}
