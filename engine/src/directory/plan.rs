//! What a directory command would change.

use super::{
    ALIAS_TARGETS_MAX, AccountRecord, AliasRecord, Directory, DomainRecord, RESOLVED_TARGETS_MAX,
    names::{LOCAL_PART_OCTETS_MAX, domain_key, key_of},
    record,
};
use crate::{
    command::{AccountId, Command, Credential, EngineError, Outcome, QuotaLimits},
    kv::{Batch, Family, keys},
};

/// A change that is ready to be written.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The rows.
    pub batch: Batch,
    /// The directory afterwards; publish it when the batch is durable.
    pub next: Directory,
    /// What to answer then.
    pub outcome: Outcome,
    /// The account whose mailboxes must be created in the same batch.
    pub created: Option<AccountId>,
    /// The account whose mail must be removed in the same batch.
    pub removed: Option<AccountId>,
}

/// Works out what `command` changes. The directory itself stays as it is. A command that is not about the directory is
/// [`EngineError::Invalid`].
pub fn plan(command: &Command, directory: &Directory, now_unix_s: i64) -> Result<Planned, EngineError> {
    let mut planned = Planned {
        batch: Batch::default(),
        next: directory.clone(),
        outcome: Outcome::Done,
        created: None,
        removed: None,
    };
    match command {
        Command::CreateDomain { domain } => planned.create_domain(domain, now_unix_s)?,
        Command::RemoveDomain { domain } => planned.remove_domain(domain)?,
        Command::SetCatchAll { domain, target } => planned.set_catch_all(domain, target.as_deref())?,
        Command::CreateAccount { address, credential, quota_bytes } => {
            planned.create_account(address, credential, *quota_bytes, now_unix_s)?;
        }
        Command::RemoveAccount { address } => planned.remove_account(address)?,
        Command::SetCredential { address, credential } => {
            planned.change_account(address, |account| account.credential = credential.clone())?;
        }
        Command::SetQuota { address, quota_bytes } => {
            planned.change_account(address, |account| account.quota_bytes = *quota_bytes)?;
        }
        Command::SetQuotaLimits { account, limits } => planned.set_limits(*account, *limits)?,
        Command::CreateGroup { group } => planned.create_group(group)?,
        Command::RemoveGroup { group } => planned.remove_group(group)?,
        Command::SetGroupMember { group, address, member } => planned.set_member(group, address, *member)?,
        Command::SetPublicAccount { domain, address } => planned.set_public(domain, address.as_deref())?,
        Command::SetAlias { alias, targets } => planned.set_alias(alias, targets)?,
        Command::RemoveAlias { alias } => planned.remove_alias(alias)?,
        Command::SetForward { address, targets, keep } => planned.set_forward(address, targets, *keep)?,
        Command::SetSigningKey { key } => planned.set_signing_key(key)?,
        Command::RemoveSigningKey { domain, selector } => planned.remove_signing_key(domain, selector)?,
        _ => return Err(EngineError::Invalid("not a command for the directory".to_owned())),
    }
    Ok(planned)
}

/// An address in the forms that are needed here.
struct Name {
    local: String,
    domain: String,
    /// As it is shown: local part as given, domain normalised.
    shown: String,
    /// As it is compared.
    key: String,
}

impl Planned {
    fn create_domain(&mut self, domain: &str, now_unix_s: i64) -> Result<(), EngineError> {
        let name = domain_name(domain)?;
        if self.next.domains.get(&*name).is_some() {
            return Err(EngineError::Exists(format!("domain {name}")));
        }
        self.put_domain(DomainRecord { name, created_unix_s: now_unix_s, catch_all: None });
        Ok(())
    }

