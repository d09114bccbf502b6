//! Output that is sent elsewhere, on a real kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod place;

use engine::{Engine, RemoveOptions};
use place::{Place, shell};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};

fn driver(spec: &mut engine::ContainerSpec, driver: &str, options: &[(&str, &str)]) {
    spec.host.log.driver = driver.to_owned();
    spec.host.log.options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
}

#[tokio::test]
async fn lines_reach_a_syslog_and_are_kept_too() {
    let place = Place::new();
    let engine = place.engine().await;
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = format!("udp://{}", server.local_addr().unwrap());
    let mut spec = shell("echo one; echo two >&2").name("web").auto_remove(true);
    driver(&mut spec, "syslog", &[("syslog-address", &address), ("tag", "{{.Name}}")]);
    let container = engine.containers().create(spec).await.unwrap();
    assert_eq!(container.log_path(), None);
    container.start().await.unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 512];
    for _ in 0..2 {
        let count = server.recv(&mut buffer).await.unwrap();
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        seen.push((text[..4].to_owned(), text.rsplit_once("]: ").unwrap().1.to_owned()));
    }
    seen.sort();
    assert_eq!(seen, [("<27>".to_owned(), "two\n".to_owned()), ("<30>".to_owned(), "one\n".to_owned())]);
}

#[tokio::test]
async fn the_next_engine_sends_on_from_where_the_last_one_was() {
    let place = Place::new();
    let engine = place.engine().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", server.local_addr().unwrap());
    let mut spec = shell("echo first; while ! test -e /go; do sleep 0.05; done; echo second; sleep 1000").name("web");
    driver(&mut spec, "gelf", &[("gelf-address", &address)]);
    let container = engine.containers().create(spec).await.unwrap();
    container.start().await.unwrap();
    let message = async |server: &TcpListener| loop {
        // The first connection only looks whether somebody is there.
        let (stream, _) = server.accept().await.unwrap();
        let mut bytes = Vec::new();
        BufReader::new(stream).read_until(0, &mut bytes).await.unwrap();
        if let Some((0, document)) = bytes.split_last() {
            let document: serde_json::Value = serde_json::from_slice(document).unwrap();
            return document["short_message"].as_str().unwrap().to_owned();
        }
    };
    assert_eq!(message(&server).await, "first");
    let sent = container.directory().join("sent");
    while !sent.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(container);
    engine.shutdown().await;
    drop(engine);
    let engine = Engine::open(place.without_bridge()).await.unwrap();
    let container = engine.containers().get("web").await.unwrap();
    container.exec(engine::ExecSpec::new(["touch", "/go"])).await.unwrap().start().await.unwrap();
    assert_eq!(message(&server).await, "second");
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn what_was_written_while_there_was_no_engine_is_sent_though_the_container_has_ended() {
    let place = Place::new();
    let engine = place.engine().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", server.local_addr().unwrap());
    let go = tempfile::tempdir().unwrap();
    let script = "echo first; while ! test -e /go/on; do sleep 0.05; done; echo second; echo third";
    for (name, auto_remove) in [("kept", false), ("removed", true)] {
        let mut spec = shell(script).name(name).auto_remove(auto_remove);
        spec.host.binds.push(format!("{}:/go", go.path().display()));
        driver(&mut spec, "syslog", &[("syslog-address", &address), ("tag", "{{.Name}}")]);
        engine.containers().create(spec).await.unwrap().start().await.unwrap();
    }
    // Each connection is read to its end beside the others.
    let (heard, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = server.accept().await.unwrap();
            let heard = heard.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream).lines();
                while let Ok(Some(line)) = stream.next_line().await {
                    let name = if line.contains("kept") { "kept" } else { "removed" };
                    let _ = heard.send(format!("{name} {}", line.rsplit_once(": ").unwrap().1));
                }
            });
        }
    });
    let mut next = async |count: usize| {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(lines.recv().await.unwrap());
        }
        seen.sort();
        seen
    };
    assert_eq!(next(2).await, ["kept first", "removed first"]);
    let of = async |engine: &Engine, name: &str| engine.containers().get(name).await;
    for name in ["kept", "removed"] {
        let sent = of(&engine, name).await.unwrap().directory().join("sent");
        while !sent.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let mut pids = Vec::new();
    for name in ["kept", "removed"] {
        pids.push(of(&engine, name).await.unwrap().record().state.pid);
    }
    engine.shutdown().await;
    drop(engine);
    std::fs::write(go.path().join("on"), "").unwrap();
    while pids.iter().any(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let engine = Engine::open(place.without_bridge()).await.unwrap();
    assert_eq!(next(4).await, ["kept second", "kept third", "removed second", "removed third"]);
    while of(&engine, "removed").await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Its end is known by now; what an engine has not sent any more the next one sends nevertheless.
    let sent = of(&engine, "kept").await.unwrap().directory().join("sent");
    engine.shutdown().await;
    drop(engine);
    std::fs::remove_file(sent).unwrap();
    let engine = Engine::open(place.without_bridge()).await.unwrap();
    assert_eq!(next(3).await, ["kept first", "kept second", "kept third"]);
    of(&engine, "kept").await.unwrap().remove(RemoveOptions::default()).await.unwrap();
    server.abort();
}

#[tokio::test]
async fn the_records_of_a_log_have_the_attributes_that_are_asked_for() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut spec = shell("echo one; echo two >&2").name("web");
    spec.env = ["A=1", "B=2"].map(str::to_owned).to_vec();
    spec.labels.insert("tier".to_owned(), "db \"x\"".to_owned());
    driver(&mut spec, "json-file", &[("env", "A"), ("labels-regex", "^t"), ("tag", "{{.Name}}")]);
    let container = engine.containers().create(spec.clone()).await.unwrap();
    container.start().await.unwrap();
    container.wait().await.unwrap();
    let file = std::fs::read_to_string(container.log_path().unwrap()).unwrap();
    let mut lines: Vec<_> = file.lines().collect();
    lines.sort_unstable();
    let attributes = r#""attrs":{"A":"1","tag":"web","tier":"db \"x\""},"time":""#;
    assert!(lines[0].starts_with(&format!(r#"{{"log":"one\n","stream":"stdout",{attributes}"#)), "{file}");
    assert!(lines[1].starts_with(&format!(r#"{{"log":"two\n","stream":"stderr",{attributes}"#)), "{file}");
    let mut logs = container.logs(engine::LogOptions::default().tail(5)).unwrap();
    assert_eq!(logs.next_batch().await.unwrap().unwrap().len(), 2);
    container.remove(RemoveOptions::default()).await.unwrap();
    spec.env.push(format!("A={}", "x".repeat(20_000)));
    let error = engine.containers().create(spec).await.unwrap_err().to_string();
    assert!(error.contains("at most 16384 are possible"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_the_start() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut spec = shell("true");
    driver(&mut spec, "fluentd", &[("fluentd-address", "127.0.0.1:1")]);
    let container = engine.containers().create(spec).await.unwrap();
    let error = container.start().await.unwrap_err().to_string();
    assert!(error.starts_with("failed to create task for container: failed to initialize logging driver: "), "{error}");
}
