//! FETCH: what can be asked of messages, and how the responses are written, page by page.
//!
//! * What: the items of a FETCH ([`FetchRequest`]) and the writer of its responses ([`render_page`]).
//! * In: a request, a cursor, and messages as a [`MessageSource`] shows them.
//! * Out: octets for the client, and the cursor of the next page.
//! * Never: holds more than about one page, or copies a message's octets more than the source does.
//! * Fails: a message that is gone before its response began is passed over and counted; one that breaks off inside a
//!   literal ends the connection, because half a literal cannot be taken back.

mod binary;
mod render;
mod request;

pub use render::{FetchCursor, FetchFailure, MessageFacts, MessageSource, Rendered, render_page};
pub use request::{FetchItem, FetchNews, FetchRequest, Section, SectionText};
