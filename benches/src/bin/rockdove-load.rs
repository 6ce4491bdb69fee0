//! The program `rockdove-load`; see the library's head.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use rockdove_benches::{
    arguments::Arguments,
    failure::{LoadError, Result},
    pace::Report,
};
use tokio::{runtime, task::LocalSet};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error @ LoadError::Usage(_)) => {
            eprintln!("rockdove-load: {error}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("rockdove-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the load on this thread alone: the rest of the machine is the server's. Says how many differences were found.
fn run(arguments: &Arguments) -> Result<u64> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(LoadError::io("the runtime"))?;
    let report = LocalSet::new().block_on(&runtime, arguments.load.run())?;
    print(&report, arguments.load.json())?;
    Ok(report.also.get("differences").and_then(serde_json::Value::as_u64).unwrap_or_default())
}

fn print(report: &Report, json: bool) -> Result<()> {
    let text = if json {
        serde_json::to_string(report).map_err(|error| LoadError::Broken(error.to_string()))?
    } else {
        report.to_string()
    };
    writeln!(io::stdout(), "{text}").map_err(LoadError::io("standard output"))
}
