//! Progress: one JSON object a line. A failure before the first line has a status of its own; later it is the last line.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::{BufMut, Bytes, BytesMut};
use engine::image::{self, Progress, ProgressStream, Status, Task};
use engine_api::progress::{ProgressDetail, ProgressLine};
use futures_util::{Stream, stream};

use crate::error::Error;
use crate::reply::{self, Response};

/// Runs a task for as long as the client listens. `line` may keep news to itself.
pub(crate) async fn answer<T: Send + 'static>(
    task: Task<T>,
    line: impl Fn(Progress) -> Option<ProgressLine> + Send + Sync + 'static,
) -> Result<Response, Error> {
    let mut work = Work::new(task);
    let first = loop {
        match work.next().await {
            Some(Ok(news)) => {
                if let Some(line) = line(news) {
                    break Some(line);
                }
            }
            Some(Err(error)) => return Err(error.into()),
            None => break None,
        }
    };
    Ok(lines(work, first, line))
}

/// The same for a request whose failure is always the last line: clients look for it there. Nor is anything answered before
/// the first line: there are clients, skopeo for one, that take the beginning of the answer for the end of the work.
pub(crate) async fn answer_in_stream<T: Send + 'static>(
    task: Task<T>,
    line: impl Fn(Progress) -> Option<ProgressLine> + Send + Sync + 'static,
) -> Result<Response, Error> {
    let mut work = Work::new(task);
    let first = loop {
        match work.next().await {
            Some(Ok(news)) => {
                if let Some(line) = line(news) {
                    break Some(line);
                }
            }
            Some(Err(error)) => break Some(ProgressLine::failure(error.to_string())),
            None => break None,
        }
    };
    Ok(lines(work, first, line))
}

fn lines<T: Send + 'static>(
    work: Work<T>,
    first: Option<ProgressLine>,
    line: impl Fn(Progress) -> Option<ProgressLine> + Send + Sync + 'static,
) -> Response {
    let rest = stream::unfold((work, first, line), |(mut work, mut first, line)| async move {
        loop {
            if let Some(line_) = first.take() {
                return Some((encoded(&line_), (work, None, line)));
            }
            first = match work.next().await? {
                Ok(news) => line(news),
                Err(error) => Some(ProgressLine::failure(error.to_string())),
            };
        }
    });
    reply::stream("application/json", rest)
}

/// A task that is polled together with its progress.
struct Work<T> {
    task: Option<Task<T>>,
    progress: ProgressStream,
    failure: Option<image::Error>,
}

impl<T> Work<T> {
    fn new(mut task: Task<T>) -> Self {
        Self { progress: task.progress(), task: Some(task), failure: None }
    }

    /// The next news, all of it before a failure; None at the end.
    async fn next(&mut self) -> Option<Result<Progress, image::Error>> {
        poll_fn(|context| {
            if let Some(task) = &mut self.task
                && let Poll::Ready(result) = Pin::new(task).poll(context)
            {
                self.task = None;
                self.failure = result.err();
            }
            match Pin::new(&mut self.progress).poll_next(context) {
                Poll::Ready(Some(news)) => Poll::Ready(Some(Ok(news))),
                Poll::Pending if self.task.is_some() => Poll::Pending,
                Poll::Ready(None) if self.task.is_some() => Poll::Pending,
                _ => Poll::Ready(self.failure.take().map(Err)),
            }
        })
        .await
    }
}

/// Docker ends these lines as terminals do.
fn encoded(line: &ProgressLine) -> Bytes {
    let mut bytes = BytesMut::with_capacity(160).writer();
    if let Err(error) = serde_json::to_writer(&mut bytes, line) {
        tracing::error!(%error, "progress could not be written as JSON");
    }
    let mut bytes = bytes.into_inner();
    bytes.extend_from_slice(b"\r\n");
    bytes.freeze()
}

