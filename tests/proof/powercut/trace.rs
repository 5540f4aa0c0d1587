//! What a run asked of the kernel, read from strace's record: every change of files and names, every sync, every byte sent to and
//! had from the broker, in the order in which they happened.
//!
//! - A write counts from its return on. A sync covers what had returned before the sync was called, and nothing else.
//! - `sync_file_range` promises nothing about a power cut, so here it does nothing.
//! - A call on the gateway's files that is not understood ends the reading: a record that leaves something out proves nothing.

use std::collections::BTreeMap;

/// System calls that are recorded: all that change a file, a name or a descriptor, and what goes over sockets.
pub const CALLS: &str = "open,openat,creat,close,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,\
    fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,lseek,dup,dup2,dup3,\
    fcntl,connect,sendto,recvfrom,sendmsg,recvmsg,readv,copy_file_range,sendfile,splice,sync,syncfs,io_uring_setup";

/// One thing that happened. Paths are relative to the gateway's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    MakeDir(String),
    /// A new file, or one that was emptied by creating it anew.
    Create(String),
    Write {
        path: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen(String, u64),
    Sync(String),
    SyncDir(String),
    Rename(String, String),
    Remove(String),
    /// To the broker.
    Sent(Vec<u8>),
    /// From the broker.
    Had(Vec<u8>),
}

/// A descriptor.
#[derive(Clone, Debug)]
enum Open {
    /// A file: its number, and where the next write goes.
    File {
        file: usize,
        at: u64,
        append: bool,
    },
    Dir(String),
    Broker,
}

/// Reads a record.
pub struct Reader<'a> {
    folder: &'a str,
    port: u16,
    open: BTreeMap<i64, Open>,
    /// Files by name.
    names: BTreeMap<String, usize>,
    /// Name (the present one) and length of each file.
    files: Vec<(String, u64)>,
    dirs: Vec<String>,
    /// What was called and has not returned, by thread.
    called: BTreeMap<&'a str, Called<'a>>,
    events: Vec<Option<Event>>,
}

struct Called<'a> {
    text: &'a str,
    /// The place of a sync among the events.
    slot: usize,
}

/// A file or folder that is there when the record begins.
pub enum Present {
    Dir(String),
    File(String, u64),
}

impl<'a> Reader<'a> {
    /// `folder` is the gateway's, `port` the broker's.
    pub fn new(folder: &'a str, port: u16, present: Vec<Present>) -> Self {
        let mut reader = Self {
            folder,
            port,
            open: BTreeMap::new(),
            names: BTreeMap::new(),
            files: Vec::new(),
            dirs: Vec::new(),
            called: BTreeMap::new(),
            events: Vec::new(),
        };
        for one in present {
            match one {
                Present::Dir(path) => reader.dirs.push(path),
                Present::File(path, len) => drop(reader.add(path, len)),
            }
        }
        reader
    }

    fn add(&mut self, path: String, len: u64) -> usize {
        self.files.push((path.clone(), len));
        self.names.insert(path, self.files.len() - 1);
        self.files.len() - 1
    }

    /// All that happened.
    pub fn read(mut self, text: &'a str) -> Result<Vec<Event>, String> {
        for line in text.lines() {
            self.line(line).map_err(|error| format!("{error}: {}", &line[..line.len().min(300)]))?;
        }
        Ok(self.events.into_iter().flatten().collect())
    }

