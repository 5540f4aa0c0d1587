//! Rotating files of lines: `NAME-000001.jsonl`, `NAME-000002.jsonl`, …
//!
//! - What [`LineLog::append`] returned for is synced; a line is in one file, whole.
//! - After a crash the last file goes on behind its last whole line; the torn rest is cut off. A power cut may keep the end of an
//!   append and lose its start, which then reads as zeros; lines hold no zeros, so what is behind the first one is cut off too.
//! - A file that somebody has removed or moved away gets no line more: what is appended goes to a new one, whose number goes on.
//! - The oldest files beyond `files_max` are deleted: collect them before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One append is no longer: what it is made of is read by [`super::READ_MAX`] bytes, as records that each get an envelope.
const APPEND_MAX: u64 = 1 << 20;
/// Read at once.
const CHUNK: usize = 64 * 1024;
/// New files in one append, because the last was taken away while it was written.
const TAKEN_MAX: u32 = 3;

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
        if !lines.is_empty() && !self.is_there() {
            self.begin_anew()?;
        }
        let mut taken = 0;
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
            if !self.is_there() {
                // It went meanwhile, with the lines or before them: written twice is known upstream by the sequence.
                taken += 1;
                if TAKEN_MAX <= taken {
                    return Err(io::Error::other("its files are taken away while they are written"));
                }
                self.begin_anew()?;
                continue;
            }
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

    /// Whether the open file is the one that has its name.
    fn is_there(&self) -> bool {
        let named = fs::metadata(self.path());
        let named = named.and_then(|named| Ok((named, self.file.metadata()?)));
        named.is_ok_and(|(named, open)| (named.dev(), named.ino()) == (open.dev(), open.ino()))
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let gone = self.path();
        self.rotate()?;
        log::warn!(
            "{} was removed or moved while it was written; lines go on in {}. Take the newest file never, or only when the gateway \
             does not run",
            gone.display(),
            self.path().display()
        );
        Ok(())
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
    fn a_file_that_was_taken_away_gets_no_line_and_the_next_number_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        let mut log = LineLog::open(&own, "up", 100, 9).unwrap();
        log.append(b"1\n").unwrap();
        // Moved away, as by a collector; what it has is whole.
        fs::rename(own.join("up-000001.jsonl"), dir.path().join("collected")).unwrap();
        log.append(b"2\n").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("collected")).unwrap(), "1\n");
        assert_eq!(files(&own), [("up-000002.jsonl".to_owned(), "2\n".to_owned())]);
        // Removed.
        fs::remove_file(own.join("up-000002.jsonl")).unwrap();
        log.append(b"3\n").unwrap();
        // Another in its place.
        fs::remove_file(own.join("up-000003.jsonl")).unwrap();
        fs::write(own.join("up-000003.jsonl"), "theirs\n").unwrap();
        log.append(b"4\n").unwrap();
        let want = [("up-000003.jsonl", "theirs\n"), ("up-000004.jsonl", "4\n")];
        assert_eq!(files(&own), want.map(|(name, text)| (name.to_owned(), text.to_owned())));
        // The folder with all.
        fs::remove_dir_all(&own).unwrap();
        log.append(b"5\n").unwrap();
        assert_eq!(files(&own), [("up-000005.jsonl".to_owned(), "5\n".to_owned())]);
        // A folder that cannot be made is an error, and nothing counts as written.
        fs::remove_dir_all(&own).unwrap();
        fs::write(&own, "").unwrap();
        assert!(log.append(b"6\n").is_err());
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
