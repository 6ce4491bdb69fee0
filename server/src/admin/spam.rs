//! What was learned of spam: how much, teaching it, taking it back, asking it.

use std::io;

use rockdove_engine::{
    AccountId, EngineError,
    spam::{Class, Learnable, Learned},
};

use super::{
    execute::{Emit, Host},
    request::{Reply, Request, SpamFacts, SpamMessage, SpamVerdict, SpokenToken},
};
use crate::runtime::clock;

/// Carries out a request of this kind.
pub(super) fn carry_out(host: &Host, request: Request, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let (Request::SpamStatus { account }
    | Request::SpamLearn { account, .. }
    | Request::SpamForget { account, .. }
    | Request::SpamForgetAll { account }
    | Request::SpamTest { account, .. }) = &request
    else {
        return Ok(Err("not a request about spam".to_owned()));
    };
    let account = match account.as_deref().map(|address| account_of(host, address)).transpose() {
        Ok(account) => account,
        Err(why) => return Ok(Err(why)),
    };
    let now = clock::now().unix_s;
    let done = match request {
        Request::SpamStatus { .. } => host.engine.spam_status(account).map(|status| {
            let facts =
                SpamFacts { spam: status.spam, ham: status.ham, tokens: status.tokens, waiting: status.waiting };
            (Some(Reply::Spam(facts)), String::new())
        }),
        Request::SpamLearn { spam, messages, .. } => {
            let class = if spam { Class::Spam } else { Class::Ham };
            host.engine.learn(now, account, class, &learnable(messages)).map(said)
        }
        Request::SpamForget { messages, .. } => host.engine.forget(now, account, &learnable(messages)).map(said),
        Request::SpamForgetAll { .. } => {
            host.engine.forget_all(account).map(|()| (None, "everything learned is forgotten".to_owned()))
        }
        Request::SpamTest { tokens, .. } => test(host, account, &tokens),
        _ => return Ok(Err("not a request about spam".to_owned())),
    };
    match done {
        Ok((reply, line)) => {
            reply.map_or(Ok(()), emit)?;
            Ok(Ok(line))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn account_of(host: &Host, address: &str) -> Result<AccountId, String> {
    let found = host.engine.directory().account_by_login(address).map(|account| account.id);
    found.ok_or_else(|| format!("account {address} does not exist; `rockdove account list` shows what there is"))
}

fn learnable(messages: Vec<SpamMessage>) -> Vec<Learnable> {
    messages.into_iter().map(|SpamMessage { digest, tokens }| Learnable { digest, tokens }).collect()
}

fn said(learned: Learned) -> (Option<Reply>, String) {
    let Learned { learned, forgotten, known, .. } = learned;
    (Some(Reply::SpamLearned { learned, forgotten, known }), String::new())
}

fn test(host: &Host, account: Option<AccountId>, tokens: &[u64]) -> Result<(Option<Reply>, String), EngineError> {
    let judgement = host.engine.judge(account, tokens, 1)?;
    let spoken = host.engine.speak(account, tokens, 1)?.unwrap_or_default();
    let tokens = spoken.iter().map(|spoken| SpokenToken {
        token: spoken.token,
        spam: spoken.spam,
        ham: spoken.ham,
        probability: spoken.probability,
    });
    let verdict = SpamVerdict { score: judgement.map(|judgement| judgement.score), tokens: tokens.collect() };
    Ok((Some(Reply::SpamVerdict(verdict)), String::new()))
}
