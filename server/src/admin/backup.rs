//! What a running server does for a backup: it makes a checkpoint. Copying is the work of the command.

use std::io;

use super::{
    execute::{Emit, Host},
    request::Reply,
};

/// Makes a checkpoint and tells its name.
pub(super) fn checkpoint(host: &Host, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let Some(server) = &host.server else { return Ok(Err("no server is running".to_owned())) };
    match server.checkpoints.make(&server.kv) {
        Ok(name) => {
            emit(Reply::Checkpoint(name))?;
            Ok(Ok(String::new()))
        }
        Err(why) => Ok(Err(why)),
    }
}
