//! The program `rockdove`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser as _;
use rockdove::{cli::Cli, failure::Failure};

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
