//! Messages of the domain name system: as much of them as a resolver for containers needs. Everything is foreign bytes:
//! whatever does not parse is nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name in a message, in bytes of text.
const MAX_NAME: usize = 254;
const HEADER: usize = 12;
/// Names of containers may change at any time; who asks again is told again.
const TTL: u32 = 600;
/// The most records that are looked at in a foreign answer.
const MAX_RECORDS: usize = 512;
/// The most records behind a question that are looked at.
const MAX_ADDITIONS: usize = 4;
/// What everybody has room for, and the longest answer of ours by datagram.
const SHORT: usize = 512;
pub(super) const MAX_ANSWER: usize = 1232;

pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const AAAA: u16 = 28;
const OPT: u16 = 41;
const INTERNET: u16 = 1;

/// What a question is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Fine = 0,
    Malformed = 1,
    Failed = 2,
    #[cfg(test)]
    Unknown = 3,
    NotImplemented = 4,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// In lower case, without the last dot.
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    /// Where it ends in the message.
    end: usize,
    /// How long an answer by datagram may be for whoever asks by the extended protocol (EDNS).
    room: Option<u16>,
}

/// Why a message is not answered like others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    /// Not to be answered at all.
    Silent,
    /// To be answered with this.
    Refused(Code),
}

/// Reads a question.
pub(crate) fn read(message: &[u8]) -> Result<Question, Odd> {
    let header: &[u8; HEADER] = message.first_chunk().ok_or(Odd::Silent)?;
    // An answer: two resolvers must not talk to each other for ever.
    if header[2] & 0x80 != 0 {
        return Err(Odd::Silent);
    }
    if header[2] & 0x78 != 0 {
        return Err(Odd::Refused(Code::NotImplemented));
    }
    if header[4..6] != [0, 1] {
        return Err(Odd::Refused(Code::Malformed));
    }
    let (name, end) = read_name(message, HEADER).ok_or(Odd::Refused(Code::Malformed))?;
    let fixed = message.get(end..end + 4).ok_or(Odd::Refused(Code::Malformed))?;
    Ok(Question {
        name,
        kind: u16::from_be_bytes([fixed[0], fixed[1]]),
        class: u16::from_be_bytes([fixed[2], fixed[3]]),
        end: end + 4,
        room: extended_room(message, header, end + 4),
    })
}

/// What an option record behind the question says of the room for an answer.
fn extended_room(message: &[u8], header: &[u8; HEADER], mut at: usize) -> Option<u16> {
    let count = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    if count(6) + count(8) > 0 {
        return None;
    }
    for _ in 0..count(10).min(MAX_ADDITIONS) {
        at = skip_name(message, at)?;
        let fixed: &[u8; 10] = message.get(at..)?.first_chunk()?;
        if u16::from_be_bytes([fixed[0], fixed[1]]) == OPT {
            return Some(u16::from_be_bytes([fixed[2], fixed[3]]));
        }
        at += 10 + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    }
    None
}

impl Question {
    /// How long an answer by datagram may be: who does not say has room for what was agreed on first.
    pub(super) fn room(&self) -> usize {
        usize::from(self.room.unwrap_or_default()).clamp(SHORT, MAX_ANSWER)
    }

    /// Whether it is of the only class that anybody uses.
    pub(super) fn is_of_internet(&self) -> bool {
        self.class == INTERNET
    }
}

/// A name without pointers, in lower case, and where it ends. Bytes that are no text match no name of a container.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => {
                if !name.is_empty() {
                    name.push(b'.');
                }
                name.extend(message.get(at..at + length)?.iter().map(u8::to_ascii_lowercase));
                at += length;
            }
            _ => return None,
        }
        if name.len() > MAX_NAME {
            return None;
        }
    }
    Some((String::from_utf8_lossy(&name).into_owned(), at))
}

/// Where the name at this place ends, pointers included.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            0xc0.. => return message.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

/// What is told of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Pointer(String),
}

