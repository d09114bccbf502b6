//! Clients on the streams of containers and of further processes in them. Needs root.
#![allow(clippy::unwrap_used)]

mod place;

use engine::container::{AttachOptions, ExecState, LogConfig};
use engine::logs::Output;
use engine::{Attached, Container, ErrorKind, ExecSpec, LogOptions, RemoveOptions};
use futures_util::StreamExt as _;
use place::{Place, output_of, says, shell};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn read(mut attached: Attached) -> String {
    let mut bytes = Vec::new();
    attached.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn log_of(container: &Container, options: LogOptions) -> String {
    let mut logs = container.logs(options).unwrap();
    let mut text = String::new();
    while let Some(line) = logs.next().await {
        text += std::str::from_utf8(&line.unwrap().bytes).unwrap();
    }
    text
}

#[tokio::test]
async fn what_is_typed_goes_through_and_its_end_too() {
    let place = Place::new();
    let engine = place.engine().await;
    let spec = shell("").command(["cat"]).open_stdin(true).stdin_once(true);
    let container = engine.containers().create(spec).await.unwrap();
    let mut attached = container.attach(AttachOptions::all()).await.unwrap();
    container.start().await.unwrap();
    attached.write_all(b"hello\n").await.unwrap();
    attached.shutdown().await.unwrap();
    assert_eq!(read(attached).await, "hello\n");
    assert_eq!(container.wait().await.unwrap().code, 0);
}

#[tokio::test]
async fn outputs_are_told_apart() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("echo out; echo err >&2")).await.unwrap();
    let mut attached = container.attach(AttachOptions::output()).await.unwrap();
    container.start().await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((output, bytes)) = attached.next_output().await.unwrap() {
        if output == Output::Stdout { &mut out } else { &mut err }.extend_from_slice(&bytes);
    }
    assert_eq!((out.as_slice(), err.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
}

#[tokio::test]
async fn a_terminal_has_a_size_and_one_output() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut spec = shell("stty size; read line; stty size; echo $TERM").tty(true).open_stdin(true);
    spec.host.console_size = Some((40, 100));
    let container = engine.containers().create(spec).await.unwrap();
    let mut attached = container.attach(AttachOptions::all()).await.unwrap();
    container.start().await.unwrap();
    let mut first = [0; 8];
    attached.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"40 100\r\n");
    container.resize(50, 120).await.unwrap();
    attached.write_all(b"\n").await.unwrap();
    assert_eq!(read(attached).await, "\r\n50 120\r\nxterm\r\n");
}

#[tokio::test]
async fn detach_keys_leave_the_container_alone() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("").command(["cat"]).tty(true).open_stdin(true)).await.unwrap();
    let mut attached = container.attach(AttachOptions::all()).await.unwrap();
    container.start().await.unwrap();
    attached.write_all(&[16, 17]).await.unwrap();
    read(attached).await;
    assert!(container.record().state.status.has_process());
    let mut again = container.attach(AttachOptions::all()).await.unwrap();
    again.write_all(b"x\n").await.unwrap();
    let mut echoed = [0; 3];
    again.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"x\r\n");
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn detach_keys_of_an_exec_are_told_as_its_own() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("").command(["sleep", "1000"])).await.unwrap();
    container.start().await.unwrap();
    let exec = container.exec(ExecSpec::new(["cat"]).tty(true).stdin(true)).await.unwrap();
    let mut events = engine.events().subscribe();
    let mut attached = exec.attach().await.unwrap();
    attached.write_all(&[16, 17]).await.unwrap();
    read(attached).await;
    loop {
        let engine::events::News::Event(event) = events.next().await else { panic!("events were missed") };
        assert_ne!(event.action, "detach");
        if event.action == "exec_detach" {
            assert_eq!(event.attributes["execID"], exec.id().as_str());
            break;
        }
    }
    assert!(exec.inspect().state.is_running());
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn execs_are_told_of_in_dockers_words() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("").command(["sleep", "1000"])).await.unwrap();
    container.start().await.unwrap();
    let mut events = engine.events().subscribe();
    let mut told = Vec::new();
    for command in [&["true"][..], &["sh", "-c", "exit 3"]] {
        let exec = container.exec(ExecSpec::new(command.iter().copied())).await.unwrap();
        exec.start().await.unwrap();
        exec.wait().await.unwrap();
    }
    while told.len() < 6 {
        let engine::events::News::Event(event) = events.next().await else { panic!("events were missed") };
        told.push(format!("{}{}", event.action, event.attributes.get("exitCode").map_or("", String::as_str)));
    }
    let both = |command: &str, code: i32| {
        [format!("exec_create: {command}"), format!("exec_start: {command}"), format!("exec_die{code}")]
    };
    assert_eq!(told, [both("true ", 0), both("sh -c exit 3", 3)].concat());
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn logs_are_kept_and_replayed() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("for i in 1 2 3; do echo $i; done; echo end >&2")).await.unwrap();
    container.start().await.unwrap();
    container.wait().await.unwrap();
    assert_eq!(log_of(&container, LogOptions::default()).await, "1\n2\n3\nend\n");
    assert_eq!(log_of(&container, LogOptions::default().tail(1).follow(true)).await, "end\n");
    let mut none = LogOptions::default();
    (none.stdout, none.stderr) = (false, false);
    assert_eq!(container.logs(none).unwrap_err().to_string(), "Bad parameters: you must choose at least one stream");
    let mut replay = AttachOptions::output().logs(true);
    replay.stream = false;
    assert_eq!(read(container.attach(replay).await.unwrap()).await, "1\n2\n3\nend\n");
}

