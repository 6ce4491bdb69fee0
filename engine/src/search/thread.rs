//! THREAD (RFC 5256 section 3).

use std::collections::HashMap;

use rockdove_mail::search::{ThreadAlgorithm, ThreadNode};

use super::{
    keys::{Links, Sheet, links_in},
    scan::Messages,
    sheets::{Sheets, entries},
    sort::{dates, made},
};
use crate::{command::EngineError, store::segment::Row};

/// Stands for no node.
const NONE: u32 = u32::MAX;

/// The threads of these rows (ascending by UID).
pub(crate) fn thread(
    rows: &[Row],
    algorithm: ThreadAlgorithm,
    messages: &dyn Messages,
    sheets: Option<&Sheets<'_>>,
) -> Result<Vec<ThreadNode>, EngineError> {
    let ids: Vec<u32> = rows.iter().map(|row| row.message).collect();
    let links = entries(sheets, Sheet::Links, &ids, &|wanted| made(messages, Sheet::Links, wanted))?;
    let dates = dates(rows, &links);
    let links: Vec<Links> = (0..rows.len()).map(|at| links_in(links.get(at)).unwrap_or_default()).collect();
    let forest = match algorithm {
        ThreadAlgorithm::OrderedSubject => ordered_subject(&links, &dates),
        ThreadAlgorithm::References => References::new(&links, &dates).threads(),
    };
    Ok(forest.told(rows))
}

/// Nodes below `messages` are messages, in the order of the mailbox; the others are dummies.
struct Forest {
    messages: u32,
    children: Vec<Vec<u32>>,
    roots: Vec<u32>,
}

impl Forest {
    /// Parents before children. Without recursion: a thread may be as deep as the mailbox is long.
    fn told(&self, rows: &[Row]) -> Vec<ThreadNode> {
        let mut nodes = Vec::with_capacity(rows.len());
        let mut open: Vec<(u32, u32, bool)> = self.roots.iter().rev().map(|root| (*root, 0, false)).collect();
        while let Some((node, depth, only_child)) = open.pop() {
            let uid = if node < self.messages { rows.get(node as usize).map(|row| row.uid) } else { None };
            nodes.push(ThreadNode { uid, depth, only_child });
            let children = &self.children[node as usize];
            open.extend(children.iter().rev().map(|child| (*child, depth + 1, children.len() == 1)));
        }
        nodes
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(NONE)
}

/// "Poor man's threading": the first message of a subject is the parent of the others.
fn ordered_subject(links: &[Links], dates: &[i64]) -> Forest {
    let key = |node: &u32| (dates[*node as usize], *node);
    let mut order: Vec<u32> = (0..count(links.len())).collect();
    order.sort_unstable_by_key(key);
    let mut first: HashMap<u64, u32> = HashMap::new();
    let mut children = vec![Vec::new(); links.len()];
    let mut roots = Vec::new();
    for node in order {
        // In the order of their dates, so the first of a subject is the first of its thread, and roots are in order.
        let subject = links[node as usize].subject;
        if let Some(root) = first.get(&subject) {
            children[*root as usize].push(node);
        } else {
            first.insert(subject, node);
            roots.push(node);
        }
    }
    Forest { messages: count(links.len()), children, roots }
}

/// The algorithm REFERENCES at work. Nodes are messages, then dummies.
struct References<'a> {
    links: &'a [Links],
    dates: &'a [i64],
    messages: u32,
    parents: Vec<u32>,
    /// How many have a node as their parent: one without children is nobody's ancestor.
    below: Vec<u32>,
    /// Which nodes may hang together. Links that were broken still count, so different is sure and same is not.
    groups: Vec<u32>,
}

impl<'a> References<'a> {
    fn new(links: &'a [Links], dates: &'a [i64]) -> Self {
        let messages = count(links.len());
        let (parents, below) = (vec![NONE; links.len()], vec![0; links.len()]);
        Self { links, dates, messages, parents, below, groups: (0..messages).collect() }
    }

    fn threads(mut self) -> Forest {
        self.link();
        let mut forest = self.pruned();
        self.gather(&mut forest);
        self.order(&mut forest);
        forest
    }

    fn group(&mut self, node: u32) -> u32 {
        let mut root = node;
        while self.groups[root as usize] != root {
            let above = self.groups[root as usize];
            self.groups[root as usize] = self.groups[above as usize];
            root = self.groups[root as usize];
        }
        root
    }

    /// Makes `parent` the parent of `child`, which has none, unless that would make a loop.
    fn join(&mut self, parent: u32, child: u32) {
        if parent == child {
            return;
        }
        let groups = (self.group(parent), self.group(child));
        if groups.0 == groups.1 && self.below[child as usize] > 0 {
            let mut above = parent;
            while above != NONE {
                if above == child {
                    return;
                }
                above = self.parents[above as usize];
            }
        }
        self.groups[groups.1 as usize] = groups.0;
        self.parents[child as usize] = parent;
        self.below[parent as usize] += 1;
    }

