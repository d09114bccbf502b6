//! Lists, inspect, removal, and what the command line refuses.

use super::daemon::{Daemon, Finished, program};

const CONTAINERS: &str = r#"[{"Id":"4c01db0b339c4c01db0b339c4c01db0b339c4c01db0b339c4c01db0b339c4c01","Names":["/web"],"Image":"busybox",
  "ImageID":"sha256:00","Command":"sleep 1000","Created":1,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}],
  "Labels":{"a":"b"},"State":"running","Status":"Up 2 minutes","HostConfig":{"NetworkMode":"bridge"},"NetworkSettings":{"Networks":{"bridge":{}}},"Mounts":[]}]"#;

#[test]
fn ps_in_every_form() {
    let daemon = Daemon::start(|_, connection| connection.answer(200, CONTAINERS));
    let out = |line: &str| daemon.run(line).stdout;
    let table = out("ps");
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("CONTAINER ID   IMAGE     COMMAND        CREATED"), "{table}");
    assert!(lines[1].starts_with("4c01db0b339c   busybox   \"sleep 1000\"   "), "{table}");
    assert!(lines[1].ends_with("Up 2 minutes   0.0.0.0:8080->80/tcp   web"), "{table}");
    assert_eq!(out("ps -q"), "4c01db0b339c\n");
    let labelled = daemon.command("ps --format").arg("{{.Names}}:{{.Label \"a\"}}").output().unwrap();
    assert_eq!(Finished::from(labelled).stdout, "web:b\n");
    assert_eq!(out("container ls --format {{.Names}}/{{.Networks}}"), "web/bridge\n");
    assert!(
        out("ps --format json")
            .starts_with("{\"Command\":\"\\\"sleep 1000\\\"\",\"CreatedAt\":\"1970-01-01 00:00:01 +0000 UTC\"")
    );
    let asked = Daemon::start(|_, connection| connection.answer(200, CONTAINERS));
    let text = asked.run("ps -a -f status=exited --no-trunc -s").stdout;
    assert!(text.contains(&"4c01db0b339c".repeat(5)), "{text}");
    let query = asked.request("/containers/json", |request| request.query.clone());
    assert_eq!(query, "?all=1&size=1&filters=%7B%22status%22%3A%7B%22exited%22%3Atrue%7D%7D".trim_start_matches('?'));
}

