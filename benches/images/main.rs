//! What a layer costs stage by stage on one core, with the engine's own code and nothing else going on: the slowest stage is what
//! a pipeline of all of them is measured against.
//!
//! `cargo bench --bench image_stages -- LAYER.tar.gz SCRATCH [ROUNDS]`; needs root, and room for the layer in `SCRATCH`.
#![allow(clippy::unwrap_used, unreachable_pub)]

use std::cell::RefCell;
use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use engine::image::RemoveOptions;
use engine::oci::Digest;
use engine::snapshot::Layers;
use engine::{Engine, Settings};
use futures_util::StreamExt as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What is passed on at once, as in the engine.
const PIECE: usize = 256 << 10;
const NAME: &str = "stages:1";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (blob, scratch, rounds) = match arguments.as_slice() {
        [blob, scratch] => (blob, scratch, 5),
        [blob, scratch, rounds] => (blob, scratch, rounds.parse().expect("ROUNDS is a number")),
        _ => return println!("usage: cargo bench --bench image_stages -- LAYER.tar.gz SCRATCH [ROUNDS]"),
    };
    let blob = std::fs::read(blob).unwrap();
    let mut archive = Vec::new();
    decoder(&blob).read_to_end(&mut archive).unwrap();
    let scratch = tempfile::tempdir_in(scratch).unwrap();
    let stages = Stages { blob, archive, scratch: scratch.path(), rounds };
    let megabytes = |bytes: &[u8]| bytes.len() as f64 / 1e6;
    println!(
        "a layer of {:.1} MB, {:.1} MB compressed; milliseconds",
        megabytes(&stages.archive),
        megabytes(&stages.blob)
    );
    let all = sched_getaffinity(None).unwrap();
    let slowest = alone(&all, || stages.each());
    let show_times = |text: &str, time: Duration| {
        let times_slowest = time.as_secs_f64() / slowest.as_secs_f64();
        println!("{text:<56} {:>8.1}   {times_slowest:.2} x inflating", millis(time));
    };
    let layers = Layers::open(stages.scratch).unwrap();
    let unpack = || layers.unpack(stages.blob.as_slice()).unwrap();
    show_times("unpacking it compressed, one core", alone(&all, || stages.time(unpack)));
    // By turns: what else the machine does falls on both.
    let by_turns = (0..stages.rounds).map(|_| (alone(&all, || timed(|| stages.inflate())), timed(unpack)));
    let (inflating, unpacking): (Vec<_>, Vec<_>) = by_turns.unzip();
    let (inflating, unpacking) = (median(inflating), median(unpacking));
    let times_slowest = unpacking.as_secs_f64() / inflating.as_secs_f64();
    println!("{:<56} {:>8.1}", "inflating, by turns with", millis(inflating));
    println!(
        "{:<56} {:>8.1}   {times_slowest:.2} x inflating",
        "unpacking it compressed, all cores",
        millis(unpacking)
    );
    for (what, layer) in [("compressed", &stages.blob), ("plain", &stages.archive)] {
        let image = stages.image(layer);
        for (cores, time) in
            [("one core", alone(&all, || stages.together(&image))), ("all cores", stages.together(&image))]
        {
            show_times(&format!("loading it {what}, kept and on disk at the end, {cores}"), time.load);
            show(&format!("saving what was loaded {what}, {cores}"), time.save);
        }
    }
}

/// Does something on one core alone; threads that it starts stay there.
fn alone<T>(all: &CpuSet, work: impl FnOnce() -> T) -> T {
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).rev().find(|core| all.is_set(*core)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    let done = work();
    sched_setaffinity(None, all).unwrap();
    done
}

fn decoder(blob: &[u8]) -> impl Read {
    flate2::bufread::MultiGzDecoder::new(blob)
}

fn write(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    bytes.chunks(PIECE).for_each(|piece| file.write_all(piece).unwrap());
}

/// How long `work` takes, with everything that was to be written before on the disk. What it gives is dropped afterwards.
fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    rustix::fs::sync();
    let begun = Instant::now();
    let done = work();
    let time = begun.elapsed();
    drop(done);
    time
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn show(what: &str, time: Duration) {
    println!("{what:<56} {:>8.1}", millis(time));
}

