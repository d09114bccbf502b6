#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::io::Write as _;

use futures_util::StreamExt as _;

use super::*;

fn line(number: u32, output: &str) -> String {
    format!(
        "{{\"log\":\"line {number}\\n\",\"stream\":\"{output}\",\"time\":\"2026-01-01T00:00:{:02}.{:03}Z\"}}\n",
        number / 1000,
        number % 1000
    )
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.fold(String::new(), |mut text, number| {
        text += &line(number, if number % 2 == 0 { "stdout" } else { "stderr" });
        text
    })
}

struct Log {
    directory: tempfile::TempDir,
    running: state::Sender<bool>,
    watcher: Watcher,
}

impl Log {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Self { directory, running: state::Sender::new(true), watcher: Watcher::default() }
    }

    fn append(&self, text: &str) {
        let path = self.directory.path().join("log");
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rotate(&self) {
        std::fs::rename(self.directory.path().join("log"), self.directory.path().join("log.1")).unwrap();
    }

    fn read(&self, options: LogOptions) -> LogStream {
        read(self.directory.path(), "log", options, self.running.subscribe(), &self.watcher)
    }

    async fn text(&self, options: LogOptions) -> String {
        rest(self.read(options)).await
    }
}

async fn rest(mut stream: LogStream) -> String {
    let mut text = String::new();
    while let Some(line) = stream.next().await {
        text += std::str::from_utf8(&line.unwrap().bytes).unwrap();
    }
    text
}

fn plain(numbers: impl IntoIterator<Item = u32>) -> String {
    numbers.into_iter().fold(String::new(), |mut text, number| {
        writeln!(text, "line {number}").unwrap();
        text
    })
}

#[tokio::test]
async fn all_files_are_read_oldest_first() {
    let log = Log::new(&[("log.2", &lines(0..10)), ("log.1", &lines(10..20)), ("log", &lines(20..25))]);
    assert_eq!(log.text(LogOptions::default()).await, plain(0..25));
    let only = LogOptions { stderr: false, ..LogOptions::default() };
    assert_eq!(log.text(only).await, plain((0..25).step_by(2)));
}

#[tokio::test]
async fn a_reader_that_comes_in_the_midst_of_a_rotation_misses_no_file() {
    let all = [("log.3", lines(0..10)), ("log.2", lines(10..20)), ("log.1", lines(20..25)), ("log", lines(25..30))];
    let log = Log::new(&all.each_ref().map(|(name, text)| (*name, text.as_str())));
    // As the monitor does it: the oldest first.
    for number in (0..4).rev() {
        let name = |number: u32| if number == 0 { "log".to_owned() } else { format!("log.{number}") };
        let place = |number| log.directory.path().join(name(number));
        std::fs::rename(place(number), place(number + 1)).unwrap();
        assert_eq!(log.text(LogOptions::default()).await, plain(0..30), "{number}");
    }
}

#[tokio::test]
async fn the_tail_is_counted_over_files_and_blocks() {
    let log = Log::new(&[("log.1", &lines(0..3000)), ("log", &lines(3000..3005))]);
    for count in [0, 1, 4, 5, 6, 700, 2999, 3005] {
        let text = log.text(LogOptions::default().tail(count.into())).await;
        assert_eq!(text, plain(3005 - count..3005), "{count}");
    }
    assert_eq!(log.text(LogOptions::default().tail(9999)).await, plain(0..3005));
    assert_eq!(Log::new(&[]).text(LogOptions::default().tail(3)).await, "");
}

#[tokio::test]
async fn times_bound_what_is_read() {
    let log = Log::new(&[("log", &lines(0..5000))]);
    let start = 1_767_225_600_000_000_000;
    let options =
        LogOptions { since: Some(start + 1_500_000_000), until: Some(start + 1_502_000_000), ..LogOptions::default() };
    assert_eq!(log.text(options.clone()).await, plain(1500..1503));
    let text = log.text(options.timestamps(true).tail(4000)).await;
    assert!(text.starts_with("2026-01-01T00:00:01.500000000Z line 1500\n"), "{text}");
}

