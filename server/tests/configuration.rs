//! The configuration: the page that explains it says what the program does, and mistakes are named with their place.

use std::{collections::BTreeMap, path::Path};

use rockdove::config::{self, Config};

const PAGE: &str = include_str!("../../docs/configuration.md");
const SHORTEST: &str = "hostname = \"mail.example.org\"\ndata_dir = \"/var/lib/rockdove\"\n";

fn parse(text: &str) -> Result<Config, String> {
    config::parse(text, Path::new("/etc/rockdove/rockdove.toml")).map_err(|problems| problems.to_string())
}

/// The settings that the program knows: it lists them when it meets one that it does not know.
fn known(section: &str) -> Vec<String> {
    let text = match section {
        "" => "no_such_setting = 1\n".to_owned(),
        section => format!("{SHORTEST}{section}\nno_such_setting = 1\n"),
    };
    let problem = parse(&text).expect_err("an unknown setting");
    let (_, list) = problem.split_once("expected").expect("a list");
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the page's tables, by section: setting, default, live.
fn explained() -> BTreeMap<String, Vec<[String; 3]>> {
    let mut sections = BTreeMap::new();
    let mut section = String::new();
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = if heading == "Top level" { String::new() } else { heading.trim_matches('`').to_owned() };
        } else if line.starts_with("| `") {
            let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
            let mut next = || cells.next().expect("a cell");
            sections.entry(section.clone()).or_insert_with(Vec::new).push([next(), next(), next()]);
        }
    }
    sections
}

/// Settings that have no default.
const OPTIONAL: [&str; 8] =
    ["memory", "source_v4", "source_v6", "tls_roots", "tls_reports_from", "trust_anchor", "authserv_id", "report_from"];

/// Everything in brackets.
const SECTIONS: [&str; 24] = [
    "[tls]",
    "[[listener]]",
    "[limits]",
    "[timeouts]",
    "[login]",
    "[runtime]",
    "[store]",
    "[outbound]",
    "[[route]]",
    "[dns]",
    "[gate]",
    "[[dnsbl]]",
    "[greylist]",
    "[[limit]]",
    "[inspect]",
    "[spam]",
    "[trust]",
    "[clamd]",
    "[rspamd]",
    "[[milter]]",
    "[quarantine]",
    "[forwarding]",
    "[trace]",
    "[log]",
];

/// The text between the fences of the page's TOML blocks.
fn blocks() -> Vec<&'static str> {
    PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_page_explains_every_setting_and_no_other() {
    let page = explained();
    let mut top = known("");
    top.retain(|name| !SECTIONS.iter().any(|section| section.trim_matches(['[', ']']) == name));
    let sections = SECTIONS;
    assert_eq!(known("").len(), top.len() + sections.len(), "a section is missing in this test: {:?}", known(""));
    let names = |section: &str| -> Vec<String> { page[section].iter().map(|[name, ..]| name.clone()).collect() };
    assert_eq!(names(""), top);
    for section in sections {
        assert_eq!(names(section), known(section), "{section}");
    }
    assert_eq!(page.len(), sections.len() + 1, "a section of the page is not known");
}

#[test]
fn the_page_has_the_defaults() {
    let blocks = blocks();
    assert_eq!(blocks[0], SHORTEST);
    let shortest = parse(SHORTEST).expect("the shortest file");
    let whole = parse(&format!("{SHORTEST}{}", blocks[1])).expect("every section");
    assert_eq!(whole, shortest);
    let block: toml::Table = blocks[1].parse().expect("TOML");
    for (section, rows) in explained() {
        let Some(table) = section.strip_prefix('[').and_then(|name| block.get(name.strip_suffix(']')?)) else {
            continue;
        };
        for [name, default, _] in rows.iter().filter(|[name, ..]| !OPTIONAL.contains(&name.as_str())) {
            let value = table.get(name).unwrap_or_else(|| panic!("{section} {name} is missing in the block"));
            assert_eq!(&value.to_string(), default, "{section} {name}");
        }
    }
}

