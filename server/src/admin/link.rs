//! The two ways to carry out a request: by the running server, or on the store opened here.

use std::{io, sync::Arc, time::Duration};

use super::{
    execute::{Emit, Host, execute},
    request::{Reply, Request},
};
use crate::{
    config::Config,
    data_dir::{Claim, DataDir, control_socket},
    failure::Failure,
    runtime::{clock, control::Caller},
    serve::{become_user, store::Store},
};

/// How long a server may take to start or to stop before a command gives up waiting for it.
const PATIENCE_MS: u64 = 15_000;
/// Pause between two tries.
const RETRY: Duration = Duration::from_millis(50);

/// A way to carry out requests.
pub enum Link {
    /// Over the control socket.
    Server(Caller),
    /// On a store of which we are the only user.
    Direct {
        /// The store.
        host: Box<Host>,
        /// Held as long as the store is open.
        data_dir: DataDir,
    },
}

/// Who has the data folder.
pub enum Reach {
    /// A running server.
    Server(Link),
    /// We do, from now on; the store is not open.
    Ours(DataDir),
}

impl Reach {
    /// Connects to the running server, or takes the data folder when there is none.
    ///
    /// # Errors
    /// When neither is possible.
    pub fn find(config: &Config) -> Result<Self, Failure> {
        let give_up_ms = clock::monotonic_ms() + PATIENCE_MS;
        loop {
            if let Some(caller) = call(config)? {
                return Ok(Self::Server(Link::Server(caller)));
            }
            match DataDir::claim(config)? {
                Claim::Ours(data_dir) => return Ok(Self::Ours(data_dir)),
                Claim::Taken { .. } if clock::monotonic_ms() < give_up_ms => clock::pause(RETRY),
                Claim::Taken { process } => {
                    let who = process.map_or_else(|| "a process".to_owned(), |process| format!("process {process}"));
                    let path = config.data_dir.display();
                    let what = format!("{who} uses data_dir {path} but does not answer; try again, or look at its log");
                    return Err(Failure::Refused(what));
                }
            }
        }
    }
}

impl Link {
    /// Connects to the running server, or opens the store when there is none.
    ///
    /// # Errors
    /// When neither is possible.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        match Reach::find(config)? {
            Reach::Server(link) => Ok(link),
            Reach::Ours(data_dir) => {
                become_user(config)?;
                let engine = Store::open(&data_dir, config)?.engine;
                let in_force = Arc::new(config.clone());
                Ok(Self::Direct {
                    host: Box::new(Host::new(engine, None, Box::new(move || Arc::clone(&in_force)))),
                    data_dir,
                })
            }
        }
    }

    /// Connects to the running server.
    ///
    /// # Errors
    /// [`Failure::NoServer`] when none runs.
    pub fn server(config: &Config) -> Result<Self, Failure> {
        let none = || Failure::NoServer(format!("no server is running with data_dir {}", config.data_dir.display()));
        call(config)?.map(Self::Server).ok_or_else(none)
    }

    /// Carries out a request; each reply goes to `emit`, the last one is given back.
    ///
    /// # Errors
    /// When the request was refused, or the server was lost on the way.
    pub fn ask(&mut self, request: Request, emit: Emit<'_>) -> Result<Reply, Failure> {
        let mut last = None;
        let mut sort = |reply: Reply| {
            if reply.is_last() {
                last = Some(reply);
                Ok(())
            } else {
                emit(reply)
            }
        };
        let carried = match self {
            Self::Direct { host, .. } => execute(host, request, &mut sort),
            Self::Server(caller) => exchange(caller, &request, &mut sort),
        };
        carried.map_err(|error| lost(&error))?;
        match last {
            Some(Reply::Refused(why)) => Err(Failure::Refused(why)),
            Some(reply) => Ok(reply),
            None => Err(lost(&io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::Refused(format!("the command did not come to its end ({error}); the server may be stopping, try again"))
}

/// `None` when nobody serves the socket.
fn call(config: &Config) -> Result<Option<Caller>, Failure> {
    let path = control_socket(&config.data_dir);
    match Caller::connect(&path) {
        Ok(caller) => Ok(Some(caller)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => {
            let advice = if error.kind() == io::ErrorKind::PermissionDenied {
                "; run this as root or as the user of the server"
            } else {
                ""
            };
            Err(Failure::Refused(format!("cannot use {}: {error}{advice}", path.display())))
        }
    }
}

fn exchange(caller: &mut Caller, request: &Request, emit: Emit<'_>) -> io::Result<()> {
    caller.ask(&serde_json::to_vec(request)?)?;
    loop {
        let reply: Reply = serde_json::from_slice(&caller.reply()?)?;
        let last = reply.is_last();
        emit(reply)?;
        if last {
            return Ok(());
        }
    }
}