#[tokio::test]
async fn long_lines_are_joined_again() {
    let part = |text: &str, end: &str| {
        format!("{{\"log\":\"{text}{end}\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}}\n")
    };
    let long = format!("{}{}{}", line(1, "stdout"), part(&"x".repeat(16384), ""), part("y", "\\n"));
    let log = Log::new(&[("log", &long)]);
    let text = log.text(LogOptions::default().timestamps(true).tail(1)).await;
    assert_eq!(text.len(), 31 + 16384 + 2);
    assert_eq!(text.lines().count(), 1);
    assert_eq!(log.text(LogOptions::default().tail(2)).await.lines().count(), 2);
}

#[tokio::test]
async fn what_is_damaged_is_passed_over() {
    let text = format!(
        "{}garbage\n{{\"log\":\"x\\n\",\n{}{}",
        line(1, "stdout"),
        "z".repeat(600_000),
        &line(0, "stdout")[..9]
    );
    let log = Log::new(&[("log", &format!("{text}\n{}{{\"log\":\"half", line(2, "stdout")))]);
    assert_eq!(log.text(LogOptions::default()).await, plain(1..3));
}

#[tokio::test]
async fn following_goes_over_a_rotation_and_ends_with_the_container() {
    let log = Log::new(&[("log", &lines(0..10))]);
    let mut stream = log.read(LogOptions::default().follow(true).tail(2));
    let mut next = async |count: usize| {
        let mut text = String::new();
        for _ in 0..count {
            text += std::str::from_utf8(&stream.next().await.unwrap().unwrap().bytes).unwrap();
        }
        text
    };
    assert_eq!(next(2).await, plain(8..10));
    log.append(&lines(10..12));
    assert_eq!(next(2).await, plain(10..12));
    let whole = lines(12..13);
    log.append(&whole[..20]);
    log.append(&whole[20..]);
    log.append(&lines(13..14));
    log.rotate();
    log.append(&lines(14..16));
    assert_eq!(next(4).await, plain(12..16));
    log.append(&lines(16..17));
    log.running.send_replace(false);
    assert_eq!(next(1).await, plain(16..17));
    assert!(stream.next().await.is_none());
}

#[test]
fn what_was_written_between_a_look_and_a_rotation_is_read() {
    let log = Log::new(&[]);
    let whole = lines(0..1);
    log.append(&whole[..20]);
    let files = Files::open(log.directory.path(), "log").unwrap();
    let mut reader = Reader::open(files, LogOptions::default()).unwrap();
    assert!(reader.batch().unwrap().is_empty());
    log.append(&whole[20..]);
    // The end of a file cuts this one off.
    log.append(&lines(1..2)[..20]);
    log.rotate();
    log.append(&lines(2..3));
    assert!(reader.advance().unwrap());
    let mut text = String::new();
    loop {
        let batch = reader.batch().unwrap();
        if batch.is_empty() {
            break;
        }
        text.extend(batch.iter().map(|line| std::str::from_utf8(&line.bytes).unwrap()));
    }
    assert_eq!(text, plain(0..1) + &plain(2..3));
}

