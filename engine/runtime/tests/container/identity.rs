//! Who the process of a container is.

use std::fs;

use crate::place::{Place, process};

fn id(place: &Place, user: Option<&str>, groups: &[&str]) -> String {
    let mut bundle = place.shell("id -u; id -g; id -G; echo $HOME; grep -E 'CapEff|CapPrm' /proc/self/status");
    bundle.user = user.map(str::to_owned);
    bundle.additional_groups = groups.iter().map(|&group| group.to_owned()).collect();
    place.says(&bundle)
}

const NOTHING: &str = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n";

#[test]
fn users_are_looked_up_in_the_container() {
    let place = Place::new();
    let build = format!("1001\n1002\n1002 10\n/home/build\n{NOTHING}");
    assert_eq!(id(&place, Some("build"), &[]), build);
    // A number is a number, whoever has it as a name.
    assert_eq!(id(&place, Some("1001"), &[]), build);
    assert_eq!(id(&place, Some("build:audio"), &[]), format!("1001\n29\n29\n/home/build\n{NOTHING}"));
    assert_eq!(id(&place, Some("5000:6000"), &[]), format!("5000\n6000\n6000\n/\n{NOTHING}"));
    assert!(id(&place, Some("build"), &["audio", "77"]).starts_with("1001\n1002\n1002 10 29 77\n"));
    assert!(id(&place, None, &[]).starts_with("0\n0\n0\n/root\nCapPrm:\t00000000a80425fb\n"));
}

#[test]
fn a_user_that_is_not_there() {
    let place = Place::new();
    let refusal = |user: &str| {
        let mut bundle = place.shell("true");
        bundle.user = Some(user.to_owned());
        let error = place.refuses(&bundle).to_string();
        error.strip_prefix("unable to start container process: error during container init: ").unwrap().to_owned()
    };
    assert_eq!(refusal("nobody"), "unable to find user nobody: no matching entries in passwd file");
    assert_eq!(refusal("root:staff"), "unable to find group staff: no matching entries in group file");
    assert!(refusal("4294967296").contains("range 0-2147483647"));
    assert!(refusal("2147483648:0").contains("range 0-2147483647"));
}

#[test]
fn accounts_that_are_a_trap_are_refused() {
    let place = Place::new();
    let passwd = place.lower().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &passwd).unwrap();
    let mut bundle = place.shell("true");
    bundle.user = Some("build".to_owned());
    let error = place.refuses(&bundle).to_string();
    assert!(error.contains("no regular file"), "{error}");
}

#[test]
fn a_user_of_an_image_writes_to_its_own_output() {
    let place = Place::new();
    let mut bundle = place.shell("echo yes > /dev/stdout; echo no > /root/x");
    bundle.user = Some("build".to_owned());
    let ended = place.run(&bundle);
    assert_ne!(ended.code, 0);
    assert!(ended.output.starts_with("yes\n") && ended.output.contains("Permission denied"), "{ended:?}");
}

#[test]
fn limits_umask_and_privileges_are_those_asked_for() {
    let place = Place::new();
    let mut bundle =
        place.shell("ulimit -n; ulimit -Hn; umask; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj");
    let limit = serde_json::from_str(r#"[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]"#).unwrap();
    let process = process(&mut bundle.spec);
    process.set_rlimits(limit).set_no_new_privileges(Some(true)).set_oom_score_adj(Some(100));
    assert_eq!(place.says(&bundle), "100\n200\n0022\nNoNewPrivs:\t1\n100\n");
}

#[test]
fn a_limit_above_what_may_be_is_cut_down() {
    let place = Place::new();
    let mut bundle = place.shell("ulimit -Hn; cat /proc/self/oom_score_adj");
    let limit = serde_json::from_str(r#"[{"type": "RLIMIT_NOFILE", "soft": 1048576, "hard": 1048576}]"#).unwrap();
    process(&mut bundle.spec).set_rlimits(limit).set_oom_score_adj(Some(-999));
    place.says(&bundle);
}
