//! Commands that need no mailbox: CAPABILITY, ID, STARTTLS, LOGIN, ENABLE, LOGOUT.

use std::sync::Arc;

use rockdove_mail::{Step, sasl::Password};

use super::{Doing, ImapSession, State, append::GivenUp, purpose::Purpose, sasl_turn::MECHANISMS};
use crate::{
    ask::{Ask, LoginAnswer},
    grammar::write,
    limits::LOGIN_FAILURES_MAX,
};

/// What works after login.
const AUTHENTICATED: &str = "IMAP4rev1 IMAP4rev2 LITERAL+ ID LANGUAGE ENABLE IDLE NAMESPACE UNSELECT UIDPLUS MOVE CHILDREN SPECIAL-USE \
                             CREATE-SPECIAL-USE LIST-EXTENDED LIST-STATUS STATUS=SIZE CONDSTORE QRESYNC MULTIAPPEND BINARY \
                             COMPRESS=DEFLATE OBJECTID ACL RIGHTS=texk LIST-MYRIGHTS QUOTA QUOTA=RES-STORAGE \
                             QUOTA=RES-MESSAGE QUOTA=RES-MAILBOX QUOTASET ESEARCH SEARCHRES WITHIN SORT SORT=DISPLAY \
                             ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES PREVIEW PARTIAL MULTISEARCH SEARCH=FUZZY \
                             UTF8=ACCEPT UNAUTHENTICATE SAVEDATE REPLACE NOTIFY METADATA LIST-METADATA FILTERS I18NLEVEL=1";

impl ImapSession {
    /// What works in the state the session is in.
    pub(super) fn capabilities(&self) -> String {
        if !matches!(self.state, State::NotAuthenticated(_)) {
            //= rfc7889#section-2
            //# "APPENDLIMIT=<number>": This indicates that the IMAP server has the same upload limit for all mailboxes.
            return format!("{AUTHENTICATED} APPENDLIMIT={}", self.append_limit());
        }
        let mut text = "IMAP4rev1 IMAP4rev2 LITERAL+ ID LANGUAGE".to_owned();
        if self.may_starttls() {
            text.push_str(" STARTTLS");
        }
        if self.config.external {
            text.push_str(" SASL-IR AUTH=EXTERNAL LOGINDISABLED");
        } else if self.may_login() {
            text.push_str(" SASL-IR");
            for (name, _) in MECHANISMS {
                text.push_str(" AUTH=");
                text.push_str(name);
            }
        } else {
            text.push_str(" LOGINDISABLED");
        }
        text
    }

    /// Octets of a message that is taken: a `number` of 32 bits (RFC 7889 section 5).
    pub(super) fn append_limit(&self) -> u64 {
        self.config.message_size_max.min(u64::from(u32::MAX))
    }

    fn may_starttls(&self) -> bool {
        self.config.starttls && !self.tls
    }

    /// Whether a password may be sent on this connection as it is now.
    fn may_login(&self) -> bool {
        self.tls || self.config.clear_login
    }

    pub(super) fn capability(&mut self) {
        let text = format!("CAPABILITY {}", self.capabilities());
        self.untagged(&text);
        self.complete("OK done");
    }

    pub(super) fn id(&mut self) {
        let out = &mut self.out.text;
        out.extend_from_slice(b"* ID (\"name\" \"Rockdove\" \"version\" ");
        write::quoted_or_literal(out, self.config.version.as_bytes());
        out.push(b')');
        self.out.end_line();
        self.complete("OK pleased to meet you");
    }

    pub(super) fn logout(&mut self) {
        //= rfc3501#section-6.1.3
        //# The server MUST send a BYE untagged response
        //# before the (tagged) OK response, and then close the network
        //# connection.
        self.untagged("BYE see you");
        self.tagged("OK bye");
        self.doing = Doing::Leaving;
    }

    pub(super) fn starttls(&mut self) {
        if self.tls {
            return self.bad("TLS is on already");
        }
        if !self.may_starttls() {
            return self.bad("TLS is not available");
        }
        self.tagged("OK begin TLS");
        self.frames.clear();
        self.step = Some(Box::new(Step::StartTls));
        self.doing = Doing::Handshake;
    }

    /// Refuses a login by a password that would be shown to the network, or that is not wanted here.
    pub(super) fn refuse_clear(&mut self) -> bool {
        if self.config.external {
            self.tagged("NO [CANNOT] no password is taken here: the only mechanism is EXTERNAL");
            return true;
        }
        let refused = !self.may_login();
        if refused {
            self.tagged("NO [PRIVACYREQUIRED] begin TLS first: a password is not taken in clear");
        }
        refused
    }

