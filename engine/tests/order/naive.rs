//! SORT and THREAD as RFC 5256 tells them, step by step, slowly.

use std::{cmp::Ordering, collections::BTreeMap};

use rockdove_mail::search::{SortCriterion, SortKey, ThreadAlgorithm};

/// What a reader sees of a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mail {
    pub(crate) arrived: i64,
    pub(crate) sent: Option<i64>,
    pub(crate) size: u64,
    pub(crate) id: Option<String>,
    pub(crate) references: Vec<String>,
    pub(crate) base: String,
    pub(crate) is_reply: bool,
    /// Of From, To, Cc.
    pub(crate) mailboxes: [String; 3],
    pub(crate) shown: [String; 3],
}

impl Mail {
    fn date(&self) -> i64 {
        self.sent.unwrap_or(self.arrived)
    }

    fn compared(&self, other: &Self, key: SortKey) -> Ordering {
        let place = |place: usize| self.mailboxes[place].cmp(&other.mailboxes[place]);
        match key {
            SortKey::Arrival => self.arrived.cmp(&other.arrived),
            SortKey::Date => self.date().cmp(&other.date()),
            SortKey::Size => self.size.cmp(&other.size),
            SortKey::Subject => self.base.cmp(&other.base),
            SortKey::From => place(0),
            SortKey::To => place(1),
            SortKey::Cc => place(2),
            SortKey::DisplayFrom => self.shown[0].cmp(&other.shown[0]),
            // No message of these is more relevant than another.
            SortKey::Relevancy => Ordering::Equal,
            SortKey::DisplayTo => self.shown[1].cmp(&other.shown[1]),
        }
    }
}

pub(crate) fn sorted(mails: &[(u32, &Mail)], criteria: &[SortCriterion]) -> Vec<u32> {
    let mut mails = mails.to_vec();
    // A stable sort by the last criterion first.
    for criterion in criteria.iter().rev() {
        mails.sort_by(|(_, a), (_, b)| {
            let order = a.compared(b, criterion.key);
            if criterion.reverse { order.reverse() } else { order }
        });
    }
    mails.into_iter().map(|(uid, _)| uid).collect()
}

/// A message, or nobody, with what is below it.
#[derive(Clone, Debug)]
struct Tree {
    uid: Option<u32>,
    children: Vec<Tree>,
}

pub(crate) fn threads(mails: &[(u32, &Mail)], algorithm: ThreadAlgorithm) -> String {
    let by_uid: BTreeMap<u32, &Mail> = mails.iter().copied().collect();
    let forest = match algorithm {
        ThreadAlgorithm::OrderedSubject => ordered_subject(mails),
        ThreadAlgorithm::References => references(mails, &by_uid),
    };
    forest.iter().map(shown).collect::<Vec<_>>().join(" ")
}

fn shown(tree: &Tree) -> String {
    let own = tree.uid.map_or_else(|| "?".to_owned(), |uid| uid.to_string());
    if tree.children.is_empty() {
        return own;
    }
    format!("{own}[{}]", tree.children.iter().map(shown).collect::<Vec<_>>().join(" "))
}

fn ordered_subject(mails: &[(u32, &Mail)]) -> Vec<Tree> {
    let criteria = [SortKey::Subject, SortKey::Date].map(|key| SortCriterion { key, reverse: false });
    let by_uid: BTreeMap<u32, &Mail> = mails.iter().copied().collect();
    let order = sorted(mails, &criteria);
    let mut threads: Vec<Vec<u32>> =
        order.chunk_by(|a, b| by_uid[a].base == by_uid[b].base).map(<[u32]>::to_vec).collect();
    threads.sort_by_key(|thread| (by_uid[&thread[0]].date(), thread[0]));
    let leaf = |uid: &u32| Tree { uid: Some(*uid), children: Vec::new() };
    threads
        .iter()
        .map(|thread| Tree { uid: Some(thread[0]), children: thread[1..].iter().map(leaf).collect() })
        .collect()
}

/// Messages and dummies by their id; ids of messages without one are made up.
type Parents = BTreeMap<String, Option<String>>;

fn is_below(parents: &Parents, mut node: String, above: &str) -> bool {
    loop {
        if node == above {
            return true;
        }
        match parents.get(&node).cloned().flatten() {
            Some(parent) => node = parent,
            None => return false,
        }
    }
}

