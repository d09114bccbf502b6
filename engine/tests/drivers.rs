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
        seen.push((text[..4].to_owned(), text.rsplit_once(" web: ").unwrap().1.to_owned()));
    }
    seen.sort();
    assert_eq!(seen, [("<27>".to_owned(), "two".to_owned()), ("<30>".to_owned(), "one".to_owned())]);
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
async fn a_server_that_is_not_there_is_told_at_the_start() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut spec = shell("true");
    driver(&mut spec, "fluentd", &[("fluentd-address", "127.0.0.1:1")]);
    let container = engine.containers().create(spec).await.unwrap();
    let error = container.start().await.unwrap_err().to_string();
    assert!(error.starts_with("failed to create task for container: failed to initialize logging driver: "), "{error}");
}
