//! This engine: over its API and with the clients.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::series::{self, Series, Table, timed};
use crate::support::client::Client;
use crate::support::daemon::Daemon;

/// Adds the rows.
pub fn measure(table: &mut Table<'_>, rounds: usize) {
    let mut daemon = Daemon::with_busybox();
    for (network, floor) in [("none", &table.floor().none), ("bridge", &table.floor().bridge)] {
        let [create, start, life] = lives(&daemon, network, rounds);
        table.row(&format!("API create, {network}"), create, None);
        table.row(&format!("API start, {network}"), start, Some(&floor.to_exec));
        table.row(&format!("API create, start, wait, remove, {network}"), life, Some(&floor.gone));
        for client in [Client::Enginectl, Client::Docker] {
            let run = ["run", "--rm", "--network", network, "busybox", "true"];
            let series = Series::measure(rounds, || series::command(&mut client.command(&daemon, &run)));
            table.row(&format!("{} run --rm true, {network}", name(client)), series, Some(&floor.gone));
        }
    }
    for client in [Client::Enginectl, Client::Docker] {
        client.run(&daemon, &["run", "-d", "--name", "busy", "busybox", "sleep", "1000"]).ok();
        let series =
            Series::measure(rounds, || series::command(&mut client.command(&daemon, &["exec", "busy", "true"])));
        table.row(&format!("{} exec true", name(client)), series, None);
        let series = Series::measure(rounds, || series::command(&mut client.command(&daemon, &["ps"])));
        table.row(&format!("{} ps", name(client)), series, None);
        let series = Series::measure(rounds, || {
            let time = series::command(&mut client.command(&daemon, &["rm", "-f", "busy"]));
            client.run(&daemon, &["run", "-d", "--name", "busy", "busybox", "sleep", "1000"]).ok();
            time
        });
        table.row(&format!("{} rm -f of a running container", name(client)), series, None);
        client.run(&daemon, &["rm", "-f", "busy"]).ok();
    }
    table.row("50 x enginectl run -d, one by one", Series::new(vec![many(&daemon, 1)]), None);
    table.row("50 x enginectl run -d, 8 at a time", Series::new(vec![many(&daemon, 8)]), None);
    let inspects = Series::measure(rounds, || timed(|| drop(daemon.request("GET", "/containers/json?all=1"))));
    table.row("API list, a connection each", inspects, None);
    let restarts = Series::measure(rounds.min(20), || {
        daemon.stop();
        timed(|| daemon.begin())
    });
    table.row("engined start until /_ping answers (polled every 10 ms)", restarts, None);
    daemon.finish();
}

fn name(client: Client) -> String {
    client.program().file_name().unwrap().to_string_lossy().into_owned()
}

/// Whole lives over the API: times of create, of start, and of everything.
fn lives(daemon: &Daemon, network: &str, rounds: usize) -> [Series; 3] {
    let (mut creates, mut starts, mut lives) = (Vec::new(), Vec::new(), Vec::new());
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": network}});
    let body = serde_json::to_vec(&body).unwrap();
    for round in 0..rounds + 5 {
        let mut id = String::new();
        let create = timed(|| id = create(daemon, &body));
        let start = timed(|| expect(daemon, "POST", &format!("/containers/{id}/start"), 204));
        let wait = timed(|| expect(daemon, "POST", &format!("/containers/{id}/wait"), 200));
        let remove = timed(|| expect(daemon, "DELETE", &format!("/containers/{id}"), 204));
        if round >= 5 {
            creates.push(create);
            starts.push(start);
            lives.push(create + start + wait + remove);
        }
    }
    [Series::new(creates), Series::new(starts), Series::new(lives)]
}

fn create(daemon: &Daemon, body: &[u8]) -> String {
    let (status, answer) = daemon.request_with("POST", "/containers/create", body, "application/json");
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["Id"].as_str().unwrap().to_owned()
}

fn expect(daemon: &Daemon, method: &str, path: &str, expected: u16) {
    let (status, answer) = daemon.request(method, path);
    assert_eq!(status, expected, "{method} {path}: {}", String::from_utf8_lossy(&answer));
}

fn many(daemon: &Daemon, at_a_time: usize) -> Duration {
    let next = AtomicUsize::new(0);
    let time = timed(|| {
        std::thread::scope(|scope| {
            for _ in 0..at_a_time {
                scope.spawn(|| {
                    while next.fetch_add(1, Ordering::Relaxed) < 50 {
                        let run = ["run", "-d", "busybox", "sleep", "1000"];
                        series::command(&mut Client::Enginectl.command(daemon, &run));
                    }
                });
            }
        });
    });
    let ids = Client::Enginectl.run(daemon, &["ps", "-q"]).ok();
    let remove: Vec<&str> = ["rm", "-f"].into_iter().chain(ids.lines()).collect();
    Client::Enginectl.run(daemon, &remove).ok();
    time
}