fn references(mails: &[(u32, &Mail)], by_uid: &BTreeMap<u32, &Mail>) -> Vec<Tree> {
    // Which id each message has.
    let mut owners: BTreeMap<String, u32> = BTreeMap::new();
    let mut ids: Vec<String> = Vec::new();
    for (uid, mail) in mails {
        let id = mail.id.clone().filter(|id| !owners.contains_key(id)).unwrap_or_else(|| format!("unique {uid}"));
        owners.insert(id.clone(), *uid);
        ids.push(id);
    }
    let mut parents: Parents = ids.iter().map(|id| (id.clone(), None)).collect();
    for ((_, mail), id) in mails.iter().zip(&ids) {
        for reference in &mail.references {
            parents.entry(reference.clone()).or_insert(None);
        }
        for pair in mail.references.windows(2) {
            if parents[&pair[1]].is_none() && !is_below(&parents, pair[0].clone(), &pair[1]) {
                parents.insert(pair[1].clone(), Some(pair[0].clone()));
            }
        }
        parents.insert(id.clone(), None);
        if let Some(last) = mail.references.last()
            && !is_below(&parents, last.clone(), id)
        {
            parents.insert(id.clone(), Some(last.clone()));
        }
    }
    // Step 2: all without parents.
    let mut roots: Vec<Tree> =
        parents.iter().filter(|(_, parent)| parent.is_none()).map(|(id, _)| grown(&parents, &owners, id)).collect();
    // Step 3.
    roots = roots.into_iter().flat_map(|root| pruned(root, true)).collect();
    // Step 4.
    sort_roots(&mut roots, by_uid);
    roots = gathered(roots, by_uid);
    // Step 6.
    for root in &mut roots {
        sort_below(root, by_uid);
    }
    sort_roots(&mut roots, by_uid);
    roots
}

fn grown(parents: &Parents, owners: &BTreeMap<String, u32>, id: &str) -> Tree {
    let below = parents.iter().filter(|(_, parent)| parent.as_deref() == Some(id));
    Tree { uid: owners.get(id).copied(), children: below.map(|(child, _)| grown(parents, owners, child)).collect() }
}

fn pruned(tree: Tree, is_root: bool) -> Vec<Tree> {
    let children: Vec<Tree> = tree.children.into_iter().flat_map(|child| pruned(child, false)).collect();
    if tree.uid.is_some() {
        return vec![Tree { uid: tree.uid, children }];
    }
    if is_root && children.len() > 1 { vec![Tree { uid: None, children }] } else { children }
}

type Key = (i64, u32);

fn key(tree: &Tree, by_uid: &BTreeMap<u32, &Mail>) -> Key {
    match tree.uid {
        Some(uid) => (by_uid[&uid].date(), uid),
        None => tree.children.iter().map(|child| key(child, by_uid)).min().expect("a dummy has children"),
    }
}

fn sort_roots(roots: &mut [Tree], by_uid: &BTreeMap<u32, &Mail>) {
    roots.sort_by_key(|root| key(root, by_uid));
}

fn sort_below(tree: &mut Tree, by_uid: &BTreeMap<u32, &Mail>) {
    for child in &mut tree.children {
        sort_below(child, by_uid);
    }
    tree.children.sort_by_key(|child| key(child, by_uid));
}

/// Step 5.
fn gathered(roots: Vec<Tree>, by_uid: &BTreeMap<u32, &Mail>) -> Vec<Tree> {
    let subject = |tree: &Tree| by_uid[&key(tree, by_uid).1].base.clone();
    let is_reply = |tree: &Tree| tree.uid.is_some_and(|uid| by_uid[&uid].is_reply);
    let mut roots: Vec<Option<Tree>> = roots.into_iter().map(Some).collect();
    let mut table: BTreeMap<String, usize> = BTreeMap::new();
    for (place, root) in roots.iter().enumerate() {
        let Some(root) = root else { continue };
        let subject = subject(root);
        if subject.is_empty() {
            continue;
        }
        let replaces = match table.get(&subject).and_then(|entry| roots[*entry].as_ref()) {
            None => true,
            Some(entry) => entry.uid.is_some() && (root.uid.is_none() || (is_reply(entry) && !is_reply(root))),
        };
        if replaces {
            table.insert(subject, place);
        }
    }
    for place in 0..roots.len() {
        let Some(current) = roots[place].clone() else { continue };
        let subject = subject(&current);
        let Some(entry) = table.get(&subject).copied().filter(|entry| *entry != place && !subject.is_empty()) else {
            continue;
        };
        let mut first = roots[entry].clone().expect("the table has roots");
        roots[place] = None;
        if first.uid.is_none() && current.uid.is_none() {
            first.children.extend(current.children);
        } else if first.uid.is_none() || (is_reply(&current) && !is_reply(&first)) {
            first.children.push(current);
        } else {
            first = Tree { uid: None, children: vec![first, current] };
        }
        roots[entry] = Some(first);
    }
    roots.into_iter().flatten().collect()
}