struct Stages<'a> {
    blob: Vec<u8>,
    archive: Vec<u8>,
    scratch: &'a Path,
    rounds: usize,
}

/// What the engine takes for an image of one layer.
struct Times {
    load: Duration,
    save: Duration,
}

impl Stages<'_> {
    /// Measures and shows each stage, and says how long inflating takes.
    fn each(&self) -> Duration {
        let inflate = self.measure("inflating", || self.inflate());
        self.measure("digest of the compressed layer", || Digest::of(&self.blob));
        self.measure("digest of the archive", || Digest::of(&self.archive));
        let (path, copy) = (self.scratch.join("file"), self.scratch.join("copy"));
        self.measure("writing the compressed layer", || write(&path, &self.blob));
        self.measure("writing the archive", || write(&path, &self.archive));
        self.measure("copying the archive", || std::fs::copy(&path, &copy).unwrap());
        std::fs::remove_file(&copy).unwrap();
        std::fs::remove_file(&path).unwrap();
        let layers = Layers::open(self.scratch).unwrap();
        let syncs = RefCell::default();
        self.measure("unpacking, with the digest of the archive", || {
            // A thread of its own, as it has a umask of its own afterwards.
            let unpack = || layers.stage().unwrap().unpack(self.archive.as_slice()).unwrap();
            let staged = std::thread::scope(|scope| scope.spawn(unpack).join().unwrap());
            Unsynced { layers: &layers, syncs: &syncs, _staged: staged }
        });
        show("writing what was unpacked to the disk", median(syncs.into_inner()));
        inflate
    }

    fn inflate(&self) {
        let (mut decoder, mut piece) = (decoder(&self.blob), vec![0; PIECE]);
        while decoder.read(&mut piece).unwrap() > 0 {}
    }

    /// Measures and shows a stage.
    fn measure<T>(&self, what: &str, work: impl FnMut() -> T) -> Duration {
        let time = self.time(work);
        show(what, time);
        time
    }

    /// The median time of `work`.
    fn time<T>(&self, mut work: impl FnMut() -> T) -> Duration {
        median((0..self.rounds).map(|_| timed(&mut work)).collect())
    }

    /// An archive as `docker save` writes it, of this one layer.
    fn image(&self, layer: &[u8]) -> Vec<u8> {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&self.archive).to_string()]},
        });
        let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in [
            ("layer.tar", layer),
            ("c.json", config.to_string().as_bytes()),
            ("manifest.json", manifest.to_string().as_bytes()),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append_data(&mut header, name, bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    /// Loads and saves the image with the engine.
    fn together(&self, image: &[u8]) -> Times {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let root = tempfile::tempdir_in(self.scratch).unwrap();
        runtime.block_on(async {
            let engine = Engine::open(Settings::at(root.path())).await.unwrap();
            let images = engine.images();
            let (mut loads, mut saves) = (Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                let source = Cursor::new(image.to_vec());
                rustix::fs::sync();
                let begun = Instant::now();
                images.load(source).await.unwrap();
                loads.push(begun.elapsed());
                rustix::fs::sync();
                let begun = Instant::now();
                let mut saved = images.save(&[NAME.to_owned()], None).await.unwrap();
                while let Some(piece) = saved.next().await {
                    piece.unwrap();
                }
                saves.push(begun.elapsed());
                images.remove(NAME, RemoveOptions::default()).await.unwrap();
                // It is removed while nobody waits.
                while std::fs::read_dir(root.path().join("layers")).unwrap().next().is_some() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Times { load: median(loads), save: median(saves) }
        })
    }
}

/// What was unpacked: before it goes, it is written to the disk, and how long that takes is noted.
struct Unsynced<'a> {
    layers: &'a Layers,
    syncs: &'a RefCell<Vec<Duration>>,
    _staged: engine::snapshot::Staged,
}

impl Drop for Unsynced<'_> {
    fn drop(&mut self) {
        let begun = Instant::now();
        self.layers.sync().unwrap();
        self.syncs.borrow_mut().push(begun.elapsed());
    }
}
