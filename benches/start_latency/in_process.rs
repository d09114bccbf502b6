//! The library alone: this program in a network namespace of its own is the engine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::{ContainerSpec, Engine, Settings};

use crate::series::{Series, Table};
use crate::support::network::Network;
use crate::support::{archive, run};

const NETWORKS: [&str; 2] = ["none", "bridge"];

/// Adds the rows.
pub fn measure(table: &mut Table<'_>, rounds: usize) {
    let network = Network::new();
    let mut command = network.command(std::env::current_exe().unwrap());
    let printed = run(command.arg("--in-process").arg(rounds.to_string()), b"").ok();
    let mut series: BTreeMap<(&str, &str), Vec<Duration>> = BTreeMap::new();
    for line in printed.lines() {
        let mut words = line.split(' ');
        let [network, what, nanoseconds] = [(); 3].map(|()| words.next().unwrap());
        series.entry((network, what)).or_default().push(Duration::from_nanos(nanoseconds.parse().unwrap()));
    }
    for (network, floor) in NETWORKS.into_iter().zip([&table.floor().none, &table.floor().bridge]) {
        let mut series = |what| Series::new(series.remove(&(network, what)).unwrap());
        table.row(&format!("in-process create, {network}"), series("create"), None);
        table.row(&format!("in-process start, {network}"), series("start"), Some(&floor.to_exec));
        table.row(&format!("in-process create, start, wait, remove, {network}"), series("life"), Some(&floor.gone));
    }
}

/// `--in-process ROUNDS`: prints network, step and nanoseconds of each step of each life.
pub fn lives(rounds: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let room = tempfile::tempdir().unwrap();
        let engine = Engine::open(Settings::at(room.path())).await.unwrap();
        let archive = tokio::fs::File::open(archive::busybox_file()).await.unwrap();
        let image = engine.images().load(archive).await.unwrap().remove(0).image;
        for network in NETWORKS {
            for round in 0..rounds + 5 {
                let begin = Instant::now();
                let spec = ContainerSpec::new(image.id()).command(["true"]).network(network.parse().unwrap());
                let container = engine.containers().create(spec).await.unwrap();
                let created = begin.elapsed();
                container.start().await.unwrap();
                let started = begin.elapsed();
                assert_eq!(container.wait().await.unwrap().code, 0);
                container.remove(engine::RemoveOptions::default()).await.unwrap();
                let gone = begin.elapsed();
                if round >= 5 {
                    for (what, time) in [("create", created), ("start", started - created), ("life", gone)] {
                        println!("{network} {what} {}", time.as_nanos());
                    }
                }
            }
        }
        engine.shutdown().await;
    });
}
