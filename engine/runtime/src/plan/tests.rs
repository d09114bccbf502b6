#![allow(clippy::unwrap_used)]
//! Whole plans, as text.

use std::path::PathBuf;

use engine_shim::plan::Slot;
use oci_spec::runtime::{LinuxDeviceType, LinuxNamespaceType, LinuxResources, Mount, Spec};

use super::*;
use crate::cgroup::{Hierarchy, Layout, Unified};
use crate::{Exec, Features, KernelVersion, Rootfs, defaults};

/// A machine that does not depend on the one that runs the tests.
fn host(cgroups: Layout) -> Host {
    Host {
        bounding: 0x1ff_ffff_ffff & !(1 << 24),
        cgroups,
        cgroup_parent: "engine".to_owned(),
        kernel: KernelVersion { major: 6, minor: 18 },
        features: Features {
            overlay_append: true,
            cgroup_namespace: true,
            user_namespace: true,
            time_namespace: true,
            mount_setattr: true,
            clone_into_cgroup: true,
            mqueue: true,
            apparmor: false,
            selinux: false,
            seccomp: true,
            kcore: true,
        },
        throttled_cpus: vec![0, 1],
    }
}

fn hybrid() -> Host {
    let hierarchy = |name: &str, controllers: &[&str]| Hierarchy {
        mount: format!("/sys/fs/cgroup/{name}").into(),
        controllers: controllers.iter().map(|&controller| controller.to_owned()).collect(),
    };
    host(Layout {
        hierarchies: vec![
            hierarchy("cpu,cpuacct", &["cpu", "cpuacct"]),
            hierarchy("memory", &["memory"]),
            hierarchy("systemd", &["name=systemd"]),
        ],
        unified: Some(Unified { mount: "/sys/fs/cgroup/unified".into(), controllers: Vec::new(), kills: true }),
        systemd: None,
    })
}

pub(super) fn unified() -> Host {
    let controllers = ["cpu", "memory", "pids"].map(str::to_owned).to_vec();
    host(Layout {
        hierarchies: Vec::new(),
        unified: Some(Unified { mount: "/sys/fs/cgroup".into(), controllers, kills: true }),
        systemd: None,
    })
}

fn overlay() -> Rootfs {
    Rootfs::Overlay {
        lower: vec!["/layers/b".into(), "/layers/a".into()],
        upper: "/upper".into(),
        work: "/work".into(),
        volatile: true,
    }
}

fn bundle(host: &Host) -> Bundle {
    let mut spec = defaults::spec(host);
    spec.set_hostname(Some("box".to_owned()));
    Bundle::new("c1", spec, overlay())
}

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

fn refusal(bundle: &Bundle) -> String {
    compile(bundle, &hybrid()).unwrap_err().to_string()
}

#[test]
fn a_default_container() {
    let host = hybrid();
    insta::assert_snapshot!(compile(&bundle(&host), &host).unwrap());
}

#[test]
fn new_file_systems_have_the_label_of_mounts_where_there_is_selinux() {
    let mut host = hybrid();
    let mut bundle = bundle(&host);
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    bundle.spec.linux_mut().as_mut().unwrap().set_mount_label(Some(label.to_owned()));
    let own = mount("/own", "tmpfs", "tmpfs", &["context=own"]);
    bundle.spec.mounts_mut().as_mut().unwrap().push(own);
    assert!(compile(&bundle, &host).unwrap_err().to_string().contains("no SELinux"));
    host.features.selinux = true;
    let plan = compile(&bundle, &host).unwrap().to_string();
    // That of /dev, /dev/pts and /dev/shm, and not that of proc, sysfs and mqueue.
    assert_eq!(plan.matches(label).count(), 3, "{plan}");
    assert_eq!(plan.matches("key: \"context\"").count(), 4, "{plan}");
}

#[test]
fn a_container_of_cgroup_version_2_with_a_terminal_and_a_log() {
    let host = unified();
    let mut bundle = bundle(&host);
    bundle.spec.process_mut().as_mut().unwrap().set_terminal(Some(true));
    bundle.stdin = Stdin::Open { once: true };
    bundle.terminal_size = Some((24, 80));
    bundle.tasks_die_with_launcher = true;
    bundle.output = Output::JsonLog {
        directory: "/logs".into(),
        name: "c1-json.log".to_owned(),
        max_size: 1 << 20,
        max_age: 0,
        max_files: 5,
        attributes: String::new(),
    };
    insta::assert_snapshot!(compile(&bundle, &host).unwrap());
}

