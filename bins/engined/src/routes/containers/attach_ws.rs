//! `GET /containers/{id}/attach/ws`

use std::os::unix::net::UnixStream as StdUnixStream;

use engine::container::Attached;
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::attach::prepare;
use crate::error::Error;
use crate::router::Call;
use crate::stream::hijack::{Client, Head, Outcome};
use crate::stream::websocket::{Frames, Kind, Said, accept, frame};
use crate::version::Gates;

/// How much is read at once.
const CHUNK: usize = 16 << 10;

/// The container's streams as binary messages (as text to old clients); what comes in messages of any kind is its input.
pub(crate) async fn attach(call: Call) -> Result<Outcome, Error> {
    let key = key(&call.headers)?;
    let (container, mut options) = prepare(&call).await?;
    if !call.version.chooses_streams_of_sockets() {
        (options.stdin, options.stdout, options.stderr) = (container.record().config.open_stdin, true, true);
    }
    let kind = if call.version.sends_binary_frames() { Kind::Binary } else { Kind::Text };
    // Connected before the answer: only then may the client start the container.
    let attached = container.attach(options).await?;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept(&key)
    );
    Ok(Outcome::Taken(Box::new(move |client| {
        Box::pin(async move {
            if let Err(error) = pump(client, &head, attached, kind).await {
                tracing::debug!(container = %container.id(), %error, "a client left its WebSocket");
            }
        })
    })))
}

fn key(headers: &HeaderMap) -> Result<String, Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let upgrades = text("upgrade").eq_ignore_ascii_case("websocket");
    if !upgrades || text("sec-websocket-key").is_empty() || text("sec-websocket-version") != "13" {
        return Err(Error::invalid("this request needs a WebSocket handshake of version 13"));
    }
    Ok(text("sec-websocket-key").to_owned())
}

async fn pump(client: Client, head: &str, attached: Attached, kind: Kind) -> std::io::Result<()> {
    let (socket, preface) = client.answer(&Head::plain(head)).await?;
    let (mut from_client, to_client) = UnixStream::from_std(StdUnixStream::from(socket))?.into_split();
    let to_client = Mutex::new(to_client);
    let (mut output, mut input) = tokio::io::split(attached);
    let outward = async {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = output.read(&mut chunk).await?;
            if count == 0 {
                // 1000: it is over as it should be.
                return to_client.lock().await.write_all(&frame(Kind::Close, &1000_u16.to_be_bytes())).await;
            }
            to_client.lock().await.write_all(&frame(kind, &chunk[..count])).await?;
        }
    };
    let inward = async {
        let mut frames = Frames::default();
        let mut chunk = vec![0; CHUNK];
        let mut come = preface.to_vec();
        loop {
            for said in frames.feed(&come).map_err(std::io::Error::other)? {
                match said {
                    Said::Data(bytes) => input.write_all(&bytes).await?,
                    Said::Ping(bytes) => to_client.lock().await.write_all(&frame(Kind::Pong, &bytes)).await?,
                    Said::Close => {
                        return to_client.lock().await.write_all(&frame(Kind::Close, &1000_u16.to_be_bytes())).await;
                    }
                }
            }
            let count = from_client.read(&mut chunk).await?;
            if count == 0 {
                return Ok(());
            }
            come.clear();
            come.extend_from_slice(&chunk[..count]);
        }
    };
    tokio::select! {
        ended = outward => ended,
        ended = inward => ended,
    }
}
