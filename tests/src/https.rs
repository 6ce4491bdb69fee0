//! A web server that says one thing.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Identity;

/// The server. It lives as long as the test.
#[derive(Debug)]
pub struct Https {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    answer: String,
    asked: Vec<(String, Vec<u8>)>,
}

impl Https {
    /// One of this identity that answers whatever it is asked with a text. Port 0 for any.
    pub fn start(address: SocketAddr, identity: &Identity, text: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| unreachable!("{address}: {error}"));
        let address = listener.local_addr().expect("an address");
        let state = State { config: identity.server(), answer: answer(text), asked: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that does not trust us is no news here.
                thread::spawn(move || serve(stream, &state).unwrap_or_default());
            }
        });
        Self { address, state }
    }

    /// Says something else from now on: a status line, the media type, the text.
    pub fn answer(&self, text: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).answer = answer(text);
    }

    /// Is somebody else from now on.
    pub fn become_other(&self, identity: &Identity) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).config = identity.server();
    }

    /// What was asked for so far: the request line, and what came with it.
    pub fn asked(&self) -> Vec<(String, Vec<u8>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }
}

fn answer(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let config = Arc::clone(&state.lock().unwrap_or_else(PoisonError::into_inner).config);
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if line == "\r\n" {
            break;
        }
        if request.is_empty() {
            line.trim_end().clone_into(&mut request);
        }
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content)?;
    let answer = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.push((request, content));
        state.answer.clone()
    };
    stream.get_mut().write_all(answer.as_bytes())?;
    stream.get_mut().flush()
}