    fn line(&mut self, line: &'a str) -> Result<(), String> {
        let (thread, rest) = line.split_once(' ').ok_or("no thread")?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            return Ok(());
        }
        if let Some(text) = rest.strip_suffix(" <unfinished ...>") {
            let slot = self.events.len();
            // Its number is free, and may be given away, before the call returns.
            if text.starts_with("close(") {
                self.call(&format!("{text}) = 0"))?;
            }
            if is_sync(text) {
                self.events.push(None);
            }
            self.called.insert(thread, Called { text, slot });
            return Ok(());
        }
        if rest.starts_with("<... ") {
            let called = self.called.remove(thread).ok_or("resumed, and never called")?;
            if called.text.starts_with("close(") {
                return Ok(());
            }
            let end = rest.split_once(" resumed>").ok_or("no end")?.1;
            let event = self.call(&format!("{}{end}", called.text))?;
            if is_sync(called.text) {
                self.events[called.slot] = event;
            } else {
                self.events.push(event);
            }
            return Ok(());
        }
        let event = self.call(rest)?;
        self.events.push(event);
        Ok(())
    }

    /// `name(arguments) = result`
    fn call(&mut self, text: &str) -> Result<Option<Event>, String> {
        let (name, rest) = text.split_once('(').ok_or("no call")?;
        let (arguments, result) = rest.rsplit_once(" = ").ok_or("no result")?;
        let arguments = arguments.trim_end().strip_suffix(')').ok_or("no end of the arguments")?;
        let result: i64 = match result.split_whitespace().next() {
            Some("?") => return Ok(None),
            Some(number) => number.parse().unwrap_or(0),
            None => return Err("no result".to_owned()),
        };
        let arguments: Vec<&str> = arguments.split(", ").collect();
        if name == "connect" {
            // In progress is as good: what is sent afterwards is sent.
            self.connect(&arguments);
            return Ok(None);
        }
        if result < 0 {
            return Ok(None);
        }
        let fd = || arguments[0].parse::<i64>().map_err(|_| "no descriptor".to_owned());
        match name {
            "open" | "creat" => Err(format!("{name}: unexpected")),
            "openat" => self.open(&arguments, result),
            "close" => {
                self.open.remove(&fd()?);
                Ok(None)
            }
            "dup" | "dup2" | "dup3" | "fcntl" => {
                if name != "fcntl" || arguments[1].starts_with("F_DUPFD") {
                    let same = self.open.get(&fd()?).cloned();
                    same.map(|same| self.open.insert(result, same));
                }
                Ok(None)
            }
            "write" | "sendto" | "pwrite64" => {
                let bytes = unescape(arguments[1])?;
                let offset = if name == "pwrite64" { Some(number(arguments[3])?) } else { None };
                self.write(fd()?, offset, bytes[..result as usize].to_vec())
            }
            "recvfrom" => match self.open.get(&fd()?) {
                Some(Open::Broker) => Ok(Some(Event::Had(unescape(arguments[1])?[..result as usize].to_vec()))),
                _ => Ok(None),
            },
            "lseek" => {
                if let Some(Open::File { at, .. }) = self.open.get_mut(&fd()?) {
                    *at = result as u64;
                }
                Ok(None)
            }
            "ftruncate" => self.set_len(fd()?, number(arguments[1])?),
            "fsync" | "fdatasync" => Ok(match self.open.get(&fd()?) {
                Some(Open::File { file, .. }) => Some(Event::Sync(self.files[*file].0.clone())),
                Some(Open::Dir(path)) => Some(Event::SyncDir(path.clone())),
                _ => None,
            }),
            "rename" => self.rename(arguments[0], arguments[1]),
            "unlink" => self.remove(arguments[0]),
            "unlinkat" if arguments[0] == "AT_FDCWD" && arguments[2] == "0" => self.remove(arguments[1]),
            "mkdir" => {
                let Some(path) = self.path(arguments[0])? else { return Ok(None) };
                self.dirs.push(path.clone());
                Ok(Some(Event::MakeDir(path)))
            }
            _ => self.other(name, &arguments),
        }
    }

    /// Calls that are not understood are fine where they have nothing to do with the files.
    fn other(&self, name: &str, arguments: &[&str]) -> Result<Option<Event>, String> {
        let ours = arguments.iter().any(|argument| {
            let named = argument.starts_with('"') && self.path(argument).is_ok_and(|path| path.is_some());
            named || argument.parse().is_ok_and(|fd: i64| self.open.contains_key(&fd))
        });
        if ours || name.starts_with("io_uring") { Err(format!("{name} is not understood")) } else { Ok(None) }
    }

    fn connect(&mut self, arguments: &[&str]) {
        let port = arguments.iter().find_map(|argument| argument.strip_prefix("sin_port=htons(")?.strip_suffix(')'));
        if let (Ok(fd), true) = (arguments[0].parse(), port == Some(&self.port.to_string())) {
            self.open.insert(fd, Open::Broker);
        }
    }

    fn open(&mut self, arguments: &[&str], fd: i64) -> Result<Option<Event>, String> {
        self.open.remove(&fd);
        let (Some(path), flags) = (self.path(arguments[1])?, arguments[2]) else { return Ok(None) };
        if self.dirs.contains(&path) || flags.contains("O_DIRECTORY") {
            self.open.insert(fd, Open::Dir(path));
            return Ok(None);
        }
        let known = self.names.get(&path).copied();
        if known.is_none() && !flags.contains("O_CREAT") {
            return Err("opened, and never made".to_owned());
        }
        let file = known.unwrap_or_else(|| self.add(path.clone(), 0));
        self.open.insert(fd, Open::File { file, at: 0, append: flags.contains("O_APPEND") });
        match known {
            None => Ok(Some(Event::Create(path))),
            Some(file) if flags.contains("O_TRUNC") => {
                self.files[file].1 = 0;
                Ok(Some(Event::SetLen(path, 0)))
            }
            Some(_) => Ok(None),
        }
    }

    fn write(&mut self, fd: i64, offset: Option<u64>, bytes: Vec<u8>) -> Result<Option<Event>, String> {
        let (file, at, append) = match self.open.get(&fd) {
            Some(Open::File { file, at, append }) => (*file, *at, *append),
            Some(Open::Broker) => return Ok(Some(Event::Sent(bytes))),
            Some(Open::Dir(path)) => return Err(format!("{path} is a folder")),
            None => return Ok(None),
        };
        let (path, len) = &mut self.files[file];
        let start = offset.unwrap_or(if append { *len } else { at });
        let end = start + bytes.len() as u64;
        *len = end.max(*len);
        let event = Event::Write { path: path.clone(), offset: start, bytes };
        if let (None, Some(Open::File { at, .. })) = (offset, self.open.get_mut(&fd)) {
            *at = end;
        }
        Ok(Some(event))
    }

    fn set_len(&mut self, fd: i64, len: u64) -> Result<Option<Event>, String> {
        let Some(Open::File { file, .. }) = self.open.get(&fd) else { return Ok(None) };
        self.files[*file].1 = len;
        Ok(Some(Event::SetLen(self.files[*file].0.clone(), len)))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<Option<Event>, String> {
        let (Some(from), Some(to)) = (self.path(from)?, self.path(to)?) else { return Ok(None) };
        let Some(file) = self.names.remove(&from) else { return Err(format!("{from}: a folder is renamed")) };
        self.files[file].0.clone_from(&to);
        self.names.insert(to.clone(), file);
        Ok(Some(Event::Rename(from, to)))
    }

    fn remove(&mut self, path: &str) -> Result<Option<Event>, String> {
        let Some(path) = self.path(path)? else { return Ok(None) };
        self.names.remove(&path);
        Ok(Some(Event::Remove(path)))
    }

    /// A path in the gateway's folder, relative to it; `None` for one elsewhere.
    fn path(&self, quoted: &str) -> Result<Option<String>, String> {
        let path = String::from_utf8(unescape(quoted)?).map_err(|error| error.to_string())?;
        let inside = match path.strip_prefix(self.folder) {
            Some(rest) => rest.trim_start_matches('/'),
            None if path.starts_with('/') => return Ok(None),
            None => &path,
        };
        let inside = inside.trim_end_matches('/').replace("//", "/");
        Ok(["weir-data", "upstream"].iter().any(|own| inside.starts_with(own)).then_some(inside))
    }
}

fn is_sync(text: &str) -> bool {
    text.starts_with("fsync(") || text.starts_with("fdatasync(")
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// A string in which every byte is `\xHH`.
fn unescape(quoted: &str) -> Result<Vec<u8>, String> {
    let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inside = inside.ok_or("a string was cut short in the record")?.as_bytes();
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let byte = |four: &[u8]| match four {
        [b'\\', b'x', high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    inside.chunks(4).map(byte).collect::<Option<Vec<u8>>>().ok_or_else(|| "not as `-xx` writes it".to_owned())
}
