//! Keeping the rules in place while the engine runs: whoever flushes the packet filter finds them again.

use std::time::Duration;

use engine_sys::netlink::{Netlink, Protocol};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use super::firewall::Family;
use super::{Error, Networks, firewall, off_thread, port};
use crate::state::{Snapshot, Table, Transaction};

/// Changes of the packet filter come in bursts.
const CALM: Duration = Duration::from_millis(20);
/// How long we rest after having put rules back: two programs that both insist must not spin.
const REST: Duration = Duration::from_millis(500);

impl Networks {
    /// Watches the packet filter and puts the rules back when they are gone, until the future is dropped. An engine
    /// spawns it once.
    pub async fn watch(self) {
        if !self.shared.policy.firewall {
            return;
        }
        let open = || -> std::io::Result<AsyncFd<Netlink>> {
            let socket = Netlink::open(Protocol::Netfilter)?;
            socket.join(firewall::CHANGES)?;
            #[expect(deprecated, reason = "the successor is unsafe; this socket owns its descriptor and keeps it open")]
            AsyncFd::with_interest(socket, tokio::io::Interest::READABLE)
        };
        let mut socket = match open() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "the packet filter cannot be watched: lost rules come back with the next start");
                return;
            }
        };
        loop {
            match socket.readable_mut().await {
                Ok(mut ready) => {
                    if let Err(error) = ready.get_inner_mut().drain() {
                        tracing::warn!(%error, "the packet filter is no longer watched");
                        return;
                    }
                    ready.clear_ready();
                }
                Err(error) => {
                    tracing::warn!(%error, "the packet filter is no longer watched");
                    return;
                }
            }
            tokio::time::sleep(CALM).await;
            let this = self.clone();
            match off_thread(move || this.keep_rules_blocking()).await {
                Ok(true) => {
                    tracing::warn!("the rules of the packet filter were gone and have been put back");
                    tokio::time::sleep(REST).await;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "the rules of the packet filter cannot be kept in place");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    /// Puts the rules back when they are gone, and says whether that was so.
    pub(super) fn keep_rules_blocking(&self) -> Result<bool, Error> {
        let mut host = self.host();
        if !host.is_in_use() {
            return Ok(false);
        }
        let before = host.generation();
        let back = host.keep_rules(&self.shared.policy, || self.in_use())?;
        let somebody_changed_it = back || host.generation() != before;
        drop(host);
        // What came while there were no rules came to the sockets that hold the ports. Another engine may have put them back.
        if somebody_changed_it {
            port::turn_away(self.claims().values().flatten());
        }
        if back {
            self.forget_flows(&Vec::from_iter(self.in_use()?.ports));
        }
        Ok(back)
    }
}

fn guard_key(family: Family) -> &'static str {
    match family {
        Family::Ipv6 => "forwarding-guard-6",
        _ => "forwarding-guard",
    }
}

/// The interfaces that nothing is forwarded between, until the machine boots again.
#[derive(Debug, Serialize, Deserialize)]
struct Guard {
    boot: String,
    table: String,
    interfaces: Vec<String>,
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

pub(super) fn remember_guard(transaction: &mut Transaction<'_>, rules: &firewall::Ruleset) -> Result<(), Error> {
    let interfaces = rules.sets.iter().flat_map(firewall::Set::interfaces).collect();
    let guard = Guard { boot: boot(), table: rules.table.clone(), interfaces };
    Ok(transaction.put(Table::Root, guard_key(rules.family), &guard)?)
}

/// The guards that an engine of this root has put up since the machine booted.
pub(super) fn remembered_guards(look: &Snapshot<'_>) -> Result<Vec<firewall::Ruleset>, Error> {
    let mut guards = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let guard = look.get::<Guard>(Table::Root, guard_key(family))?.filter(|guard| guard.boot == boot());
        guards.extend(guard.map(|guard| firewall::guard(family, &guard.table, &guard.interfaces)));
    }
    Ok(guards)
}
