//! Ways to a registry: straight, or through a proxy that settings name. A proxy sees the addresses of encrypted
//! connections and nothing of what is in them.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::Error;
use super::endpoint::is_within;
use crate::settings::ProxySettings;

/// The most that a proxy may answer before the way is open.
const MAX_ANSWER: usize = 8 << 10;

/// Which addresses are reached through which proxy.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<String>,
}

#[derive(Clone)]
struct Proxy {
    address: Uri,
    /// `Proxy-Authorization`.
    authorization: Option<String>,
    /// Of one that is spoken to by TLS.
    tls: Option<Arc<Tls>>,
}

/// How a proxy is spoken to by TLS; its certificates are read when it is first needed.
#[derive(Default)]
struct Tls {
    certificates: Option<PathBuf>,
    connector: OnceCell<TlsConnector>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.address)
    }
}

impl Proxies {
    pub(super) fn new(settings: &ProxySettings, certificates: Option<&Path>) -> Result<Self, Error> {
        let read = |text: &Option<String>| {
            text.as_deref().filter(|text| !text.is_empty()).map(|text| parse(text, certificates)).transpose()
        };
        Ok(Self { http: read(&settings.http)?, https: read(&settings.https)?, exceptions: settings.exceptions.clone() })
    }

    fn of(&self, uri: &Uri) -> Option<&Proxy> {
        let is_https = uri.scheme_str() == Some("https");
        let proxy = if is_https { &self.https } else { &self.http };
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        proxy.as_ref().filter(|_| !self.is_exception(uri.host().unwrap_or_default(), port))
    }

    /// What a request that a proxy passes on has to show to it.
    pub(super) fn authorization(&self, uri: &Uri) -> Option<&str> {
        self.of(uri)?.authorization.as_deref().filter(|_| uri.scheme_str() == Some("http"))
    }

    /// Whether a host is reached straight: the host itself always, and by the rules of `NO_PROXY`.
    fn is_exception(&self, host: &str, port: u16) -> bool {
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.exceptions.iter().map(|text| text.trim().to_ascii_lowercase()).any(|text| {
            if text == "*" {
                return true;
            }
            if let (Some(address), Some((base, length))) = (address, text.split_once('/')) {
                return is_within(address, base, length);
            }
            let (name, wanted) = match text.rsplit_once(':') {
                // An address of IPv6 has a port only behind brackets.
                Some((name, wanted)) if !name.contains(':') || name.ends_with(']') => (name, wanted.parse().ok()),
                _ => (text.as_str(), None),
            };
            let name = name.trim_matches(['[', ']']);
            if address.is_some() && address == name.parse().ok() {
                return wanted.is_none_or(|wanted: u16| wanted == port);
            }
            if name.is_empty() || wanted.is_some_and(|wanted| wanted != port) {
                return false;
            }
            let domain = name.trim_start_matches('*').trim_start_matches('.');
            let is_part = host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
            // `.example.com` stands for what is in it, `example.com` for itself as well.
            is_part && address.is_none() || (host == domain && !name.starts_with(['.', '*']))
        })
    }
}

impl Proxy {
    /// Greets the proxy at the other end of a new connection.
    async fn greet(&self, stream: TokioIo<TcpStream>) -> io::Result<Box<dyn Stream>> {
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let host = self.address.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let greeting = async {
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            tls.connector(&self.address).await?.connect(name, stream.into_inner()).await
        };
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("the proxy {}: {error}", self.address));
        Ok(Box::new(TokioIo::new(greeting.await.map_err(failed)?)))
    }
}

impl Tls {
    async fn connector(&self, address: &Uri) -> io::Result<&TlsConnector> {
        let host = address.authority().map(ToString::to_string).unwrap_or_default();
        let make = || async {
            let certificates = self.certificates.clone();
            let config = move || super::transport::config(certificates.as_deref(), &host, false);
            let config = tokio::task::spawn_blocking(config).await.map_err(io::Error::other)?;
            Ok(TlsConnector::from(Arc::new(config.map_err(io::Error::other)?)))
        };
        self.connector.get_or_try_init(make).await
    }
}

