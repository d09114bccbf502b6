#![allow(clippy::unwrap_used)]
use super::*;
use crate::namespace::new_network;

const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
const LINK_NAME: u16 = 3;

fn link_message(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags).put(&[0; 16])
}

#[test]
fn messages_are_padded_and_know_their_length() {
    let message = Message::new(7, ACK).put(&[9]).attribute(3, b"ab").nest(4, |inner| inner.u32_be(1, 5).text(2, "x"));
    let expected: &[&[u8]] = &[
        &44u32.to_ne_bytes(),
        &7u16.to_ne_bytes(),
        &5u16.to_ne_bytes(),
        &[0; 8],
        &[9, 0, 0, 0],
        &[6u16.to_ne_bytes(), 3u16.to_ne_bytes()].concat(),
        b"ab\0\0",
    ];
    let expected = expected.concat();
    assert_eq!(&message.bytes()[4..expected.len()], &expected[4..]);
    assert_eq!(u32_native(message.bytes()).unwrap() as usize, message.bytes().len());
    let outer: Vec<_> = attributes(&message.bytes()[20..]).collect();
    assert_eq!(outer.iter().map(|attribute| attribute.kind).collect::<Vec<_>>(), [3, 4]);
    let inner: Vec<_> = attributes(outer[1].content).collect();
    assert_eq!(u32_be(inner[0].content), Some(5));
    assert_eq!(text(inner[1].content), "x");
}

#[test]
fn impossible_lengths_end_the_reading() {
    for hostile in [&[][..], &[1], &[0; 16], &[255; 64], &[3, 0, 0, 0], &[8, 0, 1, 0, 5]] {
        assert!(attributes(hostile).count() <= 1, "{hostile:?}");
        assert_eq!(Datagram(hostile).count(), 0, "{hostile:?}");
    }
    assert_eq!(text(&[0xff, 0]), "");
}

#[test]
fn a_datagram_is_read_to_its_end() {
    let message = |kind: u16, content: &[u8]| Message::new(kind, 0).put(content).bytes().to_vec();
    let refusal = (-libc::EPERM).to_ne_bytes();
    let both = [message(NEW_LINK, &[1, 2, 3, 4]), message(KIND_ERROR, &[0; 4])].concat();
    let mut seen = Vec::new();
    assert!(read_datagram(&both, |kind, content| seen.push((kind, content.to_vec()))));
    assert_eq!(seen, [(NEW_LINK, vec![1, 2, 3, 4])]);
    assert!(!read_datagram(&message(KIND_ERROR, &refusal), |_, _| {}));
    assert!(!read_datagram(&message(KIND_DONE, &refusal), |_, _| {}));
    assert!(read_datagram(&message(KIND_DONE, &[0; 4]), |_, _| {}));
    // The smallest number of all has no counterpart.
    for kind in [KIND_ERROR, KIND_DONE] {
        assert!(!read_datagram(&message(kind, &i32::MIN.to_ne_bytes()), |_, _| {}));
    }
    assert!(read_datagram(&[255; 64], |_, _| panic!("there is none")));
}

#[test]
fn a_new_namespace_has_just_its_loopback() {
    let (_namespace, mut socket) = new_network(|| Netlink::open(Protocol::Route)).unwrap();
    let mut names = Vec::new();
    let question = link_message(GET_LINK, DUMP);
    let each = |part: Option<(u16, &[u8])>| match part {
        None => names.clear(),
        Some((kind, content)) => {
            assert_eq!(kind, NEW_LINK);
            let name = attributes(&content[16..]).find(|attribute| attribute.kind == LINK_NAME).unwrap();
            names.push(text(name.content).to_owned());
        }
    };
    socket.dump(&question, each).unwrap();
    assert!(names.contains(&"lo".to_owned()), "{names:?}");
    assert!(!names.contains(&"eth0".to_owned()), "{names:?}");
}

#[test]
fn a_refusal_names_the_message_and_has_the_kernels_words() {
    let (_namespace, mut socket) = new_network(|| Netlink::open(Protocol::Route)).unwrap();
    let fine = link_message(GET_LINK, ACK).text(LINK_NAME, "lo");
    let missing = link_message(GET_LINK, ACK).text(LINK_NAME, "absent");
    let error = socket.request(&mut [fine.clone(), missing, fine.clone()]).unwrap_err();
    assert_eq!(error.index, 1);
    assert!(error.is(Errno::NODEV), "{error}");
    // The next question is not mixed up with what was left of the last.
    let mut answers = 0;
    socket.ask(fine, |_, _| answers += 1).unwrap();
    assert_eq!(answers, 1);
    let unknown = link_message(NEW_LINK, ACK | CREATE).nest(18, |info| info.text(1, "no-such-kind"));
    let error = socket.request(&mut [unknown]).unwrap_err();
    assert!(error.to_string().contains("Unknown device type"), "{error}");
}

#[test]
fn announcements_are_drained() {
    let (namespace, mut socket) = new_network(|| Netlink::open(Protocol::Route)).unwrap();
    let mut listener = crate::namespace::in_network(namespace.as_fd(), || Netlink::open(Protocol::Route)).unwrap();
    listener.join(1).unwrap();
    assert!(!listener.drain().unwrap());
    let mut up = [0u8; 16];
    up[4] = 1; // the loopback's index
    up[8] = 1; // up
    up[12] = 1; // is what changes
    socket.request(&mut [Message::new(NEW_LINK, ACK).put(&up)]).unwrap();
    assert!(listener.drain().unwrap());
    assert!(!listener.drain().unwrap());
}