#[tokio::test]
async fn a_client_that_comes_late_gets_it_all_once() {
    let place = Place::new();
    let engine = place.engine().await;
    let script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.01; done";
    let container = engine.containers().create(shell(script)).await.unwrap();
    container.start().await.unwrap();
    says(&container, "line 100").await;
    let text = read(container.attach(AttachOptions::output().logs(true)).await.unwrap()).await;
    let expected: String = (0..400).map(|number| format!("line {number}\n")).collect();
    assert_eq!(text, expected);
}

#[tokio::test]
async fn a_container_without_a_log_can_be_attached() {
    let place = Place::new();
    let engine = place.engine().await;
    let log = LogConfig { driver: "none".to_owned(), ..LogConfig::default() };
    let container = engine.containers().create(shell("echo seen").log(log)).await.unwrap();
    assert_eq!(output_of(&container).await, ("seen\n".to_owned(), 0));
    let error = container.logs(LogOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "configured logging driver does not support reading");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn further_processes_run_and_end() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(shell("sleep 100").env("A", "container")).await.unwrap();
    let early = container.exec(ExecSpec::new(["true"])).await.unwrap_err();
    assert_eq!(early.to_string(), format!("container {} is not running", container.id()));
    container.start().await.unwrap();

    let spec = ExecSpec::new(["sh", "-c", "echo $A $B; id -u; pwd; exit 9"])
        .env("B", "exec")
        .user("nobody")
        .working_dir("/tmp");
    let exec = container.exec(spec).await.unwrap();
    assert_eq!(exec.inspect().state, ExecState::Created);
    assert_eq!(read(exec.attach().await.unwrap()).await, "container exec\n65534\n/tmp\n");
    assert_eq!(exec.wait().await.unwrap(), 9);
    assert_eq!(exec.inspect().state.exit_code(), Some(9));
    let again = exec.start().await.unwrap_err();
    assert_eq!(again.to_string(), format!("exec command {} has already run", exec.id()));

    let cat = container.exec(ExecSpec::new(["cat"]).stdin(true)).await.unwrap();
    let mut attached = cat.attach().await.unwrap();
    attached.write_all(b"through\n").await.unwrap();
    attached.shutdown().await.unwrap();
    assert_eq!(read(attached).await, "through\n");

    let detached = container.exec(ExecSpec::new(["sh", "-c", "echo mark > /mark"])).await.unwrap();
    detached.start().await.unwrap();
    assert_eq!(detached.wait().await.unwrap(), 0);
    let look = container.exec(ExecSpec::new(["cat", "/mark"])).await.unwrap();
    assert_eq!(read(look.attach().await.unwrap()).await, "mark\n");

    let terminal = container.exec(ExecSpec::new(["sh", "-c", "tty; stty size"]).tty(true)).await.unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    terminal.start_socket(theirs.into(), Vec::new(), false, Some((30, 90))).await.unwrap();
    let text = tokio::task::spawn_blocking(move || std::io::read_to_string(ours).unwrap()).await.unwrap();
    assert_eq!(text, "/dev/pts/0\r\n30 90\r\n");

    let nope = container.exec(ExecSpec::new(["nope"])).await.unwrap();
    let error = nope.start().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown"
    );
    assert_eq!(nope.inspect().state.exit_code(), Some(127));
    assert_eq!(engine.containers().exec(nope.id().as_str()).unwrap().id(), nope.id());
    assert_eq!(engine.containers().exec("nope").unwrap_err().to_string(), "No such exec instance: nope");

    let long = container.exec(ExecSpec::new(["sleep", "100"])).await.unwrap();
    long.start().await.unwrap();
    let top = container.top("").await.unwrap();
    assert!(top.processes.iter().any(|row| row.last().unwrap() == "sleep 100"), "{top:?}");
    container.remove(RemoveOptions::default().force(true)).await.unwrap();
    assert_eq!(long.wait().await.unwrap(), 137);
}

