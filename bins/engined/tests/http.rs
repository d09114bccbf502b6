//! The daemon in this process, spoken to by raw HTTP over its socket.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use engine::container::{ContainerFilter, RemoveOptions};
use engine::image::{ImportOptions, Rootfs};
use engine::settings::BridgeSettings;
use engine::{Engine, Settings};
use engine_api::frame::{Decoder, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A daemon on a root of its own.
struct Daemon {
    directory: tempfile::TempDir,
    engine: Engine,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Daemon {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings::at(directory.path().join("root")).bridge(BridgeSettings::disabled()).firewall(false);
        let settings = settings.criu("/no/such/criu");
        let engine = Engine::open(settings).await.unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let served = engine.clone();
        let task = tokio::spawn(async move { engined::serve(served, vec![listener], stopped.notified()).await });
        Self { directory, engine, stop, task }
    }

    /// With an image `busybox`, made of the one of this machine, and a container of it.
    async fn with_container(body: &str) -> Self {
        let daemon = Self::start().await;
        let program = std::fs::read("/bin/busybox").unwrap();
        let options = ImportOptions::named("busybox".parse().unwrap()).env("PATH=/bin");
        daemon.engine.images().build_from(Rootfs::busybox(&program), options).await.unwrap();
        let answer = daemon.post_json("/containers/create?name=one", body).await;
        assert_eq!(parts(&answer).0, 201, "{answer}");
        daemon
    }

    /// Sends the head of a request that takes the connection, and whatever comes behind it.
    async fn hijack(&self, line: &str, headers: &str, behind: &str) -> UnixStream {
        let mut stream = self.connect().await;
        let request = format!("{line} HTTP/1.1\r\nHost: api.moby.localhost\r\n{headers}\r\n{behind}");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.unwrap()
    }

    /// Sends a request whose connection is closed behind it; its answer as text.
    async fn send(&self, line: &str, headers: &str, body: &str) -> String {
        let mut stream = self.connect().await;
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request =
            format!("{line} HTTP/1.1\r\nHost: api.moby.localhost\r\nConnection: close\r\n{length}{headers}\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Head and body of an answer as they come, without the frames of later versions of HTTP.
    async fn get_bytes(&self, path: &str, headers: &str) -> (String, Vec<u8>) {
        let mut stream = self.connect().await;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        (String::from_utf8(answer[..end].to_ascii_lowercase()).unwrap(), answer.split_off(end + 4))
    }

    async fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path}"), "", "").await
    }

    async fn post_json(&self, path: &str, body: &str) -> String {
        self.send(&format!("POST {path}"), "Content-Type: application/json\r\n", body).await
    }

    async fn stop(self) {
        for record in self.engine.containers().list(&ContainerFilter::new().all(true)).unwrap() {
            let container = self.engine.containers().get(record.id.as_str()).await.unwrap();
            container.remove(RemoveOptions::default().force(true)).await.unwrap();
        }
        self.stop.notify_one();
        self.task.await.unwrap();
    }
}

/// Status, head in lower case and body of an answer.
fn parts(answer: &str) -> (u16, String, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_ascii_lowercase(), body)
}

fn assert_error(answer: &str, status: u16, message: &str) {
    let (actual, head, body) = parts(answer);
    assert_eq!((actual, body), (status, format!("{{\"message\":{message:?}}}\n").as_str()));
    assert!(head.contains("content-type: application/json"), "{head}");
}

