//! run, exec, logs: order of requests, streams, exit codes.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::daemon::{Connection, Daemon, Finished, Moment, Request, program};

/// A container that is attached to by `attach` and ends with this code once it is started.
fn container(code: i32, attach: impl Fn(&mut Connection) + Send + Sync + 'static) -> Daemon {
    let (started, ended) = (Moment::default(), Moment::default());
    Daemon::start(move |request, connection| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/containers/create") => connection.answer(201, r#"{"Id":"c1","Warnings":[]}"#),
        ("POST", "/containers/c1/attach") => {
            connection.upgrade();
            started.wait();
            attach(connection);
            connection.close();
            ended.happened();
        }
        ("POST", "/containers/c1/wait") => {
            connection.begin(200, "application/json");
            started.wait();
            if !request.query.is_empty() {
                ended.wait();
            }
            connection.chunk(format!("{{\"StatusCode\":{code}}}\n").as_bytes());
            connection.send(b"0\r\n\r\n");
        }
        ("POST", "/containers/c1/start") => {
            connection.answer(204, "");
            started.happened();
        }
        _ => connection.answer(404, r#"{"message":"page not found"}"#),
    })
}

#[test]
fn run_waits_before_it_starts_and_ends_as_the_container_did() {
    let daemon = container(7, |connection| {
        connection.frame(1, b"out\n");
        connection.frame(2, b"err\n");
    });
    let finished = daemon.run("run busybox sh -c x");
    assert_eq!(finished, Finished { code: Some(7), stdout: "out\n".to_owned(), stderr: "err\n".to_owned() });
    let asked = daemon.asked();
    assert_eq!(asked.len(), 4, "no request too many: {asked:?}");
    assert_eq!((asked[0].as_str(), asked[3].as_str()), ("POST /containers/create", "POST /containers/c1/start"));
    daemon.request("/containers/create", |request| {
        assert_eq!(request.version, "1.51");
        assert_eq!(request.header("host"), Some("api.moby.localhost"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert!(request.header("user-agent").unwrap().starts_with("enginectl/"));
        let body = request.json();
        assert_eq!(body["Image"], "busybox");
        assert_eq!(body["Cmd"], serde_json::json!(["sh", "-c", "x"]));
        assert_eq!(body["HostConfig"]["NetworkMode"], "default");
    });
    daemon.request("/containers/c1/attach", |request| {
        assert_eq!(request.query, "stream=1&stdout=1&stderr=1");
        assert_eq!((request.header("upgrade"), request.header("connection")), (Some("tcp"), Some("Upgrade")));
    });
    daemon.request("/containers/c1/wait", |request| assert_eq!(request.query, "condition=next-exit"));
}

#[test]
fn run_rm_waits_for_the_removal() {
    let daemon = container(0, |_| {});
    assert_eq!(daemon.run("run --rm --name x busybox").code, Some(0));
    daemon.request("/containers/c1/wait", |request| assert_eq!(request.query, "condition=removed"));
    daemon.request("/containers/create", |request| {
        assert_eq!(request.query, "name=x");
        assert_eq!(request.json()["HostConfig"]["AutoRemove"], true);
    });
}

#[test]
fn the_end_of_input_closes_only_the_input() {
    let daemon = container(0, |connection| {
        let input = connection.read_to_end();
        connection.frame(1, &input.to_ascii_uppercase());
    });
    let input = vec![b'a'; 300_000];
    let finished = daemon.run_with("run -i busybox cat", &input);
    assert_eq!((finished.code, finished.stdout.len()), (Some(0), input.len()));
    daemon.request("/containers/create", |request| {
        assert_eq!(
            (request.json()["OpenStdin"].clone(), request.json()["StdinOnce"].clone()),
            (true.into(), true.into())
        );
    });
}

#[test]
fn without_i_nothing_is_read() {
    let daemon = container(0, |connection| connection.frame(1, b"x"));
    assert_eq!(daemon.run_with("run busybox true", b"unread").stdout, "x");
    daemon.request("/containers/c1/attach", |request| assert!(!request.query.contains("stdin")));
}

#[test]
fn run_d_prints_the_id_after_two_requests() {
    let daemon = container(0, |_| {});
    let finished = daemon.run("run -d busybox");
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "c1\n"));
    assert_eq!(daemon.asked(), ["POST /containers/create", "POST /containers/c1/start"]);
}

