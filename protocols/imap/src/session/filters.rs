//! FILTER: searches that have a name (RFC 5466). Their text is an annotation of the server.

use bytes::Bytes;
use rockdove_mail::{MailboxName, MetadataEntry};

use super::{ImapSession, purpose::Purpose};
use crate::{
    ask::Ask,
    command::{Command, FindForm, SearchProgram},
    grammar::parse_filter,
    limits::{FILTER_PASSES_MAX, SEARCH_DEPTH_MAX, SEARCH_KEYS_MAX},
};

/// Above the annotations that are filters, in the order in which they are looked for.
const ROOTS: [&str; 2] = ["/private/filters/values", "/shared/filters/values"];

/// Why a search with filters cannot be done.
enum Trouble {
    /// There is no such filter, or it is no search.
    Undefined(String),
    /// It is too much.
    TooMuch(&'static str),
}

/// Filters that take the place of their names.
struct Filling<'a> {
    annotations: &'a [(MetadataEntry, Bytes)],
    keys_left: usize,
}

impl Filling<'_> {
    //= rfc5466#section-1
    //# If both
    //# filter types with the same name exist, the FILTER SEARCH criterion
    //# (see Section 3.1) MUST use the value of the private filter
    fn named(&self, name: &str) -> Option<SearchProgram> {
        let value = ROOTS.iter().find_map(|root| {
            let wanted = MetadataEntry::parse(&format!("{root}/{name}"))?;
            self.annotations.iter().find(|(entry, _)| *entry == wanted).map(|(_, value)| value)
        })?;
        parse_filter(value)
    }

    /// The condition without names of filters.
    fn fill(&mut self, program: SearchProgram, passes: usize, depth: usize) -> Result<SearchProgram, Trouble> {
        self.keys_left = self.keys_left.checked_sub(1).ok_or(Trouble::TooMuch("the search has too many keys"))?;
        let deeper = depth.saturating_add(1);
        if deeper > SEARCH_DEPTH_MAX {
            return Err(Trouble::TooMuch("the search is too deep"));
        }
        let mut inner = |program: Box<SearchProgram>| self.fill(*program, passes, deeper).map(Box::new);
        Ok(match program {
            SearchProgram::And(all) => {
                let all = all.into_iter().map(|key| self.fill(key, passes, deeper));
                SearchProgram::And(all.collect::<Result<_, _>>()?)
            }
            SearchProgram::Or(one, other) => SearchProgram::Or(inner(one)?, inner(other)?),
            SearchProgram::Not(one) => SearchProgram::Not(inner(one)?),
            SearchProgram::Fuzzy(one) => SearchProgram::Fuzzy(inner(one)?),
            //= rfc5466#section-3.1
            //# If an implementation detects a loop or still sees a
            //# FILTER search-key after performing at least 3 substitutions, it MUST
            //# behave as if the specified filter doesn't exist
            SearchProgram::Filter(name) => {
                let left = passes.checked_sub(1);
                let found = left.and_then(|left| Some((left, self.named(&name)?)));
                let (left, program) = found.ok_or(Trouble::Undefined(name))?;
                self.fill(program, left, deeper)?
            }
            plain => plain,
        })
    }
}

/// The condition of a search.
fn program_of(command: &mut Command) -> Option<&mut SearchProgram> {
    match command {
        Command::Search { key, .. } => Some(key),
        Command::Find(find) => Some(&mut find.key),
        Command::MultiSearch(search) => Some(&mut search.key),
        _ => None,
    }
}

impl Command {
    /// Whether the result of a search is to be saved.
    pub(super) fn saves(&self) -> bool {
        match self {
            Self::Find(find) => match &find.form {
                FindForm::Extended(returns) | FindForm::ExtendedSort(_, returns) => returns.save,
                _ => false,
            },
            Self::MultiSearch(search) => search.returns.save,
            _ => false,
        }
    }
}

fn charset_of(command: &Command) -> Option<&str> {
    match command {
        Command::Search { charset, .. } => charset.as_deref(),
        Command::Find(find) => find.charset.as_deref(),
        Command::MultiSearch(search) => search.charset.as_deref(),
        _ => None,
    }
}

impl ImapSession {
    /// Carries out a search once the filters that it names are known; gives back what names none.
    pub(super) fn with_filters(&mut self, mut command: Command) -> Option<Command> {
        let names_filters = |program: &mut SearchProgram| program.any(&|key| matches!(key, SearchProgram::Filter(_)));
        if !program_of(&mut command).is_some_and(names_filters) {
            return Some(command);
        }
        //= rfc5466#section-3.1
        //# If the SEARCH/UID SEARCH
        //# command includes the explicit CHARSET parameter with the value other
        //# than "UTF-8" or "US-ASCII", then such command MUST result in the
        //# tagged BAD response from the server.
        if charset_of(&command).is_some_and(|charset| !matches!(charset, "UTF-8" | "US-ASCII")) {
            self.bad("[BADCHARSET (US-ASCII UTF-8)] filters are in UTF-8");
            return None;
        }
        self.ask(Ask::Metadata { mailbox: None }, Purpose::Filters(Box::new(command)));
        None
    }

    /// The filters are known.
    pub(super) fn filters_answer(&mut self, mut command: Command, annotations: &[(MetadataEntry, Bytes)]) {
        let mut filling = Filling { annotations, keys_left: SEARCH_KEYS_MAX };
        let Some(program) = program_of(&mut command) else { return self.bad("not now") };
        let filled = filling.fill(std::mem::replace(program, SearchProgram::All), FILTER_PASSES_MAX, 0);
        match filled {
            Ok(filled) => {
                *program = filled;
                self.command(command);
            }
            //= rfc5466#section-3.1
            //# MUST cause failure of the SEARCH command
            //# with the tagged NO response that includes the UNDEFINED-FILTER
            //# response code followed by the name of the nonexistent/unaccessible
            //# filter.
            Err(Trouble::Undefined(name)) => {
                self.forget_saved(command.saves());
                self.complete(format!("NO [UNDEFINED-FILTER {name}] there is no such filter"));
            }
            Err(Trouble::TooMuch(why)) => self.bad(why),
        }
    }
}

//= rfc5466#section-3.2
//# The server SHOULD verify that each search criterion stored
//# in such a server entry is a full and correct search criterion.
/// Whether one of these annotations would be a filter that is no search.
pub(super) fn has_wrong_filter(mailbox: Option<&MailboxName>, entries: &[(MetadataEntry, Option<Bytes>)]) -> bool {
    let root =
        |entry: &MetadataEntry| entry.path().strip_prefix("/filters/values/").is_some_and(|name| !name.contains('/'));
    mailbox.is_none()
        && entries
            .iter()
            .filter(|(entry, _)| root(entry))
            .any(|(_, value)| value.as_ref().is_some_and(|value| parse_filter(value).is_none()))
}