    fn remove_domain(&mut self, domain: &str) -> Result<(), EngineError> {
        let name = domain_name(domain)?;
        let found = self.next.domains.get(&*name).ok_or_else(|| missing_domain(&name))?;
        if found.accounts > 0 || found.aliases > 0 {
            let (accounts, aliases) = (found.accounts, found.aliases);
            let what = format!("domain {name} still has {accounts} accounts and {aliases} aliases; remove them first");
            return Err(EngineError::Invalid(what));
        }
        self.put_public(&name, None);
        self.remove_signing_keys(&name);
        self.batch.delete(Family::Sys, keys::domain(&name));
        self.next.remove_domain(&name);
        Ok(())
    }

    fn set_catch_all(&mut self, domain: &str, target: Option<&str>) -> Result<(), EngineError> {
        let name = domain_name(domain)?;
        let found = self.next.domains.get(&*name).ok_or_else(|| missing_domain(&name))?;
        let mut record = DomainRecord::clone(&found.record);
        record.catch_all = target.map(|target| self.local_target(target)).transpose()?;
        self.put_domain(record);
        Ok(())
    }

    fn create_account(
        &mut self,
        address: &str,
        credential: &Credential,
        quota_bytes: Option<u64>,
        now_unix_s: i64,
    ) -> Result<(), EngineError> {
        let name = self.free_address(address)?;
        let id = AccountId(self.next.next_account);
        let next = id.0.checked_add(1).ok_or_else(|| EngineError::Limit("no account ids are left".to_owned()))?;
        let credential = credential.clone();
        let created_unix_s = now_unix_s;
        self.batch.put(Family::Sys, keys::allocator(super::ACCOUNT_ALLOCATOR), record::encode_allocator(next));
        self.put_account(AccountRecord {
            id,
            address: name.shown,
            credential,
            quota_bytes,
            quota_messages: None,
            quota_mailboxes: None,
            created_unix_s,
        });
        self.created = Some(id);
        self.outcome = Outcome::Account(id);
        Ok(())
    }

    fn remove_account(&mut self, address: &str) -> Result<(), EngineError> {
        let id = self.account(address)?.id;
        self.batch.delete(Family::Sys, keys::account(id.0));
        self.leave_circles(id);
        self.remove_forward(id);
        self.next.remove_account(id);
        self.removed = Some(id);
        Ok(())
    }

    fn change_account(&mut self, address: &str, change: impl FnOnce(&mut AccountRecord)) -> Result<(), EngineError> {
        let mut record = self.account(address)?.clone();
        change(&mut record);
        self.put_account(record);
        Ok(())
    }

    fn set_limits(&mut self, account: AccountId, limits: QuotaLimits) -> Result<(), EngineError> {
        let missing = || EngineError::NotFound(format!("account {}", account.0));
        let mut record = self.next.account(account).ok_or_else(missing)?.clone();
        record.quota_bytes = limits.bytes;
        record.quota_messages = limits.messages;
        record.quota_mailboxes = limits.mailboxes;
        self.put_account(record);
        Ok(())
    }

    fn set_alias(&mut self, alias: &str, targets: &[String]) -> Result<(), EngineError> {
        let name = self.local_name(alias)?;
        if self.next.logins.get(&*name.key).is_some() {
            return Err(EngineError::Exists(format!("account {}", name.shown)));
        }
        if targets.is_empty() {
            return Err(EngineError::Invalid(format!("alias {} needs a target", name.shown)));
        }
        if targets.len() > ALIAS_TARGETS_MAX {
            return Err(EngineError::Limit(format!("an alias has at most {ALIAS_TARGETS_MAX} targets")));
        }
        let targets = targets.iter().map(|target| self.target(target)).collect::<Result<Vec<_>, _>>()?;
        if self.next.expand(&name.key, &targets).is_none() {
            let what = format!(
                "alias {} leads back to itself, through too many aliases, or to more than \
                {RESOLVED_TARGETS_MAX} addresses",
                name.shown
            );
            return Err(EngineError::Invalid(what));
        }
        let record = AliasRecord { address: name.shown, targets };
        self.batch.put(Family::Sys, keys::alias(&name.key), record.encode());
        self.next.put_alias(record);
        Ok(())
    }

