//! Asking another system of ours whether it would take a recipient, before we do.
//!
//! What we accept and that system refuses would have to go back to whoever the sender claims to be, who often is somebody
//! else. So it is asked first, on a connection of its own: MAIL and RCPT, and no message.

use std::{cell::RefCell, io, rc::Rc, sync::Arc, time::Duration};

use rockdove_mail::AskId;
use rockdove_smtp::client::{
    ClientAnswer, ClientAsk, ClientSession, RecipientResult, ServerReply, Transaction, TransactionRecipient,
};
use tokio::time::timeout;

use super::{
    connect::{Protection, Target, connect, of_route, protection},
    route::Way,
    runner::dialer,
    visit::client_config,
};
use crate::{
    config::{Config, RouteTls},
    dns::Dns,
    fronts::{Front, Replier},
    net::{
        drive::{ConnContext, drive},
        link::Link,
        peer::PeerDialer,
    },
    runtime::{clock, roster::Roster},
};

/// For an answer; a client waits 5 minutes for the reply to RCPT (RFC 5321 section 4.5.3.2.3).
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Whether a recipient would be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Would {
    /// It would.
    Take,
    /// It would be refused for good, so.
    Refuse(ServerReply),
    /// It cannot be found out now, and why.
    Later(ServerReply),
}

impl Default for Would {
    fn default() -> Self {
        Self::Later(ServerReply::new(451, "4.3.2", "too many questions at once"))
    }
}

/// Asks.
pub struct Callforward {
    dialer: PeerDialer,
    roster: Rc<Roster>,
}

impl Callforward {
    /// Uses the connections of this roster.
    ///
    /// # Errors
    /// When there is no cryptography to be had, or nobody to trust.
    pub fn new(config: &Config, roster: Rc<Roster>) -> io::Result<Self> {
        Ok(Self { dialer: dialer(config)?, roster })
    }

    /// Whether the system behind a next hop would take mail for an address.
    pub async fn ask(&self, dns: &Dns, config: &Arc<Config>, hop: &str, address: &str) -> Would {
        let asked = timeout(ANSWER_WAIT, self.ask_all(dns, config, hop, address)).await;
        asked.unwrap_or_else(|_| Would::Later(ServerReply::new(451, "4.4.1", "no answer in time")))
    }

    /// Asks one server after the other until one has an answer.
    async fn ask_all(&self, dns: &Dns, config: &Arc<Config>, hop: &str, address: &str) -> Would {
        let way = Way::of(config, hop);
        let Way::Server(route) = &way else {
            return Would::Later(ServerReply::new(451, "4.3.5", "there is no route to ask by any more"));
        };
        let targets = match of_route(dns, route).await {
            Ok(targets) => targets,
            Err(reply) => return Would::Later(reply),
        };
        let mut last = Would::Later(ServerReply::new(451, "4.4.1", "no server could be reached"));
        for target in targets {
            let mut found = self.ask_one(config, &way, &target, false, address).await;
            if found.is_none() && way.tls() == RouteTls::Opportunistic {
                // RFC 7435: encryption that fails is no reason not to speak.
                found = self.ask_one(config, &way, &target, true, address).await;
            }
            match found {
                Some(Would::Later(reply)) => last = Would::Later(reply),
                Some(answer) => return answer,
                None => {}
            }
        }
        last
    }

    /// One connection from beginning to end; nothing when it was lost before there was an answer.
    async fn ask_one(
        &self,
        config: &Arc<Config>,
        way: &Way,
        target: &Target,
        clear: bool,
        address: &str,
    ) -> Option<Would> {
        let Protection { handshake, tls, .. } = protection(&self.dialer, way, target, clear).ok()?;
        let mut link = Link::new(connect(config, target).await.ok()?, Rc::clone(&self.roster).join().await);
        let implicit = way.tls() == RouteTls::Implicit;
        if let (true, Some(handshake)) = (implicit, &handshake) {
            link.start_tls(handshake).await.ok()?;
        }
        metrics::counter!("rockdove_callforward_connections_total").increment(1);
        let session = ClientSession::new(client_config(config, way, tls), implicit, clock::now());
        let transaction = Transaction {
            recipients: vec![TransactionRecipient { address: address.to_owned(), ..TransactionRecipient::default() }],
            smtputf8: !address.is_ascii(),
            ask_only: true,
            ..Transaction::default()
        };
        let found = Rc::new(RefCell::new(None));
        let front = AskFront { transaction: Some(Box::new(transaction)), found: Rc::clone(&found) };
        let context = ConnContext {
            tls: handshake,
            received: metrics::counter!("rockdove_received_octets_total", "protocol" => "outbound"),
            sent: metrics::counter!("rockdove_sent_octets_total", "protocol" => "outbound"),
        };
        drop(Box::pin(drive(link, session, front, &context)).await);
        found.take()
    }
}

/// The host's half of a conversation that only asks.
struct AskFront {
    transaction: Option<Box<Transaction>>,
    found: Rc<RefCell<Option<Would>>>,
}

impl Front<ClientSession> for AskFront {
    fn ask(&mut self, id: AskId, ask: ClientAsk, replier: &Replier<ClientAnswer>) {
        let answer = match ask {
            ClientAsk::Next => self.transaction.take().map_or(ClientAnswer::Quit, ClientAnswer::Transaction),
            ClientAsk::Content(_) => ClientAnswer::NoContent,
            ClientAsk::Result(result) => {
                self.found.replace(result.recipients.first().and_then(would));
                ClientAnswer::Noted
            }
            ClientAsk::Unusable(_, reply) => {
                // A whole server that says no does not speak of the recipient.
                self.found.replace(Some(Would::Later(*reply)));
                ClientAnswer::Noted
            }
        };
        replier.reply(id, answer);
    }
}

fn would(result: &RecipientResult) -> Option<Would> {
    match result {
        RecipientResult::Delivered(_) => Some(Would::Take),
        RecipientResult::Refused(reply) if reply.is_permanent() => Some(Would::Refuse(reply.clone())),
        RecipientResult::Refused(reply) => Some(Would::Later(reply.clone())),
        RecipientResult::Lost(_) => None,
    }
}
