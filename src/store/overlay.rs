//! A disk over a disk: reads what lies below, and keeps every change in memory. So the shipped code opens a store, and tells
//! what a start would find and do, without touching it.
//!
//! - Below, only [`Disk::list`], [`Disk::list_dirs`] and [`Disk::open`] are called: nothing is made, renamed, removed or written.
//! - Changed pages stay in memory; opening a store changes at most what its journal holds.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::disk::{Disk, DiskError, DiskFile};
use crate::frame::PAGE;

const PAGE_BYTES: u64 = PAGE as u64;
type Page = Box<[u8; PAGE as usize]>;

/// A disk that remembers changes to the one below. Clones share them.
#[derive(Clone, Debug)]
pub struct Overlay<D> {
    below: D,
    shared: Rc<RefCell<Shared>>,
}

/// One of its files.
#[derive(Debug)]
pub struct OverlayFile<F> {
    shared: Rc<RefCell<Shared>>,
    id: usize,
    below: Option<F>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Paths that were opened or changed; the others are as below.
    names: BTreeMap<String, Name>,
    changes: Vec<Changes>,
}

#[derive(Clone, Debug)]
enum Name {
    Gone,
    /// The file `id`, whose content begins as that of `below`.
    Is {
        id: usize,
        below: Option<String>,
    },
}

#[derive(Debug)]
struct Changes {
    /// Where it is not that of the file below.
    len: Option<u64>,
    /// What lies below counts up to here.
    below_until: u64,
    pages: BTreeMap<u64, Page>,
}

impl<D: Disk> Overlay<D> {
    /// Over `below`, nothing changed yet.
    #[must_use]
    pub fn new(below: D) -> Self {
        Self { below, shared: Rc::default() }
    }

    /// The name as it is now; `None`: there is no such file.
    fn find(&mut self, path: &str) -> Result<Option<(usize, Option<String>)>, DiskError> {
        let known = self.shared.borrow().names.get(path).cloned();
        match known {
            Some(Name::Gone) => Ok(None),
            Some(Name::Is { id, below }) => Ok(Some((id, below))),
            None if self.below.open(path)?.is_none() => Ok(None),
            None => {
                let below = Some(path.to_owned());
                let id = self.enter(
                    path,
                    below.clone(),
                    Changes { len: None, below_until: u64::MAX, pages: BTreeMap::new() },
                );
                Ok(Some((id, below)))
            }
        }
    }

    fn enter(&self, path: &str, below: Option<String>, changes: Changes) -> usize {
        let mut shared = self.shared.borrow_mut();
        let id = shared.changes.len();
        shared.changes.push(changes);
        shared.names.insert(path.to_owned(), Name::Is { id, below });
        id
    }

    fn file(&self, id: usize, below: Option<D::File>) -> OverlayFile<D::File> {
        OverlayFile { shared: self.shared.clone(), id, below }
    }
}

impl<D: Disk> Disk for Overlay<D> {
    type File = OverlayFile<D::File>;

    fn create_dir(&mut self, _dir: &str) -> Result<(), DiskError> {
        Ok(())
    }

    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        let below = self.below.list(dir)?;
        let shared = self.shared.borrow();
        let untouched = below.into_iter().filter(|name| !shared.names.contains_key(&format!("{dir}/{name}")));
        let inside = |path: &String| path.strip_prefix(dir)?.strip_prefix('/').map(str::to_owned);
        let touched = shared.names.iter().filter(|(_, name)| matches!(name, Name::Is { .. }));
        let touched = touched.filter_map(|(path, _)| inside(path)).filter(|name| !name.contains('/'));
        Ok(untouched.chain(touched).collect())
    }

    fn list_dirs(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.below.list_dirs(dir)
    }

    fn open(&mut self, path: &str) -> Result<Option<Self::File>, DiskError> {
        let Some((id, below)) = self.find(path)? else { return Ok(None) };
        let below = match below {
            Some(below) => self.below.open(&below)?,
            None => None,
        };
        Ok(Some(self.file(id, below)))
    }

    fn create(&mut self, path: &str) -> Result<Self::File, DiskError> {
        let id = self.enter(path, None, Changes { len: Some(0), below_until: 0, pages: BTreeMap::new() });
        Ok(self.file(id, None))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let (id, below) = self.find(from)?.ok_or_else(|| DiskError::Failed(format!("{from}: no such file")))?;
        let names = &mut self.shared.borrow_mut().names;
        names.insert(to.to_owned(), Name::Is { id, below });
        names.insert(from.to_owned(), Name::Gone);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.shared.borrow_mut().names.insert(path.to_owned(), Name::Gone);
        Ok(())
    }

    fn sync_dir(&mut self, _dir: &str) -> Result<(), DiskError> {
        Ok(())
    }
}

