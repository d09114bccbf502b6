//! `GET /containers/{id}/logs`

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::logs::LogOptions;

use crate::convert::time;
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::stream::logs::{Format, bytes};
use crate::version::Gates;

pub(crate) async fn logs(call: Call) -> Result<Response, Error> {
    let query = &call.query;
    let mut options = LogOptions::default();
    options.stdout = query.boolean("stdout");
    options.stderr = query.boolean("stderr");
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    options.follow = query.boolean("follow");
    options.timestamps = query.boolean("timestamps");
    options.since = time::parse("since", query.text("since"))?;
    options.until = time::parse("until", query.text("until"))?;
    // Everything that is no number means all.
    options.tail = query.text("tail").parse().ok();
    let container = call.daemon.engine.containers().get(&call.name).await?;
    let framed = !container.record().config.tty;
    let details = if query.boolean("details") { Some(details(&container.log_details()?)) } else { None };
    let format = Format { framed, details, timestamps: options.timestamps };
    let lines = container.logs(options)?;
    let content_type = if framed && call.version.names_multiplexed_streams() {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    };
    Ok(reply::stream(content_type, bytes(lines, format)))
}

/// `name=value` by name, as in a query, and a space.
fn details(attributes: &BTreeMap<String, String>) -> Bytes {
    let pairs: Vec<_> =
        attributes.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    Bytes::from(pairs.join(",") + " ")
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            b' ' => escaped.push('+'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_escaped_and_in_order() {
        let attributes = BTreeMap::from([("b", "x y/1"), ("a", "1")]);
        let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(&details(&attributes)[..], b"a=1,b=x+y%2F1 ");
        assert_eq!(&details(&BTreeMap::new())[..], b" ");
    }
}