/// The answer to a question, within `limit` bytes: with more than fit it says that it was cut.
pub(super) fn answer(
    query: &[u8],
    question: Option<&Question>,
    code: Code,
    records: &[Record],
    limit: usize,
) -> Vec<u8> {
    let end = question.map_or(HEADER, |question| question.end);
    let mut bytes = query.get(..end).unwrap_or_default().to_vec();
    bytes.resize(end.max(HEADER), 0);
    // An answer, with recursion available; the kind of question and the wish for recursion are repeated.
    bytes[2] = 0x80 | bytes[2] & 0x79;
    bytes[3] = 0x80 | code as u8;
    let mut count: u16 = 0;
    bytes[4..HEADER].fill(0);
    // Who asks by the extended protocol is answered by it: our room, and no options.
    let mut option = Vec::new();
    if question.is_some_and(|question| question.room.is_some()) {
        option.push(0);
        option.extend(OPT.to_be_bytes());
        option.extend((MAX_ANSWER as u16).to_be_bytes());
        option.extend([0; 6]);
        bytes[11] = 1;
    }
    bytes[5] = u8::from(question.is_some());
    for record in records {
        let (kind, content) = match record {
            Record::A(address) => (A, address.octets().to_vec()),
            Record::Aaaa(address) => (AAAA, address.octets().to_vec()),
            Record::Pointer(name) => (PTR, encode_name(name)),
        };
        if bytes.len() + 12 + content.len() + option.len() > limit {
            bytes[2] |= 2;
            break;
        }
        // The name is that of the question.
        bytes.extend([0xc0, HEADER as u8]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes.extend(TTL.to_be_bytes());
        bytes.extend(u16::try_from(content.len()).unwrap_or_default().to_be_bytes());
        bytes.extend(content);
        count += 1;
    }
    bytes[6..8].copy_from_slice(&count.to_be_bytes());
    bytes.extend(option);
    bytes
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        // A longer one cannot be said; it would not have been found either.
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// Where the times to live of a foreign answer are, and the shortest; nothing when it does not parse or has none.
pub(crate) fn lifetimes(message: &[u8]) -> Option<(Vec<usize>, u32)> {
    let header: &[u8; HEADER] = message.first_chunk()?;
    let count = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let mut at = HEADER;
    for _ in 0..count(4) {
        at = skip_name(message, at)? + 4;
    }
    let records = count(6) + count(8) + count(10);
    if records > MAX_RECORDS {
        return None;
    }
    let (mut places, mut shortest) = (Vec::with_capacity(records), u32::MAX);
    for _ in 0..records {
        at = skip_name(message, at)?;
        let fixed: &[u8; 10] = message.get(at..)?.first_chunk()?;
        // That of an option is something else.
        if u16::from_be_bytes([fixed[0], fixed[1]]) != OPT {
            places.push(at + 4);
            shortest = shortest.min(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]));
        }
        at += 10 + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        if at > message.len() {
            return None;
        }
    }
    (!places.is_empty()).then_some((places, shortest))
}

/// Whether an answer belongs to a question: the same number and the same question.
pub(super) fn belongs(answer: &[u8], query: &[u8], question: &Question) -> bool {
    let part = |message: &[u8]| message.get(HEADER..question.end).map(<[u8]>::to_ascii_lowercase);
    answer.len() >= question.end
        && answer.first_chunk::<2>() == query.first_chunk::<2>()
        && answer[2] & 0x80 != 0
        && part(answer) == part(query)
}

/// The code of an answer.
pub(super) fn code(answer: &[u8]) -> u8 {
    answer.get(3).map_or(Code::Failed as u8, |byte| byte & 0x0f)
}

/// Whether an answer was cut.
pub(super) fn is_cut(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|byte| byte & 2 != 0)
}

