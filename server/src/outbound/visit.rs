//! One connection after the other to the servers of a destination.

use std::{io, net::IpAddr, rc::Rc, sync::Arc};

use rockdove_engine::Lease;
use rockdove_smtp::client::{ClientConfig, ClientLogin, ClientSession, ClientTls, ServerReply, Stage};

use super::{
    attempt::Attempt,
    connect::{Finder, Protection, Security, Target, connect, protection},
    front::OutboundFront,
    results::{Policed, Trouble},
    route::Way,
    runner::Runner,
    settle::{self, Came},
    sts::Surroundings,
};
use crate::{
    config::{Config, RouteTls},
    net::{
        drive::{ConnContext, Ended, drive},
        link::Link,
        peer::Shown,
    },
    runtime::clock,
};

/// What a visit is for.
struct Visit<'a> {
    hop: &'a str,
    config: &'a Arc<Config>,
    way: &'a Way,
    /// Leases to begin with, which are left over from another server.
    kept: Vec<Lease>,
    /// No others are taken.
    only_kept: bool,
}

/// Why a server was not ready for mail.
struct Unready {
    stage: Stage,
    reply: ServerReply,
}

impl Runner {
    /// Visits the servers of a destination until one has taken what there was.
    pub(super) async fn serve(self: &Rc<Self>, name: &str) {
        let config = self.services().config();
        let way = Way::of(&config, name);
        let mut seed = clock::seed().unwrap_or_default();
        let mut dice = |sides: usize| {
            seed = *blake3::hash(&seed).as_bytes();
            usize::from(u16::from_le_bytes([seed[0], seed[1]])) % sides.max(1)
        };
        let finder = Finder {
            around: Surroundings { services: self.services(), config: &config, dns: &self.dns, dialer: &self.dialer },
            policies: &self.policies,
            results: &self.results,
        };
        let targets = match finder.targets(&way, &mut dice).await {
            Ok(targets) => targets,
            Err(reply) => return self.failed(name, "", &reply),
        };
        let mut last = targets.last.map(|reply| (String::new(), reply));
        let mut visit = Visit { hop: name, config: &config, way: &way, kept: Vec::new(), only_kept: false };
        let worked = self.visit_all(&mut visit, &targets.good, &mut last).await;
        if !worked {
            // What its sender wants sent all the same (RFC 8689 section 4.2.2).
            visit.only_kept = true;
            visit.kept.extend(self.take_optional(name));
            if !visit.kept.is_empty() {
                self.visit_all(&mut visit, &targets.anyhow, &mut last).await;
            }
        }
        let (server, mut reply) =
            last.unwrap_or_else(|| (String::new(), ServerReply::new(451, "4.4.1", "no server could be reached")));
        // A whole server that says no does not speak of the recipients: another day it may say yes.
        if reply.is_permanent() && !server.is_empty() {
            reply.code = 451;
            reply.status = reply.status.map(|status| status.replacen('5', "4", 1));
        }
        for lease in visit.kept {
            let came = Came::nothing(&lease, &reply, &server);
            self.settle(lease, came, || {});
        }
        if worked { self.worked(name) } else { self.failed(name, &server, &reply) }
    }

    /// Visits servers until nothing is left to do. Says whether one of them was ready for mail.
    async fn visit_all(
        self: &Rc<Self>,
        visit: &mut Visit<'_>,
        targets: &[Target],
        last: &mut Option<(String, ServerReply)>,
    ) -> bool {
        let mut worked = false;
        for (place, target) in targets.iter().enumerate() {
            let is_last = place + 1 == targets.len();
            match self.try_target(visit, target, is_last).await {
                Ok(()) => worked = true,
                Err(reply) => *last = Some((target.name.clone(), reply)),
            }
            if visit.kept.is_empty() && (worked || visit.only_kept || !self.has_waiting(visit.hop)) {
                break;
            }
            // A server that is good for the rest has it by now: another one is asked for what is left alone.
            visit.only_kept |= worked;
        }
        worked
    }

    async fn try_target(
        self: &Rc<Self>,
        visit: &mut Visit<'_>,
        target: &Target,
        is_last: bool,
    ) -> Result<(), ServerReply> {
        match self.converse(visit, target, is_last, false).await {
            // RFC 7435: encryption that fails is no reason to keep mail back that may go without.
            Err(Unready { stage: Stage::Tls, .. }) if may_go_clear(&target.security) => {
                self.converse(visit, target, is_last, true).await.map_err(|unready| unready.reply)
            }
            other => other.map_err(|unready| unready.reply),
        }
    }

