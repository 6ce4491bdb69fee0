//! Which mailbox names LIST and LSUB show, and with which attributes.

use std::collections::BTreeMap;

use rockdove_mail::{HIERARCHY_DELIMITER, Rights, SpecialUse};

use crate::{ask::Mailboxes, command::ListRequest, grammar::matches};

/// A name in the hierarchy: a mailbox, a subscription, or a level above one.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a name")]
struct Node {
    exists: bool,
    subscribed: bool,
    special_use: Option<SpecialUse>,
    rights: Rights,
    /// Matches one of the patterns.
    matched: bool,
    /// Satisfies the selection.
    selected: bool,
    /// A mailbox lies below.
    has_children: bool,
    /// A mailbox below is not shown by itself.
    has_hidden_children: bool,
    /// A name below satisfies the selection.
    has_selected: bool,
    /// A name below satisfies the selection, and is not shown by itself.
    has_hidden_selected: bool,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListLine<'a> {
    pub(super) name: &'a str,
    pub(super) exists: bool,
    /// What the user may do with it, when it exists.
    pub(super) rights: Option<Rights>,
    pub(super) attributes: Vec<&'static str>,
    /// `CHILDINFO` (RFC 5258 section 3.5).
    pub(super) child_info: bool,
}

/// Names above this one, from the nearest.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.rsplit_once(HIERARCHY_DELIMITER).map(|(parent, _)| parent)).skip(1)
}

/// All names, with what is true of each by itself.
fn nodes<'a>(mailboxes: &'a Mailboxes, subscriptions: bool) -> BTreeMap<&'a str, Node> {
    let mut nodes: BTreeMap<&'a str, Node> = BTreeMap::new();
    for line in &mailboxes.mailboxes {
        let node = nodes.entry(line.name.as_str()).or_default();
        node.exists = true;
        node.special_use = line.special_use;
        node.rights = line.rights;
    }
    for name in &mailboxes.subscriptions {
        if let Some(node) = nodes.get_mut(name.as_str()) {
            node.subscribed = true;
        } else if subscriptions {
            nodes.entry(name.as_str()).or_default().subscribed = true;
        }
    }
    let above: Vec<&'a str> = nodes.keys().flat_map(|name| ancestors(name)).collect();
    for name in above {
        nodes.entry(name).or_default();
    }
    nodes
}

/// Tells every name what lies below it.
fn look_down(nodes: &mut BTreeMap<&str, Node>) {
    let below: Vec<(&str, Node)> =
        nodes.iter().filter(|(_, node)| node.exists || node.selected).map(|(name, node)| (*name, *node)).collect();
    for (name, below) in below {
        for ancestor in ancestors(name) {
            if let Some(node) = nodes.get_mut(ancestor) {
                node.has_children |= below.exists;
                node.has_hidden_children |= below.exists && !below.matched;
                node.has_selected |= below.selected;
                node.has_hidden_selected |= below.selected && !below.matched;
            }
        }
    }
}

/// The answer to LIST; `patterns` with the reference in front.
pub(super) fn list<'a>(mailboxes: &'a Mailboxes, request: &ListRequest, patterns: &[String]) -> Vec<ListLine<'a>> {
    let selecting = request.select_subscribed || request.select_special_use;
    let mut nodes = nodes(mailboxes, request.select_subscribed);
    for (name, node) in &mut nodes {
        node.matched = patterns.iter().any(|pattern| matches(pattern, name));
        node.selected = (!request.select_subscribed || node.subscribed)
            && (!request.select_special_use || node.special_use.is_some())
            && (selecting || node.exists);
    }
    look_down(&mut nodes);
    let shown = nodes.into_iter().filter(|(_, node)| {
        node.matched
            && match (node.selected, selecting) {
                (true, _) => true,
                //= rfc5258#section-3.5
                //# Servers SHOULD ONLY return a non-matching mailbox name along with
                //# CHILDINFO if at least one matching child is not also being returned.
                (false, true) => request.recursive_match && node.has_hidden_selected,
                // A level that is no mailbox is shown only when it says something that no other line says.
                (false, false) => node.has_hidden_children,
            }
    });
    shown.map(|(name, node)| list_line(name, node, request)).collect()
}

fn list_line<'a>(name: &'a str, node: Node, request: &ListRequest) -> ListLine<'a> {
    let mut attributes = Vec::new();
    if !node.exists {
        attributes.push(if request.extended { "\\NonExistent" } else { "\\Noselect" });
    }
    if node.subscribed && (request.select_subscribed || request.return_subscribed) {
        attributes.push("\\Subscribed");
    }
    attributes.extend(node.special_use.map(SpecialUse::name));
    attributes.push(if node.has_children { "\\HasChildren" } else { "\\HasNoChildren" });
    let child_info = request.recursive_match && node.has_selected;
    ListLine { name, exists: node.exists, rights: node.exists.then_some(node.rights), attributes, child_info }
}

/// The answer to LSUB; `pattern` with the reference in front.
pub(super) fn lsub<'a>(mailboxes: &'a Mailboxes, pattern: &str) -> Vec<ListLine<'a>> {
    let mut nodes = nodes(mailboxes, true);
    for (name, node) in &mut nodes {
        node.matched = matches(pattern, name);
        node.selected = node.subscribed;
    }
    look_down(&mut nodes);
    //= rfc3501#section-6.3.9
    //# A special situation occurs when using LSUB with the % wildcard.
    //# Consider what happens if "foo/bar" (with a hierarchy delimiter of
    //# "/") is subscribed but "foo" is not.  A "%" wildcard to LSUB must
    //# return foo, not foo/bar, in the LSUB response, and it MUST be
    //# flagged with the \Noselect attribute.
    let parents = pattern.ends_with('%');
    let shown =
        nodes.into_iter().filter(|(_, node)| node.matched && (node.selected || (parents && node.has_hidden_selected)));
    let line = |(name, node): (&'a str, Node)| ListLine {
        name,
        exists: node.exists,
        rights: node.exists.then_some(node.rights),
        attributes: if node.selected { Vec::new() } else { vec!["\\Noselect"] },
        child_info: false,
    };
    shown.map(line).collect()
}
