//! Measures what a connection costs at rest, and how many lines a second are echoed, over both kinds of wire.
//!
//! `cargo run --release -p rockdove --example at_rest -- [connections]` starts a server of the toy protocol in a process
//! of its own for each case and prints a table. Memory is the server's resident set, kernel memory not counted.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement reads the clock and prints")]

#[path = "../tests/wire/toy.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod toy;

use std::{
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rockdove::{
    net::limits::Limits,
    runtime::{process::raise_descriptor_limit, wire::BackendChoice},
};
use toy::{Client, Server, dial, insecure_tls};

const CONNECTIONS_DEFAULT: usize = 10_000;
const ECHO_CONNECTIONS: usize = 64;
const ECHO_TIME: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    raise_descriptor_limit(100_000)?;
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [mode, backend] = arguments.as_slice()
        && mode == "serve"
    {
        return serve(backend);
    }
    let connections = arguments.first().map_or(Ok(CONNECTIONS_DEFAULT), |count| count.parse())?;
    println!("wire      bytes/connection   after a large answer      echoes/s");
    for backend in ["io_uring", "epoll"] {
        for tls in [false, true] {
            let plain = at_rest(backend, tls, connections, false)?;
            let used = at_rest(backend, tls, connections, true)?;
            let echoes = if tls { String::new() } else { echo(backend)?.to_string() };
            println!("{backend:9} {:4} {plain:11} {used:22} {echoes:>13}", if tls { "TLS" } else { "" });
        }
    }
    Ok(())
}

fn serve(backend: &str) -> Result<(), Box<dyn Error>> {
    let choice = match backend {
        "epoll" => BackendChoice::Epoll,
        "io_uring" => BackendChoice::IoUring,
        _ => BackendChoice::Auto,
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let server = Server::start(choice.settle()?, Limits::new(1_000_000, 1_000_000));
    for address in &server.addresses {
        println!("{address}");
    }
    // Until the parent goes.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn child(backend: &str) -> Result<(Child, Vec<SocketAddr>), Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    let mut child = command.args(["serve", backend]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = BufReader::new(child.stdout.take().ok_or("no output")?);
    let addresses = output.lines().take(3).map(|line| Ok(line?.parse()?)).collect::<Result<_, Box<dyn Error>>>()?;
    Ok((child, addresses))
}

fn end(mut child: Child) -> Result<(), Box<dyn Error>> {
    drop(child.stdin.take());
    thread::sleep(Duration::from_millis(100));
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn resident_octets(process: u32) -> Result<usize, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}

fn at_rest(backend: &str, tls: bool, connections: usize, busy_before: bool) -> Result<usize, Box<dyn Error>> {
    let (child, addresses) = child(backend)?;
    let mut held: Vec<Box<dyn Held>> = Vec::with_capacity(connections);
    let open = |held: &mut Vec<Box<dyn Held>>| {
        let stream = dial(addresses[usize::from(tls)]);
        let mut client: Box<dyn Held> =
            if tls { Box::new(insecure_tls(stream)) } else { Box::new(Client::new(stream)) };
        client.speak(busy_before);
        held.push(client);
    };
    // The first few warm the process up and are not counted.
    for _ in 0..100 {
        open(&mut held);
    }
    let before = resident_octets(child.id())?;
    for _ in 0..connections {
        open(&mut held);
    }
    thread::sleep(Duration::from_millis(300));
    let each = (resident_octets(child.id())? - before) / connections;
    drop(held);
    end(child)?;
    Ok(each)
}

trait Held {
    fn speak(&mut self, much: bool);
}

impl<S: Read + Write> Held for Client<S> {
    fn speak(&mut self, much: bool) {
        assert!(self.line().starts_with("hello"));
        if much {
            self.send("big 200000\r\n");
            assert_eq!(self.line().len(), 200_000);
        }
        self.send("tick 1740000\r\necho a1 IDLE\r\n");
        assert_eq!(self.line(), "a1 IDLE");
    }
}

fn echo(backend: &str) -> Result<usize, Box<dyn Error>> {
    let (child, addresses) = child(backend)?;
    let threads: Vec<_> = (0..ECHO_CONNECTIONS)
        .map(|_| {
            let address = addresses[0];
            thread::Builder::new().stack_size(256 * 1024).spawn(move || echo_one(dial(address)))
        })
        .collect::<Result<_, _>>()?;
    let total: usize = threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum();
    end(child)?;
    Ok(total / usize::try_from(ECHO_TIME.as_secs())?)
}

fn echo_one(mut stream: TcpStream) -> usize {
    let line = [&b"echo "[..], &[b'x'; 57], b"\r\n"].concat();
    let mut answer = [0; 59];
    let mut greeting = [0; 64];
    let _greeted = stream.read(&mut greeting).unwrap_or(0);
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < ECHO_TIME {
        if stream.write_all(&line).is_err() || stream.read_exact(&mut answer).is_err() {
            break;
        }
        count += 1;
    }
    count
}
