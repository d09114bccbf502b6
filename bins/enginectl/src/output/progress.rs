//! The progress of pull and load: one line a layer with a bar and a rate on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use engine_api::progress::{ProgressDetail, ProgressLine};
use hyper::body::Incoming;

use crate::client::lines;
use crate::error::Error;
use crate::output::{size, table};

/// Between two drawings.
const REDRAW: Duration = Duration::from_millis(66);

/// Shows a progress stream until its end. The daemon's failure in it is an error.
pub(crate) async fn show(body: Incoming, mut screen: Screen<'_>) -> Result<(), Error> {
    lines::read(body, "the daemon's progress", |some| {
        for line in some {
            screen.line(parse(line)?)?;
        }
        Ok(())
    })
    .await?;
    screen.finish()
}

fn parse(line: &[u8]) -> Result<ProgressLine, Error> {
    engine_api::json::from_slice(line)
        .map_err(|error| Error::Protocol(format!("the daemon's progress is not understood: {error}")))
}

/// Where progress is drawn.
pub(crate) struct Screen<'a> {
    out: &'a mut dyn Write,
    /// Rows and columns of a terminal.
    terminal: Option<(u16, u16)>,
    only_results: bool,
    rows: Vec<Row>,
    by_id: BTreeMap<String, usize>,
    drawn: usize,
    last_drawing: Option<Instant>,
    dirty: bool,
}

struct Row {
    id: String,
    status: String,
    detail: ProgressDetail,
    began: Instant,
}

impl Row {
    fn is_done(&self) -> bool {
        matches!(
            self.status.as_str(),
            "Pull complete" | "Already exists" | "Download complete" | "Pushed" | "Layer already exists"
        )
    }
}

impl<'a> Screen<'a> {
    /// A screen; without the size of a terminal it is plain lines.
    pub(crate) fn new(out: &'a mut dyn Write, terminal: Option<(u16, u16)>) -> Self {
        Self {
            out,
            terminal,
            only_results: false,
            rows: Vec::new(),
            by_id: BTreeMap::new(),
            drawn: 0,
            last_drawing: None,
            dirty: false,
        }
    }

    /// Shows only what came out, not how far it is.
    pub(crate) fn only_results(mut self, only: bool) -> Self {
        self.only_results = only;
        self
    }

    fn line(&mut self, line: ProgressLine) -> Result<(), Error> {
        if let Some(detail) = line.error_detail {
            self.finish()?;
            return Err(Error::Protocol(detail.message));
        }
        if !line.error.is_empty() {
            self.finish()?;
            return Err(Error::Protocol(line.error));
        }
        if !line.stream.is_empty() {
            self.finish()?;
            return self.write(&line.stream);
        }
        if line.status.is_empty() || self.only_results {
            return Ok(());
        }
        let detail = line.progress_detail.unwrap_or_default();
        let counted = detail.current > 0 || detail.total > 0;
        match (self.terminal, line.id.is_empty()) {
            (_, true) => {
                self.finish()?;
                self.write(&format!("{}\n", line.status))
            }
            (None, false) if counted => Ok(()),
            (None, false) => self.write(&format!("{}: {}\n", line.id, line.status)),
            (Some(_), false) => {
                self.update(line.id, line.status, detail);
                self.draw(false)
            }
        }
    }

    fn update(&mut self, id: String, status: String, detail: ProgressDetail) {
        self.dirty = true;
        let now = Instant::now();
        match self.by_id.get(&id).and_then(|at| self.rows.get_mut(*at)) {
            Some(row) => {
                if row.status != status {
                    row.began = now;
                    row.status = status;
                }
                row.detail = detail;
            }
            None => {
                self.by_id.insert(id.clone(), self.rows.len());
                self.rows.push(Row { id, status, detail, began: now });
            }
        }
    }

    /// Draws the rows over the ones drawn before, unless that was a moment ago.
    fn draw(&mut self, last: bool) -> Result<(), Error> {
        let Some((height, width)) = self.terminal else { return Ok(()) };
        let now = Instant::now();
        if !self.dirty || (!last && self.last_drawing.is_some_and(|then| now - then < REDRAW)) {
            return Ok(());
        }
        self.last_drawing = Some(now);
        self.dirty = false;
        let room = usize::from(height).saturating_sub(1).max(1);
        let mut hidden = self.rows.len().saturating_sub(if last { usize::MAX } else { room });
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        let mut drawn = 0;
        for row in &self.rows {
            // What is done makes room for what is not; if that is not enough the last ones wait.
            if hidden > 0 && row.is_done() {
                hidden -= 1;
                continue;
            }
            if drawn == room && !last {
                break;
            }
            text.push_str(&format!(
                "\x1b[2K{}\r\n",
                table::cut(&table::printable(&describe(row, now)), usize::from(width))
            ));
            drawn += 1;
        }
        text.push_str("\x1b[0J");
        self.drawn = drawn;
        self.write(&text)
    }

