//! The program `rockdove`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser as _;
use rockdove::{cli::Cli, failure::Failure};

/// For RocksDB too, as it takes the place of malloc in the whole program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            (&failure).into()
        }
    }
}

/// Nobody may be reading standard error; the exit code says it too.
fn tell(failure: &Failure) {
    let text = failure.to_string();
    if !text.is_empty() {
        writeln!(io::stderr(), "{text}").unwrap_or_default();
    }
}
