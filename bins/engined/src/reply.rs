//! Answers and their bodies: bytes that are there, or a stream whose head is sent before its first byte.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;

/// An answer.
pub(crate) type Response = http::Response<Body>;

/// The body of an answer.
pub(crate) enum Body {
    /// Bytes that are there.
    Full(Bytes),
    /// Bytes as they come; ends with the stream.
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    /// The same, and an error cuts the connection, so that nobody takes a part for the whole.
    Fallible(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl Body {
    /// The bytes when they are all there.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Full(bytes) => Some(bytes),
            Self::Stream(_) | Self::Fallible(_) => None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => f.debug_tuple("Full").field(bytes).finish(),
            Self::Stream(_) | Self::Fallible(_) => f.write_str("Stream"),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream) => {
                stream.poll_next_unpin(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Fallible(stream) => {
                stream.poll_next_unpin(context).map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) | Self::Fallible(_) => SizeHint::default(),
        }
    }
}

/// A status alone.
pub(crate) fn empty(status: StatusCode) -> Response {
    with_body(status, None, Body::Full(Bytes::new()))
}

/// A JSON document with a line end, as Go's encoder writes it.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    with_body(status, Some("application/json"), Body::Full(json_line(value)))
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    with_body(status, Some("text/plain; charset=utf-8"), Body::Full(text.into()))
}

/// A JSON document that somebody else wrote, as it is.
pub(crate) fn document(bytes: Vec<u8>) -> Response {
    with_body(StatusCode::OK, Some("application/json"), Body::Full(bytes.into()))
}

/// A stream. The head is sent at once.
pub(crate) fn stream(content_type: &'static str, stream: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    with_body(StatusCode::OK, Some(content_type), Body::Stream(Box::pin(stream)))
}

/// A stream that may break: then the connection is cut.
pub(crate) fn fallible_stream(
    content_type: &'static str,
    stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response {
    with_body(StatusCode::OK, Some(content_type), Body::Fallible(Box::pin(stream)))
}

/// A JSON array that is written item by item.
#[derive(Debug)]
pub(crate) struct JsonList(Vec<u8>);

impl JsonList {
    /// An array of about so many items.
    pub(crate) fn for_items(count: usize) -> Self {
        let mut bytes = Vec::with_capacity(64 + count.min(10_000) * 768);
        bytes.push(b'[');
        Self(bytes)
    }

    /// Adds an item.
    pub(crate) fn push<T: Serialize>(&mut self, item: &T) {
        self.separate();
        write_json(&mut self.0, item);
    }

    /// Adds an item, and tells its text.
    pub(crate) fn push_told<T: Serialize>(&mut self, item: &T) -> &[u8] {
        self.separate();
        let begin = self.0.len();
        write_json(&mut self.0, item);
        &self.0[begin..]
    }

    /// Adds an item whose text is known.
    pub(crate) fn push_text(&mut self, text: &[u8]) {
        self.separate();
        self.0.extend_from_slice(text);
    }

    fn separate(&mut self) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
    }

    /// The array as the answer.
    pub(crate) fn into_response(mut self) -> Response {
        self.0.extend_from_slice(b"]\n");
        with_body(StatusCode::OK, Some("application/json"), Body::Full(self.0.into()))
    }
}

/// A JSON document and a line end.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(512);
    write_json(&mut bytes, value);
    bytes.push(b'\n');
    bytes.into()
}

fn write_json<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    // The types of the API have string keys and no failing serializers.
    if let Err(error) = serde_json::to_writer(bytes, value) {
        tracing::error!(%error, "an answer could not be written as JSON");
    }
}

fn with_body(status: StatusCode, content_type: Option<&'static str>, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_json_array() {
        let text = |items: &[u8]| {
            let mut list = JsonList::for_items(items.len());
            for item in items {
                list.push(item);
                let told = list.push_told(item).to_vec();
                list.push_text(&told);
            }
            list.into_response().body().bytes().map(<[u8]>::to_vec)
        };
        assert_eq!(text(&[]).as_deref(), Some(&b"[]\n"[..]));
        assert_eq!(text(&[1, 2]).as_deref(), Some(&b"[1,1,1,2,2,2]\n"[..]));
    }
}