/// A daemon that has the image only after a pull.
fn without_image() -> Daemon {
    let pulled = Arc::new(AtomicU32::new(0));
    Daemon::start(move |request, connection| match request.path.as_str() {
        "/containers/create" if pulled.load(Ordering::SeqCst) == 0 => {
            connection.answer(404, r#"{"message":"No such image: busybox:latest"}"#);
        }
        "/containers/create" => connection.answer(201, r#"{"Id":"c1","Warnings":["careful"]}"#),
        "/images/create" => {
            pulled.fetch_add(1, Ordering::SeqCst);
            connection.begin(200, "application/json");
            connection.chunk(b"{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"aaaaaaaaaaaa\"}\r\n");
            connection.chunk(b"{\"status\":\"Status: Downloaded newer image for busybox:latest\"}\r\n");
            connection.send(b"0\r\n\r\n");
        }
        _ => connection.answer(204, ""),
    })
}

#[test]
fn an_image_that_is_not_there_is_pulled() {
    let daemon = without_image();
    let finished = daemon.run("run -d busybox");
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "c1\n"));
    assert_eq!(
        finished.stderr,
        "Unable to find image 'busybox:latest' locally\naaaaaaaaaaaa: Pulling fs layer\n\
         Status: Downloaded newer image for busybox:latest\nWARNING: careful\n"
    );
    daemon.request("/images/create", |request| assert_eq!(request.query, "fromImage=busybox&tag=latest"));
}

#[test]
fn pull_never_and_quiet() {
    let finished = without_image().run("run -d --pull never busybox");
    assert_eq!(finished.code, Some(125));
    assert_eq!(
        finished.stderr,
        "enginectl: Error response from daemon: No such image: busybox:latest\n\nRun 'enginectl run --help' for more information\n"
    );
    assert_eq!(without_image().run("run -q -d busybox").stderr, "WARNING: careful\n");
    assert_eq!(without_image().run("create --pull sometimes busybox").code, Some(125));
}