fn parse(text: &str, certificates: Option<&Path>) -> Result<Proxy, Error> {
    let refuse = |reason: &str| Error::Setting {
        // A password is nobody's business.
        value: text.rsplit('@').next().unwrap_or_default().to_owned(),
        reason: reason.to_owned(),
    };
    let text_with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = text_with_scheme.parse().map_err(|_| refuse("a proxy is an address such as http://proxy:3128"))?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
    let scheme =
        scheme.ok_or_else(|| refuse("only proxies that are spoken to by http:// or https:// are supported"))?;
    let authority = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or((None, authority.as_str()), |(user, host)| (Some(user), host));
    if host.is_empty() || host.starts_with(':') {
        return Err(refuse("a proxy has a host"));
    }
    let address = format!("{scheme}://{host}").parse().map_err(|_| refuse("a proxy has a host and a port"))?;
    let authorization = user.map(|user| format!("Basic {}", STANDARD.encode(unescaped(user))));
    let certificates = certificates.map(Path::to_owned);
    let tls = (scheme == "https").then(|| Arc::new(Tls { certificates, ..Tls::default() }));
    Ok(Proxy { address, authorization, tls })
}

/// Undoes percent encoding.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// Connects, straight or through a proxy.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) direct: HttpConnector,
    pub(super) proxies: Arc<Proxies>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Opened, Box<dyn std::error::Error + Send + Sync>>> + Send>>;

impl Service<Uri> for Way {
    type Response = Opened;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Opening;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Opening {
        let proxy = self.proxies.of(&uri).cloned();
        let is_https = uri.scheme_str() == Some("https");
        let opening = self.direct.call(proxy.as_ref().map_or_else(|| uri.clone(), |proxy| proxy.address.clone()));
        Box::pin(async move {
            let stream = opening.await?;
            let Some(proxy) = proxy else { return Ok(Opened { stream: Box::new(stream), forwards: false }) };
            let mut stream = proxy.greet(stream).await?;
            if is_https {
                let host = uri.host().unwrap_or_default();
                tunnel(&mut TokioIo::new(&mut *stream), host, uri.port_u16().unwrap_or(443), &proxy).await?;
            }
            Ok(Opened { stream, forwards: !is_https })
        })
    }
}

/// Has a proxy connect us to a host.
async fn tunnel<S>(stream: &mut S, host: &str, port: u16, proxy: &Proxy) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_ANSWER {
            return Err(io::Error::other(format!("the proxy {} answers without end", proxy.address)));
        }
        // One by one: what follows belongs to the host.
        answer.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&answer);
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') {
        return Ok(());
    }
    let line: String = head.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    Err(io::Error::other(format!("the proxy {} refuses: {line}", proxy.address)))
}

/// What bytes go over.
trait Stream: Read + Write + Unpin + Send {}

impl<T: Read + Write + Unpin + Send> Stream for T {}

/// A connection, to a registry or to a proxy that passes requests on.
pub(super) struct Opened {
    stream: Box<dyn Stream>,
    forwards: bool,
}

impl Connection for Opened {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.forwards)
    }
}

