#![allow(clippy::unwrap_used)]
use super::*;

const YAML: &str = "cdiVersion: 0.6.0
kind: vendor.com/net
containerEdits:
  env: [COMMON=yes]
devices:
- name: one
  containerEdits:
    env: [\"ONE=1\"]
    deviceNodes:
    - path: /dev/one
      hostPath: /dev/null
      permissions: rw
    mounts:
    - hostPath: /etc
      containerPath: /host-etc
      options: [ro, nosuid]
    hooks:
    - hookName: createContainer
      path: /bin/true
      args: [\"true\", x]
    additionalGids: [44]
- name: two
";

struct Room(tempfile::TempDir);

impl Room {
    fn new(files: &[(&str, &str)]) -> Self {
        let room = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = room.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(room)
    }

    fn look_up(&self, request: DeviceRequest) -> Result<Injection, String> {
        let directories = ["low", "high"].map(|name| self.0.path().join(name));
        check(std::slice::from_ref(&request)).map_err(|error| error.to_string())?;
        look_up(&[request], &directories).map(Option::unwrap).map_err(|error| error.to_string())
    }

    fn named(&self, names: &[&str]) -> Result<Injection, String> {
        self.look_up(cdi(names))
    }
}

fn cdi(names: &[&str]) -> DeviceRequest {
    let device_ids = names.iter().map(|&name| name.to_owned()).collect();
    DeviceRequest { driver: "cdi".to_owned(), device_ids, ..DeviceRequest::default() }
}

fn gpus(count: i64, ids: &[&str]) -> DeviceRequest {
    let device_ids = ids.iter().map(|&name| name.to_owned()).collect();
    DeviceRequest { count, device_ids, capabilities: vec![vec!["gpu".to_owned()]], ..DeviceRequest::default() }
}

#[test]
fn names_are_told_from_paths() {
    for name in ["vendor.com/net=one", "a/b=c", "nvidia.com/gpu=0:1"] {
        assert!(is_name(name), "{name}");
    }
    for path in ["/dev/null", "/dev/a:/dev/b", "vendor.com/net", "=x", "/net=x", "1a/b=c", "a/b="] {
        assert!(!is_name(path), "{path}");
    }
}

#[test]
fn a_device_brings_what_its_file_says() {
    let room = Room::new(&[("low/net.yaml", YAML)]);
    let injection = room.named(&["vendor.com/net=one", "vendor.com/net=two", "vendor.com/net=one"]).unwrap();
    assert_eq!(injection.env, ["COMMON=yes", "ONE=1"]);
    let mut bundle = Bundle::new("c", Spec::default(), engine_runtime::Rootfs::Directory("/".into()));
    injection.apply(&mut bundle).unwrap();
    let spec = &bundle.spec;
    let process = spec.process().as_ref().unwrap();
    assert!(process.env().as_ref().unwrap().contains(&"ONE=1".to_owned()));
    assert_eq!(process.user().additional_gids().as_deref(), Some(&[44][..]));
    let linux = spec.linux().as_ref().unwrap();
    let node = linux.devices().as_ref().unwrap().iter().find(|node| node.path() == Path::new("/dev/one")).unwrap();
    assert_eq!((node.major(), node.minor()), (1, 3));
    let rules = linux.resources().as_ref().unwrap().devices().as_ref().unwrap();
    assert_eq!(rules.last(), Some(&defaults::device_rule(true, LinuxDeviceType::C, Some(1), Some(3), "rw")));
    let mount = spec.mounts().as_ref().unwrap().last().unwrap();
    assert_eq!(mount.options().as_ref().unwrap(), &["bind", "ro", "nosuid"]);
    assert_eq!(spec.hooks().as_ref().unwrap().create_container().as_ref().unwrap().len(), 1);
}

#[test]
fn later_directories_win_and_equals_conflict() {
    let of = |env: &str| {
        format!(
            r#"{{"cdiVersion":"0.5.0","kind":"a.b/c","devices":[{{"name":"x","containerEdits":{{"env":["{env}"]}}}}]}}"#
        )
    };
    let (low, high) = (of("FROM=low"), of("FROM=high"));
    let room = Room::new(&[("low/a.json", &low), ("high/a.json", &high)]);
    assert_eq!(room.named(&["a.b/c=x"]).unwrap().env, ["FROM=high"]);
    let names = |room: &Room| names(&["low", "high"].map(|name| room.0.path().join(name)));
    assert_eq!(names(&room), ["a.b/c=x"]);
    let room = Room::new(&[("low/a.json", &low), ("low/b.json", &high)]);
    assert!(names(&room).is_empty());
    assert!(room.named(&["a.b/c=x"]).unwrap_err().contains("conflicting specifications of a.b/c=x"));
}

#[test]
fn gpus_are_those_of_who_describes_them() {
    let text = r#"{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[{"name":"0","containerEdits":{"env":["G=0"]}},
        {"name":"1","containerEdits":{"env":["H=1"]}},{"name":"all","containerEdits":{"env":["ALL=1"]}}]}"#;
    let room = Room::new(&[("low/gpu.json", text)]);
    assert_eq!(room.look_up(gpus(-1, &[])).unwrap().env, ["ALL=1"]);
    assert_eq!(room.look_up(gpus(2, &[])).unwrap().env, ["G=0", "H=1"]);
    assert_eq!(room.look_up(gpus(0, &["1"])).unwrap().env, ["H=1"]);
    assert_eq!(room.look_up(gpus(3, &[])).unwrap_err(), "3 GPUs were asked for and 2 are there");
    assert_eq!(
        Room::new(&[]).look_up(gpus(-1, &[])).unwrap_err(),
        "could not select device driver \"\" with capabilities: [[gpu]]"
    );
    assert_eq!(room.look_up(gpus(1, &["1"])).unwrap_err(), "cannot set both Count and DeviceIDs on device request");
}

#[test]
fn what_is_not_there_or_makes_no_sense_is_said() {
    let room = Room::new(&[
        ("low/net.yaml", YAML),
        ("low/broken.yaml", "kind: ["),
        ("low/strange.json", r#"{"cdiVersion":"0.5.0","kind":"a.b/c","devices":[],"more":1}"#),
        (
            "low/node.json",
            r#"{"cdiVersion":"0.5.0","kind":"a.b/node","devices":[
            {"name":"file","containerEdits":{"deviceNodes":[{"path":"/etc/passwd"}]}},
            {"name":"none","containerEdits":{"deviceNodes":[{"path":"/dev/does-not-exist"}]}},
            {"name":"hook","containerEdits":{"hooks":[{"hookName":"often","path":"/bin/true"}]}}]}"#,
        ),
    ]);
    let error = room.named(&["vendor.com/net=three"]).unwrap_err();
    assert!(error.starts_with("CDI device injection failed: unresolvable CDI devices vendor.com/net=three"), "{error}");
    assert!(error.contains("broken.yaml") && error.contains("strange.json"), "{error}");
    assert!(room.named(&["a.b/node=file"]).unwrap_err().contains("/etc/passwd is not a device node"));
    assert!(room.named(&["a.b/node=none"]).unwrap_err().contains("failed to stat CDI host device"));
    let mut bundle = Bundle::new("c", Spec::default(), engine_runtime::Rootfs::Directory("/".into()));
    assert!(room.named(&["a.b/node=hook"]).unwrap().apply(&mut bundle).is_err());
    assert!(room.named(&["/dev/null"]).unwrap_err().contains("invalid CDI device name"));
    assert!(room.named(&[]).is_err());
}
