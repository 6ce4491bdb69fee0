//! `cases.txt`: zones, and what they say about senders.

use super::{Client, Spf, check_helo, check_mail};
use crate::trust::zone::{Zone, now};

/// Each block has a zone and lines of `CASE name address helo mail-from result[|result] [explanation]`.
fn run(cases: &str) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    for block in cases.split("\n\n") {
        let lines = || block.lines().filter(|line| !line.starts_with('#'));
        let zone: Vec<&str> = lines().filter(|line| !line.starts_with("CASE ")).collect();
        let zone = Zone::parse(&zone.join("\n"));
        for case in lines().filter_map(|line| line.strip_prefix("CASE ")) {
            count += 1;
            let words: Vec<&str> = case.splitn(6, ' ').collect();
            let [name, ip, helo, from, expected, ..] = words[..] else { unreachable!("{case}") };
            let client = Client {
                ip: ip.parse().expect("an address"),
                helo,
                receiver: "receiver.example",
                unix_s: 1_700_000_000,
            };
            let found = check(&zone, client, from);
            let explained = words.get(5).is_none_or(|text| found.explanation.as_deref().unwrap_or("DEFAULT") == *text);
            if !expected.split('|').any(|result| result == found.result.to_string()) || !explained {
                wrong.push(format!("{name}: {expected} {:?} wanted, {found:?}", words.get(5)));
            }
        }
    }
    (count, wrong)
}

fn check(zone: &Zone, client: Client<'_>, from: &str) -> Spf {
    match from.rsplit_once('@') {
        Some((local, domain)) => now(check_mail(zone, client, local, domain)),
        None if from == "<>" => now(check_helo(zone, client)),
        None => now(check_mail(zone, client, "", from)),
    }
}

#[test]
fn senders_are_judged_as_their_domains_say() {
    let (count, wrong) = run(include_str!("cases.txt"));
    assert!(count > 40);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
