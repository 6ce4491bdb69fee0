//! When two ways of writing a domain or a local part mean the same.

use unicode_normalization::UnicodeNormalization as _;

/// Octets of a domain name: RFC 5321 section 4.5.3.1.2 asks for 255, DNS leaves 253 for the text form.
pub const DOMAIN_OCTETS_MAX: usize = 253;
/// Octets of a local part, RFC 5321 section 4.5.3.1.1.
pub const LOCAL_PART_OCTETS_MAX: usize = 64;

/// A domain as it is stored and compared: A-labels (RFC 5890), lower case, no dot at the end. `None` when it is not a
/// host name; an address literal is none.
pub fn domain_key(domain: &str) -> Option<String> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.is_empty() || domain.len() > 4 * DOMAIN_OCTETS_MAX {
        return None;
    }
    let ascii = idna::domain_to_ascii_strict(domain).ok()?;
    (!ascii.is_empty() && ascii.len() <= DOMAIN_OCTETS_MAX).then_some(ascii)
}

/// A local part as it is compared: lower case and composed (NFC).
///
//= rfc5321#section-2.4
//# The local-part of a mailbox MUST BE treated as case sensitive.
/// That binds those who pass mail on; to the host that owns the mailbox the same section leaves the choice, and people
/// do not expect `Anna@` and `anna@` to be different. The case in which an account was created is kept for display.
pub fn fold_local(local: &str) -> String {
    // Lowering can leave text uncomposed, so composing comes last.
    local.nfc().collect::<String>().to_lowercase().nfc().collect()
}

/// An address as it is compared; `None` when it has no `@` or no valid domain.
pub(super) fn address_key(address: &str) -> Option<String> {
    let (local, domain) = address.rsplit_once('@')?;
    key_of(local, domain)
}

/// An address in two pieces, as it is compared.
pub(super) fn key_of(local: &str, domain: &str) -> Option<String> {
    // What is longer cannot be an account, so that no stranger makes us fold a megabyte.
    if local.is_empty() || local.len() > 4 * LOCAL_PART_OCTETS_MAX {
        return None;
    }
    Some(format!("{}@{}", fold_local(local), domain_key(domain)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_compare_in_lower_case_a_labels() {
        for (given, key) in [
            ("Example.ORG", Some("example.org")),
            ("example.org.", Some("example.org")),
            ("B\u{fc}cher.example", Some("xn--bcher-kva.example")),
            ("bu\u{308}cher.example", Some("xn--bcher-kva.example")),
            ("XN--BCHER-KVA.example", Some("xn--bcher-kva.example")),
            ("localhost", Some("localhost")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("[192.0.2.1]", None),
            ("under_score.example", None),
            ("-a.example", None),
            ("a b.example", None),
        ] {
            assert_eq!(domain_key(given).as_deref(), key, "{given}");
        }
        let label = "a".repeat(63);
        assert!(domain_key(&format!("{label}.{label}.{label}.{}", &label[..61])).is_some());
        assert_eq!(domain_key(&format!("{label}.{label}.{label}.{label}")), None);
        assert_eq!(domain_key(&format!("{label}a.example")), None);
    }

    #[test]
    fn local_parts_compare_without_case_and_composed() {
        assert_eq!(fold_local("Anna.B"), "anna.b");
        assert_eq!(fold_local("JOSE\u{301}"), "jos\u{e9}");
        assert_eq!(fold_local("jos\u{e9}"), "jos\u{e9}");
        assert_eq!(address_key("a@b@Example.org"), Some("a@b@example.org".to_owned()));
        assert_eq!(address_key("@example.org"), None);
        assert_eq!(address_key("anna"), None);
    }
}
