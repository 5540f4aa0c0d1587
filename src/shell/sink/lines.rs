//! Rotating files of lines: `NAME-000001.jsonl`, `NAME-000002.jsonl`, …
//!
//! - What [`LineLog::append`] returned for is synced; a line is in one file, whole.
//! - After a crash the last file goes on behind its last whole line; the torn rest is cut off. A power cut may keep the end of an
//!   append and lose its start, which then reads as zeros; lines hold no zeros, so what is behind the first one is cut off too.
//! - The oldest files beyond `files_max` are deleted: collect them before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// One append is no longer: what it is made of is read by [`super::READ_MAX`] bytes, as records that each get an envelope.
const APPEND_MAX: u64 = 1 << 20;
/// Read at once.
const CHUNK: usize = 64 * 1024;

/// The files of one sink.
#[derive(Debug)]
pub struct LineLog {
    dir: PathBuf,
    name: String,
    bytes_max: u64,
    files_max: u32,
    number: u64,
    file: File,
    len: u64,
}

impl LineLog {
    /// Opens or makes the folder and its newest file.
    pub fn open(dir: &Path, name: &str, bytes_max: u64, files_max: u32) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let number = numbers(dir, name)?.into_iter().max().unwrap_or(1);
        let (file, len) = open_file(dir, name, number)?;
        let mut log = Self { dir: dir.to_owned(), name: name.to_owned(), bytes_max, files_max, number, file, len };
        log.cut_torn_line()?;
        log.delete_oldest()?;
        Ok(log)
    }

    /// Appends lines, each with its `\n`, and syncs. On an error nothing of them counts: the file is cut back.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let outcome = self.append_unchecked(lines);
        if outcome.is_err() {
            // A full disk leaves half a line; should the cut fail as well, the next open does it.
            let cut = self.file.set_len(self.len);
            log::debug!("{}: cut back after a failed write: {cut:?}", self.path().display());
        }
        outcome
    }

    fn append_unchecked(&mut self, mut lines: &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            let room = usize::try_from(self.bytes_max.saturating_sub(self.len)).unwrap_or(usize::MAX);
            let mut fits = whole_lines(lines, room);
            if fits == 0 && self.len > 0 {
                self.rotate()?;
                continue;
            }
            if fits == 0 {
                // A line longer than a file has one of its own.
                fits = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1);
            }
            let (now, later) = lines.split_at(fits);
            self.file.write_all(now)?;
            self.file.sync_data()?;
            self.len += now.len() as u64;
            lines = later;
        }
        Ok(())
    }

    /// The newest file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path(&self.dir, &self.name, self.number)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let (file, len) = open_file(&self.dir, &self.name, self.number + 1)?;
        self.number += 1;
        (self.file, self.len) = (file, len);
        self.delete_oldest()
    }

    fn delete_oldest(&self) -> io::Result<()> {
        for number in numbers(&self.dir, &self.name)? {
            if number + u64::from(self.files_max.max(1)) <= self.number {
                fs::remove_file(path(&self.dir, &self.name, number))?;
            }
        }
        Ok(())
    }

    /// Where a hole begins in what the last append may have written.
    fn first_zero(&mut self, chunk: &mut [u8]) -> io::Result<Option<u64>> {
        let mut at = self.len.saturating_sub(APPEND_MAX);
        self.file.seek(SeekFrom::Start(at))?;
        while at < self.len {
            let part = &mut chunk[..usize::try_from((self.len - at).min(CHUNK as u64)).unwrap_or(0)];
            self.file.read_exact(part)?;
            if let Some(zero) = part.iter().position(|byte| *byte == 0) {
                return Ok(Some(at + zero as u64));
            }
            at += part.len() as u64;
        }
        Ok(None)
    }

    fn cut_torn_line(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let mut whole = self.first_zero(&mut chunk)?.unwrap_or(self.len);
        while whole > 0 {
            let start = whole.saturating_sub(chunk.len() as u64);
            let part = &mut chunk[..usize::try_from(whole - start).unwrap_or(0)];
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(part)?;
            if let Some(end) = part.iter().rposition(|byte| *byte == b'\n') {
                whole = start + end as u64 + 1;
                break;
            }
            whole = start;
        }
        if whole < self.len {
            log::warn!("{}: {} bytes of a torn line cut off", self.path().display(), self.len - whole);
            self.file.set_len(whole)?;
            self.file.sync_data()?;
            self.len = whole;
        }
        Ok(())
    }
}

/// Length of the whole lines within the first `room` bytes.
fn whole_lines(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    lines[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn path(dir: &Path, name: &str, number: u64) -> PathBuf {
    dir.join(format!("{name}-{number:06}.jsonl"))
}

fn numbers(dir: &Path, name: &str) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file_name = entry?.file_name();
        let number: Option<u64> = file_name
            .to_str()
            .and_then(|text| text.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".jsonl")?.parse().ok());
        found.extend(number);
    }
    Ok(found)
}

/// Opens for appending; a new file's name is synced into its folder.
fn open_file(dir: &Path, name: &str, number: u64) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path(dir, name, number))?;
    File::open(dir)?.sync_all()?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<(String, String)> {
        let mut found: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
            .collect();
        found.sort();
        found
    }

    fn check(before: &[(&str, &str)], bytes_max: u64, files_max: u32, appends: &[&str], after: &[(&str, &str)]) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in before {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let mut log = LineLog::open(dir.path(), "up", bytes_max, files_max).unwrap();
        for lines in appends {
            log.append(lines.as_bytes()).unwrap();
        }
        let want: Vec<_> = after.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(files(dir.path()), want);
    }

    #[test]
    fn a_file_is_closed_before_the_line_that_would_pass_its_size() {
        check(
            &[],
            8,
            9,
            &["one\ntwo\n", "three\nfour\n", "a line that is longer than a file\n", "x\n"],
            &[
                ("up-000001.jsonl", "one\ntwo\n"),
                ("up-000002.jsonl", "three\n"),
                ("up-000003.jsonl", "four\n"),
                ("up-000004.jsonl", "a line that is longer than a file\n"),
                ("up-000005.jsonl", "x\n"),
            ],
        );
    }

    #[test]
    fn the_last_file_goes_on_behind_its_last_whole_line() {
        check(
            &[("up-000001.jsonl", "a\n"), ("up-000002.jsonl", "b\ntorn"), ("other-000009.jsonl", "not ours")],
            100,
            9,
            &["c\n"],
            &[("other-000009.jsonl", "not ours"), ("up-000001.jsonl", "a\n"), ("up-000002.jsonl", "b\nc\n")],
        );
        let hole = format!("b\nto{}rn\nc\n", "\0".repeat(6000));
        check(&[("up-000001.jsonl", &hole)], 100, 9, &["d\n"], &[("up-000001.jsonl", "b\nd\n")]);
        let long = "x".repeat(10_000);
        check(&[("up-000001.jsonl", &long)], 100, 9, &["c\n"], &[("up-000001.jsonl", "c\n")]);
    }

    #[test]
    fn the_oldest_files_make_room() {
        check(
            &[("up-000001.jsonl", "1\n"), ("up-000002.jsonl", "2\n"), ("up-000003.jsonl", "3\n")],
            2,
            2,
            &["4\n5\n"],
            &[("up-000004.jsonl", "4\n"), ("up-000005.jsonl", "5\n")],
        );
    }
}