#[test]
fn lists_in_the_raw() {
    let daemon = Daemon::start(|request, connection| {
        match request.path.as_str() {
        "/images/json" => connection.answer(
            200,
            r#"[{"Id":"sha256:4c01db0b339c4c01","RepoTags":["web:1"],"Created":1,"Size":1000,"Containers":-1,"SharedSize":-1}]"#,
        ),
        "/volumes" => connection.answer(200, r#"{"Volumes":[{"Name":"data","Driver":"local"}]}"#),
        "/networks" => connection.answer(200, r#"[{"Id":"0123456789abcdef","Name":"front","Driver":"bridge","Scope":"local"}]"#),
        _ => connection.answer(200, CONTAINERS),
    }
    });
    let out = |line: &str| daemon.run(line).stdout;
    let container = "container_id: 4c01db0b339c\nimage: busybox\ncommand: \"sleep 1000\"\ncreated_at: 1970-01-01 00:00:01 +0000 UTC\n\
                     state: running\nstatus: Up 2 minutes\nnames: web\nlabels: a=b\nports: 0.0.0.0:8080->80/tcp\n";
    assert_eq!(out("ps --format raw"), format!("{container}\n"));
    assert_eq!(out("ps -s --format raw"), format!("{container}size: 0B\n\n"));
    assert_eq!(out("ps -q --format raw"), "container_id: 4c01db0b339c\n");
    let age = "created_at: 1970-01-01 00:00:01 +0000 UTC\nvirtual_size: 1kB\n\n";
    assert_eq!(out("images --format raw"), format!("repository: web\ntag: 1\nimage_id: 4c01db0b339c\n{age}"));
    assert_eq!(
        out("images --digests --format raw"),
        format!("repository: web\ntag: 1\ndigest: <none>\nimage_id: 4c01db0b339c\n{age}")
    );
    assert_eq!(out("images -q --format raw"), "image_id: 4c01db0b339c\n");
    assert_eq!(out("volume ls --format raw"), "name: data\ndriver: local\n\n");
    assert_eq!(
        out("network ls --format raw"),
        "network_id: 0123456789ab\nname: front\ndriver: bridge\nscope: local\n\n"
    );
}

#[test]
fn stats_call_a_container_as_it_was_named() {
    const STATS: &str = r#"[{"id":"4c01db0b339c4c01db0b339c4c01db0b","name":"/web"}]"#;
    let all = Daemon::start(|_, connection| connection.answer(200, STATS));
    let out =
        |line: &str| all.run(format!("stats --no-stream --no-trunc --format {{{{.Container}}}} {line}").trim()).stdout;
    assert_eq!((out("").as_str(), out("web").as_str()), ("4c01db0b339c\n", "web\n"));
    // Of a daemon that has no such list.
    let each = Daemon::start(|request, connection| match request.path.as_str() {
        "/containers/json" => connection.answer(200, CONTAINERS),
        "/containers/stats" => connection.answer(404, r#"{"message":"page not found"}"#),
        path if path.len() > 64 => connection.answer(200, &STATS[1..STATS.len() - 1]),
        _ => connection.answer(404, r#"{"message":"a short id is not sure"}"#),
    });
    assert_eq!(each.run("stats --no-stream --format {{.Container}}").stdout, "4c01db0b339c\n");
}

#[test]
fn wrong_templates_are_refused_with_the_place() {
    let daemon = Daemon::start(|_, connection| connection.answer(200, CONTAINERS));
    let finished = daemon.run("ps --format {{.Nope}}");
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("template: :1:2:") && finished.stderr.contains("Nope"), "{}", finished.stderr);
    let finished = daemon.run("inspect -f {{.Id x");
    assert_eq!(
        (finished.code, finished.stderr.as_str()),
        (Some(64), "template parsing error: template: :1:0: unclosed action\n")
    );
    for line in ["events --format {{.Id", "version -f {{.X", "info -f {{.X"] {
        assert_eq!(daemon.run(line).code, Some(64), "{line}");
    }
    assert_eq!(daemon.run("ps --format {{.ID").code, Some(1));
}

fn objects() -> Daemon {
    Daemon::start(|request, connection| match request.path.as_str() {
        "/containers/web/json" => {
            connection.answer(200, r#"{"Id":"4c01","Name":"/web","State":{"Status":"running","Pid":7}}"#);
        }
        "/images/busybox/json" => connection.answer(200, r#"{"Id":"sha256:00"}"#),
        "/volumes/data" => connection.answer(200, r#"{"Name":"data"}"#),
        _ => connection.answer(404, r#"{"message":"No such thing"}"#),
    })
}

#[test]
fn inspect_finds_any_kind() {
    let daemon = objects();
    assert_eq!(
        daemon.run("inspect web busybox").stdout,
        "[\n    {\n        \"Id\": \"4c01\",\n        \"Name\": \"/web\",\n        \"State\": {\n            \"Status\": \"running\",\n            \"Pid\": 7\n        }\n    },\n    {\n        \"Id\": \"sha256:00\"\n    }\n]\n"
    );
    assert_eq!(daemon.run("inspect -f {{.State.Pid}} web").stdout, "7\n");
    assert_eq!(daemon.run("network inspect -v -f {{.Name}} front").code, Some(1));
    daemon.request("/networks/front", |request| assert_eq!(request.query, "verbose=1"));
    assert_eq!(daemon.run("inspect --type volume -f {{.Name}} data").stdout, "data\n");
    let finished = daemon.run("inspect nope");
    assert_eq!(
        finished,
        Finished { code: Some(1), stdout: "[]\n".to_owned(), stderr: "Error: No such object: nope\n".to_owned() }
    );
    let finished = daemon.run("container inspect nope");
    assert_eq!(finished.stderr, "Error response from daemon: No such thing\n");
    let finished = daemon.run("inspect -f {{.Nope}} web");
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("map has no entry for key \"Nope\""));
}

#[test]
fn what_fails_does_not_stop_the_others() {
    let daemon = Daemon::start(|request, connection| {
        if request.path == "/containers/b" {
            connection.answer(409, r#"{"message":"cannot remove container \"b\": container is running"}"#);
        } else {
            connection.answer(204, "");
        }
    });
    let finished = daemon.run("rm -v a b c");
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), "a\nc\n"));
    assert_eq!(finished.stderr, "Error response from daemon: cannot remove container \"b\": container is running\n");
    daemon.request("/containers/a", |request| {
        assert_eq!((request.method.as_str(), request.query.as_str()), ("DELETE", "v=1"));
    });
    assert_eq!(daemon.run("stop -t 3 -s INT a").stdout, "a\n");
    daemon.request("/containers/a/stop", |request| assert_eq!(request.query, "signal=INT&t=3"));
}

#[test]
fn rm_f_of_what_is_gone_is_no_failure() {
    let daemon = Daemon::start(|_, connection| connection.answer(404, r#"{"message":"No such container: a"}"#));
    let finished = daemon.run("rm -f a");
    assert_eq!(
        (finished.code, finished.stderr.as_str()),
        (Some(0), "Error response from daemon: No such container: a\n")
    );
    assert_eq!(daemon.run("rm a").code, Some(1));
}

#[test]
fn images_and_networks_and_volumes() {
    let daemon = Daemon::start(|request, connection| {
        match request.path.as_str() {
        "/images/json" => connection.answer(200, r#"[{"Id":"sha256:4c01db0b339c00","RepoTags":["busybox:latest"],"RepoDigests":null,"Created":1,"Size":4261502}]"#),
        "/images/x/history" => connection.answer(200, r#"[{"Id":"sha256:4c01db0b339c00","Created":1,"CreatedBy":"CMD [\"sh\"]","Size":1000},{"Id":"<missing>","Created":1,"CreatedBy":"ADD","Size":0}]"#),
        "/networks" => connection.answer(200, r#"[{"Name":"none","Id":"22","Driver":"null","Scope":"local"},{"Name":"bridge","Id":"11","Driver":"bridge","Scope":"local"}]"#),
        "/volumes" => connection.answer(200, r#"{"Volumes":[{"Name":"data","Driver":"local"}],"Warnings":null}"#),
        "/volumes/create" => connection.answer(201, r#"{"Name":"data"}"#),
        "/volumes/prune" => connection.answer(200, r#"{"VolumesDeleted":["x"],"SpaceReclaimed":1500}"#),
        "/containers/prune" => connection.answer(200, r#"{"ContainersDeleted":["c"],"SpaceReclaimed":500}"#),
        "/networks/prune" => connection.answer(200, r#"{"NetworksDeleted":["n"]}"#),
        "/images/prune" => {
            // Those with a name go only when all are to.
            let deleted = if request.query.contains("false") { "Untagged" } else { "Deleted" };
            connection.answer(200, &format!(r#"{{"ImagesDeleted":[{{"{deleted}":"i"}}],"SpaceReclaimed":1000}}"#));
        }
        _ => connection.answer(404, r#"{"message":"page not found"}"#),
    }
    });
    let images = daemon.run("images").stdout;
    assert!(
        images.starts_with(
            "REPOSITORY   TAG       IMAGE ID       CREATED        SIZE\nbusybox      latest    4c01db0b339c   "
        ),
        "{images}"
    );
    assert!(images.ends_with("4.26MB\n"), "{images}");
    assert_eq!(
        daemon.run("history --format {{.ID}}|{{.CreatedBy}}|{{.Size}} x").stdout,
        "4c01db0b339c|CMD [\"sh\"]|1kB\n<missing>|ADD|0B\n"
    );
    let asked = |line: &str, path: &str| {
        daemon.run(line);
        daemon.request(path, |request| request.query.clone())
    };
    let arm = "=%7B%22architecture%22%3A%22arm64%22%2C%22os%22%3A%22linux%22%7D";
    assert_eq!(asked("history --platform linux/arm64 y", "/images/y/history"), format!("platform{arm}"));
    assert_eq!(asked("image inspect --platform linux/arm64 y", "/images/y/json"), format!("platform{arm}"));
    assert_eq!(asked("rmi -f --platform linux/arm64 y", "/images/y"), format!("force=1&platforms{arm}"));
    assert_eq!(daemon.run("history --platform arm64 y").code, Some(1));
    assert_eq!(daemon.run("network ls --format {{.Name}}").stdout, "bridge\nnone\n");
    assert_eq!(daemon.run("volume ls").stdout, "DRIVER    VOLUME NAME\nlocal     data\n");
    assert_eq!(daemon.run("volume create --label a=b data").stdout, "data\n");
    assert_eq!(daemon.run("volume prune -f").stdout, "Deleted Volumes:\nx\n\nTotal reclaimed space: 1.5kB\n");
    assert!(daemon.run_with("volume prune", b"n\n").stdout.ends_with("[y/N] "));
    assert_eq!(
        daemon.run("system prune -f").stdout,
        "Deleted Containers:\nc\n\nDeleted Networks:\nn\n\nDeleted Images:\ndeleted: i\n\nTotal reclaimed space: 1.5kB\n"
    );
    let all = daemon.run("system prune -af --volumes").stdout;
    assert!(all.contains("Deleted Volumes:\nx\n") && all.ends_with("untagged: i\n\nTotal reclaimed space: 3kB\n"));
    let asked = daemon.run_with("system prune --filter label=x", b"n\n").stdout;
    assert!(
        asked.contains("  - all stopped containers\n")
            && asked.ends_with("  - label=x\n\nAre you sure you want to continue? [y/N] ")
    );
    assert_eq!(daemon.run("system prune -f --volumes --filter until=1h").code, Some(1));
}

#[test]
fn the_command_line_helps() {
    let run = |line: &str| Finished::from(program().args(line.split(' ')).output().unwrap());
    let finished = run("run --cpu-count 1 busybox");
    assert_eq!(finished.code, Some(125));
    assert_eq!(finished.stderr, "enginectl: --cpu-count is a flag of docker that is for Windows\n");
    for line in ["volume create --type block x", "volume ls --cluster", "network create --ingress x"] {
        let finished = run(line);
        assert!(finished.code == Some(125) && finished.stderr.contains("is for clusters"), "{line}: {finished:?}");
    }
    for line in ["run", "create", "pull", "push"] {
        assert!(run(&format!("{line} --help")).stdout.contains("--disable-content-trust"), "{line}");
    }
    let finished = run("service ls");
    assert_eq!(
        finished.stderr,
        "enginectl: service is a command of docker that is for clusters, which this engine does not make\n"
    );
    let finished = run("build .");
    assert_eq!(
        (finished.code, finished.stderr.as_str()),
        (Some(1), "enginectl: build is a command of docker that enginectl does not have yet\n")
    );
    assert!(run("image build x").stderr.contains("build is a command of docker that enginectl does not have yet"));
    let finished = run("imagse");
    assert!(finished.code == Some(1) && finished.stderr.contains("images"), "{}", finished.stderr);
    let finished = run("ps --al");
    assert!(finished.code == Some(125) && finished.stderr.contains("--all"), "{}", finished.stderr);
    let finished = run("--version");
    assert_eq!((finished.code, finished.stdout), (Some(0), format!("enginectl {}\n", env!("CARGO_PKG_VERSION"))));
    assert!(run("--help").stdout.contains("Create and run a new container"));
    assert!(run("run --help").stdout.contains("--memory-swap"));
    assert!(run("help").stdout.contains("Create and run a new container"));
    assert_eq!(run("help run"), run("run --help"));
    assert_eq!(run("help container ls"), run("container ls --help"));
    assert_eq!(run("help nope").code, Some(1));
    assert!(run("help oci").stdout.contains("runtime"), "{}", run("help oci").stdout);
    let finished = Finished::from(program().output().unwrap());
    assert!(finished.code == Some(0) && finished.stderr.contains("run"), "{}", finished.stderr);
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&format!("completion {shell}")).stdout.contains("memory-swap"), "{shell}");
    }
    let output = program().args(["-H", "tcp://127.0.0.1:1", "ps"]).env("DOCKER_TLS_VERIFY", "1").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("TLS"));
}

#[test]
fn flags_before_the_command_do_what_they_say() {
    let daemon = Daemon::start(|_, connection| connection.answer(200, "[]"));
    let finished = daemon.run("-D ps -q");
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert!(lines[0].starts_with("enginectl: debug: GET /v1.51/containers/json to unix://"), "{lines:?}");
    assert_eq!(lines[1..], ["enginectl: debug: GET /containers/json: 200 OK"]);
    assert_eq!(daemon.run("-l info --tls=false ps -q").stderr, "");
    let finished = daemon.run("-c other ps -q");
    assert!(finished.code == Some(1) && finished.stderr.contains("--host and --context"), "{}", finished.stderr);

    let directory = tempfile::tempdir().unwrap();
    let login = r#"{"auths":{"localhost:5000":{"auth":"bWU6c2VjcmV0"}}}"#;
    std::fs::write(directory.path().join("config.json"), login).unwrap();
    let config = directory.path().to_str().unwrap();
    let line = format!("--config {config} push localhost:5000/x");
    let auth = |line: &str| {
        let daemon = Daemon::start(|_, connection| connection.answer(200, ""));
        let output = daemon.command(line).env("DOCKER_CONFIG", "/nonexistent").output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        daemon.request("/images/localhost:5000/x/push", |request| request.header("x-registry-auth").map(str::to_owned))
    };
    assert_ne!(auth(&line), auth("push localhost:5000/x"), "who is logged in there");
}

#[test]
fn versions_of_both_sides() {
    let daemon = Daemon::start(|_, connection| {
        connection.answer(200, r#"{"Version":"1.2.3","ApiVersion":"1.51","Os":"linux","Arch":"amd64"}"#);
    });
    assert_eq!(daemon.run("version -f {{.Server.Version}}").stdout, "1.2.3\n");
    assert_eq!(daemon.run("version -f {{.Client.GitCommit}}|{{.Client.Context}}").stdout, "|default\n");
    assert_eq!(
        daemon.run("info -f {{.Version}}|{{.ClientInfo.Context}}|{{.ServerErrors}}").stdout,
        "1.2.3|default|[]\n"
    );
    assert_eq!(daemon.run("-l warn info -f {{.ClientInfo.Debug}}").stdout, "false\n");
    let output = program().args(["-H", "unix:///nope.sock", "info", "-f", "{{.ClientInfo.Version}}"]).output().unwrap();
    let finished = Finished::from(output);
    assert_eq!((finished.code, finished.stdout), (Some(1), format!("{}\n", env!("CARGO_PKG_VERSION"))));
    assert!(finished.stderr.contains("cannot connect"), "{}", finished.stderr);
    let text = daemon.run("version").stdout;
    assert!(
        text.contains("Client: enginectl\n Version:") && text.contains("Server: Engine\n Version:          1.2.3\n"),
        "{text}"
    );
    let output = program().args(["-H", "unix:///nope.sock", "version"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("Client: enginectl\n"), "its own version it knows");
}

#[test]
fn events_are_shown_as_they_come() {
    let daemon = Daemon::start(|_, connection| {
        connection.answer(200, "{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"4c01\",\"Attributes\":{\"exitCode\":\"0\"}},\"time\":1,\"timeNano\":1000000001}\n");
    });
    assert_eq!(daemon.run("events").stdout, "1970-01-01T00:00:01.000000001Z container die 4c01 (exitCode=0)\n");
    assert_eq!(daemon.run("events --format {{.Action}}").stdout, "die\n");
}