    /// Draws what is left, and goes on below.
    fn finish(&mut self) -> Result<(), Error> {
        self.draw(true)?;
        self.rows.clear();
        self.by_id.clear();
        self.drawn = 0;
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        self.out.write_all(text.as_bytes()).map_err(Error::io("show the progress"))
    }
}

fn describe(row: &Row, now: Instant) -> String {
    let ProgressDetail { current, total, hidecounts, ref units, .. } = row.detail;
    let mut text = format!("{}: {}", row.id, row.status);
    if current <= 0 && total <= 0 {
        return text;
    }
    if total > 0 {
        text.push_str(&format!(" {}", bar(current, total)));
    }
    if hidecounts {
        return text;
    }
    let amount = |number: i64| if units.is_empty() { size::decimal(number) } else { format!("{number} {units}") };
    text.push_str(&format!("  {}", amount(current)));
    if total > 0 && current <= total {
        text.push_str(&format!("/{}", amount(total)));
    }
    let seconds = (now - row.began).as_secs_f64();
    if units.is_empty() && seconds > 0.3 && current > 0 {
        text.push_str(&format!("  {}/s", size::short((current as f64 / seconds) as i64)));
    }
    text
}

/// Fifty characters of a bar.
fn bar(current: i64, total: i64) -> String {
    let done = usize::try_from(current.clamp(0, total) * 50 / total).unwrap_or(0);
    let head = if done < 50 { ">" } else { "" };
    format!("[{}{head}{}]", "=".repeat(done), " ".repeat(50 - done - head.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(text: &str, terminal: Option<(u16, u16)>) -> (String, Result<(), String>) {
        let mut out = Vec::new();
        let result = (|| {
            let mut screen = Screen::new(&mut out, terminal);
            for line in text.lines() {
                screen.line(parse(line.as_bytes())?)?;
            }
            screen.finish()
        })();
        (String::from_utf8(out).unwrap(), result.map_err(|error: Error| error.to_string()))
    }

    const PULL: &str = "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n\
        {\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"aaaaaaaaaaaa\"}\r\n\
        {\"status\":\"Downloading\",\"progressDetail\":{\"current\":500,\"total\":1000},\"id\":\"aaaaaaaaaaaa\"}\r\n\
        {\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"aaaaaaaaaaaa\"}\r\n\
        {\"status\":\"Digest: sha256:00\"}\r\n\
        {\"status\":\"Status: Downloaded newer image for busybox:latest\"}\r\n";

    #[test]
    fn plain_lines_without_a_terminal() {
        let (out, result) = run(PULL, None);
        result.unwrap();
        assert_eq!(
            out,
            "latest: Pulling from library/busybox\naaaaaaaaaaaa: Pulling fs layer\naaaaaaaaaaaa: Pull complete\n\
             Digest: sha256:00\nStatus: Downloaded newer image for busybox:latest\n"
        );
    }

    #[test]
    fn a_terminal_shows_each_layer_once_at_the_end() {
        let (out, result) = run(PULL, Some((24, 80)));
        result.unwrap();
        assert!(out.ends_with("Status: Downloaded newer image for busybox:latest\n"), "{out:?}");
        let last = out.rsplit("\x1b[1A").next().unwrap();
        assert!(last.contains("aaaaaaaaaaaa: Pull complete\r\n"), "{out:?}");
    }

    #[test]
    fn many_layers_fit_a_low_terminal() {
        let text: String = (0..30).map(|n| format!("{{\"status\":\"Waiting\",\"id\":\"{n:012}\"}}\n")).collect();
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, Some((10, 80)));
        for line in text.lines() {
            screen.line(parse(line.as_bytes()).unwrap()).unwrap();
        }
        screen.last_drawing = None;
        screen.draw(false).unwrap();
        assert_eq!(screen.drawn, 9);
    }

    #[test]
    fn failures_are_errors() {
        let (out, result) =
            run("{\"status\":\"x\"}\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\n", None);
        assert_eq!((out.as_str(), result), ("x\n", Err("no space".to_owned())));
        assert!(run("garbage\n", None).1.is_err());
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0, 10), format!("[>{}]", " ".repeat(49)));
        assert_eq!(bar(10, 10), format!("[{}]", "=".repeat(50)));
        assert_eq!(bar(5, 10), format!("[{}>{}]", "=".repeat(25), " ".repeat(24)));
        let row = Row {
            id: "a".to_owned(),
            status: "Downloading".to_owned(),
            detail: ProgressDetail { current: 1_500_000, total: 3_000_000, ..ProgressDetail::default() },
            began: Instant::now() - Duration::from_secs(1),
        };
        assert!(describe(&row, row.began + Duration::from_secs(1)).ends_with("  1.5MB/3MB  1.5MB/s"));
    }
}