    /// One connection from beginning to end. `Err` when the server was not ready for mail.
    async fn converse(
        self: &Rc<Self>,
        visit: &mut Visit<'_>,
        target: &Target,
        is_last: bool,
        clear: bool,
    ) -> Result<(), Unready> {
        let unreachable = |error: io::Error| {
            let text = format!("{} ({}): {error}", target.name, target.address.ip());
            Unready { stage: Stage::Greeting, reply: ServerReply::new(451, "4.4.1", &text) }
        };
        let Protection { handshake, tls, shown } =
            protection(&self.dialer, visit.way, target, clear).map_err(unreachable)?;
        let wire = connect(visit.config, target).await.map_err(unreachable)?;
        metrics::counter!("rockdove_outbound_connections_total").increment(1);
        let from = wire.socket().local_addr().ok().and_then(|address| address.as_socket()).map(|from| from.ip());
        let mut link = Link::new(wire, Rc::clone(&self.roster).join().await);
        let implicit = target.security.is_implicit();
        if let (true, Some(handshake)) = (implicit, &handshake) {
            link.start_tls(handshake).await.map_err(unreachable)?;
        }
        let kept = std::mem::take(&mut visit.kept);
        let attempt = Attempt::new(shown.clone(), target.vouched, is_last, kept, visit.only_kept);
        let session = ClientSession::new(client_config(visit.config, visit.way, tls), implicit, clock::now());
        let front = OutboundFront {
            runner: Rc::clone(self),
            hop: visit.hop.to_owned(),
            server: target.name.clone(),
            attempt: attempt.clone(),
        };
        let context = ConnContext {
            tls: handshake,
            received: metrics::counter!("rockdove_received_octets_total", "protocol" => "outbound"),
            sent: metrics::counter!("rockdove_sent_octets_total", "protocol" => "outbound"),
        };
        let ended = Box::pin(drive(link, session, front, &context)).await;
        let lost_at = self.put_down(&attempt, &target.name);
        visit.kept = attempt.left();
        let broken = matches!(&ended, Ended::Lost(error) if error.kind() == io::ErrorKind::InvalidData);
        let outcome =
            outcome(&attempt, ended, target, if context.tls.is_some() && !implicit { Stage::Tls } else { lost_at });
        if !clear {
            self.note_protection(visit.way, target, from, &shown, &outcome, broken);
        }
        outcome
    }

    /// Counts how well a connection was protected, for the owner of the domain (RFC 8460).
    fn note_protection(
        &self,
        way: &Way,
        target: &Target,
        from: Option<IpAddr>,
        shown: &Shown,
        outcome: &Result<(), Unready>,
        broken: bool,
    ) {
        let Way::Exchangers(domain) = way else { return };
        let policed = match &target.security {
            Security::Route(_) => return,
            Security::Opportunistic => Policed::Nothing,
            Security::Sts(policy) => Policed::Sts(Some(Arc::clone(policy))),
            Security::Dane(records) => Policed::Dane(target.name.clone(), Arc::clone(records)),
        };
        // Where nothing is asked for, or DNS says nothing about the certificate, encryption alone is good.
        let by_whom = match &target.security {
            Security::Sts(_) => true,
            Security::Dane(records) => !records.is_empty(),
            Security::Opportunistic | Security::Route(_) => false,
        };
        let trouble = match (shown.get(), outcome) {
            (Some(Err(doubt)), _) if by_whom => Trouble::of(doubt),
            (Some(_), Ok(())) => return self.results.success(domain, &policed),
            (None, Ok(())) => Trouble::StartTls,
            (_, Err(Unready { stage: Stage::Tls, reply })) if reply.status.as_deref() == Some("4.7.4") => {
                Trouble::StartTls
            }
            (_, Err(Unready { stage: Stage::Tls, .. })) if broken => Trouble::Validation,
            // It could not be reached: that says nothing about encryption.
            (_, Err(_)) => return,
        };
        self.results.trouble(domain, &policed, (&target.name, from.map(|from| (target.address.ip(), from))), trouble);
    }

    /// What a connection was working on when it was lost waits again.
    fn put_down(&self, attempt: &Attempt, server: &str) -> Stage {
        let Some(work) = attempt.end() else { return Stage::Greeting };
        let came = Came::nothing(&work.lease, &settle::lost(Stage::Envelope), server);
        self.settle(work.lease, came, || {});
        Stage::Envelope
    }
}

/// What came of a connection that has ended. `stage`: how far one was that was lost.
fn outcome(attempt: &Attempt, ended: Ended, target: &Target, stage: Stage) -> Result<(), Unready> {
    if let Some((stage, reply)) = attempt.unusable() {
        return Err(Unready { stage, reply });
    }
    if attempt.was_ready() {
        return Ok(());
    }
    let why = match ended {
        Ended::Lost(error) => error.to_string(),
        Ended::Closed => "the connection was closed".to_owned(),
    };
    // Nothing was said before the handshake that a server could mind.
    let status = if target.security.insists() && stage == Stage::Tls { "4.7.5" } else { "4.4.2" };
    Err(Unready { stage, reply: ServerReply::new(451, status, &format!("{}: {why}", target.name)) })
}

fn may_go_clear(security: &Security) -> bool {
    !security.insists() && !matches!(security, Security::Route(RouteTls::None))
}

pub(super) fn client_config(config: &Config, way: &Way, tls: ClientTls) -> ClientConfig {
    let Way::Server(route) = way else {
        return ClientConfig { name: config.hostname.clone(), lmtp: false, tls, login: None };
    };
    let nonce = blake3::hash(&clock::seed().unwrap_or_default()).to_hex().to_string();
    let here = route.host.as_deref().and_then(|host| host.parse::<IpAddr>().ok());
    let plain =
        matches!(route.tls, RouteTls::Verified | RouteTls::Implicit) || here.is_some_and(|host| host.is_loopback());
    let login = route.login.as_ref().map(|(login, password)| ClientLogin {
        login: login.clone(),
        password: password.clone(),
        plain,
        nonce,
    });
    ClientConfig { name: config.hostname.clone(), lmtp: route.lmtp, tls, login }
}