#[test]
fn the_page_knows_what_a_reload_changes() {
    let running = parse(SHORTEST).expect("the shortest file");
    // Another value of each setting that stands alone.
    let changed = [
        ("", "user = \"mail\"", vec!["user"]),
        ("[limits]", "message_size = \"1 MiB\"", vec![]),
        ("[limits]", "connections = 5", vec![]),
        ("[timeouts]", "smtp_command = \"1 min\"", vec![]),
        ("[timeouts]", "shutdown = \"1 s\"", vec!["timeouts.shutdown"]),
        ("[login]", "clear_text = \"never\"", vec![]),
        ("[login]", "remember = \"1 s\"", vec!["login.remember"]),
        ("[login]", "failures_per_login = 1", vec![]),
        ("[runtime]", "workers = 3", vec!["runtime"]),
        ("[store]", "memory = \"1 GiB\"", vec!["store.memory"]),
        ("[store]", "free_space_min = \"1 GiB\"", vec![]),
        ("[outbound]", "port = 26", vec!["outbound"]),
        ("[quarantine]", "keep = \"1 d\"", vec![]),
        ("[dns]", "timeout = \"1 s\"", vec!["dns"]),
        ("[gate]", "greet_delay = \"2 s\"", vec![]),
        ("[greylist]", "enabled = true", vec![]),
        ("[[limit]]", "name = \"guesses\"\nmost = 0", vec![]),
        ("[[dnsbl]]", "zone = \"list.example\"", vec![]),
        ("[log]", "level = \"debug\"", vec!["log"]),
    ];
    let page = explained();
    for (section, line, want) in changed {
        let new = parse(&format!("{SHORTEST}{section}\n{line}\n")).expect(line);
        assert_eq!(config::not_live(&running, &new), want, "{section} {line}");
        let name = line.split(' ').next().expect("a name");
        let [_, _, live] = page[section].iter().find(|[row, ..]| row == name).expect("a row");
        assert_eq!(live == "yes", want.is_empty(), "{section} {name} on the page");
    }
}

fn limit(per: &str, count: &str) -> String {
    format!("[[limit]]\nname = \"x\"\nper = \"{per}\"\ncount = \"{count}\"\nmost = 5\nevery = \"1 h\"\n")
}

#[test]
fn limits_of_the_file_replace_implied_ones_of_their_name() {
    let implied = parse(SHORTEST).expect("the shortest file").rates;
    let page: Vec<&str> =
        PAGE.lines().filter(|line| line.contains("| smtp |") || line.contains("| submission |")).collect();
    for (limit, row) in implied.iter().zip(&page) {
        let (per, counted) = (format!("{:?}", limit.per), format!("{:?}", limit.counted));
        let wanted = [
            limit.name.clone(),
            limit.protocol.to_string(),
            per,
            counted,
            limit.most.to_string(),
            limit.every.to_string(),
        ];
        let cells = row.trim_matches('|').split('|').map(|cell| cell.trim().replace('_', "").to_lowercase());
        let same = cells.eq(wanted.iter().map(|cell| cell.to_lowercase()));
        assert!(same, "{row}\n{wanted:?}");
    }
    assert_eq!(page.len(), implied.len());
    let text = "[[limit]]\nname = \"messages\"\nmost = 7\n[[limit]]\nname = \"guesses\"\nmost = 0\n\
                [[limit]]\nname = \"mine\"\nper = \"network\"\ncount = \"octets\"\nmost = \"1 MiB\"\nevery = \"1 h\"\n";
    let rates = parse(&format!("{SHORTEST}{text}")).expect("three limits").rates;
    let names: Vec<&str> = rates.iter().map(|rate| rate.name.as_str()).collect();
    assert_eq!(names, ["connections", "account-messages", "account-recipients", "messages", "mine"]);
    let (messages, before) = (&rates[3], &implied[1]);
    assert_eq!((messages.most, messages.burst, messages.every), (7, 7, before.every));
    assert_eq!((rates[4].most, rates[4].burst), (1 << 20, 1 << 20));
}

