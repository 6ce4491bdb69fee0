//! Distribution lists.

use std::io;

use rockdove_engine::{
    Command, EngineError,
    directory::{ListRecord, Posting},
};

use super::{
    execute::{Emit, Host},
    request::{ListFacts, Reply, Request},
};

/// Carries out a request of this kind.
pub(super) fn carry_out(host: &Host, request: Request, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let (command, line) = match request {
        Request::ListShow { list } => return show(host, list.as_deref(), emit),
        Request::ListSet { list, owner, posting, posters, is_new } => {
            let line = format!("list {list} {}", if is_new { "added" } else { "changed" });
            match record(host, list, owner, posting.as_deref(), posters) {
                Ok(list) => (Command::SetList { list: Box::new(list), is_new }, line),
                Err(why) => return Ok(Err(why)),
            }
        }
        Request::ListRemove { list } => {
            let line = format!("list {list} removed");
            (Command::RemoveList { list }, line)
        }
        Request::ListMembers { list, members, member } => {
            let what = if member { "added to" } else { "removed from" };
            let line = format!("{} members {what} {list}", members.len());
            (Command::SetListMembers { list, members, member }, line)
        }
        _ => return Ok(Err("not a request about distribution lists".to_owned())),
    };
    Ok(host.run(command).map(|_| line).map_err(|error| match error {
        EngineError::NotFound(_) => format!("{error}; `rockdove list list` shows what there is"),
        _ => error.to_string(),
    }))
}

/// What is given, and what is not as it was.
fn record(
    host: &Host,
    list: String,
    owner: Option<String>,
    posting: Option<&str>,
    posters: Option<Vec<String>>,
) -> Result<ListRecord, String> {
    let before = host.engine.directory().list(&list).cloned();
    let posting = match posting {
        Some("anyone") => Some(Posting::Anyone),
        Some("members") => Some(Posting::Members),
        Some("owner") => Some(Posting::Owner),
        Some(other) => return Err(format!("{other} may not post: say anyone, members or owner")),
        None => None,
    };
    let owner = owner.or_else(|| before.as_ref().map(|list| list.owner.clone()));
    Ok(ListRecord {
        owner: owner.ok_or("a list needs an owner")?,
        posting: posting.or_else(|| before.as_ref().map(|list| list.posting)).unwrap_or(Posting::Members),
        posters: posters.or_else(|| before.map(|list| list.posters)).unwrap_or_default(),
        address: list,
    })
}

fn show(host: &Host, list: Option<&str>, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let directory = host.engine.directory();
    let facts = |record: &ListRecord, count: usize, members: Vec<String>| {
        let posting = match record.posting {
            Posting::Anyone => "anyone",
            Posting::Members => "members",
            Posting::Owner => "owner",
        };
        Reply::List(ListFacts {
            list: record.address.clone(),
            owner: record.owner.clone(),
            posting: posting.to_owned(),
            posters: record.posters.clone(),
            count,
            members,
        })
    };
    let Some(address) = list else {
        directory.lists().into_iter().try_for_each(|(record, count)| emit(facts(record, count, Vec::new())))?;
        return Ok(Ok(String::new()));
    };
    let Some(record) = directory.list(address) else {
        return Ok(Err(format!("list {address} does not exist; `rockdove list list` shows what there is")));
    };
    let members: Vec<String> = directory.list_members(address).map(str::to_owned).collect();
    emit(facts(record, members.len(), members))?;
    Ok(Ok(String::new()))
}