/// News of a pull, an import or a push.
pub(crate) fn moving(news: Progress) -> ProgressLine {
    if let Status::Result(pushed) = &news.status {
        let aux = serde_json::json!({"Tag": pushed.tag, "Digest": pushed.digest.to_string(), "Size": pushed.size});
        let detail = Some(ProgressDetail::default());
        return ProgressLine { progress_detail: detail, aux: Some(aux), ..ProgressLine::default() };
    }
    let status = news.status.to_string();
    let detail = match news.status {
        Status::Message(_) => None,
        Status::Downloading { current, total }
        | Status::Extracting { current, total }
        | Status::Compressing { current, total }
        | Status::Pushing { current, total } => Some(detail(current, total)),
        _ => Some(ProgressDetail::default()),
    };
    let progress = detail.as_ref().map(bar).unwrap_or_default();
    ProgressLine {
        status,
        progress_detail: detail,
        progress,
        id: news.id.unwrap_or_default(),
        ..ProgressLine::default()
    }
}

/// News of a load: clients read what was loaded from the text; the rest is for terminals.
pub(crate) fn loading(news: Progress, quiet: bool) -> Option<ProgressLine> {
    match (&news.id, &news.status) {
        (None, Status::Message(text)) => Some(ProgressLine::stream(format!("{text}\n"))),
        _ if quiet => None,
        _ => Some(moving(news)),
    }
}

fn detail(current: u64, total: u64) -> ProgressDetail {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    ProgressDetail { current: signed(current), total: signed(total), ..ProgressDetail::default() }
}

/// The bar that older clients print as it comes.
fn bar(detail: &ProgressDetail) -> String {
    let (current, total) = (detail.current.max(0), detail.total.max(0));
    if current == 0 && total == 0 {
        return String::new();
    }
    if total == 0 {
        return format!("{:>8}", size(current));
    }
    let filled = usize::try_from((i128::from(current) * 50 / i128::from(total)).min(50)).unwrap_or(50);
    let numbers =
        if current > total { format!("{:>8}", size(current)) } else { format!("{:>8}/{}", size(current), size(total)) };
    format!("[{}>{}] {numbers}", "=".repeat(filled), " ".repeat(50 - filled))
}

/// Bytes with four digits and a decimal unit, such as `1.234MB`.
fn size(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1000.0 {
        let Some(next) = units.next() else { break };
        value /= 1000.0;
        unit = next;
    }
    let decimals = if value >= 999.95 {
        0
    } else if value >= 99.995 {
        1
    } else if value >= 9.9995 {
        2
    } else {
        3
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(line: &ProgressLine) -> String {
        String::from_utf8(encoded(line).to_vec()).unwrap()
    }

    fn news(id: Option<&str>, status: Status) -> Progress {
        Progress { id: id.map(str::to_owned), status }
    }

    #[test]
    fn pulls_are_told_as_docker_tells_them() {
        assert_eq!(
            text(&moving(news(Some("3.10"), Status::Message("Pulling from library/alpine".into())))),
            "{\"status\":\"Pulling from library/alpine\",\"id\":\"3.10\"}\r\n"
        );
        assert_eq!(
            text(&moving(news(Some("0123456789ab"), Status::PullComplete))),
            "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"0123456789ab\"}\r\n"
        );
        let line = moving(news(Some("x"), Status::Downloading { current: 500, total: 1000 }));
        assert_eq!(line.progress, format!("[{}>{}]     500B/1kB", "=".repeat(25), " ".repeat(25)));
        assert_eq!(line.progress_detail.unwrap().total, 1000);
    }

    #[test]
    fn loads_are_told_in_the_words_that_clients_read() {
        let loaded = news(None, Status::Message("Loaded image: busybox:latest".into()));
        assert_eq!(text(&loading(loaded, true).unwrap()), "{\"stream\":\"Loaded image: busybox:latest\\n\"}\r\n");
        let layer = news(Some("x"), Status::Extracting { current: 1, total: 2 });
        assert_eq!(loading(layer.clone(), true), None);
        assert!(loading(layer, false).is_some());
    }

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234_567, "1.235MB"),
            (49_000_000, "49MB"),
            (123_456_789, "123.5MB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