fn start_fails(message: &'static str) -> Finished {
    let failed = Moment::default();
    let daemon = Daemon::start(move |request, connection| match request.path.as_str() {
        "/containers/create" => connection.answer(201, r#"{"Id":"c1"}"#),
        "/containers/c1/attach" => {
            connection.upgrade();
            failed.wait();
            connection.close();
        }
        "/containers/c1/wait" => {
            connection.begin(200, "application/json");
            failed.wait();
            connection.chunk(b"{\"StatusCode\":127}");
            connection.send(b"0\r\n\r\n");
        }
        _ => {
            connection.answer(400, &format!("{{\"message\":{message:?}}}"));
            failed.happened();
        }
    });
    daemon.run("run --rm busybox nope")
}

#[test]
fn a_failed_start_tells_why_and_has_docker_s_code() {
    let text = "exec: \"nope\": executable file not found in $PATH: unknown";
    let finished = start_fails("exec: \"nope\": executable file not found in $PATH: unknown");
    assert_eq!(finished.code, Some(127));
    assert!(
        finished.stderr.starts_with(&format!("enginectl: Error response from daemon: {text}\n")),
        "{}",
        finished.stderr
    );
    assert_eq!(start_fails("exec: \"/x\": permission denied: unknown").code, Some(126));
    assert_eq!(start_fails("no space left on device").code, Some(125));
}

#[test]
fn no_daemon_is_an_error_that_helps() {
    let output = program().args(["-H", "unix:///nowhere/at/all.sock", "ps"]).output().unwrap();
    let finished = Finished::from(output);
    assert_eq!(finished.code, Some(1));
    assert!(
        finished.stderr.contains("unix:///nowhere/at/all.sock") && finished.stderr.contains("engined"),
        "{}",
        finished.stderr
    );
    let output = program().args(["-H", "unix:///nowhere.sock", "run", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn the_environment_names_the_daemon() {
    let daemon = Daemon::start(|_, connection| connection.answer(200, "[]"));
    let address = format!("unix://{}", daemon.socket().display());
    for variables in
        [vec![("DOCKER_HOST", address.as_str())], vec![("ENGINE_HOST", &address), ("DOCKER_HOST", "unix:///nope")]]
    {
        assert!(program().envs(variables).args(["ps", "-q"]).output().unwrap().status.success());
    }
    let older = Daemon::start(|_, connection| connection.answer(200, "[]"));
    assert!(older.command("ps -q").env("DOCKER_API_VERSION", "1.41").output().unwrap().status.success());
    assert_eq!(older.request("/containers/json", |request| request.version.clone()), "1.41");
}

#[test]
fn an_older_daemon_is_spoken_to_in_its_version() {
    let handler = |request: &Request, connection: &mut Connection| {
        if request.version == "1.51" {
            let text = "client version 1.51 is too new. Maximum supported API version is 1.45";
            connection.answer(400, &format!("{{\"message\":\"{text}\"}}"));
        } else {
            connection.answer(200, "[]");
        }
    };
    let daemon = Daemon::start(handler);
    assert_eq!(daemon.run("ps -q").code, Some(0));
    assert_eq!(daemon.asked().len(), 2);
    let output = Daemon::start(handler).command("ps -q").env("DOCKER_API_VERSION", "1.51").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "what was asked for is not changed");
}

#[test]
fn signals_are_passed_on() {
    let attached = Moment::default();
    let (seen, killed) = (attached.clone(), Moment::default());
    let killed_too = killed.clone();
    let daemon = Daemon::start(move |request, connection| match request.path.as_str() {
        "/containers/create" => connection.answer(201, r#"{"Id":"c1"}"#),
        "/containers/c1/attach" => {
            connection.upgrade();
            killed_too.wait();
            connection.close();
        }
        "/containers/c1/wait" => {
            connection.begin(200, "application/json");
            killed_too.wait();
            connection.chunk(b"{\"StatusCode\":130}");
            connection.send(b"0\r\n\r\n");
        }
        "/containers/c1/kill" => {
            connection.answer(204, "");
            killed.happened();
        }
        _ => {
            connection.answer(204, "");
            seen.happened();
        }
    });
    let child = daemon
        .command("run busybox sleep 9")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    attached.wait();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    daemon.request("/containers/c1/kill", |request| assert_eq!(request.query, "signal=INT"));
}

#[test]
fn a_daemon_that_goes_away_is_asked_again_for_the_exit_code() {
    let waits = AtomicU32::new(0);
    let daemon = Daemon::start(move |request, connection| match request.path.as_str() {
        "/containers/create" => connection.answer(201, r#"{"Id":"c1"}"#),
        "/containers/c1/attach" => {
            connection.upgrade();
            connection.frame(1, b"still here\n");
            connection.close();
        }
        "/containers/c1/wait" if waits.fetch_add(1, Ordering::SeqCst) == 0 => {
            connection.begin(200, "application/json");
            connection.close();
        }
        "/containers/c1/wait" if request.query == "condition=removed" => connection.answer(200, "{\"StatusCode\":3}"),
        _ => connection.answer(204, ""),
    });
    let finished = daemon.run("run --rm busybox");
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(3), "still here\n"));
}

#[test]
fn a_reader_that_leaves_ends_the_client_in_silence() {
    let daemon = container(0, |connection| {
        for _ in 0..64 {
            connection.frame(1, &[b'x'; 65_536]);
        }
    });
    let mut child = daemon
        .command("run busybox yes")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let finished = Finished::from(child.wait_with_output().unwrap());
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(141), ""));
}

fn exec(code: &'static str) -> Daemon {
    Daemon::start(move |request, connection| match request.path.as_str() {
        "/containers/web/exec" => connection.answer(201, r#"{"Id":"e1"}"#),
        "/exec/e1/start" if request.json()["Detach"] == true => connection.answer(200, ""),
        "/exec/e1/start" => {
            connection.upgrade();
            connection.frame(1, b"hello\n");
            connection.close();
        }
        "/exec/e1/json" => connection.answer(200, &format!("{{\"ID\":\"e1\",\"Running\":false,\"ExitCode\":{code}}}")),
        _ => connection.answer(404, r#"{"message":"No such container: nope"}"#),
    })
}

#[test]
fn exec_ends_as_its_process_did() {
    let daemon = exec("5");
    let finished = daemon.run("exec -e A=1 -w /tmp -u me web ls -l");
    assert_eq!(finished, Finished { code: Some(5), stdout: "hello\n".to_owned(), stderr: String::new() });
    assert_eq!(daemon.asked(), ["POST /containers/web/exec", "POST /exec/e1/start", "GET /exec/e1/json"]);
    daemon.request("/containers/web/exec", |request| {
        let body = request.json();
        assert_eq!(body["Cmd"], serde_json::json!(["ls", "-l"]));
        assert_eq!((body["Env"].clone(), body["User"].clone()), (serde_json::json!(["A=1"]), "me".into()));
        assert_eq!((body["AttachStdin"].clone(), body["AttachStdout"].clone()), (false.into(), true.into()));
    });
    let detached = exec("0");
    assert_eq!(detached.run("exec -d web ls").code, Some(0));
    assert_eq!(detached.asked(), ["POST /containers/web/exec", "POST /exec/e1/start"]);
    let finished = exec("0").run("exec nope ls");
    assert_eq!(
        (finished.code, finished.stderr.as_str()),
        (Some(1), "Error response from daemon: No such container: nope\n")
    );
}

#[test]
fn logs_are_taken_apart() {
    let daemon = Daemon::start(|_, connection| {
        connection.begin(200, "application/vnd.docker.multiplexed-stream");
        connection.chunk(b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0");
        connection.chunk(b"\0\x04err\n");
        connection.send(b"0\r\n\r\n");
    });
    let finished = daemon.run("logs -n 5 -t --since 1700000000 web");
    assert_eq!(finished, Finished { code: Some(0), stdout: "out\n".to_owned(), stderr: "err\n".to_owned() });
    daemon.request("/containers/web/logs", |request| {
        assert_eq!(request.query, "stdout=1&stderr=1&tail=5&timestamps=1&since=1700000000");
    });
    assert_eq!(daemon.asked().len(), 1, "the content type tells enough");
}

#[test]
fn logs_of_a_terminal_are_raw() {
    let daemon =
        Daemon::start(|_, connection| connection.answer_as(200, "application/vnd.docker.raw-stream", "raw\r\n"));
    assert_eq!(daemon.run("logs web").stdout, "raw\r\n");
}

#[test]
fn load_streams_the_archive() {
    let daemon = Daemon::start(|request, connection| match request.path.as_str() {
        "/_ping" => connection.answer(200, ""),
        _ => connection.answer(
            200,
            &format!(
                "{{\"status\":\"Loading layer\"}}\n{{\"stream\":\"Loaded image: x:{}\\n\"}}\n",
                request.body.len()
            ),
        ),
    });
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![7; 1_000_000]).unwrap();
    let finished = daemon.run(&format!("load -i {}", file.path().display()));
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "Loaded image: x:1000000\n"));
    // What is in a file is announced.
    daemon.request("/images/load", |request| {
        assert_eq!(request.header("content-type"), Some("application/x-tar"));
        assert_eq!((request.header("content-length"), request.header("transfer-encoding")), (Some("1000000"), None));
        assert!(request.body.iter().all(|byte| *byte == 7));
    });
    assert_eq!(daemon.run_with("load", b"abc").stdout, "Loaded image: x:3\n");
}

#[test]
fn an_address_is_imported_by_the_daemon() {
    let daemon = Daemon::start(|request, connection| match request.path.as_str() {
        "/_ping" => connection.answer(200, ""),
        _ => connection.answer(200, "{\"status\":\"sha256:00\"}\n"),
    });
    assert_eq!(daemon.run("import https://example.org/x.tar web:1").stdout, "sha256:00\n");
    daemon.request("/images/create", |request| {
        assert_eq!(request.query, "fromSrc=https%3A%2F%2Fexample.org%2Fx.tar&repo=web&tag=1");
        assert!(request.body.is_empty());
    });
}

#[test]
fn a_volume_goes_out_and_in() {
    let daemon = Daemon::start(|request, connection| match request.path.as_str() {
        "/_ping" => connection.answer(200, ""),
        _ if request.method == "PUT" && request.body == b"packed" => connection.answer(204, ""),
        _ => connection.answer_as(200, "application/x-tar", "packed"),
    });
    assert_eq!(daemon.run("volume export data").stdout, "packed");
    let finished = daemon.run_with("volume import data -", b"packed");
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    daemon.request("/volumes/data/archive", |request| assert_eq!(request.method, "GET"));
}

#[test]
fn a_failed_pull_is_an_error() {
    let daemon = Daemon::start(|_, connection| {
        connection.answer(200, "{\"status\":\"Pulling\",\"id\":\"latest\"}\n{\"errorDetail\":{\"message\":\"manifest unknown\"},\"error\":\"manifest unknown\"}\n");
    });
    let finished = daemon.run("pull x");
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(1), "manifest unknown\n"));
    assert_eq!(finished.stdout, "Using default tag: latest\nlatest: Pulling\n");
    let quiet = Daemon::start(|_, connection| connection.answer(200, "{\"status\":\"Status: x\"}\n"));
    assert_eq!(quiet.run("pull -q x").stdout, "docker.io/library/x:latest\n");
}