/// The address that a reverse name stands for.
pub(super) fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut parts: Vec<&str> = digits.split('.').collect();
        parts.reverse();
        return parts.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut number: u128 = 0;
    let mut count = 0;
    for digit in digits.rsplit('.') {
        let [digit] = digit.as_bytes() else { return None };
        number = number << 4 | u128::from(char::from(*digit).to_digit(16)?);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(number).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(encode_name(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    #[test]
    fn questions_are_read() {
        let question = read(&query("Web.Example", A)).unwrap();
        assert_eq!((question.name.as_str(), question.kind, question.is_of_internet()), ("web.example", A, true));
        let mut answer = query("a", A);
        answer[2] |= 0x80;
        assert_eq!(read(&answer), Err(Odd::Silent));
        assert_eq!(read(&[0; 11]), Err(Odd::Silent));
        let mut update = query("a", A);
        update[2] = 5 << 3;
        assert_eq!(read(&update), Err(Odd::Refused(Code::NotImplemented)));
        let mut two = query("a", A);
        two[5] = 2;
        assert_eq!(read(&two), Err(Odd::Refused(Code::Malformed)));
        // A pointer to itself.
        let mut endless = query("", A);
        endless.splice(12..13, [0xc0, 12]);
        assert_eq!(read(&endless), Err(Odd::Refused(Code::Malformed)));
    }

    #[test]
    fn answers_are_what_they_seem() {
        let query = query("web", A);
        let question = read(&query).unwrap();
        let records = [Record::A([10, 0, 0, 2].into()), Record::A([10, 0, 0, 3].into())];
        let whole = answer(&query, Some(&question), Code::Fine, &records, 512);
        assert!(belongs(&whole, &query, &question) && !is_cut(&whole) && code(&whole) == 0);
        assert_eq!(whole[6..8], [0, 2]);
        let (places, shortest) = lifetimes(&whole).unwrap();
        assert_eq!((places.len(), shortest), (2, TTL));
        assert_eq!(&whole[whole.len() - 4..], [10, 0, 0, 3]);
        let cut = answer(&query, Some(&question), Code::Fine, &records, 40);
        assert!(is_cut(&cut) && cut.len() <= 40);
        let unknown = answer(&query, Some(&question), Code::Unknown, &[], 512);
        assert_eq!((code(&unknown), lifetimes(&unknown)), (3, None));
        assert_eq!(answer(&[1, 2], None, Code::Malformed, &[], 512).len(), HEADER);
    }

    #[test]
    fn an_answer_has_the_room_that_was_said() {
        let mut query = query("web", A);
        assert_eq!(read(&query).unwrap().room(), 512);
        query[11] = 1;
        let plain = query.len();
        for (said, room) in [(0u16, 512), (512, 512), (700, 700), (4096, MAX_ANSWER)] {
            query.truncate(plain);
            query.extend([0, 0, 41, said.to_be_bytes()[0], said.to_be_bytes()[1], 0, 0, 0, 0, 0, 0]);
            let question = read(&query).unwrap();
            assert_eq!(question.room(), room);
            let records = vec![Record::A(Ipv4Addr::LOCALHOST); 100];
            let answer = answer(&query, Some(&question), Code::Fine, &records, room);
            assert!(is_cut(&answer) && answer.len() <= room && answer.len() > room - 16);
            assert_eq!(answer[11], 1);
            assert_eq!(answer[answer.len() - 11..][..5], [0, 0, 41, 4, 208]);
            assert!(lifetimes(&answer).is_some());
        }
        // One that is broken off says nothing, and is no reason not to answer.
        query.truncate(plain + 5);
        assert_eq!(read(&query).unwrap().room, None);
    }

    #[test]
    fn reverse_names_are_addresses() {
        assert_eq!(reversed("2.0.18.172.in-addr.arpa"), Some("172.18.0.2".parse().unwrap()));
        let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reversed(v6), Some("fd00::2".parse().unwrap()));
        for wrong in ["", "in-addr.arpa", "1.2.3.in-addr.arpa", "x.ip6.arpa", "1.ip6.arpa", "example.org"] {
            assert_eq!(reversed(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = lifetimes(&bytes);
            if let Ok(question) = read(&bytes) {
                prop_assert!(question.end <= bytes.len() && question.name.len() <= 4 * MAX_NAME);
                let answer = answer(&bytes, Some(&question), Code::Fine, &[Record::A(Ipv4Addr::LOCALHOST)], 512);
                prop_assert!(belongs(&answer, &bytes, &question));
            }
        }
    }
}
