//! What a container is asked to be is what its program sees. Needs root.
#![allow(clippy::unwrap_used)]

mod place;

use engine::container::{CopyOptions, DeviceMapping, PortBinding};
use engine::settings::Ulimit;
use engine::{Bytes, ContainerSpec, Engine, ErrorKind, IpcMode, MountSpec, NamespaceMode, NetworkMode, RemoveOptions};
use place::{Place, output_of, run, shell, with_busybox};

async fn says(engine: &Engine, spec: ContainerSpec) -> String {
    let (output, code) = run(engine, spec).await;
    assert_eq!(code, 0, "{output}");
    output
}

#[tokio::test]
async fn the_process_is_as_asked() {
    let place = Place::new();
    let engine = place.engine().await;
    let script = "id -u; id -g; pwd; hostname; echo $HOME $GREETING; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj";
    let mut spec = shell(script)
        .user("nobody")
        .working_dir("/made/here")
        .hostname("box")
        .env("GREETING", "hi")
        .security_opt("no-new-privileges")
        .ulimit(Ulimit::new("nofile", 77, 88));
    spec.host.oom_score_adj = 500;
    let output = says(&engine, spec).await;
    assert_eq!(
        output,
        "65534\n65534\n/made/here\nbox\n/home hi\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n77\n500\n"
    );
    let caps = |output: String| u64::from_str_radix(output.trim_start_matches("CapEff:").trim(), 16).unwrap();
    let look = "grep CapEff /proc/self/status";
    assert_eq!(caps(says(&engine, shell(look)).await), 0xa804_25fb);
    assert_eq!(caps(says(&engine, shell(look).cap_drop("ALL").cap_add("NET_ADMIN")).await), 1 << 12);
    let all = caps(says(&engine, shell(look).privileged(true)).await);
    assert!(all.count_ones() > 30, "{all:x}");
}

#[tokio::test]
async fn mounts_are_there_and_as_writable_as_asked() {
    let place = Place::new();
    let engine = place.engine().await;
    let shared = place.directory.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "from the host\n").unwrap();
    let bind = format!("{}:/shared", shared.display());
    let script = "cat /shared/file; echo back > /shared/answer; touch /mem/x; df -k /mem | tail -1 | tr -s ' ' | cut -d' ' -f2; touch /root/no 2>&1";
    let spec = shell(script).bind(&bind).tmpfs("/mem", "size=1m").readonly_rootfs(true);
    let (output, code) = run(&engine, spec).await;
    assert_eq!((output.as_str(), code), ("from the host\n1024\ntouch: /root/no: Read-only file system\n", 1));
    assert_eq!(std::fs::read_to_string(shared.join("answer")).unwrap(), "back\n");
    let (output, code) = run(&engine, shell("echo x > /shared/file").bind(format!("{bind}:ro"))).await;
    assert!(output.contains("Read-only file system") && code == 1, "{output}");
    let missing = place.directory.path().join("missing");
    let error = engine
        .containers()
        .create(shell("true").mount(MountSpec::bind(missing.display().to_string(), "/x")))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("invalid mount config for type \"bind\": bind source path does not exist: {}", missing.display())
    );
    says(&engine, shell("test -d /x").bind(format!("{}:/x", missing.display()))).await;
    assert!(missing.is_dir());
}