impl<F: DiskFile> OverlayFile<F> {
    fn changes(&self) -> Ref<'_, Changes> {
        Ref::map(self.shared.borrow(), |shared| &shared.changes[self.id])
    }

    /// Fills `out` with what the file below has there, as far as it counts, and zeros.
    fn read_below(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        out.fill(0);
        let until = self.changes().below_until;
        let len = usize::try_from(until.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        match &self.below {
            Some(below) if len > 0 => below.read_at(offset, &mut out[..len]).map(drop),
            _ => Ok(()),
        }
    }
}

impl<F: DiskFile> DiskFile for OverlayFile<F> {
    fn len(&self) -> Result<u64, DiskError> {
        let changed = self.changes().len;
        match (changed, &self.below) {
            (Some(len), _) => Ok(len),
            (None, Some(below)) => below.len(),
            (None, None) => Ok(0),
        }
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, DiskError> {
        let left = usize::try_from(self.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = out.len().min(left);
        let out = &mut out[..len];
        self.read_below(offset, out)?;
        let end = offset + len as u64;
        let changes = self.changes();
        for (number, page) in changes.pages.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)) {
            let start = number * PAGE_BYTES;
            let (from, to) = (start.max(offset), (start + PAGE_BYTES).min(end));
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&page[(from - start) as usize..(to - start) as usize]);
        }
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let end = offset + bytes.len() as u64;
        let len = self.len()?.max(end);
        let mut at = offset;
        while at < end {
            let number = at / PAGE_BYTES;
            let start = number * PAGE_BYTES;
            let to = (start + PAGE_BYTES).min(end);
            let known = self.changes().pages.contains_key(&number);
            let mut old: Page = Box::new([0; PAGE as usize]);
            if !known {
                self.read_below(start, &mut old[..])?;
            }
            let mut shared = self.shared.borrow_mut();
            let page = shared.changes[self.id].pages.entry(number).or_insert(old);
            page[(at - start) as usize..(to - start) as usize]
                .copy_from_slice(&bytes[(at - offset) as usize..(to - offset) as usize]);
            at = to;
        }
        self.shared.borrow_mut().changes[self.id].len = Some(len);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        let changes = &mut self.shared.borrow_mut().changes[self.id];
        changes.len = Some(len);
        changes.below_until = changes.below_until.min(len);
        changes.pages.retain(|number, page| {
            let start = number * PAGE_BYTES;
            let kept = usize::try_from(len.saturating_sub(start)).unwrap_or(usize::MAX).min(PAGE as usize);
            page[kept..].fill(0);
            kept > 0
        });
        Ok(())
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::mem_disk::MemDisk;
    use super::*;

    /// A disk with the file `a/x` of 5000 sevens.
    fn below() -> MemDisk {
        let mut disk = MemDisk::new(u64::MAX);
        disk.create_dir("a").unwrap();
        disk.create("a/x").unwrap().write_at(0, &[7; 5000]).unwrap();
        disk
    }

    fn all<F: DiskFile>(file: &F) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        bytes
    }

    #[test]
    fn changes_are_seen_above_and_never_below() {
        let mut disk = below();
        let mut over = Overlay::new(disk.clone());
        let file = over.open("a/x").unwrap().unwrap();
        file.write_at(4094, &[1, 2, 3, 4]).unwrap();
        let mut want = vec![7; 5000];
        want[4094..4098].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(all(&over.open("a/x").unwrap().unwrap()), want, "another handle sees it");
        file.set_len(4096).unwrap();
        file.set_len(6000).unwrap();
        want.truncate(4096);
        want.resize(6000, 0);
        assert_eq!(all(&file), want, "what was cut does not come back");
        assert_eq!(all(&disk.open("a/x").unwrap().unwrap()), vec![7; 5000]);
    }

    #[test]
    fn names_move_and_go_above_only() {
        let mut disk = below();
        let mut over = Overlay::new(disk.clone());
        over.rename("a/x", "b/y").unwrap();
        over.create("a/z").unwrap().write_at(3, &[9]).unwrap();
        assert_eq!(over.list("a").unwrap(), ["z"]);
        assert_eq!(over.list("b").unwrap(), ["y"]);
        assert!(over.open("a/x").unwrap().is_none());
        assert_eq!(all(&over.open("b/y").unwrap().unwrap()), vec![7; 5000]);
        assert_eq!(all(&over.open("a/z").unwrap().unwrap()), [0, 0, 0, 9]);
        over.remove("b/y").unwrap();
        assert!(over.list("b").unwrap().is_empty() && over.rename("b/y", "a/x").is_err());
        assert_eq!(disk.list("a").unwrap(), ["x"]);
    }
}
