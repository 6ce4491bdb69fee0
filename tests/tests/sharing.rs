//! Many clients at once on mailboxes that they share: every answer fits the protocol, and the store is whole afterwards.

use rockdove_tests::{Door, Io, Server, Setup, Until, crowd, on_both};

on_both!(a_crowd_shares_mailboxes);

fn a_crowd_shares_mailboxes(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Imap]));
    let lived = crowd(&server, 40, Until::Commands(120));
    assert!(lived.done > 1_000 && lived.refused > 100, "{lived:?}");
    server.fsck();
}