#[test]
fn mistakes_are_named_with_line_and_column() {
    for (text, place, what) in [
        ("hostname = \"mail.example.org\"", "1:1", "data_dir"),
        ("hostname = mail", "1:12", ""),
        (&format!("{SHORTEST}colour = \"red\"\n"), "3:1", "colour"),
        (&SHORTEST.replace("mail.example.org", "mail example"), "1:12", "is not a host name"),
        (&SHORTEST.replace("/var/lib/rockdove", ""), "2:12", "data_dir is empty"),
        (&format!("{SHORTEST}group = \"mail\"\n"), "3:9", "set user too"),
        (&format!("{SHORTEST}[limits]\nmessage_size = \"1 KiB\"\n"), "3:1", "at least \"64 KiB\""),
        (&format!("{SHORTEST}[limits]\nmessage_size = \"2 GiB\"\n"), "3:1", "at most \"1 GiB\""),
        (&format!("{SHORTEST}[limits]\nmessage_size = 5\n"), "4:16", ""),
        (&format!("{SHORTEST}[limits]\nrecipients = 10\n"), "3:1", "at least 100"),
        (&format!("{SHORTEST}[timeouts]\nimap_autologout = \"5 min\"\n"), "3:1", "at least \"30 min\""),
        (&format!("{SHORTEST}[timeouts]\nsmtp_command = \"5\"\n"), "4:16", "is not a time"),
        (&format!("{SHORTEST}[clamd]\naddress = \"nowhere\"\n"), "4:11", "is no address"),
        (&format!("{SHORTEST}[clamd]\naddress = \"h:1\"\ntimeout = \"0 s\"\n"), "3:1", "clamd: connections"),
        (
            &format!("{SHORTEST}{}", "[[milter]]\nname = \"a\"\naddress = \"h:1\"\n".repeat(2)),
            "3:1",
            "two milters called a",
        ),
        (&format!("{SHORTEST}[tls]\nkey = \"k.pem\"\n"), "3:1", "needs both"),
        (&format!("{SHORTEST}[runtime]\nio = \"kqueue\"\n"), "4:6", "kqueue"),
        (&format!("{SHORTEST}[[listener]]\nprotocol = \"imap\"\naddress = \"here:143\"\n"), "5:11", "not an address"),
        (&format!("{SHORTEST}[[listener]]\nprotocol = \"http\"\naddress = \"[::]:80\"\n"), "4:12", "http"),
        (
            &format!("{SHORTEST}[[listener]]\nprotocol = \"lmtp\"\naddress = \"unix:/l\"\ntls = \"starttls\"\n"),
            "6:7",
            "no use",
        ),
        (
            &format!("{SHORTEST}[[listener]]\nprotocol = \"smtp\"\naddress = \"[::]:25\"\nproxy_protocol = true\n"),
            "6:18",
            "proxy_trusted",
        ),
        (&format!("{SHORTEST}[gate]\ngreet_delay = \"2 min\"\n"), "3:1", "at most \"1 min\""),
        (&format!("{SHORTEST}[gate]\ndnsbl_refuse_at = 0\n"), "3:1", "everybody"),
        (&format!("{SHORTEST}[gate]\ntrusted = [\"10/8\"]\n"), "4:11", "is not a network"),
        (&format!("{SHORTEST}[greylist]\ndelay = \"3 d\"\n"), "3:1", "less than retry_within"),
        (&format!("{SHORTEST}[[limit]]\nname = \"x\"\nmost = 1\n"), "3:1", "needs per, count, most and every"),
        (&format!("{SHORTEST}{}", limit("account", "octets")), "3:1", "submission only"),
        (&format!("{SHORTEST}{}", limit("recipient_domain", "octets")), "3:1", "all that can be counted"),
        (&format!("{SHORTEST}{}", limit("sender_domain", "connections")), "3:1", "addresses and networks"),
        (&format!("{SHORTEST}{}", limit("network", "octets").repeat(2)), "9:1", "two limits called x"),
        (&format!("{SHORTEST}[[dnsbl]]\nzone = \"a..b\"\n"), "3:1", "is not the name of a zone"),
        (
            &format!("{SHORTEST}{}", "[[listener]]\nprotocol = \"smtp\"\naddress = \"[::]:25\"\n".repeat(2)),
            "8:11",
            "twice",
        ),
    ] {
        let problem = parse(text).expect_err(text);
        let first = problem.lines().next().expect("a line");
        let start = format!("/etc/rockdove/rockdove.toml:{place}: ");
        assert!(first.starts_with(&start) && problem.contains(what), "{text}\n{problem}\nexpected {start}...{what}");
    }
}

#[test]
fn every_mistake_is_named_at_once_in_the_order_of_the_file() {
    let text = "hostname = \"a b\"\ndata_dir = \"\"\n[limits]\nrecipients = 1\nconnections = 0\n";
    let problems = config::parse(text, Path::new("x.toml")).expect_err("mistakes").0;
    let places: Vec<_> = problems.iter().map(|problem| problem.place).collect();
    assert_eq!(places, [Some((1, 12)), Some((2, 12)), Some((3, 1)), Some((3, 1))]);
}
