//! Looking names up, by datagram and by connection.

use std::net::UdpSocket;

use super::custom::{make, on};
use super::*;
use crate::network::connect::endpoint_key;

const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);
/// So many that their addresses fit a connection and no datagram.
const MANY: u8 = 100;

/// A question for the addresses of a name, with room for an answer when it is asked by the extended protocol.
fn question(name: &str, room: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(room.is_some())];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    if let Some(room) = room {
        bytes.extend([0, 0, 41]);
        bytes.extend(room.to_be_bytes());
        bytes.extend([0; 6]);
    }
    bytes
}

/// The code of an answer, whether it was cut, and how many records it has.
fn told(answer: &[u8]) -> (u8, bool, usize) {
    assert_eq!(answer[..2], [7, 7]);
    (answer[3] & 15, answer[2] & 2 != 0, usize::from(u16::from_be_bytes([answer[6], answer[7]])))
}

fn by_datagram(who: &Container, query: &[u8]) -> Vec<u8> {
    let socket = in_network(who.namespace.as_fd(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.connect(RESOLVER).unwrap();
    socket.send(query).unwrap();
    let mut answer = vec![0; 65_535];
    let length = socket.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

fn connection(who: &Container) -> TcpStream {
    let stream = in_network(who.namespace.as_fd(), || TcpStream::connect(RESOLVER)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn next(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

#[tokio::test]
async fn an_answer_is_cut_to_the_room_there_is_and_whole_by_connection() {
    // The service needs the runtime while the container waits.
    tokio::task::spawn_blocking(cut_and_whole).await.unwrap();
}

fn cut_and_whole() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    let back = make(&machine, &networks, &NetworkSpec::new("back").internal(true)).unwrap();
    let container = Container::new(&networks);
    let own = on(&machine, &networks, &container, "back");
    networks.resolve_blocking(&container.id, &container.namespace, Vec::new()).unwrap();
    let many = |transaction: &mut Transaction<'_>| {
        for number in 0..MANY {
            let mut other = endpoint("back", &format!("10.200.0.{number}"));
            (other.network, other.names) = (back.id, vec!["many".to_owned()]);
            let key = endpoint_key(&other.container, &other.network);
            transaction.insert(Table::Endpoint, &key, &other)?;
        }
        Ok::<(), crate::state::Error>(())
    };
    networks.shared.state.write(Durability::Process, many).unwrap();
    for (room, longest) in [(None, 512), (Some(100), 512), (Some(900), 900), (Some(65_535), 1232)] {
        let answer = by_datagram(&container, &question("many", room));
        let (code, cut, count) = told(&answer);
        assert!(code == 0 && cut && answer.len() <= longest && answer.len() > longest - 16, "{room:?} {count}");
        assert_eq!(answer[11], u8::from(room.is_some()), "an answer has an option when the question has");
    }
    // Several on one connection, one after the other and all at once, in the order in which they were asked.
    let mut stream = connection(&container);
    stream.write_all(&framed(&question("many", None))).unwrap();
    assert_eq!(told(&next(&mut stream)), (0, false, usize::from(MANY)));
    let asked: Vec<u8> =
        ["many", "nobody.example"].repeat(50).iter().flat_map(|name| framed(&question(name, Some(512)))).collect();
    stream.write_all(&asked).unwrap();
    for _ in 0..50 {
        assert_eq!(told(&next(&mut stream)), (0, false, usize::from(MANY)));
        // An internal network does not ask outside, by connection either.
        assert_eq!(told(&next(&mut stream)), (2, false, 0));
    }
    assert_eq!(told(&by_datagram(&container, &question("nobody.example", Some(1232)))), (2, false, 0));
    // Nonsense ends its own connection only; one that says nothing is in nobody's way.
    let silent = connection(&container);
    let mut odd = connection(&container);
    odd.write_all(&framed(&[1, 2, 3])).unwrap();
    assert_eq!(odd.read(&mut [0; 1]).unwrap(), 0);
    stream.write_all(&framed(&question("many", None))).unwrap();
    assert_eq!(told(&next(&mut stream)), (0, false, usize::from(MANY)));
    drop((silent, own));
}

#[tokio::test]
async fn what_is_outside_is_asked_the_way_the_container_asks() {
    // The service needs the runtime while the container waits.
    tokio::task::spawn_blocking(asked_outside).await.unwrap();
}

fn asked_outside() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    make(&machine, &networks, &NetworkSpec::new("front")).unwrap();
    let container = Container::new(&networks);
    on(&machine, &networks, &container, "front");
    // A name server of the container's own, whose answers fit no datagram.
    let (udp, tcp) = in_network(container.namespace.as_fd(), || {
        Ok((UdpSocket::bind((Ipv4Addr::LOCALHOST, 53))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 53))?))
    })
    .unwrap();
    let server = std::thread::spawn(move || {
        let mut query = [0; 512];
        let (length, from) = udp.recv_from(&mut query).unwrap();
        let short = query[..length].to_vec();
        let mut answer = short.clone();
        answer[2] |= 0x82;
        udp.send_to(&answer, from).unwrap();
        let (mut stream, _) = tcp.accept().unwrap();
        let long = next(&mut stream);
        let mut answer = long.clone();
        answer[2] |= 0x80;
        answer.resize(60_000, 1);
        stream.write_all(&framed(&answer)).unwrap();
        (short, long)
    });
    networks.resolve_blocking(&container.id, &container.namespace, vec![Ipv4Addr::LOCALHOST.into()]).unwrap();
    let query = question("far.example", Some(1400));
    assert_eq!(told(&by_datagram(&container, &query)), (0, true, 0));
    let mut stream = connection(&container);
    stream.write_all(&framed(&query)).unwrap();
    let answer = next(&mut stream);
    assert_eq!((told(&answer), answer.len()), ((0, false, 0), 60_000));
    let (short, long) = server.join().unwrap();
    // The server sees the room that the container has; by datagram under a number that nobody guesses.
    assert_eq!((&short[2..], long), (&query[2..], query.clone()));
}

#[tokio::test]
async fn of_several_servers_the_first_that_knows_is_believed() {
    tokio::task::spawn_blocking(asked_one_after_the_other).await.unwrap();
}

fn asked_one_after_the_other() {
    let machine = Machine::new();
    let networks = machine.open(&machine.settings());
    make(&machine, &networks, &NetworkSpec::new("front")).unwrap();
    let container = Container::new(&networks);
    on(&machine, &networks, &container, "front");
    // Nobody listens at the first, the second cannot answer, and the third says that there is no such name.
    let servers = [2, 3, 4].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let open = |address| in_network(container.namespace.as_fd(), || UdpSocket::bind((address, 53))).unwrap();
    let sockets = [open(servers[1]), open(servers[2])];
    let answers = sockets.map(|socket| {
        std::thread::spawn(move || {
            let mut query = [0; 512];
            let (length, from) = socket.recv_from(&mut query).unwrap();
            let code = if socket.local_addr().unwrap().ip() == IpAddr::from([127, 0, 0, 3]) { 2 } else { 3 };
            let mut answer = query[..length].to_vec();
            answer[2] |= 0x80;
            answer[3] |= code;
            socket.send_to(&answer, from).unwrap();
        })
    });
    let servers = servers.map(IpAddr::from).to_vec();
    networks.resolve_blocking(&container.id, &container.namespace, servers).unwrap();
    assert_eq!(told(&by_datagram(&container, &question("far.example", None))), (3, false, 0));
    for answer in answers {
        answer.join().unwrap();
    }
}