#[tokio::test]
async fn a_path_of_the_host_is_the_one_that_was_meant() {
    let place = Place::new();
    let engine = place.engine().await;
    let shared = place.directory.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "from the host\n").unwrap();
    let shared = shared.display();
    // What leads up and back is told, and mounted, as what it comes to.
    let spec = shell("cat /x/file").bind(format!("{shared}/none/..//./:/x/y/.."));
    let container = engine.containers().create(spec).await.unwrap();
    let mounts = container.record().mounts.clone();
    assert_eq!((mounts[0].source.as_str(), mounts[0].destination.as_str()), (shared.to_string().as_str(), "/x"));
    assert_eq!(output_of(&container).await, ("from the host\n".to_owned(), 0));
    container.remove(RemoveOptions::default()).await.unwrap();
    for relative in ["shared/file", "../etc"] {
        let error = engine.containers().create(shell("true").mount(MountSpec::bind(relative, "/x"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    // A file is no place for a directory, nor the other way round; nothing of it is left.
    for bind in [format!("{shared}:/etc/passwd"), format!("{shared}/file:/etc")] {
        let container = engine.containers().create(shell("true").bind(&bind)).await.unwrap();
        let error = container.start().await.unwrap_err().to_string();
        assert!(error.contains("a directory onto a file (or vice-versa)"), "{bind}: {error}");
        container.remove(RemoveOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn volumes_keep_what_is_written() {
    let place = Place::new();
    let engine = place.engine().await;
    assert_eq!(says(&engine, shell("ls /etc2; echo kept > /etc2/mark").bind("data:/etc2")).await, "");
    assert_eq!(says(&engine, shell("cat /again/mark").bind("data:/again:ro")).await, "kept\n");
    let copied = says(&engine, shell("cat /etc/group").volume("/etc")).await;
    assert!(copied.starts_with("root:"), "the image's own files are in a new volume: {copied}");
    let held = engine.containers().create(shell("true").bind("data:/x")).await.unwrap();
    assert_eq!(engine.volumes().remove("data").await.unwrap_err().kind(), ErrorKind::Conflict);
    held.remove(RemoveOptions::default().volumes(true)).await.unwrap();
    assert_eq!(engine.volumes().list().await.unwrap().len(), 1, "a named volume stays, anonymous ones go");
    engine.volumes().remove("data").await.unwrap();
}

#[tokio::test]
async fn resources_are_bounded() {
    let place = Place::new();
    let engine = place.engine().await;
    let look = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    let spec = shell(look).memory(Bytes::mib(64)).nano_cpus(500_000_000).pids_limit(20);
    assert_eq!(says(&engine, spec).await, "67108864\n50000\n20\n");
    let hungry = shell("tail /dev/zero").memory(Bytes::mib(16)).memory_swap(Bytes::mib(16));
    let container = engine.containers().create(hungry).await.unwrap();
    let (_, code) = output_of(&container).await;
    assert!(container.record().state.oom_killed, "exit code {code}");
    container.remove(RemoveOptions::default()).await.unwrap();
    assert_eq!(
        says(&engine, shell("df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2").shm_size(Bytes::mib(3))).await,
        "3072\n"
    );
}

#[tokio::test]
async fn namespaces_are_shared_when_asked() {
    let place = Place::new();
    let engine = place.engine().await;
    let of_host = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let look = "for kind in net pid uts ipc cgroup; do readlink /proc/self/ns/$kind; done";
    let own = says(&engine, shell(look)).await;
    let mut spec = shell(look).network(NetworkMode::Host);
    spec.host.pid_mode = NamespaceMode::Host;
    spec.host.uts_mode = NamespaceMode::Host;
    spec.host.ipc_mode = IpcMode::Host;
    spec.host.cgroupns_mode = NamespaceMode::Host;
    let shared = says(&engine, spec).await;
    for (line, kind) in ["net", "pid", "uts", "ipc", "cgroup"].iter().enumerate() {
        assert_eq!(shared.lines().nth(line).unwrap(), of_host(kind));
        assert_ne!(own.lines().nth(line).unwrap(), of_host(kind));
    }
    let first = engine.containers().create(shell("sleep 1000").name("first")).await.unwrap();
    let mut second = shell("readlink /proc/self/ns/net; ps | grep -c 'sleep 1000'")
        .network("container:first".parse::<NetworkMode>().unwrap());
    second.host.pid_mode = "container:first".parse().unwrap();
    let waiting = engine.containers().create(second).await.unwrap();
    assert_eq!(waiting.start().await.unwrap_err().kind(), ErrorKind::Conflict);
    first.start().await.unwrap();
    let net = std::fs::read_link(format!("/proc/{}/ns/net", first.record().state.pid)).unwrap();
    let (output, _) = output_of(&waiting).await;
    assert_eq!(output.lines().next().unwrap(), net.display().to_string());
    assert_ne!(output.lines().nth(1).unwrap(), "0");
    first.remove(RemoveOptions::default().force(true)).await.unwrap();
}

#[tokio::test]
async fn devices_and_kernel_parameters() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut spec = shell("head -c 3 /dev/nought | wc -c; cat /proc/sys/net/core/somaxconn; cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
        .sysctl("net.core.somaxconn", "99");
    spec.host.devices.push(DeviceMapping {
        path_on_host: "/dev/zero".to_owned(),
        path_in_container: "/dev/nought".to_owned(),
        cgroup_permissions: "r".to_owned(),
    });
    assert_eq!(says(&engine, spec).await, "3\n99\n0\n");
}

#[tokio::test]
async fn a_bridge_gives_addresses_and_names() {
    let place = Place::new();
    let engine = Engine::open(place.settings()).await.unwrap();
    with_busybox(&engine).await;
    let on_bridge = |script: &str| shell(script).network(NetworkMode::Default);
    let server = engine.containers().create(on_bridge("nc -lp 7777 -e echo served")).await.unwrap();
    server.start().await.unwrap();
    let record = server.record();
    let interface = record.endpoints[0].interface.clone().unwrap();
    let script = format!(
        "ip -4 addr show eth0 | grep -c inet; ip route | grep -c default; grep -c \"$(hostname)\" /etc/hosts; grep extra /etc/hosts; for i in 1 2 3 4 5 6 7 8 9; do nc {} 7777 && break; sleep 0.1; done",
        interface.address.unwrap()
    );
    let output = says(&engine, on_bridge(&script).extra_host("extra", "10.9.8.7")).await;
    assert_eq!(output, "1\n1\n1\n10.9.8.7\textra\nserved\n");
    server.remove(RemoveOptions::default().force(true)).await.unwrap();
    let network = engine.networks().get("bridge").unwrap();
    assert!(engine.networks().endpoints(&network.id).unwrap().is_empty());
    assert!(engine.networks().teardown().await.unwrap());
}

#[tokio::test]
async fn a_published_port_leads_to_the_container() {
    use std::io::Read as _;
    let place = Place::new();
    let engine = Engine::open(place.settings()).await.unwrap();
    with_busybox(&engine).await;
    let mut spec = shell("while :; do nc -lp 7777 -e echo published; done").network(NetworkMode::Default);
    let local = PortBinding { host_ip: "127.0.0.1".to_owned(), ..PortBinding::default() };
    spec.host.port_bindings.insert("7777/tcp".to_owned(), vec![local]);
    let server = engine.containers().create(spec).await.unwrap();
    server.start().await.unwrap();
    let port = server.record().endpoints[0].interface.as_ref().unwrap().ports[0];
    assert_eq!(port.port, 7777);
    let heard = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        for _ in 0..200 {
            // It takes a moment until somebody listens.
            if let Ok(mut stream) = std::net::TcpStream::connect((port.host_address, port.host_port)) {
                let _ = stream.read_to_string(&mut text);
            }
            if !text.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        text
    });
    assert_eq!(heard.await.unwrap(), "published\n");
    let mut same = shell("true").network(NetworkMode::Default);
    let taken = PortBinding { host_ip: "127.0.0.1".to_owned(), host_port: port.host_port.to_string() };
    same.host.port_bindings.insert("80/tcp".to_owned(), vec![taken]);
    let other = engine.containers().create(same).await.unwrap();
    let error = other.start().await.unwrap_err();
    assert!(error.to_string().contains("port is already allocated"), "{error}");
    for container in [server, other] {
        container.remove(RemoveOptions::default().force(true)).await.unwrap();
    }
    assert!(engine.networks().teardown().await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_before_anything_is_made() {
    let place = Place::new();
    let engine = place.engine().await;
    let mut published = shell("true");
    let nowhere = PortBinding { host_ip: "nowhere".to_owned(), ..PortBinding::default() };
    published.host.port_bindings.insert("80/tcp".to_owned(), vec![nowhere]);
    let mut shared = shell("true");
    shared.host.ipc_mode = IpcMode::Container("x".to_owned());
    for (spec, kind) in [
        (ContainerSpec::new("nothing-of-this-name"), ErrorKind::NotFound),
        (shell("true").bind("a:b:c:d"), ErrorKind::Invalid),
        (shell("true").cap_add("FLY"), ErrorKind::Invalid),
        (published, ErrorKind::Invalid),
        (shared, ErrorKind::NotFound),
    ] {
        assert_eq!(engine.containers().create(spec).await.unwrap_err().kind(), kind);
    }
    let error = engine.containers().create(ContainerSpec::new("nope:1")).await.unwrap_err();
    assert_eq!(error.to_string(), "No such image: nope:1");
    assert_eq!(std::fs::read_dir(place.directory.path().join("containers")).unwrap().count(), 0);
}

#[tokio::test]
async fn owners_are_shown_as_others_at_a_mount() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let engine = place.engine().await;
    let shared = place.directory.path().join("shared");
    std::fs::create_dir_all(shared.join("below")).unwrap();
    for path in [shared.clone(), shared.join("below")] {
        std::os::unix::fs::chown(&path, Some(1000), Some(1001)).unwrap();
    }
    let script = "stat -c '%u %g' /m /m/below; echo made > /m/below/file; stat -c '%u %g' /m/below/file";
    let map = "idmap=uids=1000-0-1;gids=1001-0-1";
    let output = says(&engine, shell(script).bind(format!("{}:/m:{map}", shared.display()))).await;
    assert_eq!(output, "0 0\n0 0\n0 0\n");
    let made = shared.join("below/file").metadata().unwrap();
    assert_eq!((made.uid(), made.gid()), (1000, 1001));
    // In the long form, and of a volume, whose groups are left as they are.
    let mount = MountSpec::volume("kept", "/m").id_map("uids=7-0-1".parse().unwrap());
    let volume = engine.volumes().create(engine::volume::VolumeSpec::named("kept")).await.unwrap();
    std::os::unix::fs::chown(volume.mountpoint(), Some(7), Some(8)).unwrap();
    let output = says(&engine, shell("stat -c '%u %g' /m; touch /m/file; stat -c '%u %g' /m/file").mount(mount)).await;
    assert_eq!(output, "0 8\n0 0\n");
    let made = volume.mountpoint().join("file").metadata().unwrap();
    assert_eq!((made.uid(), made.gid()), (7, 0));
    // Whoever is not in the map is nobody, and can make nothing.
    let spec = shell("stat -c %u /m; touch /m/other").user("5").bind(format!("kept:/m:{map}"));
    let (output, code) = run(&engine, spec).await;
    assert!(output.starts_with("65534\n") && code == 1, "{output}");
    for wrong in ["kept:/m:idmap", "kept:/m:idmap=", "kept:/m:idmap=uids=0-0"] {
        let error = engine.containers().create(shell("true").bind(wrong)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong}");
    }
    let memory = MountSpec::tmpfs("/m").id_map("uids=7-0-1".parse().unwrap());
    let error = engine.containers().create(shell("true").mount(memory)).await.unwrap_err();
    assert!(error.to_string().contains("an idmap is for binds and volumes"), "{error}");
}

#[tokio::test]
async fn what_is_copied_has_the_owners_that_the_container_sees() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let engine = place.engine().await;
    let shared = place.directory.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    for (name, owner) in [("known", 7), ("other", 5)] {
        std::fs::write(shared.join(name), "x").unwrap();
        std::os::unix::fs::chown(shared.join(name), Some(owner), Some(owner)).unwrap();
    }
    let belongs_to = |owner| std::os::unix::fs::chown(&shared, Some(owner), Some(owner)).unwrap();
    belongs_to(7);
    let container = |map: &str| {
        let bind = format!("{}:/m:idmap={map}", shared.display());
        engine.containers().create(shell("exec sleep 1000").bind(bind))
    };
    let (rootless, with_root) =
        (container("uids=7-1000-1;gids=7-1000-1").await.unwrap(), container("uids=7-0-1;gids=7-0-1").await.unwrap());
    let put =
        async |container: &engine::Container| container.copy_to("/m", &*archive("in"), CopyOptions::default()).await;
    let mut refusals = Vec::new();
    for runs in [false, true] {
        if runs {
            rootless.start().await.unwrap();
            with_root.start().await.unwrap();
        }
        assert_eq!(owner_of(&rootless, "/m/known").await, (1000, 1000), "running: {runs}");
        assert_eq!(owner_of(&rootless, "/m/other").await, (65534, 65534), "running: {runs}");
        assert_eq!(owner_of(&with_root, "/m/known").await, (0, 0), "running: {runs}");
        let error = put(&rootless).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        refusals.push(error.to_string());
        assert!(!shared.join("in").exists());
        put(&with_root).await.unwrap();
        let made = shared.join("in").metadata().unwrap();
        assert_eq!((made.uid(), made.gid()), (7, 7), "running: {runs}");
        std::fs::remove_file(shared.join("in")).unwrap();
        belongs_to(5);
        let error = put(&with_root).await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Invalid && error.to_string().contains("root may not write there"),
            "{error}"
        );
        belongs_to(7);
    }
    assert!(refusals[0].contains("\"in\" is refused: the idmap of the mount"), "{refusals:?}");
    assert_eq!(refusals[0], refusals[1]);
    for container in [rootless, with_root] {
        container.remove(RemoveOptions::default().force(true)).await.unwrap();
    }
}

/// A tar archive of an empty file of root's.
fn archive(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, &[][..]).unwrap();
    archive.into_inner().unwrap()
}

/// User and group of a file, as an archive of it says.
async fn owner_of(container: &engine::Container, path: &str) -> (u32, u32) {
    use futures_util::StreamExt as _;
    let (_, mut archive) = container.copy_from(path).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = archive.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    let mut archive = tar::Archive::new(&*bytes);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    let owner = |id: std::io::Result<u64>| u32::try_from(id.unwrap()).unwrap();
    (owner(entry.header().uid()), owner(entry.header().gid()))
}

#[tokio::test]
async fn cgroups_are_written_to_by_who_may() {
    let place = Place::new();
    let engine = place.engine().await;
    let look = "grep -E ' /sys/fs/cgroup' /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1 | sort -u; touch /sys/no 2>/dev/null || echo kept";
    assert_eq!(says(&engine, shell(look)).await, "ro\nkept\n");
    assert_eq!(says(&engine, shell(look).security_opt("writable-cgroups=true")).await, "rw\nkept\n");
    let refused = says(&engine, shell(look).privileged(true).security_opt("writable-cgroups=false")).await;
    assert!(refused.starts_with("ro\n"), "{refused}");
}

#[tokio::test]
async fn what_is_mounted_below_a_read_only_bind_is_as_writable_as_asked() {
    let place = Place::new();
    let engine = place.engine().await;
    let bind = place.directory.path().join("bind");
    std::fs::create_dir(&bind).unwrap();
    let mut shallow = shell("true").bind(format!("{}:/bind:ro", bind.display()));
    shallow.shallow_read_only = true;
    let container = engine.containers().create(shallow).await.unwrap();
    assert!(container.record().mounts[0].read_only_non_recursive);
    let deep = shell("true").bind(format!("{}:/bind:ro", bind.display()));
    assert!(!engine.containers().create(deep).await.unwrap().record().mounts[0].read_only_non_recursive);
}