    pub(super) fn login(&mut self, login: String, password: Password) {
        if !self.refuse_clear() {
            self.ask(Ask::CheckPassword { login, password, authorize_as: None }, Purpose::Login);
        }
    }

    pub(super) fn login_verdict(&mut self, verdict: LoginAnswer) {
        match verdict {
            LoginAnswer::Accepted => {
                if let State::NotAuthenticated(stranger) = std::mem::replace(&mut self.state, State::Authenticated) {
                    self.stranger = Some(stranger);
                }
                self.errors = 0;
                let text = format!("OK [CAPABILITY {}] welcome", self.capabilities());
                self.tagged(&text);
            }
            // INUSE (RFC 5530 section 3): someone else holds an exclusive lock that is needed.
            LoginAnswer::TryLater if self.config.external => {
                self.tagged("NO [INUSE] another administrator's session is in this account");
            }
            LoginAnswer::TryLater => self.tagged("NO [UNAVAILABLE] the login cannot be checked at the moment"),
            LoginAnswer::Refused => {
                let wrong = if self.config.external {
                    "there is no such account"
                } else {
                    "the login or the password is wrong"
                };
                self.tagged(&format!("NO [AUTHENTICATIONFAILED] {wrong}"));
                let State::NotAuthenticated(stranger) = &mut self.state else { return };
                stranger.login_failures = stranger.login_failures.saturating_add(1);
                if stranger.login_failures >= LOGIN_FAILURES_MAX {
                    self.bye("too many logins have failed");
                }
            }
        }
    }

    pub(super) fn enable(&mut self, names: &[String]) {
        let named = |wanted: &str| names.iter().any(|name| name == wanted);
        let mut enabled = "ENABLED".to_owned();
        if named("CONDSTORE") && !self.condstore {
            enabled.push_str(" CONDSTORE");
        }
        if named("QRESYNC") && !self.qresync {
            enabled.push_str(" QRESYNC");
            self.qresync = true;
        }
        if named("UTF8=ACCEPT") && !std::mem::replace(&mut self.utf8, true) {
            enabled.push_str(" UTF8=ACCEPT");
        }
        if named("IMAP4REV2") && !std::mem::replace(&mut self.rev2, true) {
            enabled.push_str(" IMAP4rev2");
            if let Some(open) = self.open_mut() {
                open.recent = Arc::default();
            }
        }
        if named("CONDSTORE") || named("QRESYNC") {
            self.enable_condstore();
        }
        self.untagged(&enabled);
        self.complete("OK done");
    }

    pub(super) fn unauthenticate(&mut self) {
        //= rfc8437#section-3
        //# Servers MAY close the connection with an untagged BYE response if this preferably rare
        //# situation occurs.
        if self.compressed {
            return self.bye("compression ends with the connection only");
        }
        self.ask(Ask::Unauthenticate, Purpose::Unauthenticate);
    }

    /// The host has forgotten whose connection this is.
    //= rfc8437#section-3
    //# This command directs the server to reset all connection state except
    //# for the state of the TLS [RFC8446] layer.
    pub(super) fn unauthenticated(&mut self) {
        let Some(stranger) = self.stranger.take() else { return self.cannot_unauthenticate() };
        self.state = State::NotAuthenticated(stranger);
        (self.condstore, self.qresync, self.utf8, self.rev2) = (false, false, false, false);
        self.notify = None;
        self.tagged("OK who are you");
    }

    /// RFC 8437 section 3: a NO response is not permitted.
    pub(super) fn cannot_unauthenticate(&mut self) {
        self.bye("not possible at the moment, connect anew");
    }

    pub(super) fn compress(&mut self, mechanism: &str) {
        if mechanism != "DEFLATE" {
            return self.bad("there is no such compression");
        }
        //= rfc4978#section-3
        //# BAD Command unknown, invalid or unknown argument, or COMPRESS
        //#     already active.
        if self.compressed {
            return self.bad("DEFLATE is active already");
        }
        self.ask(Ask::MayCompress, Purpose::Compress);
    }

    /// There is memory for it.
    pub(super) fn compressing(&mut self) {
        self.compressed = true;
        self.tagged("OK DEFLATE active");
        //= rfc4978#section-3
        //# The client MUST NOT send any further commands until it has seen the
        //# result of COMPRESS.
        self.frames.clear();
        self.step = Some(Box::new(Step::Compress));
    }

    /// Nothing has come for too long.
    pub(super) fn time_out(&mut self) {
        let text = match self.state {
            State::NotAuthenticated(_) => "no login for too long",
            _ => "autologout: nothing was heard for too long",
        };
        if let Doing::Appending(_) = self.doing {
            return self.abort_append(GivenUp::Bye(text));
        }
        self.bye(text);
    }
}
