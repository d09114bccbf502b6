//! Archives of layers: an error or a layer, nothing outside of it, and a layer gives its archive back byte for byte.
#![no_main]

mod room;

use std::io::Read;
use std::sync::OnceLock;

use engine::snapshot::Retired;
use engine::state::{Durability, State, Table};

fn state() -> &'static State {
    static STATE: OnceLock<State> = OnceLock::new();
    STATE.get_or_init(|| State::open(&room::room().join("root")).expect("a state"))
}

/// Right sums, so that more of a header is looked at than its sum.
fn with_sums(bytes: &[u8]) -> Vec<u8> {
    let mut archive = bytes.to_vec();
    for block in archive.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    archive
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let archive = with_sums(bytes);
    let layers = room::layers();
    if let Ok(staged) = room::unpack(archive.clone()) {
        let diff_id = staged.diff_id;
        let hold = |holds: bool| {
            state().write::<_, engine::state::Error>(Durability::Process, |tx| match holds {
                true => tx.hold((Table::Layer, &diff_id.to_string()), (Table::Image, "x")),
                false => tx.release((Table::Layer, &diff_id.to_string()), (Table::Image, "x")).map(drop),
            })
        };
        let stored = state().write::<_, engine::snapshot::Error>(Durability::Process, |tx| {
            layers.commit(tx, &diff_id, Some(staged), None, (Table::Image, "x"))
        });
        drop(stored.expect("a staged layer is stored"));
        let layer = state().read::<_, engine::snapshot::Error>(|state| layers.get(state, &diff_id));
        if layer.expect("a read").expect("a stored layer").record.framing {
            let mut again = Vec::new();
            layers.archive(&diff_id).expect("an archive").read_to_end(&mut again).expect("all of it");
            assert!(again == archive, "the archive that comes back is another one");
        }
        hold(false).expect("a release");
        let retired = state().write::<_, engine::snapshot::Error>(Durability::Process, |tx| layers.retire(tx, &diff_id));
        retired.expect("a removal").into_iter().for_each(Retired::remove);
    }
    let left = |path: &str| std::fs::read_dir(room::room().join(path)).expect("a directory").count();
    assert_eq!((left(""), left("root/layers")), (1, 0), "something was left, or made outside");
});
