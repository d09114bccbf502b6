//! An engine on a root of its own, with an image of busybox; gone without a trace when it is dropped.
#![allow(dead_code, clippy::unwrap_used, reason = "not every test needs everything, and tests may panic")]

use engine::image::{ImportOptions, Rootfs};
use engine::settings::BridgeSettings;
use engine::{AttachOptions, Container, ContainerSpec, Engine, Lifetime, NetworkMode, Settings};

pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn settings(&self) -> Settings {
        let name = self.directory.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        Settings::at(self.directory.path()).cgroup_parent(format!("engine-test-{name}"))
    }

    pub(crate) fn without_bridge(&self) -> Settings {
        self.settings().bridge(BridgeSettings::disabled()).firewall(false)
    }

    /// An engine with the image `busybox`, and no bridge.
    pub(crate) async fn engine(&self) -> Engine {
        let engine = Engine::open(self.without_bridge()).await.unwrap();
        with_busybox(&engine).await;
        engine
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // An engine that is dropped at once leaves the clearing away to the next one, which never comes here, and a test that
        // fails leaves what runs.
        let name = self.settings().cgroup_parent;
        for _ in 0..100 {
            if hierarchies().filter(|hierarchy| !emptied(&hierarchy.join(&name))).count() == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Where cgroups are mounted.
fn hierarchies() -> impl Iterator<Item = std::path::PathBuf> {
    let mounted = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    mounted.chain([std::path::PathBuf::from("/sys/fs/cgroup")])
}

/// Kills who is in the cgroups beneath a parent and removes them; whether all are gone.
fn emptied(parent: &std::path::Path) -> bool {
    for container in std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()) {
        for line in std::fs::read_to_string(container.join("cgroup.procs")).unwrap_or_default().lines() {
            let pid = line.parse().ok().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        let _ = std::fs::remove_dir(container);
    }
    std::fs::remove_dir(parent).is_ok() || !parent.exists()
}

pub(crate) async fn with_busybox(engine: &Engine) {
    let program = std::fs::read("/bin/busybox").expect("the package busybox-static has to be installed");
    let options = ImportOptions::named("busybox".parse().unwrap()).command(["sh"]);
    engine.images().build_from(Rootfs::busybox(&program), options).await.unwrap();
}

pub(crate) fn shell(script: &str) -> ContainerSpec {
    ContainerSpec::new("busybox")
        .command(["sh", "-c", script])
        .network(NetworkMode::None)
        .lifetime(Lifetime::Independent)
}

/// Runs a shell script to its end; answers its output and its exit code.
pub(crate) async fn run(engine: &Engine, spec: ContainerSpec) -> (String, i32) {
    let container = engine.containers().create(spec).await.unwrap();
    let (output, code) = output_of(&container).await;
    container.remove(engine::RemoveOptions::default().volumes(true)).await.unwrap();
    (output, code)
}

pub(crate) async fn output_of(container: &Container) -> (String, i32) {
    use tokio::io::AsyncReadExt as _;
    let mut attached = container.attach(AttachOptions::output()).await.unwrap();
    container.start().await.unwrap();
    let mut bytes = Vec::new();
    attached.read_to_end(&mut bytes).await.unwrap();
    (String::from_utf8_lossy(&bytes).into_owned(), container.wait().await.unwrap().code)
}

/// Waits until a container has written a line.
pub(crate) async fn says(container: &Container, text: &str) {
    use futures_util::StreamExt as _;
    let mut logs = container.logs(engine::LogOptions::default().follow(true)).unwrap();
    while let Some(line) = logs.next().await {
        if line.unwrap().bytes.trim_ascii_end() == text.as_bytes() {
            return;
        }
    }
    panic!("the container ended before it said {text:?}");
}