    /// Step 1.
    fn link(&mut self) {
        let links = self.links;
        let mut by_id: HashMap<u64, u32> = HashMap::with_capacity(links.len() * 2);
        for (node, own) in (0..).zip(links) {
            if own.message_id != 0 {
                // The first message of an id has it.
                by_id.entry(own.message_id).or_insert(node);
            }
        }
        for (node, own) in (0..).zip(links) {
            let mut before = NONE;
            for reference in &own.references {
                let this = *by_id.entry(*reference).or_insert_with(|| {
                    let dummy = count(self.parents.len());
                    self.parents.push(NONE);
                    self.below.push(0);
                    self.groups.push(dummy);
                    dummy
                });
                if before != NONE && self.parents[this as usize] == NONE {
                    self.join(before, this);
                }
                before = this;
            }
            let above = std::mem::replace(&mut self.parents[node as usize], NONE);
            if above != NONE {
                self.below[above as usize] -= 1;
            }
            if before != NONE {
                self.join(before, node);
            }
        }
    }

    /// Steps 2 and 3: the tree without dummies, but for those that hold several children together at the top.
    fn pruned(&self) -> Forest {
        let nodes = self.parents.len();
        // Above each node: a message, or a dummy at the top. Found from the top down, each once.
        let mut above = vec![NONE; nodes];
        let mut known = vec![false; nodes];
        for node in 0..count(nodes) {
            let mut path = vec![];
            let mut at = node;
            while !known[at as usize] {
                path.push(at);
                let parent = self.parents[at as usize];
                if parent == NONE {
                    break;
                }
                at = parent;
            }
            for at in path.into_iter().rev() {
                let parent = self.parents[at as usize];
                let is_kept = parent == NONE || parent < self.messages || self.parents[parent as usize] == NONE;
                above[at as usize] = if is_kept { parent } else { above[parent as usize] };
                known[at as usize] = true;
            }
        }
        let mut forest = Forest { messages: self.messages, children: vec![Vec::new(); nodes], roots: Vec::new() };
        for node in 0..self.messages {
            match above[node as usize] {
                NONE => forest.roots.push(node),
                parent => forest.children[parent as usize].push(node),
            }
        }
        for dummy in self.messages..count(nodes) {
            match &forest.children[dummy as usize][..] {
                [] => {}
                [only] => forest.roots.push(*only),
                _ if self.parents[dummy as usize] == NONE => forest.roots.push(dummy),
                _ => {}
            }
        }
        forest
    }

    fn key(&self, node: u32) -> (i64, u32) {
        self.dates.get(node as usize).map_or((i64::MAX, node), |date| (*date, node))
    }

    /// The message that a node at the top is dated and named by: itself, or of a dummy the child that was sent first.
    fn face(&self, forest: &Forest, node: u32) -> u32 {
        if node < self.messages {
            return node;
        }
        forest.children[node as usize].iter().copied().min_by_key(|child| self.key(*child)).unwrap_or(node)
    }

    fn order_roots(&self, forest: &mut Forest) {
        let mut roots: Vec<((i64, u32), u32)> =
            forest.roots.iter().map(|root| (self.key(self.face(forest, *root)), *root)).collect();
        roots.sort_unstable();
        forest.roots = roots.into_iter().map(|(_, root)| root).collect();
    }

    /// Steps 4 and 5: threads of one subject become one.
    fn gather(&self, forest: &mut Forest) {
        self.order_roots(forest);
        let is_dummy = |node: u32| node >= self.messages;
        let own = |node: u32| self.links.get(node as usize);
        let is_reply = |node: u32| own(node).is_some_and(|links| links.is_reply);
        let subjects: Vec<(u32, u64)> = forest
            .roots
            .iter()
            .map(|root| (*root, own(self.face(forest, *root)).map_or(0, |links| links.subject)))
            .filter(|(_, subject)| *subject != 0)
            .collect();
        let mut table: HashMap<u64, u32> = HashMap::with_capacity(subjects.len());
        for (root, subject) in &subjects {
            let entry = table.entry(*subject).or_insert(*root);
            if !is_dummy(*entry) && (is_dummy(*root) || (is_reply(*entry) && !is_reply(*root))) {
                *entry = *root;
            }
        }
        let mut moved = std::collections::HashSet::new();
        let mut dummies = Vec::new();
        for (root, subject) in subjects {
            let Some(entry) = table.get_mut(&subject).filter(|entry| **entry != root) else { continue };
            moved.insert(root);
            match (is_dummy(*entry), is_dummy(root)) {
                (true, true) => {
                    let children = std::mem::take(&mut forest.children[root as usize]);
                    forest.children[*entry as usize].extend(children);
                }
                (true, false) => forest.children[*entry as usize].push(root),
                _ if is_reply(root) && !is_reply(*entry) => forest.children[*entry as usize].push(root),
                _ => {
                    let dummy = count(forest.children.len());
                    forest.children.push(vec![*entry, root]);
                    moved.insert(*entry);
                    dummies.push(dummy);
                    *entry = dummy;
                }
            }
        }
        forest.roots.retain(|root| !moved.contains(root));
        forest.roots.extend(dummies);
    }

    /// Step 6.
    fn order(&self, forest: &mut Forest) {
        for children in &mut forest.children {
            children.sort_unstable_by_key(|child| self.key(*child));
        }
        self.order_roots(forest);
    }
}