#[tokio::test]
async fn ping_tells_what_is_spoken_here() {
    let daemon = Daemon::start().await;
    let answer = daemon.get("/_ping").await;
    let (status, head, body) = parts(&answer);
    assert_eq!((status, body), (200, "OK"));
    for line in [
        "api-version: 1.51",
        "ostype: linux",
        "docker-experimental: false",
        "swarm: inactive",
        "builder-version: 1",
        "pragma: no-cache",
        "cache-control: no-cache, no-store, must-revalidate",
        "content-type: text/plain; charset=utf-8",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    let answer = daemon.send("HEAD /v1.24/_ping", "", "").await;
    let (status, _, body) = parts(&answer);
    assert_eq!((status, body), (200, ""));
    daemon.stop().await;
}

#[tokio::test]
async fn versions_are_negotiated() {
    let daemon = Daemon::start().await;
    let too_new = "client version 1.99 is too new. Maximum supported API version is 1.51";
    assert_error(&daemon.get("/v1.99/version").await, 400, too_new);
    let answer = daemon.get("/v1.12/version").await;
    let (status, head, body) = parts(&answer);
    assert_eq!(status, 400);
    assert!(head.contains("text/plain"), "{head}");
    assert!(body.starts_with("client version 1.12 is too old. Minimum supported API version is 1.24"), "{body}");
    assert_eq!(parts(&daemon.get("/v1.24/version").await).0, 200);
    assert_eq!(parts(&daemon.get("/version").await).0, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_not_found() {
    let daemon = Daemon::start().await;
    for line in ["GET /nope", "GET /v1.41/nope", "POST /version", "DELETE /_ping"] {
        assert_error(&daemon.send(line, "", "").await, 404, "page not found");
    }
    assert_eq!(parts(&daemon.send("OPTIONS /anything", "", "").await).0, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn checkpoints_are_refused_with_what_they_need() {
    let daemon =
        Daemon::with_container(r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none"}}"#)
            .await;
    assert_eq!(parts(&daemon.send("POST /containers/one/start", "", "").await).0, 204);
    let missing =
        "not supported: checkpoints need the program CRIU on the engine's host; there is no \"/no/such/criu\"";
    let create = r#"{"CheckpointID":"first","Exit":true}"#;
    assert_error(&daemon.post_json("/containers/one/checkpoints", create).await, 501, missing);
    assert_error(&daemon.send("POST /containers/one/start?checkpoint=first", "", "").await, 501, missing);
    let bad = "Invalid checkpoint ID (../x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed";
    assert_error(&daemon.post_json("/containers/one/checkpoints", r#"{"CheckpointID":"../x"}"#).await, 400, bad);
    assert_error(&daemon.send("DELETE /containers/one/checkpoints/..%2Fx", "", "").await, 400, bad);
    let answer = daemon.get("/containers/one/checkpoints").await;
    assert_eq!((parts(&answer).0, parts(&answer).2.trim()), (200, "[]"));
    let none = "checkpoint first does not exist for container one";
    assert_error(&daemon.send("DELETE /containers/one/checkpoints/first", "", "").await, 404, none);
    let alone = "checkpoint-dir says where a checkpoint is, and none is named";
    assert_error(&daemon.send("POST /containers/one/start?checkpoint-dir=/x", "", "").await, 400, alone);
    let relative = "the directory of checkpoints, \"some\", is no absolute path";
    assert_error(&daemon.get("/containers/one/checkpoints?dir=some").await, 400, relative);
    assert_eq!(parts(&daemon.get("/containers/nope/checkpoints").await).0, 404);
    daemon.stop().await;
}

#[tokio::test]
async fn bodies_must_be_json() {
    let daemon = Daemon::start().await;
    let create = "/containers/create";
    let eof = "invalid JSON: got EOF while reading request body";
    assert_error(&daemon.post_json(create, "").await, 400, eof);
    assert_error(&daemon.post_json(create, "{\"Image\":\"a\"} {}").await, 400, "unexpected content after JSON");
    assert_error(&daemon.post_json(create, "{}").await, 400, "config cannot be empty in order to create a container");
    let answer = daemon.post_json(create, "{\"Image\":7}").await;
    assert!(answer.contains("invalid JSON: Image: invalid type: integer `7`"), "{answer}");
    let answer = daemon.send("POST /containers/create", "Content-Type: text/plain\r\n", "{}").await;
    assert_error(&answer, 400, "unsupported Content-Type header (text/plain): must be 'application/json'");
    let answer = daemon.send("POST /containers/create", "", "{}").await;
    assert_error(&answer, 400, "malformed Content-Type header (): mime: no media type");
    daemon.stop().await;
}

#[tokio::test]
async fn filters_are_checked() {
    let daemon = Daemon::start().await;
    for path in ["/containers/json", "/images/json", "/networks", "/volumes", "/events"] {
        assert_error(&daemon.get(&format!("{path}?filters=x")).await, 400, "invalid filter");
        let answer = daemon.get(&format!("{path}?filters=%7B%22nope%22%3A%5B%22a%22%5D%7D")).await;
        assert_error(&answer, 400, "invalid filter 'nope'");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let daemon = Daemon::start().await;
    assert_error(&daemon.get("/containers/nope/json").await, 404, "No such container: nope");
    assert_error(&daemon.get("/images/host:5000/a/b/json").await, 404, "No such image: host:5000/a/b:latest");
    assert_error(&daemon.get("/networks/nope").await, 404, "network nope not found");
    assert_error(&daemon.get("/volumes/nope").await, 404, "get nope: no such volume");
    assert_error(&daemon.get("/exec/nope/json").await, 404, "No such exec instance: nope");
    assert_error(&daemon.post_json("/containers/create", "{\"Image\":\"a\"}").await, 404, "No such image: a:latest");
    assert_error(&daemon.send("POST /containers/x/wait?condition=y", "", "").await, 400, "invalid condition: \"y\"");
    let choose = "Bad parameters: you must choose at least one stream";
    assert_error(&daemon.get("/containers/x/logs").await, 400, choose);
    daemon.stop().await;
}

#[tokio::test]
async fn an_image_is_shown_with_the_place_of_its_layers() {
    let daemon = Daemon::with_container(r#"{"Image":"busybox","Cmd":["true"]}"#).await;
    let answer = daemon.get("/images/busybox/json").await;
    let shown: serde_json::Value = serde_json::from_str(parts(&answer).2).unwrap();
    let layer = PathBuf::from(shown["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap());
    assert!(layer.join("bin/busybox").exists(), "{answer}");
    assert!(shown["GraphDriver"]["Data"].get("LowerDir").is_none());
    let listed = async |path: &str| {
        let listed: serde_json::Value = serde_json::from_str(parts(&daemon.get(path).await).2).unwrap();
        listed[0]["Containers"].clone()
    };
    assert_eq!(listed("/images/json").await, 1);
    assert_eq!(listed("/v1.50/images/json").await, -1);
    assert_eq!(parts(&daemon.get("/v1.40/images/json?filter=other").await).2, "[]\n");
    assert_eq!(listed("/v1.40/images/json?filter=busy*").await, -1);
    assert_eq!(listed("/v1.41/images/json?filter=other").await, -1);
    // What was made here came with no manifest.
    assert!(shown.get("Descriptor").is_none());
    let both = "/images/busybox/json?manifests=1&platform=%7B%22os%22%3A%22linux%22%7D";
    assert_error(
        &daemon.get(both).await,
        400,
        "conflicting options: manifests and platform options cannot both be set",
    );
    daemon.stop().await;
}

#[tokio::test]
async fn lists_are_empty_lists() {
    let daemon = Daemon::start().await;
    for path in ["/containers/json", "/images/json", "/plugins"] {
        assert_eq!(parts(&daemon.get(path).await).2, "[]\n", "{path}");
    }
    assert_eq!(parts(&daemon.get("/volumes").await).2, "{\"Volumes\":[],\"Warnings\":null}\n");
    assert_eq!(parts(&daemon.get("/swarm").await).0, 503);
    assert_eq!(parts(&daemon.get("/plugins/privileges?remote=x").await).0, 501);
    assert_error(&daemon.send("POST /plugins/x/enable", "", "").await, 404, "plugin \"x\" not found");
    assert_eq!(parts(&daemon.send("POST /build", "", "").await).0, 501);
    daemon.stop().await;
}

#[tokio::test]
async fn volumes_live() {
    let daemon = Daemon::start().await;
    let answer = daemon.post_json("/volumes/create", r#"{"Name":"data","Labels":{"a":"b"}}"#).await;
    let (status, _, body) = parts(&answer);
    assert!(status == 201 && body.contains(r#""Labels":{"a":"b"}"#), "{answer}");
    assert!(daemon.get("/volumes?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D").await.contains(r#""Name":"data""#));
    assert!(!daemon.get("/volumes?filters=%7B%22label%22%3A%5B%22a%3Dc%22%5D%7D").await.contains(r#""Name":"data""#));
    assert_eq!(parts(&daemon.send("DELETE /volumes/data", "", "").await).0, 204);
    assert_eq!(parts(&daemon.send("DELETE /volumes/data", "", "").await).0, 404);
    assert_eq!(parts(&daemon.send("DELETE /volumes/data?force=1", "", "").await).0, 204);
    daemon.stop().await;
}

#[tokio::test]
async fn errors_of_attach_are_plain_text() {
    let daemon = Daemon::start().await;
    let upgrade = "Upgrade: tcp\r\n";
    let answer = daemon.send("POST /containers/nope/attach?stream=1", upgrade, "").await;
    let (status, head, body) = parts(&answer);
    assert_eq!((status, body), (404, "No such container: nope\r\n"));
    assert!(head.contains("content-type: application/vnd.docker.raw-stream"), "{head}");
    let answer = daemon.send("POST /containers/nope/attach?detachKeys=xx", upgrade, "").await;
    assert_eq!(parts(&answer).2, "Invalid detach keys (xx) provided\r\n");
    daemon.stop().await;
}

#[tokio::test]
async fn a_half_closed_client_of_attach_is_answered() {
    let daemon = Daemon::start().await;
    let mut stream = daemon.connect().await;
    let request =
        "POST /containers/nope/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = [0; 22];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404 Not Found");
    daemon.stop().await;
}

#[tokio::test]
async fn heads_of_streams_come_before_their_bodies() {
    let daemon = Daemon::start().await;
    let mut stream = daemon.connect().await;
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    daemon.post_json("/volumes/create", r#"{"Name":"told"}"#).await;
    let mut text = String::new();
    while !text.contains("told") {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "the stream ended: {text}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(text.contains(r#""Type":"volume","Action":"create""#), "{text}");
    let past = daemon.get("/events?since=1&until=2").await;
    assert!(!past.contains("told"), "{past}");
    daemon.stop().await;
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let daemon = Daemon::start().await;
    let mut stream = daemon.connect().await;
    for _ in 0..3 {
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nOK") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
    }
    daemon.stop().await;
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
/// Echoes its input and then says something on the other stream.
const ECHO: &str = r#"{"Image":"busybox","Cmd":["sh","-c","cat; echo end >&2"],"OpenStdin":true,"StdinOnce":true,
    "HostConfig":{"NetworkMode":"none"}}"#;
const SLEEP: &str = r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none"}}"#;

/// Reads a head, up to and with its empty line.
async fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn attach_hands_the_connection_over_before_the_start() {
    let daemon = Daemon::with_container(ECHO).await;
    let line = "POST /v1.51/containers/one/attach?stream=1&stdin=1&stdout=1&stderr=1";
    let mut attached = daemon.hijack(line, UPGRADE, "early ").await;
    assert_eq!(
        read_head(&mut attached).await,
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    // The head of the wait comes before the start, its body after the end.
    let mut wait = daemon.hijack("POST /containers/one/wait?condition=next-exit", "Connection: close\r\n", "").await;
    assert!(read_head(&mut wait).await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(parts(&daemon.send("POST /containers/one/start", "", "").await).0, 204);
    attached.write_all(b"late\n").await.unwrap();
    attached.shutdown().await.unwrap();
    let mut output = Vec::new();
    attached.read_to_end(&mut output).await.unwrap();
    let (mut decoder, mut rest) = (Decoder::new(), &output[..]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((stream, bytes)) = decoder.next(&mut rest).unwrap() {
        if stream == Stream::Stdout { &mut out } else { &mut err }.extend_from_slice(bytes);
    }
    assert_eq!((out.as_slice(), err.as_slice()), (&b"early late\n"[..], &b"end\n"[..]));
    let mut body = String::new();
    wait.read_to_string(&mut body).await.unwrap();
    assert!(body.contains(r#"{"StatusCode":0}"#), "{body}");
    daemon.stop().await;
}

#[tokio::test]
async fn older_clients_have_other_content_types() {
    let daemon = Daemon::with_container(ECHO).await;
    for (line, headers, expected) in [
        (
            "POST /v1.41/containers/one/attach?stream=1&stdout=1",
            UPGRADE,
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        ),
        (
            "POST /containers/one/attach?stream=1&stdout=1",
            "",
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n",
        ),
    ] {
        let mut attached = daemon.hijack(line, headers, "").await;
        assert_eq!(read_head(&mut attached).await, expected);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn an_exec_answers_in_its_stream() {
    let daemon = Daemon::with_container(SLEEP).await;
    assert_eq!(parts(&daemon.send("POST /containers/one/start", "", "").await).0, 204);
    assert_eq!(parts(&daemon.send("POST /containers/one/start", "", "").await).0, 304);
    for (command, text, code) in [
        (r#"["sh","-c","echo said; exit 4"]"#, "said\n", 4),
        (r#"["nope"]"#, "exec: \"nope\": executable file not found in $PATH", 127),
    ] {
        let body = format!(r#"{{"Cmd":{command},"AttachStdout":true}}"#);
        let answer = daemon.post_json("/containers/one/exec", &body).await;
        let id = parts(&answer).2.split('"').nth(3).unwrap().to_owned();
        let headers = format!("{UPGRADE}{JSON}Content-Length: 2\r\n");
        let mut stream = daemon.hijack(&format!("POST /exec/{id}/start"), &headers, "{}").await;
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n") && head.contains("Api-Version: 1.51\r\n"), "{head}");
        let mut output = Vec::new();
        stream.read_to_end(&mut output).await.unwrap();
        assert!(String::from_utf8_lossy(&output).contains(text), "{output:?}");
        let inspect = daemon.get(&format!("/exec/{id}/json")).await;
        assert!(inspect.contains(&format!(r#""Running":false,"ExitCode":{code}"#)), "{inspect}");
        let again = daemon.send(&format!("POST /exec/{id}/start"), &format!("{UPGRADE}{JSON}"), "{}").await;
        assert_error(&again, 409, &format!("exec command {id} has already run"));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_vanishes_stops_no_change() {
    let daemon = Daemon::with_container(SLEEP).await;
    let stream = daemon.hijack("POST /containers/one/start", "", "").await;
    drop(stream);
    let container = daemon.engine.containers().get("one").await.unwrap();
    while !container.record().state.status.has_process() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    drop(container);
    daemon.stop().await;
}

#[tokio::test]
async fn older_clients_get_older_answers() {
    let body =
        r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none","Annotations":{"a":"b"}}}"#;
    let daemon = Daemon::with_container(body).await;
    let all = "/containers/json?all=1";
    for (path, words, there) in [
        (format!("/v1.45{all}"), "Annotations", false),
        (format!("/v1.46{all}"), r#""Annotations":{"a":"b"}"#, true),
        // What was written for one version is not given to another.
        (format!("/v1.45{all}"), "Annotations", false),
        (format!("/v1.46{all}"), r#""Annotations":{"a":"b"}"#, true),
        ("/v1.50/images/json".to_owned(), r#""Containers":-1"#, true),
        ("/v1.51/images/json".to_owned(), r#""Containers":1"#, true),
        ("/v1.40/images/json?filter=nope".to_owned(), "busybox", false),
        ("/v1.41/images/json?filter=nope".to_owned(), "busybox", true),
        ("/v1.49/images/busybox/json".to_owned(), r#""Hostname":"""#, true),
        ("/v1.50/images/busybox/json".to_owned(), r#""Hostname":"""#, false),
        ("/v1.50/images/busybox/json".to_owned(), r#""Env":["PATH=/bin"]"#, true),
        ("/v1.44/images/busybox/json".to_owned(), "ContainerConfig", true),
        ("/v1.45/images/busybox/json".to_owned(), "ContainerConfig", false),
        ("/v1.24/info".to_owned(), r#""SecurityOptions":["seccomp","cgroupns"]"#, true),
        ("/v1.25/info".to_owned(), r#""SecurityOptions":["name=seccomp,profile=builtin","name=cgroupns"]"#, true),
    ] {
        let answer = daemon.get(&path).await;
        assert_eq!(parts(&answer).2.contains(words), there, "{path}: {answer}");
    }
    let create = async |version: &str, name: &str, body: &str| {
        daemon.post_json(&format!("/v{version}/containers/create?name={name}&platform=linux/none"), body).await
    };
    // A version that knows no platforms does not look at them, and drops what it does not know.
    assert_eq!(parts(&create("1.40", "old", body).await).0, 201);
    assert!(!daemon.get("/containers/old/json").await.contains("Annotations"));
    assert_eq!(parts(&create("1.41", "other", body).await).0, 404);
    let several = r#"{"Image":"busybox","NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}"#;
    let words = "Container cannot be created with multiple network endpoints: a, b";
    assert_error(&create("1.43", "several", several).await, 400, words);
    daemon.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_it_is_forgotten() {
    let daemon = Daemon::with_container(SLEEP).await;
    let words = "`since` time (9) cannot be after `until` time (8)";
    assert_error(&daemon.get("/events?since=9&until=8").await, 400, words);
    let limits = r#"{"Memory":8388608,"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}]}"#;
    let words = "Ulimits cannot be changed: make the container anew";
    assert_error(&daemon.post_json("/containers/one/update", limits).await, 400, words);
    assert!(daemon.get("/containers/one/json").await.contains(r#""Memory":0"#));
    daemon.stop().await;
}

#[tokio::test]
async fn what_builds_on_top_are_to_do_is_kept_and_committed() {
    let body = r#"{"Image":"busybox","Cmd":["true"],"OnBuild":["RUN make","ADD . /src"]}"#;
    let daemon = Daemon::with_container(body).await;
    let triggers = async |path: &str| {
        let shown: serde_json::Value = serde_json::from_str(parts(&daemon.get(path).await).2).unwrap();
        shown["Config"]["OnBuild"].clone()
    };
    let all = serde_json::json!(["RUN make", "ADD . /src"]);
    assert_eq!(triggers("/containers/one/json").await, all);
    let commit = async |query: &str, body: &str| {
        let answer = daemon.post_json(&format!("/commit?container=one&pause=0&repo={query}"), body).await;
        assert_eq!(parts(&answer).0, 201, "{answer}");
    };
    commit("kept", "").await;
    assert_eq!(triggers("/images/kept/json").await, all);
    commit("changed&changes=ONBUILD%20RUN%20test", "null").await;
    assert_eq!(triggers("/images/changed/json").await, serde_json::json!(["RUN make", "ADD . /src", "RUN test"]));
    commit("said", r#"{"OnBuild":["RUN other"]}"#).await;
    assert_eq!(triggers("/images/said/json").await, serde_json::json!(["RUN other"]));
    // They are for builds, and a container of the image is none.
    let answer = daemon.post_json("/containers/create?name=two", r#"{"Image":"kept","Cmd":["true"]}"#).await;
    assert_eq!(parts(&answer).0, 201, "{answer}");
    assert_eq!(triggers("/containers/two/json").await, serde_json::Value::Null);
    daemon.stop().await;
}

#[tokio::test]
async fn archives_are_compressed_for_who_says_so() {
    let daemon = Daemon::with_container(r#"{"Image":"busybox","Cmd":["true"]}"#).await;
    let path = "/containers/one/archive?path=/bin";
    let (head, plain) = daemon.get_bytes(path, "").await;
    assert!(!head.contains("content-encoding") && plain.len() > 100_000, "{head}");
    for (accepted, told) in [("gzip, deflate", "gzip"), ("deflate", "deflate"), ("*", "gzip")] {
        let (head, body) = daemon.get_bytes(path, &format!("Accept-Encoding: {accepted}\r\n")).await;
        assert!(head.contains(&format!("content-encoding: {told}\r\n")), "{head}");
        assert!(head.contains("content-type: application/x-tar") && head.contains("x-docker-container-path-stat"));
        let mut back = Vec::new();
        if told == "gzip" {
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut back).unwrap();
        } else {
            flate2::read::DeflateDecoder::new(&body[..]).read_to_end(&mut back).unwrap();
        }
        assert!(back == plain && body.len() < plain.len(), "{accepted}: {} of {}", body.len(), plain.len());
    }
    for (path, accepted) in
        [(path, "br, gzip;q=0"), ("/containers/one/export", "gzip"), ("/images/busybox/get", "gzip")]
    {
        let (head, body) = daemon.get_bytes(path, &format!("Accept-Encoding: {accepted}\r\n")).await;
        assert!(head.contains("200 ok") && !head.contains("content-encoding"), "{head}");
        assert_eq!(&body[257..262], b"ustar", "{path}");
    }
    let (head, _) = daemon.get_bytes("/containers/one/archive?path=/nope", "Accept-Encoding: gzip\r\n").await;
    assert!(head.contains("404 not found") && !head.contains("content-encoding"), "{head}");
    daemon.stop().await;
}

#[tokio::test]
async fn images_are_asked_for_by_their_platform() {
    let daemon = Daemon::start().await;
    let mut options = ImportOptions::named("old:1".parse().unwrap());
    (options.config.os, options.config.architecture) = ("linux".to_owned(), "386".to_owned());
    daemon.engine.images().build_from(Rootfs::new().file("old", 0o644, "old"), options).await.unwrap();
    let platform = |text: &str| {
        let (os, architecture) = text.split_once('/').unwrap();
        format!("%7B%22os%22%3A%22{os}%22%2C%22architecture%22%3A%22{architecture}%22%7D")
    };
    let (own, above) = (platform("linux/386"), platform("linux/amd64"));
    let said = "image with reference old:1 was found but does not provide the specified platform (linux/amd64): it is for linux/386";
    assert_error(&daemon.get(&format!("/images/old:1/json?platform={above}")).await, 404, said);
    assert_error(&daemon.send(&format!("DELETE /images/old:1?platforms={above}"), "", "").await, 404, said);
    assert_error(&daemon.get(&format!("/images/old:1/get?platform={above}")).await, 404, said);
    // Docker shows here what it would run.
    assert_eq!(parts(&daemon.get(&format!("/images/old:1/history?platform={above}")).await).0, 200);
    assert_eq!(parts(&daemon.get(&format!("/images/old:1/history?platform={}", platform("linux/arm"))).await).0, 404);
    let both = format!("DELETE /images/old:1?platforms={own}&platforms={above}");
    assert_error(&daemon.send(&both, "", "").await, 400, "multiple platforms are not supported");
    assert_eq!(parts(&daemon.get(&format!("/images/old:1/json?platform={own}")).await).0, 200);
    assert_eq!(parts(&daemon.send(&format!("DELETE /images/old:1?platforms={own}"), "", "").await).0, 200);
    assert_eq!(parts(&daemon.get("/images/old:1/json").await).0, 404);
    daemon.stop().await;
}
