//! A small server to try: everything in one folder, loopback only, ports that need no root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    admin::{Link, NewAccount, Request, Secret},
    cli::print,
    config,
    data_dir::write_private,
    failure::{Failure, refused},
    runtime::clock,
    serve,
};

/// Its only domain; `.test` is nobody's (RFC 2606 section 2).
const DOMAIN: &str = "rockdove.test";
/// Its accounts.
const NAMES: [&str; 3] = ["ada", "ben", "cleo"];
/// Letters and digits of a password that cannot be taken for each other; 32, so that five bits choose one.
const PASSWORD_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Letters of a password: 80 bits.
const PASSWORD_LENGTH: usize = 16;

const CONFIG: &str = r#"# A small Rockdove to try; docs/configuration.md explains every setting.
hostname = "mail.rockdove.test"
data_dir = "data"

[limits]
connections = 1000

[[listener]]
protocol = "smtp"
address = "127.0.0.1:2525"

[[listener]]
protocol = "submission"
address = "127.0.0.1:2587"

[[listener]]
protocol = "submission"
address = "127.0.0.1:2465"
tls = "implicit"

[[listener]]
protocol = "imap"
address = "127.0.0.1:2143"

[[listener]]
protocol = "imap"
address = "127.0.0.1:2993"
tls = "implicit"

[[listener]]
protocol = "pop3"
address = "127.0.0.1:2110"

[[listener]]
protocol = "pop3"
address = "127.0.0.1:2995"
tls = "implicit"
"#;

/// Makes what is missing in `dir`, prints the card and serves.
///
/// # Errors
/// When the folder cannot be used or the server cannot start.
pub fn run(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(refused(dir.display()))?;
    let dir = fs::canonicalize(dir).map_err(refused(dir.display()))?;
    let config_path = dir.join("rockdove.toml");
    if !config_path.exists() {
        fs::write(&config_path, CONFIG).map_err(refused(config_path.display()))?;
    }
    let config = config::read(&config_path)?;
    let card_path = dir.join("card.txt");
    // Written last, so that a card that exists tells the truth.
    if !card_path.exists() {
        let card = furnish(&config, &config_path)?;
        write_private(&card_path, card.as_bytes()).map_err(refused(card_path.display()))?;
    }
    print(&fs::read_to_string(&card_path).map_err(refused(card_path.display()))?)?;
    serve::serve(&config_path, config)
}

/// Creates the domain and the accounts; gives the card.
fn furnish(config: &config::Config, config_path: &Path) -> Result<String, Failure> {
    let mut link = Link::open(config)?;
    let mut quietly = |request| link.ask(request, &mut |_| Ok(()));
    // A start that was broken off may have left some of it.
    if let Err(Failure::Refused(why)) = quietly(Request::DomainAdd { name: DOMAIN.to_owned() })
        && !why.ends_with("exists already")
    {
        return Err(Failure::Refused(why));
    }
    let mut logins = Vec::new();
    for name in NAMES {
        let address = format!("{name}@{DOMAIN}");
        let password = made_up_password()?;
        let secret = Secret(password.clone());
        let account = NewAccount { address: address.clone(), password: secret.clone(), quota_bytes: None };
        quietly(Request::AccountAdd { accounts: vec![account] })?;
        quietly(Request::AccountPassword { address: address.clone(), password: secret })?;
        logins.push((address, password));
    }
    Ok(card(&logins, config_path))
}

fn made_up_password() -> Result<String, Failure> {
    let seed = clock::seed().map_err(refused("no randomness"))?;
    let letters = seed.iter().take(PASSWORD_LENGTH).map(|octet| char::from(PASSWORD_LETTERS[usize::from(octet % 32)]));
    Ok(letters.collect())
}

fn card(logins: &[(String, String)], config_path: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("rockdove"));
    let (program, config) = (program.display(), config_path.display());
    let accounts: String =
        logins.iter().map(|(address, password)| ["    ", address, "  ", password, "\n"].concat()).collect();
    let (address, password) = logins.first().cloned().unwrap_or_default();
    let (other, _) = logins.last().cloned().unwrap_or_default();
    format!(
        "Rockdove demo: mail for {DOMAIN}, on this machine only

  Accounts (address, which is also the login, and password)
{accounts}
  Ports on 127.0.0.1 (the certificate is self-signed: tell your mail program to trust it)
    SMTP 2525; submission 2587 (STARTTLS), 2465 (TLS); IMAP 2143 (STARTTLS), 2993 (TLS); POP3 2110 (STLS), 2995 (TLS)

  Send a message, as another mail server would
    swaks --server 127.0.0.1:2525 --from you@example.com --to {address}
  Send one as {address}
    swaks --server 127.0.0.1:2587 --tls --auth-user {address} --auth-password {password} --from {address} --to {other}
  Read the first message
    curl --insecure --user {address}:{password} 'imaps://127.0.0.1:2993/INBOX;MAILINDEX=1'
    curl --insecure --user {address}:{password} pop3s://127.0.0.1:2995/1

  Administration, while it runs
    {program} -c {config} status
    {program} -c {config} account list

  Stop with Ctrl-C; the next start finds everything again. Start over by removing {}.

",
        config_path.parent().unwrap_or(config_path).display()
    )
}
