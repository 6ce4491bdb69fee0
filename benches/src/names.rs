//! Lists of addresses and logins as they are typed: `ada@x,ben@x`, `user{1..100}@x`.

use crate::failure::{LoadError, Result};

/// Names in one list; a mistyped range must not fill the memory.
pub const NAMES_MAX: u64 = 1_000_000;

/// Expands a list with commas and with at most one `{first..last}` in each of its entries. Leading zeros are kept:
/// `{01..10}`.
///
/// # Errors
/// When an entry is empty, a range does not count upwards, or there are more than [`NAMES_MAX`] names.
pub fn expand(list: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in list.split(',').map(str::trim) {
        if entry.is_empty() {
            return Err(LoadError::Usage(format!("there is an empty name in {list:?}")));
        }
        let Some((before, rest)) = entry.split_once('{') else {
            names.push(entry.to_owned());
            continue;
        };
        let wrong = || LoadError::Usage(format!("{entry:?}: a range is written {{1..100}}"));
        let (range, after) = rest.split_once('}').ok_or_else(wrong)?;
        let (first, last) = range.split_once("..").ok_or_else(wrong)?;
        let (low, high): (u64, u64) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if low > high || high - low >= NAMES_MAX - names.len() as u64 {
            return Err(LoadError::Usage(format!("{entry:?}: from 1 to {NAMES_MAX} names are possible")));
        }
        let width = first.len();
        names.extend((low..=high).map(|number| format!("{before}{number:0width$}{after}")));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_expanded() {
        for (list, want) in [
            ("a@x", vec!["a@x"]),
            ("a@x, b@y", vec!["a@x", "b@y"]),
            ("u{9..11}@x", vec!["u9@x", "u10@x", "u11@x"]),
            ("u{08..10}", vec!["u08", "u09", "u10"]),
            ("a,u{1..1}", vec!["a", "u1"]),
        ] {
            assert_eq!(expand(list).expect(list), want);
        }
    }

    #[test]
    fn mistakes_are_told() {
        for list in ["", "a,,b", "u{1..", "u{1-3}", "u{3..1}", "u{a..b}", "u{1..99999999999}", "u{0..1000000}"] {
            assert!(matches!(expand(list), Err(LoadError::Usage(_))), "{list}");
        }
    }
}
