//! The trigger index: which triggers a topic wakes, without looking at every filter.
//!
//! - A trie by topic levels, built once; a look-up walks the levels of the topic and allocates nothing.
//! - Wildcards at the first level do not match names that begin with `$` (MQTT 5.0 §4.7.2).

use crate::topic::TopicFilter;

/// Number of a trigger, as the caller counts them.
pub type TriggerId = u16;

#[derive(Debug, Default)]
struct Node {
    /// Sorted by level.
    children: Vec<(Box<str>, u32)>,
    plus: Option<u32>,
    /// Filters that end here.
    here: Vec<TriggerId>,
    /// Filters that end here with `#`.
    below: Vec<TriggerId>,
}

/// All filters of one kind of trigger.
#[derive(Debug)]
pub struct TopicIndex {
    nodes: Vec<Node>,
}

impl Default for TopicIndex {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl TopicIndex {
    /// Adds a filter that wakes `id`.
    pub fn insert(&mut self, filter: &TopicFilter, id: TriggerId) {
        let mut at = 0;
        for level in filter.as_str().split('/') {
            match level {
                "#" => {
                    self.nodes[at].below.push(id);
                    return;
                }
                "+" => at = self.plus(at),
                _ => at = self.child(at, level),
            }
        }
        self.nodes[at].here.push(id);
    }

    fn grow(&mut self) -> u32 {
        self.nodes.push(Node::default());
        u32::try_from(self.nodes.len() - 1).expect("a configuration has fewer than 2^32 topic levels")
    }

    fn plus(&mut self, at: usize) -> usize {
        let next = match self.nodes[at].plus {
            Some(next) => next,
            None => self.grow(),
        };
        self.nodes[at].plus = Some(next);
        next as usize
    }

    fn child(&mut self, at: usize, level: &str) -> usize {
        match self.nodes[at].children.binary_search_by(|(name, _)| (**name).cmp(level)) {
            Ok(place) => self.nodes[at].children[place].1 as usize,
            Err(place) => {
                let next = self.grow();
                self.nodes[at].children.insert(place, (level.into(), next));
                next as usize
            }
        }
    }

    /// Calls `found` for every filter that matches `topic`, in no particular order; an id once for each of its filters.
    pub fn find(&self, topic: &str, found: &mut impl FnMut(TriggerId)) {
        self.descend(0, topic, true, found);
    }

    fn descend(&self, at: usize, rest: &str, first: bool, found: &mut impl FnMut(TriggerId)) {
        let node = &self.nodes[at];
        let wildcards = !(first && rest.starts_with('$'));
        if wildcards {
            node.below.iter().for_each(|id| found(*id));
        }
        let (level, tail) = match rest.split_once('/') {
            Some((level, tail)) => (level, Some(tail)),
            None => (rest, None),
        };
        let child = node.children.binary_search_by(|(name, _)| (**name).cmp(level)).ok();
        let child = child.map(|place| node.children[place].1);
        for next in child.into_iter().chain(node.plus.filter(|_| wildcards)) {
            match tail {
                Some(tail) => self.descend(next as usize, tail, false, found),
                None => self.end(next as usize, found),
            }
        }
    }

    fn end(&self, at: usize, found: &mut impl FnMut(TriggerId)) {
        // `a/#` matches `a` as well.
        self.nodes[at].here.iter().chain(&self.nodes[at].below).for_each(|id| found(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERS: [&str; 11] = ["a/b", "a/+", "a/#", "#", "+/b", "+/+/c", "$SYS/#", "a", "/", "+", "a/+/c"];

    #[test]
    fn the_index_finds_what_matching_every_filter_finds() {
        let mut index = TopicIndex::default();
        let filters: Vec<TopicFilter> = FILTERS.iter().map(|text| text.parse().unwrap()).collect();
        for (id, filter) in filters.iter().enumerate() {
            index.insert(filter, id as TriggerId);
        }
        for topic in ["a", "a/b", "a/b/c", "x/b", "x/y/c", "$SYS/a/b", "/", "b", "a/", "", "a//c"] {
            let mut found = Vec::new();
            index.find(topic, &mut |id| found.push(id));
            found.sort_unstable();
            let want: Vec<TriggerId> =
                (0..filters.len()).filter(|id| filters[*id].matches(topic)).map(|id| id as TriggerId).collect();
            assert_eq!(found, want, "{topic}");
        }
    }
}