#[tokio::test]
async fn following_begins_before_there_is_a_log() {
    let log = Log::new(&[]);
    let mut stream = log.read(LogOptions::default().follow(true));
    tokio::task::yield_now().await;
    log.append(&lines(0..1));
    assert_eq!(&stream.next().await.unwrap().unwrap().bytes[..], b"line 0\n");
    log.running.send_replace(false);
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn a_log_that_is_no_file_is_an_error() {
    let log = Log::new(&[]);
    std::os::unix::fs::symlink("/etc/passwd", log.directory.path().join("log")).unwrap();
    let error = log.read(LogOptions::default()).next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn what_was_written_before_a_place_is_read_without_the_rest() {
    let log = Log::new(&[("log.1", &lines(0..2)), ("log", &lines(2..9))]);
    let offset = u64::try_from(lines(2..4).len()).unwrap();
    let stream = read_up_to(log.directory.path(), "log", LogOptions::default(), offset);
    assert_eq!(rest(stream).await, plain(0..4));
}

#[tokio::test]
async fn since_finds_its_place_in_long_files() {
    let log = Log::new(&[("log.2", &lines(0..9000)), ("log.1", &lines(9000..25_000)), ("log", &lines(25_000..55_000))]);
    log.running.send_replace(false);
    let second = 1_000_000_000;
    let begin = record::nanoseconds(b"2026-01-01T00:00:00Z").unwrap();
    for (since, first) in [(0, 0), (20, 20_000), (50, 50_000), (54, 54_000), (60, 55_000)] {
        let options = LogOptions { since: Some(begin + since * second), ..LogOptions::default() };
        let text = log.text(options).await;
        assert_eq!(text.lines().count(), 55_000 - first, "{since}");
        assert!(text.is_empty() || text.starts_with(&format!("line {first}\n")), "{since}");
    }
    // What is not asked for is not read either.
    let mut files = Files::open(log.directory.path(), "log").unwrap();
    let time_of = |line: &[u8]| record::Record::parse(line).and_then(|record| record::nanoseconds(record.time));
    files.seek_to_time(begin + 50 * second, time_of).unwrap();
    let mut left = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match files.read(&mut buffer).unwrap() {
            0 if !files.turn() => break,
            count => left += count,
        }
    }
    assert!(left < lines(48_000..55_000).len(), "{left}");
}

/// Packs all older files, and says how many.
fn pack_all(log: &Log) -> usize {
    let directory = log.directory.path();
    let mut packed = 0;
    while let Some(file) = pack::pack(directory, "log", pack::By::Packer).unwrap() {
        pack::place(directory, "log", &file).unwrap();
        packed += 1;
    }
    packed
}

#[tokio::test]
async fn packed_files_are_read_like_others() {
    let files = [("log.3", 0..2000), ("log.2", 2000..4000), ("log.1", 4000..4010), ("log", 4010..4020)];
    let files = files.map(|(name, numbers)| (name, lines(numbers)));
    let log = Log::new(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    assert_eq!(pack_all(&log), 3);
    assert!(log.directory.path().join("log.3.gz").exists() && !log.directory.path().join("log.3").exists());
    assert_eq!(log.text(LogOptions::default()).await, plain(0..4020));
    for count in [0, 9, 10, 11, 20, 21, 2019, 2021, 4019, 4020, 9999] {
        let text = log.text(LogOptions::default().tail(count.into())).await;
        assert_eq!(text, plain(4020_u32.saturating_sub(count)..4020), "{count}");
    }
    for since in [0, 1, 1999, 2000, 2001, 3999, 4015, 4019] {
        let base = 1_767_225_600_000_000_000;
        let options = LogOptions { since: Some(base + i64::from(since) * 1_000_000), ..LogOptions::default() };
        assert_eq!(log.text(options).await, plain(since as u32..4020), "{since}");
    }
}

#[tokio::test]
async fn a_file_that_is_packed_while_somebody_follows_is_read_once() {
    let log = Log::new(&[("log", &lines(0..3))]);
    let mut stream = log.read(LogOptions::default().follow(true));
    let mut text = String::new();
    let mut until = 0;
    for turn in 0..4 {
        let from = turn * 3;
        until = from + 3;
        while text.lines().count() < until as usize {
            text += std::str::from_utf8(&stream.next().await.unwrap().unwrap().bytes).unwrap();
        }
        for number in (1..4).rev() {
            for form in ["", ".gz"] {
                let from = log.directory.path().join(format!("log.{number}{form}"));
                let _ = std::fs::rename(from, log.directory.path().join(format!("log.{}{form}", number + 1)));
            }
        }
        log.rotate();
        assert_eq!(pack_all(&log), 1);
        // The inode of the one that was packed is free for it.
        log.append(&lines(until..until + 3));
    }
    log.running.send_replace(false);
    text += &rest(stream).await;
    assert_eq!(text, plain(0..until + 3));
}

#[tokio::test]
async fn a_damaged_packed_file_is_an_error_and_a_foreign_one_is_read() {
    use std::io::Write as _;
    let log = Log::new(&[("log.1", &lines(0..2000)), ("log", &lines(2000..2003))]);
    pack_all(&log);
    let packed = log.directory.path().join("log.1.gz");
    let whole = std::fs::read(&packed).unwrap();
    std::fs::write(&packed, &whole[..whole.len() / 2]).unwrap();
    let mut stream = log.read(LogOptions::default());
    let mut last = None;
    while let Some(line) = stream.next().await {
        last = Some(line);
    }
    assert!(last.unwrap().is_err());
    // As gzip itself makes it.
    let mut foreign = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    foreign.write_all(lines(0..2000).as_bytes()).unwrap();
    std::fs::write(&packed, foreign.finish().unwrap()).unwrap();
    assert_eq!(log.text(LogOptions::default()).await, plain(0..2003));
    assert_eq!(log.text(LogOptions::default().tail(2001)).await, plain(2..2003));
}