impl Read for Opened {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl Write for Opened {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn exceptions_are_those_of_no_proxy() {
        let exceptions = ["inner.example", ".sub.example", "*.star.example", "10.0.0.0/8", "host:5000"];
        let addresses = ["192.0.2.7", "192.0.2.8:81", "2001:DB8:0::1", "[2001:db8::2]:81", "[2001:db8::3]", "fd00::/8"];
        let settings = ProxySettings {
            https: Some("http://me:p%40ss@proxy:3128".to_owned()),
            exceptions: exceptions.iter().chain(&addresses).map(|text| (*text).to_owned()).collect(),
            ..ProxySettings::default()
        };
        let proxies = Proxies::new(&settings, None).unwrap();
        let goes = |address: &str| proxies.of(&address.parse().unwrap()).is_none();
        for straight in [
            "https://inner.example",
            "https://a.inner.example:5",
            "https://x.sub.example",
            "https://x.star.example",
            "https://10.1.2.3:5000",
            "https://host:5000",
            "https://localhost:5000",
            "https://127.0.0.1",
            "https://[::1]:5",
            "https://192.0.2.7:5",
            "https://192.0.2.8:81",
            "https://[2001:db8::1]",
            "https://[2001:db8::2]:81",
            "https://[2001:db8::3]:5",
            "https://[fd12::1]:5",
            // There is no proxy for these.
            "http://example.org",
        ] {
            assert!(goes(straight), "{straight}");
        }
        for through in [
            "https://example.org",
            "https://sub.example",
            "https://notinner.example",
            "https://11.0.0.1",
            "https://host",
            "https://192.0.2.8",
            "https://[2001:db8::2]",
            "https://[2001:db8::4]",
            "https://[fc00::1]",
        ] {
            assert!(!goes(through), "{through}");
        }
        let proxy = proxies.https.unwrap();
        assert_eq!(proxy.address, "http://proxy:3128");
        assert_eq!(proxy.authorization.unwrap(), format!("Basic {}", STANDARD.encode("me:p@ss")));
    }

    #[test]
    fn what_is_no_proxy_is_refused_and_no_password_is_shown() {
        let parse = |text| parse(text, None);
        for wrong in ["socks5://x", "http://", "http://:80", "http://a b", "https://"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let error = parse("ftp://me:secret@x").err().unwrap().to_string();
        assert!(!error.contains("secret"), "{error}");
        let plain = parse("proxy:80").unwrap();
        assert!(plain.address == "http://proxy:80" && plain.tls.is_none());
        let secure = parse("https://me:p@proxy").unwrap();
        assert!(secure.address == "https://proxy" && secure.tls.is_some());
    }

    #[tokio::test]
    async fn a_proxy_may_be_spoken_to_by_tls() {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let file = |name: &str| format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from_pem_file(file("server.crt")).unwrap()];
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            let mut asked = Vec::new();
            while asked.is_empty() {
                let (stream, _) = listener.accept().await.unwrap();
                // Who does not trust it goes.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                while !asked.ends_with(b"\r\n\r\n") {
                    asked.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
                stream.flush().await.unwrap();
            }
            String::from_utf8(asked).unwrap()
        });
        let settings = ProxySettings { https: Some(format!("https://u:p@{address}")), ..ProxySettings::default() };
        let open = async |certificates: Option<&Path>| {
            let proxies = Arc::new(Proxies::new(&settings, certificates).unwrap());
            let mut direct = HttpConnector::new();
            direct.enforce_http(false);
            Way { direct, proxies }.call("https://registry.example".parse().unwrap()).await
        };
        let certificates = tempfile::tempdir().unwrap();
        let own = certificates.path().join(address.to_string());
        std::fs::create_dir(&own).unwrap();
        let error = open(Some(certificates.path())).await.err().unwrap().to_string();
        assert!(error.contains("the proxy https://127.0.0.1:") && error.contains("certificate"), "{error}");
        std::fs::copy(file("ca.crt"), own.join("ca.crt")).unwrap();
        let mut rest = [0; 5];
        TokioIo::new(open(Some(certificates.path())).await.unwrap()).read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"hello");
        let asked = serve.await.unwrap();
        assert!(asked.starts_with("CONNECT registry.example:443 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("Proxy-Authorization: Basic dTpw\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_and_may_be_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in ["HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"]
            {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                asked.push(String::from_utf8(request).unwrap());
            }
            asked
        });
        let proxy = parse(&format!("http://u:p@{address}"), None).unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        tunnel(&mut stream, "registry.example", 443, &proxy).await.unwrap();
        let mut rest = [0; 5];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"hello");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let error = tunnel(&mut stream, "registry.example", 443, &proxy).await.unwrap_err();
        assert!(error.to_string().contains("407"), "{error}");
        let asked = serve.await.unwrap();
        assert!(asked[0].starts_with("CONNECT registry.example:443 HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked[0].contains("Proxy-Authorization: Basic dTpw\r\n"), "{asked:?}");
    }
}
