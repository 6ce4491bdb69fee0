//! The black-box tests of the whole house.
//!
//! * What: starts the real binary, talks to it as a client would, and holds the sources to the house rules.
//! * In: the built binary, the sources, mail programs of the machine.
//! * Out: test results.
//! * Never: is imported by anything; skips a test because something is missing.
//! * Fails: as a test does, saying what to do about it.
#![allow(clippy::disallowed_methods, reason = "a test waits for another process, so it reads the clock")]

mod authority;
mod binary;
mod bind;
mod crowd;
mod dice;
mod https;
mod imap;
mod pop3;
mod postfix;
mod program;
mod scanner;
mod server;
mod sink;
mod smtp;
mod submission;
mod talk;
mod transcript;
mod wait;
mod wire;
mod zone;

pub use authority::{Authority, Identity, sha256};
pub use binary::binary;
pub use bind::{Bind, SignedZone, Signing};
pub use crowd::{Lived, Until, crowd};
pub use dice::Dice;
pub use https::Https;
pub use imap::{Imap, Reply};
pub use pop3::Pop3;
pub use postfix::Postfix;
pub use program::{Ran, client_script, dkim_tool, program};
pub use scanner::{Kind, Scanner, eicar, gtube};
pub use server::{DOMAIN, Door, Io, PASSWORD, Server, Setup, at};
pub use sink::{End, Manner, OnEnd, OnRecipient, Received, Sink};
pub use smtp::Smtp;
pub use submission::{Submission, queue, replies};
pub use talk::Talk;
pub use transcript::play;
pub use wait::{wait_for, wait_until};
pub use wire::{Wire, certificate_of};
pub use zone::Zone;

/// Makes two tests of one function, one for each way sockets are driven.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod io_uring {
            $(#[test]
            fn $name() {
                super::$name($crate::Io::IoUring);
            })+
        }
        mod epoll {
            $(#[test]
            fn $name() {
                super::$name($crate::Io::Epoll);
            })+
        }
    };
}
