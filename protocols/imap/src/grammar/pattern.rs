//! LIST patterns.

use rockdove_mail::HIERARCHY_DELIMITER;

/// Whether a mailbox name matches a LIST pattern: `*` stands for anything, `%` for anything without a hierarchy delimiter.
/// INBOX as the first level matches in any case.
///
/// Takes time in proportion to the pattern and to the square of the name at most: a pattern with more plain octets than
/// the name has is over at once, and wildcards between two of them count as one.
pub fn matches(pattern: &str, name: &str) -> bool {
    let delimiter = u8::try_from(HIERARCHY_DELIMITER).unwrap_or(b'/');
    let folded = inbox_octets(name, delimiter);
    let name = name.as_bytes();
    let plain = pattern.bytes().filter(|octet| !matches!(octet, b'*' | b'%')).count();
    if plain > name.len() {
        return false;
    }
    // Octets of the name that what came so far can have matched, ascending.
    let mut reached = vec![0];
    let mut octets = pattern.bytes().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'*' | b'%' => {
                // Wildcards in a row are as good as one: the widest.
                let mut any = octet == b'*';
                while let Some(next) = octets.next_if(|next| matches!(next, b'*' | b'%')) {
                    any |= next == b'*';
                }
                reached = if any {
                    (reached.first().copied().unwrap_or_default()..=name.len()).collect()
                } else {
                    spread(&reached, name, delimiter)
                };
            }
            _ => {
                let same = |at: usize| {
                    name.get(at)
                        .is_some_and(|here| *here == octet || (at < folded && here.eq_ignore_ascii_case(&octet)))
                };
                reached = reached.into_iter().filter(|at| same(*at)).map(|at| at.saturating_add(1)).collect();
            }
        }
        if reached.is_empty() {
            return false;
        }
    }
    reached.last() == Some(&name.len())
}

/// Everything that `%` reaches from these places.
fn spread(reached: &[usize], name: &[u8], delimiter: u8) -> Vec<usize> {
    let mut wider = Vec::with_capacity(name.len());
    for start in reached {
        let mut at = *start;
        if wider.last().is_some_and(|last| *last >= at) {
            continue;
        }
        wider.push(at);
        while name.get(at).is_some_and(|octet| *octet != delimiter) {
            at = at.saturating_add(1);
            wider.push(at);
        }
    }
    wider
}

/// Octets at the beginning of the name that compare in any case.
fn inbox_octets(name: &str, delimiter: u8) -> usize {
    const INBOX: &str = "INBOX";
    let first = name.get(..INBOX.len()).is_some_and(|first| first.eq_ignore_ascii_case(INBOX));
    let whole = name.as_bytes().get(INBOX.len()).is_none_or(|next| *next == delimiter);
    if first && whole { INBOX.len() } else { 0 }
}
