//! Answers that are compressed on their way, for clients that say so (`Accept-Encoding`, RFC 9110).

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};

/// How the bytes of an answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As they are.
    Identity,
    /// `gzip`.
    Gzip,
    /// `deflate`: without zlib's frame around it, as Docker sends it and clients expect it.
    Deflate,
}

impl Coding {
    /// What the client likes best; gzip among equals, and never what it did not name.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let values: Vec<&str> =
            headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).collect();
        let (mut best, mut most) = (Self::Identity, quality(&values, "identity", false).unwrap_or(0));
        for (coding, name) in [(Self::Deflate, "deflate"), (Self::Gzip, "gzip")] {
            let liked = quality(&values, name, true).unwrap_or(0);
            if liked > 0 && liked >= most {
                (best, most) = (coding, liked);
            }
        }
        best
    }

    /// The header that tells of it.
    pub(crate) fn header(self) -> Option<(header::HeaderName, HeaderValue)> {
        let name = match self {
            Self::Identity => return None,
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        };
        Some((header::CONTENT_ENCODING, HeaderValue::from_static(name)))
    }

    /// Writes a stream so. A piece at a time is compressed, on a thread that may be busy; an error of the stream ends it.
    pub(crate) fn written(
        self,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let encoder = match self {
            Self::Identity => return pieces.left_stream(),
            // Who waits for it would rather have it soon than as small as can be.
            Self::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Self::Deflate => Encoder::Deflate(DeflateEncoder::new(Vec::new(), Compression::fast())),
        };
        stream::try_unfold((pieces, Some(encoder)), |(mut pieces, encoder)| async move {
            let Some(mut encoder) = encoder else { return Ok(None) };
            loop {
                let Some(piece) = pieces.next().await.transpose()? else {
                    return Ok(Some((encoder.finish()?, (pieces, None))));
                };
                let compressed = tokio::task::spawn_blocking(move || {
                    let written = encoder.write(&piece);
                    written.map(|bytes| (encoder, bytes))
                });
                let bytes;
                (encoder, bytes) = compressed.await.map_err(io::Error::other)??;
                // Small pieces are gathered, and an empty one would be for nothing.
                if !bytes.is_empty() {
                    return Ok(Some((bytes, (pieces, Some(encoder)))));
                }
            }
        })
        .right_stream()
    }
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(DeflateEncoder<Vec<u8>>),
}

impl Encoder {
    /// Takes a piece, and gives what has come of it and of those before it.
    fn write(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let written = match self {
            Self::Gzip(encoder) => encoder.write_all(piece).map(|()| encoder.get_mut()),
            Self::Deflate(encoder) => encoder.write_all(piece).map(|()| encoder.get_mut()),
        };
        written.map(|bytes| std::mem::take(bytes).into())
    }

    fn finish(self) -> io::Result<Bytes> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
        }
        .map(Bytes::from)
    }
}

/// How much a coding is liked, in thousandths; where it is not named, `*` may stand for it.
fn quality(values: &[&str], name: &str, by_star: bool) -> Option<u32> {
    let mut star = None;
    for entry in values.iter().flat_map(|value| value.split(',')) {
        let (coding, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        let coding = coding.trim();
        if coding.eq_ignore_ascii_case(name) {
            return thousandths(parameters);
        }
        if by_star && coding == "*" {
            star = star.or(thousandths(parameters));
        }
    }
    star
}

/// `q=0.5`, or nothing, which is 1. What is not sound counts as not named.
fn thousandths(parameters: &str) -> Option<u32> {
    let parameters = parameters.trim();
    if parameters.is_empty() {
        return Some(1000);
    }
    let (name, value) = parameters.split_once('=')?;
    let value: f32 = value.trim().parse().ok().filter(|value| (0.0..=1.0).contains(value))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    name.trim().eq_ignore_ascii_case("q").then_some((value * 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use super::*;

    fn wanted(values: &[&str]) -> Coding {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        Coding::wanted(&headers)
    }

    #[test]
    fn the_client_decides() {
        for (values, expected) in [
            (&[][..], Coding::Identity),
            (&[""], Coding::Identity),
            (&["gzip"], Coding::Gzip),
            (&["gzip, deflate"], Coding::Gzip),
            (&["deflate, gzip, br, zstd"], Coding::Gzip),
            (&["br", "GZip ; q=0.8"], Coding::Gzip),
            (&["deflate"], Coding::Deflate),
            (&["deflate, gzip;q=0.5"], Coding::Deflate),
            (&["*"], Coding::Gzip),
            (&["*, gzip;q=0"], Coding::Deflate),
            (&["gzip, identity"], Coding::Gzip),
            (&["gzip;q=0.5, identity;q=0.8"], Coding::Identity),
            (&["br"], Coding::Identity),
            (&["gzip;q=0"], Coding::Identity),
            (&["*;q=0"], Coding::Identity),
            (&["gzip;q=2", "gzip;q=x", "gzip;x", "gzip;l=1"], Coding::Identity),
        ] {
            assert_eq!(wanted(values), expected, "{values:?}");
        }
    }

    async fn through(coding: Coding, pieces: Vec<io::Result<Bytes>>) -> Vec<io::Result<Bytes>> {
        coding.written(stream::iter(pieces)).collect().await
    }

    #[tokio::test]
    async fn what_is_compressed_is_what_was_sent() {
        let pieces = || (0..40u8).map(|piece| Ok(vec![piece; 100_000].into())).collect::<Vec<io::Result<Bytes>>>();
        let plain: Vec<u8> = pieces().into_iter().flat_map(Result::unwrap).collect();
        for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate] {
            let sent = through(coding, pieces()).await;
            let sent: Vec<u8> = sent.into_iter().flat_map(Result::unwrap).collect();
            let mut back = Vec::new();
            let read = match coding {
                Coding::Identity => (&sent[..]).read_to_end(&mut back),
                Coding::Gzip => flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut back),
                Coding::Deflate => flate2::read::DeflateDecoder::new(&sent[..]).read_to_end(&mut back),
            };
            assert_eq!(read.unwrap(), plain.len());
            assert!(back == plain && (coding == Coding::Identity || sent.len() < plain.len() / 50), "{coding:?}");
        }
        // An empty archive has a frame all the same.
        let sent = through(Coding::Gzip, Vec::new()).await.into_iter().map(Result::unwrap).collect::<Vec<_>>().concat();
        assert_eq!(flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut Vec::new()).unwrap(), 0);
    }

    #[tokio::test]
    async fn what_breaks_off_has_no_end() {
        let pieces = vec![Ok(vec![b'x'; 4 << 20].into()), Err(io::Error::other("lost")), Ok(Bytes::from("more"))];
        let sent = through(Coding::Gzip, pieces).await;
        assert_eq!(sent.last().unwrap().as_ref().unwrap_err().to_string(), "lost");
        let sent: Vec<u8> = sent.into_iter().filter_map(Result::ok).flatten().collect();
        assert!(flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut Vec::new()).is_err());
    }
}