#[tokio::test]
async fn older_files_of_a_log_are_packed_and_read_like_others() {
    let place = Place::new();
    let engine = place.engine().await;
    let script = "seq 1 2000; while ! test -e /go; do sleep 0.02; done; seq 2001 4000; while ! test -e /end; do sleep 0.02; done";
    let mut spec = shell(script).name("one");
    let options = [("max-size", "50k"), ("max-file", "20"), ("compress", "true")];
    spec.host.log.driver = "json-file".to_owned();
    spec.host.log.options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let container = engine.containers().create(spec).await.unwrap();
    container.start().await.unwrap();
    let names = |container: &Container| {
        let mut names: Vec<_> = std::fs::read_dir(container.directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| Some(name.split_once("-json.log")?.1.to_owned()))
            .collect();
        names.sort();
        names
    };
    let all_packed = |container: &Container, count: usize| {
        let names = names(container);
        names.len() > count && names.iter().all(|name| name.is_empty() || name.ends_with(".gz"))
    };
    let wait_until_packed = async |container: &Container, count: usize| {
        while !all_packed(container, count) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    says(&container, "2000").await;
    wait_until_packed(&container, 2).await;
    let text = |numbers: std::ops::RangeInclusive<u32>| numbers.map(|number| format!("{number}\n")).collect::<String>();
    assert_eq!(log_of(&container, LogOptions::default()).await, text(1..=2000));
    assert_eq!(log_of(&container, LogOptions::default().tail(1500)).await, text(501..=2000));
    // What comes while no engine is there is packed by the next one.
    engine.shutdown().await;
    drop((container, engine));
    let engine = engine::Engine::open(place.without_bridge()).await.unwrap();
    let container = engine.containers().get("one").await.unwrap();
    container.exec(ExecSpec::new(["touch", "/go"])).await.unwrap().start().await.unwrap();
    says(&container, "4000").await;
    wait_until_packed(&container, 5).await;
    assert_eq!(log_of(&container, LogOptions::default()).await, text(1..=4000));
    assert_eq!(log_of(&container, LogOptions::default().tail(3)).await, text(3998..=4000));
    container.exec(ExecSpec::new(["touch", "/end"])).await.unwrap().start().await.unwrap();
    container.wait().await.unwrap();
    assert_eq!(log_of(&container, LogOptions::default().tail(3999)).await, text(2..=4000));
    container.remove(RemoveOptions::default()).await.unwrap();
}

/// A container with a log of three small files, which are packed.
fn packing(script: &str, size: &str) -> engine::ContainerSpec {
    let mut spec = shell(script).name("one");
    let options = [("max-size", size), ("max-file", "3"), ("compress", "true")];
    spec.host.log.driver = "json-file".to_owned();
    spec.host.log.options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    spec
}

#[tokio::test]
async fn the_log_of_a_container_that_has_ended_is_packed_too() {
    let place = Place::new();
    let engine = place.engine().await;
    let container = engine.containers().create(packing("seq 1 1000", "1k")).await.unwrap();
    let directory = container.directory();
    let log = directory.join(format!("{}-json.log", container.id()));
    let all_packed = || {
        let names =
            std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut endings: Vec<_> = names.filter_map(|name| Some(name.split_once("-json.log")?.1.to_owned())).collect();
        endings.sort();
        endings == ["", ".1.gz", ".2.gz"]
    };
    let until_packed = async || {
        while !all_packed() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    for _ in 0..2 {
        container.start().await.unwrap();
        container.wait().await.unwrap();
        until_packed().await;
        let text = log_of(&container, LogOptions::default()).await;
        let first: u32 = text.lines().next().unwrap().parse().unwrap();
        let all = (first..=1000).map(|number| format!("{number}\n")).collect::<String>();
        assert!(first < 1000 && text == all, "{text}");
    }
    let text = log_of(&container, LogOptions::default()).await;
    engine.shutdown().await;
    drop((container, engine));
    // An engine that died had packed no more than this, and one file half.
    let ending = |ending: &str| std::path::PathBuf::from(format!("{}{ending}", log.display()));
    let mut plain = Vec::new();
    let packed = std::fs::File::open(ending(".1.gz")).unwrap();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut plain).unwrap();
    std::fs::write(ending(".1"), plain).unwrap();
    std::fs::remove_file(ending(".1.gz")).unwrap();
    std::fs::write(ending(".packed"), "half").unwrap();
    let engine = engine::Engine::open(place.without_bridge()).await.unwrap();
    until_packed().await;
    let container = engine.containers().get("one").await.unwrap();
    assert_eq!(log_of(&container, LogOptions::default()).await, text);
    container.remove(RemoveOptions::default()).await.unwrap();
}

#[tokio::test]
async fn who_follows_a_log_that_turns_and_is_packed_never_goes_back() {
    let place = Place::new();
    let engine = place.engine().await;
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done";
    let container = engine.containers().create(packing(script, "8k")).await.unwrap();
    container.start().await.unwrap();
    let mut logs = container.logs(LogOptions::default().follow(true)).unwrap();
    let mut last = 0;
    while let Some(line) = logs.next().await {
        let number: u32 = std::str::from_utf8(&line.unwrap().bytes).unwrap().trim().parse().unwrap();
        assert!(number > last, "{number} after {last}");
        last = number;
    }
    assert_eq!(last, 20_000);
    container.remove(RemoveOptions::default()).await.unwrap();
}
