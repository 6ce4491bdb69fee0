//! Which front serves which protocol.

use std::{future::Future, pin::Pin, sync::Arc};

use crate::{
    fronts::{imap, pop3, smtp},
    net::{
        drive::{Ended, drive},
        listeners::Protocol,
        serve::{Carry, Opening},
    },
    services::Services,
};

/// Opens the session and the front of a connection, and drives them to the end.
pub(super) fn carry(services: &Arc<Services>) -> Arc<Carry> {
    let services = Arc::clone(services);
    Arc::new(move |opening| carry_one(&services, opening))
}

fn carry_one(services: &Arc<Services>, opening: Opening) -> Pin<Box<dyn Future<Output = Ended>>> {
    let Opening { listener, peer, seed, now, link, context } = opening;
    match listener.protocol {
        Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => {
            let (session, front) = smtp::open(services, &listener, peer, seed, now);
            Box::pin(async move { drive(link, session, front, &context).await })
        }
        Protocol::Pop3 => {
            let (session, front) = pop3::open(services, &listener, &peer, seed, now);
            Box::pin(async move { drive(link, session, front, &context).await })
        }
        Protocol::Imap => {
            let (session, front) = imap::open(services, &listener, &peer, seed, now);
            Box::pin(async move { drive(link, session, front, &context).await })
        }
    }
}
