//! What a container of Docker's defaults can see and do.

use crate::place::{Place, linux, process};

#[test]
fn it_is_alone_and_knows_its_name() {
    let place = Place::new();
    // What is listed is counted afterwards, so that it does not depend on who of a pipe starts first.
    let mut bundle = place.shell("echo $$; hostname; list=$(ls /proc); echo \"$list\" | grep -c '^[0-9]*$'");
    bundle.spec.set_hostname(Some("box".to_owned()));
    // The shell and ls.
    assert_eq!(place.says(&bundle), "1\nbox\n2\n");
}

#[test]
fn no_descriptor_of_the_host_is_open() {
    let place = Place::new();
    let said = place.says(&place.shell("ls /proc/1/fd; for fd in 0 1 2; do readlink /proc/1/fd/$fd; done"));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..4], ["0", "1", "2", "/dev/null"], "{said}");
    assert!(lines[4].starts_with("pipe:") && lines[5].starts_with("pipe:"), "{said}");
}

#[test]
fn what_tells_of_the_host_is_hidden() {
    let place = Place::new();
    let said = place.says(&place.shell(
        "for f in kcore keys timer_list; do cat /proc/$f 2>/dev/null | wc -c; done; ls -A /sys/firmware | wc -l; \
         ls -A /proc/acpi /proc/scsi 2>/dev/null | grep -v : | wc -w",
    ));
    assert_eq!(said, "0\n0\n0\n0\n0\n");
}

#[test]
fn what_belongs_to_the_machine_is_read_only() {
    let place = Place::new();
    let said = place.says(&place.shell(
        "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/swappiness; do \
         [ -e $f ] || continue; (echo x > $f) 2>&1; done; mkdir /sys/fs/cgroup/x 2>&1; chmod 755 /sys/kernel 2>&1; true",
    ));
    assert!(said.lines().count() >= 3, "{said}");
    assert!(said.lines().all(|line| line.contains("Read-only file system")), "{said}");
}

#[test]
fn its_capabilities_are_dockers() {
    let place = Place::new();
    let said = place.says(&place.shell("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"));
    assert_eq!(
        said.replace('\t', ""),
        "CapInh:0000000000000000\nCapPrm:00000000a80425fb\nCapEff:00000000a80425fb\nCapBnd:00000000a80425fb\n\
         CapAmb:0000000000000000\nNoNewPrivs:0\nSeccomp:2\n"
    );
}

#[test]
fn the_filter_refuses_new_namespaces_mounts_and_keys() {
    let place = Place::new();
    let said = place.says(&place.shell(
        "unshare -U true 2>&1 | grep -o 'Operation not permitted'; \
         mount -t tmpfs none /tmp 2>&1 | grep -io 'permission denied\\|operation not permitted'; \
         nsenter -t 1 -m true 2>&1 | grep -o 'Operation not permitted'; true",
    ));
    assert_eq!(said.to_lowercase().matches("not permitted").count() + said.matches("denied").count(), 3, "{said}");
}

#[test]
fn without_a_filter_there_is_none() {
    let place = Place::new();
    let mut bundle = place.shell("grep Seccomp: /proc/self/status; unshare -U true && echo done");
    linux(&mut bundle.spec).set_seccomp(None);
    assert_eq!(place.says(&bundle), "Seccomp:\t0\ndone\n");
}

#[test]
fn devices_may_be_made_and_not_be_used() {
    let place = Place::new();
    let said = place.says(&place.shell(
        "mknod /tmp/disk b 254 0 && echo made; (: < /tmp/disk) 2>&1 | grep -o 'Operation not permitted'; \
         echo x > /dev/null && head -c 2 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; echo x > /dev/full; \
         echo hello > /dev/stdout; ls /dev | tr '\\n' ' '",
    ));
    assert!(said.starts_with("made\nOperation not permitted\n2\n2\n"), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("\nhello\n"), "{said}");
    for name in ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "tty", "urandom", "zero"] {
        assert!(said.contains(&format!("{name} ")), "{name}: {said}");
    }
}

#[test]
fn the_host_lies_behind() {
    let place = Place::new();
    let said = place.says(&place.shell("cut -d' ' -f5 /proc/self/mountinfo | sort | uniq | tr '\\n' ' '; ls /"));
    assert!(said.contains(" /proc "), "{said}");
    let directory = place.path("").display().to_string();
    assert!(!said.contains(directory.trim_end_matches('/')), "no mount of the host: {said}");
    assert!(said.ends_with("bin\ndev\netc\nhome\nproc\nroot\nsys\ntmp\n"), "{said}");
}

#[test]
fn it_sees_its_own_cgroups_only() {
    let place = Place::new();
    let said = place.says(&place.shell("cat /proc/self/cgroup; ls /sys/fs/cgroup"));
    for line in said.lines().filter(|line| line.contains(':')) {
        assert!(line.ends_with(":/"), "{said}");
    }
    if let Some(memory) = place.runtime.host().cgroups.hierarchy("memory") {
        assert!(said.contains(memory.file_name().unwrap().to_str().unwrap()), "{said}");
        let mut bundle = place.shell("cat /sys/fs/cgroup/memory/memory.limit_in_bytes; ls -d /sys/fs/cgroup/memory/*/");
        let resources = linux(&mut bundle.spec).resources_mut().as_mut().unwrap();
        resources.set_memory(serde_json::from_str(r#"{"limit": 33554432}"#).unwrap());
        let ended = place.run(&bundle);
        assert!(ended.output.starts_with("33554432\n"), "{ended:?}");
        assert!(!ended.output.contains("/sys/fs/cgroup/memory/c"), "{ended:?}");
    }
}

#[test]
fn a_privileged_container_is_not_confined() {
    let place = Place::new();
    let host = place.runtime.host();
    let bounding = host.bounding;
    let mut bundle =
        place.shell("grep CapEff /proc/self/status; mount -t tmpfs none /tmp && echo mounted; ls /dev/vda*");
    let all = engine_runtime::capabilities::set(bounding);
    process(&mut bundle.spec).set_capabilities(Some(engine_runtime::defaults::capability_sets(&all)));
    let linux = linux(&mut bundle.spec);
    linux.set_seccomp(None).set_masked_paths(None).set_readonly_paths(None);
    linux.resources_mut().as_mut().unwrap().set_devices(Some(engine_runtime::defaults::all_devices()));
    let mut disk = engine_runtime::spec::LinuxDevice::default();
    disk.set_path("/dev/vda".into()).set_typ(engine_runtime::spec::LinuxDeviceType::B).set_major(254).set_minor(0);
    linux.set_devices(Some(vec![disk]));
    assert_eq!(place.says(&bundle), format!("CapEff:\t{bounding:016x}\nmounted\n/dev/vda\n"));
}

#[test]
fn a_terminal_is_its_own() {
    let place = Place::new();
    let mut bundle = place.shell("tty; stty size; ls -l /dev/console | cut -c1; echo to-console > /dev/console");
    process(&mut bundle.spec).set_terminal(Some(true));
    bundle.terminal_size = Some((33, 99));
    assert_eq!(place.says(&bundle), "/dev/pts/0\r\n33 99\r\nc\r\nto-console\r\n");
}
