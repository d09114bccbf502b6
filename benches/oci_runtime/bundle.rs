//! A bundle with what Docker gives its containers: the namespaces, mounts, capabilities, device rules and the filter.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A directory with `config.json` and a root file system of busybox.
pub struct Bundle {
    room: tempfile::TempDir,
}

impl Bundle {
    pub fn new(arguments: &[&str]) -> Self {
        let room = tempfile::tempdir().unwrap();
        let rootfs = room.path().join("rootfs");
        for directory in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            std::fs::create_dir_all(rootfs.join(directory)).unwrap();
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for program in ["true", "sleep"] {
            symlink("busybox", rootfs.join("bin").join(program)).unwrap();
        }
        let mut spec = specification();
        spec["process"]["args"] = json!(arguments);
        std::fs::write(room.path().join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
        Self { room }
    }

    pub fn path(&self) -> &Path {
        self.room.path()
    }

    /// Where a runtime writes its containers down: on a tmpfs, as in life.
    pub fn state(&self) -> PathBuf {
        Path::new("/run").join(format!("oci-bench-{}", std::process::id()))
    }
}

/// What crun 1.8 of Debian 12 still reads; nothing in it is newer.
fn specification() -> Value {
    let host = engine_runtime::Host::probe().unwrap();
    let mut spec = serde_json::to_value(engine_runtime::defaults::spec(&host)).unwrap();
    spec["root"] = json!({"path": "rootfs", "readonly": false});
    spec["ociVersion"] = json!("1.0.2");
    spec["hostname"] = json!("bench");
    spec
}