    fn remove_alias(&mut self, alias: &str) -> Result<(), EngineError> {
        let name = parsed(alias)?;
        if self.next.aliases.get(&*name.key).is_none() {
            return Err(EngineError::NotFound(format!("alias {}", name.shown)));
        }
        self.batch.delete(Family::Sys, keys::alias(&name.key));
        self.next.remove_alias(&name.key);
        Ok(())
    }

    fn put_domain(&mut self, record: DomainRecord) {
        self.batch.put(Family::Sys, keys::domain(&record.name), record.encode());
        self.next.put_domain(record);
    }

    fn put_account(&mut self, record: AccountRecord) {
        self.batch.put(Family::Sys, keys::account(record.id.0), record.encode());
        self.next.put_account(record);
    }

    pub(super) fn account(&self, address: &str) -> Result<&AccountRecord, EngineError> {
        let missing = || EngineError::NotFound(format!("account {address}"));
        self.next.account_by_login(address).ok_or_else(missing)
    }

    /// An address in one of our domains.
    fn local_name(&self, address: &str) -> Result<Name, EngineError> {
        let name = parsed(address)?;
        if self.next.domains.get(&*name.domain).is_none() {
            return Err(missing_domain(&name.domain));
        }
        Ok(name)
    }

    /// An address in one of our domains that nobody has.
    fn free_address(&self, address: &str) -> Result<Name, EngineError> {
        let name = self.local_name(address)?;
        if self.next.logins.get(&*name.key).is_some() {
            return Err(EngineError::Exists(format!("account {}", name.shown)));
        }
        if self.next.aliases.get(&*name.key).is_some() {
            return Err(EngineError::Exists(format!("alias {}", name.shown)));
        }
        Ok(name)
    }

    /// An address that mail may be led to, as it is stored: one of ours that somebody has, or any elsewhere.
    pub(super) fn target(&self, address: &str) -> Result<String, EngineError> {
        let name = parsed(address)?;
        if self.next.domains.get(&*name.domain).is_some() { self.local_target(address) } else { Ok(name.shown) }
    }

    /// An address in one of our domains that somebody has, as it is stored in an alias.
    fn local_target(&self, address: &str) -> Result<String, EngineError> {
        let name = self.local_name(address)?;
        if self.next.is_taken(&name.local, &name.domain) {
            Ok(name.shown)
        } else {
            Err(EngineError::NotFound(format!("account or alias {}", name.shown)))
        }
    }
}

pub(super) fn missing_domain(name: &str) -> EngineError {
    EngineError::NotFound(format!("domain {name}"))
}

pub(super) fn domain_name(domain: &str) -> Result<String, EngineError> {
    domain_key(domain).ok_or_else(|| EngineError::Invalid(format!("{domain:?} is not a domain name")))
}

fn parsed(address: &str) -> Result<Name, EngineError> {
    let invalid = || EngineError::Invalid(format!("{address:?} is not an address"));
    let (local, domain) = address.rsplit_once('@').ok_or_else(invalid)?;
    if local.len() > LOCAL_PART_OCTETS_MAX {
        return Err(EngineError::Limit(format!("a local part has at most {LOCAL_PART_OCTETS_MAX} octets")));
    }
    //= rfc5321#section-4.1.2
    //# a host that expects to receive mail SHOULD avoid
    //# defining mailboxes where the Local-part requires (or uses) the
    //# Quoted-string form
    if !is_dot_string(local) {
        return Err(invalid());
    }
    let domain = domain_key(domain).ok_or_else(invalid)?;
    let key = key_of(local, &domain).ok_or_else(invalid)?;
    Ok(Name { shown: format!("{local}@{domain}"), local: local.to_owned(), domain, key })
}

/// The form of a local part without quotes (RFC 5321 section 4.1.2), with the letters of RFC 6531 section 3.3.
fn is_dot_string(local: &str) -> bool {
    let atext =
        |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control());
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(atext))
}
