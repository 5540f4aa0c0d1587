//! The set of paths that somebody wants read from a payload, as a tree that a scanner walks beside the payload.
//!
//! - A path is in the set once, whoever asks; at most [`PATHS_MAX`].
//! - A node knows which paths lie at or below it, so that a duplicate key makes them absent in four operations.

use super::path::{Path, Segment};
use super::{Fields, NONE, Node, ROOT, Value, Wanted, head};

/// Most different paths in a set.
pub const PATHS_MAX: usize = 256;

/// A set of ids: one bit each.
pub(super) type Mask = [u64; PATHS_MAX / 64];

/// The number of a path in its [`Paths`]; also its place in [`Fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub(super) u16);

impl PathId {
    /// From 0, in the order in which paths were added.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of paths.
#[derive(Clone, Debug)]
pub struct Paths {
    nodes: Vec<Branch>,
    count: u16,
}

#[derive(Clone, Debug, Default)]
struct Branch {
    id: Option<PathId>,
    /// Sorted by head, then name.
    keys: Vec<Key>,
    /// Sorted by place.
    places: Vec<(u32, Node)>,
    /// The paths at and below this node.
    within: Mask,
}

#[derive(Clone, Debug)]
struct Key {
    /// The first eight bytes: enough to tell most keys apart.
    head: u64,
    name: Box<[u8]>,
    node: Node,
}

impl Default for Paths {
    fn default() -> Self {
        Self::new()
    }
}

impl Paths {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self { nodes: vec![Branch::default()], count: 0 }
    }

    /// The number of paths.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether nobody wants a field; a scan still checks the payload.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a path, or finds it; `None`: the set is full.
    pub fn add(&mut self, path: &Path) -> Option<PathId> {
        if let Some(id) = self.find(path) {
            return Some(id);
        }
        if self.len() == PATHS_MAX {
            return None;
        }
        let id = PathId(self.count);
        let mut node = ROOT;
        self.mark(node, id);
        for segment in path.segments() {
            node = self.child(node, segment).unwrap_or_else(|| self.grow(node, segment));
            self.mark(node, id);
        }
        self.nodes[usize::from(node)].id = Some(id);
        self.count += 1;
        Some(id)
    }

    /// The id of a path that was added.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<PathId> {
        let node = path.segments().iter().try_fold(ROOT, |node, segment| self.child(node, segment))?;
        self.nodes[usize::from(node)].id
    }

    fn child(&self, node: Node, segment: &Segment) -> Option<Node> {
        let found = match segment {
            Segment::Key(key) => self.key(node, head(key.as_bytes()), key.as_bytes()),
            Segment::Place(place) => self.place(node, *place),
        };
        (found != NONE).then_some(found)
    }

    fn mark(&mut self, node: Node, id: PathId) {
        self.nodes[usize::from(node)].within[id.index() / 64] |= 1 << (id.index() % 64);
    }

    fn grow(&mut self, node: Node, segment: &Segment) -> Node {
        // At most 256 paths of 32 steps: 8193 nodes.
        let new = Node::try_from(self.nodes.len()).expect("PATHS_MAX paths of PATH_STEPS_MAX steps fit 16 bits");
        self.nodes.push(Branch::default());
        let branch = &mut self.nodes[usize::from(node)];
        match segment {
            Segment::Key(key) => {
                let key = Key { head: head(key.as_bytes()), name: key.as_bytes().into(), node: new };
                let at = branch.keys.partition_point(|other| (other.head, &other.name) < (key.head, &key.name));
                branch.keys.insert(at, key);
            }
            Segment::Place(place) => {
                let at = branch.places.partition_point(|(other, _)| other < place);
                branch.places.insert(at, (*place, new));
            }
        }
        new
    }

    /// The node of a key below `node`, or [`NONE`].
    #[inline]
    fn key(&self, node: Node, head: u64, key: &[u8]) -> Node {
        let keys = &self.nodes[usize::from(node)].keys;
        // Few keys are tried one by one; many are searched.
        let from = if keys.len() <= 8 { 0 } else { keys.partition_point(|other| other.head < head) };
        for other in &keys[from..] {
            // Equal heads of equal length are the whole of a short key.
            if other.head == head && other.name.len() == key.len() && (key.len() <= 8 || *other.name == *key) {
                return other.node;
            }
            if other.head > head {
                break;
            }
        }
        NONE
    }

    /// The node of an array place below `node`, or [`NONE`].
    #[inline]
    fn place(&self, node: Node, place: u32) -> Node {
        let places = &self.nodes[usize::from(node)].places;
        match places.last() {
            Some((last, _)) if place <= *last => {
                places.binary_search_by_key(&place, |(other, _)| *other).map_or(NONE, |at| places[at].1)
            }
            _ => NONE,
        }
    }
}

/// Fills [`Fields`] for a set of paths.
pub(super) struct Fill<'a> {
    pub(super) paths: &'a Paths,
    pub(super) out: &'a mut Fields,
}

impl Wanted for Fill<'_> {
    #[inline]
    fn key(&self, node: Node, head: u64, key: &[u8]) -> Node {
        self.paths.key(node, head, key)
    }

    #[inline]
    fn place(&self, node: Node, place: u32) -> Node {
        self.paths.place(node, place)
    }

    #[inline]
    fn begin(&mut self, node: Node) {
        let branch = &self.paths.nodes[usize::from(node)];
        if !(branch.keys.is_empty() && branch.places.is_empty()) {
            self.out.forget(&branch.within);
        }
    }

    #[inline]
    fn put(&mut self, node: Node, value: Value) {
        if let Some(id) = self.paths.nodes[usize::from(node)].id {
            self.out.put(id, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    #[test]
    fn a_path_is_in_the_set_once() {
        let mut paths = Paths::new();
        let ids: Vec<_> =
            ["a", "a.b", "\"a\"", "a[0]", "."].iter().map(|text| paths.add(&path(text)).unwrap().index()).collect();
        assert_eq!((ids, paths.len()), (vec![0, 1, 0, 2, 3], 4));
        assert_eq!(paths.find(&path("a.c")), None);
        assert_eq!(paths.find(&path("a.b")), Some(PathId(1)));
    }

    #[test]
    fn the_set_is_bounded_and_full_is_an_answer() {
        let mut paths = Paths::new();
        for n in 0..PATHS_MAX {
            assert_eq!(paths.add(&path(&format!("common-prefix-{n}"))).unwrap().index(), n);
        }
        assert_eq!(paths.add(&path("more")), None);
        assert_eq!(paths.add(&path("common-prefix-7")), Some(PathId(7)));
    }
}