#[test]
fn a_privileged_container_in_the_network_of_the_host() {
    let host = hybrid();
    let mut bundle = bundle(&host);
    let all = crate::capabilities::set(host.bounding);
    let process = bundle.spec.process_mut().as_mut().unwrap();
    process
        .set_capabilities(Some(defaults::capability_sets(&all)))
        .set_args(Some(vec!["a".to_owned(), "b".to_owned()]));
    let linux = bundle.spec.linux_mut().as_mut().unwrap();
    linux.set_seccomp(None).set_masked_paths(None).set_readonly_paths(None);
    linux.namespaces_mut().as_mut().unwrap().retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(defaults::all_devices()));
    linux.set_resources(Some(resources));
    let mut disk = oci_spec::runtime::LinuxDevice::default();
    disk.set_path("/dev/vda".into()).set_typ(LinuxDeviceType::B).set_major(254).set_minor(0).set_file_mode(Some(0o660));
    linux.set_devices(Some(vec![disk]));
    bundle.output = Output::AttachOnly;
    insta::assert_snapshot!(compile(&bundle, &host).unwrap());
}

#[test]
fn a_read_only_container_with_mounts_user_limits_and_a_network_to_join() {
    let host = hybrid();
    let mut bundle = bundle(&host);
    bundle.spec.root_mut().as_mut().unwrap().set_readonly(Some(true));
    bundle.spec.mounts_mut().as_mut().unwrap().extend([
        mount("/data", "bind", "/srv/data", &["rbind", "rro", "rprivate"]),
        mount("/shared", "bind", "/srv/shared", &["rbind", "rshared"]),
        mount("/one", "bind", "/srv/one", &["bind", "ro", "nosuid", "slave"]),
        mount("/run", "tmpfs", "tmpfs", &["ro", "noexec", "size=1m"]),
    ]);
    let linux = bundle.spec.linux_mut().as_mut().unwrap();
    linux.set_sysctl(Some([("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into()));
    linux.set_rootfs_propagation(Some("rshared".to_owned()));
    linux.set_seccomp(None).set_masked_paths(None).set_readonly_paths(None);
    let process = bundle.spec.process_mut().as_mut().unwrap();
    let limit = oci_spec::runtime::PosixRlimitBuilder::default()
        .typ(oci_spec::runtime::PosixRlimitType::RlimitNofile)
        .soft(1024_u64)
        .hard(4096_u64)
        .build()
        .unwrap();
    process
        .set_rlimits(Some(vec![limit]))
        .set_oom_score_adj(Some(-5))
        .set_no_new_privileges(Some(true))
        .set_cwd("/home/dir".into());
    bundle.user = Some("app:staff".to_owned());
    bundle.additional_groups = vec!["audio".to_owned()];
    bundle.make_working_directory = true;
    insta::assert_snapshot!(compile_with(&bundle, &host, true, None, None).unwrap());
}

#[test]
fn an_exec() {
    let host = hybrid();
    let bundle = bundle(&host);
    let mut command = bundle.spec.process().clone().unwrap();
    command.set_args(Some(vec!["id".to_owned()])).set_terminal(Some(true));
    let init = std::fs::File::open("/dev/null").unwrap();
    let mut exec = Exec::new("c1", std::os::fd::AsFd::as_fd(&init), &bundle.spec, &command);
    exec.user = Some("1000");
    exec.privileged = true;
    exec.stdin = Stdin::Open { once: false };
    let cgroup = Places::of(&bundle.spec, "c1", &host).unwrap();
    insta::assert_snapshot!(compile_exec(&exec, &cgroup.entry(), &host, None, None).unwrap());
}

#[test]
fn layers_of_an_older_kernel() {
    let mut host = hybrid();
    host.features.overlay_append = false;
    let mut bundle = bundle(&host);
    let plan = compile(&bundle, &host).unwrap();
    let (directory, options) = (
        c"/layers",
        c"lowerdir=b:a,upperdir=/upper,workdir=/work,metacopy=off,redirect_dir=nofollow,index=off,volatile",
    );
    assert!(plan.operations().any(|op| op == Op::OverlayOf { slot: Slot(0), directory, options }), "{plan}");
    let Rootfs::Overlay { lower, .. } = &mut bundle.rootfs else { panic!() };
    lower.extend((0..100).map(|n| PathBuf::from(format!("/layers/{n:064}"))));
    assert!(compile(&bundle, &host).unwrap_err().to_string().contains("102 layers"));
    let Rootfs::Overlay { lower, .. } = &mut bundle.rootfs else { panic!() };
    *lower = vec!["/elsewhere/a".into(), "/layers/b,c".into()];
    assert!(compile(&bundle, &host).unwrap_err().to_string().contains("comma"));
}

#[test]
fn what_is_not_supported_is_refused() {
    let host = hybrid();
    type Change = fn(&mut Spec);
    let cases: [(&str, Change); 11] = [
        ("timeout has to be greater", |spec| {
            let hook = oci_spec::runtime::HookBuilder::default().path("/bin/true").timeout(-1).build().unwrap();
            let hooks = oci_spec::runtime::HooksBuilder::default().create_container(vec![hook]).build().unwrap();
            spec.set_hooks(Some(hooks));
        }),
        ("user namespace isn't enabled", |spec| {
            let map = oci_spec::runtime::LinuxIdMappingBuilder::default().size(1_u32).build().unwrap();
            spec.linux_mut().as_mut().unwrap().set_uid_mappings(Some(vec![map]));
        }),
        ("at least one", |spec| {
            let mut namespace = oci_spec::runtime::LinuxNamespace::default();
            namespace.set_typ(LinuxNamespaceType::User);
            spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap().push(namespace);
        }),
        ("without a time namespace", |spec| {
            let offset = oci_spec::runtime::LinuxTimeOffset::default();
            spec.linux_mut().as_mut().unwrap().set_time_offsets(Some([("boottime".to_owned(), offset)].into()));
        }),
        ("AppArmor", |spec| {
            spec.process_mut().as_mut().unwrap().set_apparmor_profile(Some("docker-default".to_owned()));
        }),
        ("Intel RDT", |spec| {
            let rdt = oci_spec::runtime::LinuxIntelRdt::default();
            spec.linux_mut().as_mut().unwrap().set_intel_rdt(Some(rdt));
        }),
        ("no command specified", |spec| {
            spec.process_mut().as_mut().unwrap().set_args(Some(Vec::new()));
        }),
        ("absolute path", |spec| {
            spec.process_mut().as_mut().unwrap().set_cwd("work".into());
        }),
        ("two limits of RLIMIT_NOFILE", |spec| {
            let limit = r#"{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 5}"#;
            let limits = [limit; 2].map(|limit| serde_json::from_str(limit).unwrap());
            spec.process_mut().as_mut().unwrap().set_rlimits(Some(limits.to_vec()));
        }),
        ("private UTS namespace", |spec| {
            let namespaces = spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
            namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Uts);
        }),
        ("zero byte", |spec| {
            spec.process_mut().as_mut().unwrap().set_args(Some(vec!["a\0b".to_owned()]));
        }),
    ];
    for (text, change) in cases {
        let mut bundle = bundle(&host);
        change(&mut bundle.spec);
        let error = refusal(&bundle);
        assert!(error.contains(text), "{text}: {error}");
    }
}

#[test]
fn kernel_parameters_of_the_host_are_refused() {
    let host = hybrid();
    for key in ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.hostname", "net/../kernel/core_pattern"]
    {
        let mut bundle = bundle(&host);
        let linux = bundle.spec.linux_mut().as_mut().unwrap();
        linux.set_sysctl(Some([(key.to_owned(), "1".to_owned())].into()));
        assert!(refusal(&bundle).contains("sysctl"), "{key}");
    }
    let mut bundle = bundle(&host);
    let linux = bundle.spec.linux_mut().as_mut().unwrap();
    linux.set_sysctl(Some([("kernel.shmmax".to_owned(), "1\n2".to_owned())].into()));
    assert!(refusal(&bundle).contains("forbidden characters"));
    let linux = bundle.spec.linux_mut().as_mut().unwrap();
    linux.set_sysctl(Some([("net.core.somaxconn".to_owned(), "1".to_owned())].into()));
    linux.namespaces_mut().as_mut().unwrap().retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
    assert!(refusal(&bundle).contains("host network namespace"));
}
