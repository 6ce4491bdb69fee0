//! Addresses that lead to others.

use rockdove_engine::{Command, EngineError};

use super::{execute::Host, request::Request};

/// Carries out a request of this kind.
pub(super) fn carry_out(host: &Host, request: Request) -> Result<String, EngineError> {
    let (command, line) = match request {
        Request::AccountForward { address, targets, keep } => {
            let line = match (targets.is_empty(), keep) {
                (true, _) => format!("mail of {address} stays here"),
                (false, true) => format!("mail of {address} goes to {} too", targets.join(", ")),
                (false, false) => format!("mail of {address} goes to {} instead", targets.join(", ")),
            };
            (Command::SetForward { address, targets, keep }, line)
        }
        Request::AliasAdd { alias, targets } => {
            let line = format!("alias {alias} leads to {}", targets.join(", "));
            (Command::SetAlias { alias, targets }, line)
        }
        Request::AliasRemove { alias } => {
            let line = format!("alias {alias} removed");
            (Command::RemoveAlias { alias }, line)
        }
        _ => return Err(EngineError::Invalid("not a request about addresses that lead to others".to_owned())),
    };
    host.run(command).map(|_| line)
}
