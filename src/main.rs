//! The program: arguments, logging, exit codes. What it runs is in the library.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use bestguess::cli::{self, Command};
use bestguess::service::ask;
use bestguess::{demo, logging, origin, run};
use log::error;

fn main() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os().skip(1), &|name| std::env::var_os(name)) {
        Ok(invocation) => invocation,
        Err(wrong) => {
            let _ = writeln!(io::stderr(), "{wrong}");
            return ExitCode::from(wrong.exit_code());
        }
    };
    match &invocation.command {
        Command::Help(text) => return print(text),
        Command::Version => return print(&format!("{}\n", cli::VERSION)),
        Command::Serve(_)
        | Command::Test(_)
        | Command::Demo(_)
        | Command::Origin(_)
        | Command::Upgrade(_) => {}
    }
    logging::init(invocation.verbosity);
    let outcome = match invocation.command {
        Command::Serve(config) => run::serve(*config).map(|()| ExitCode::SUCCESS),
        Command::Test(config) => run::test(*config).map(tell),
        Command::Demo(settings) => demo::run(&settings).map(|()| ExitCode::SUCCESS),
        Command::Origin(settings) => origin::serve(&settings).map(|()| ExitCode::SUCCESS),
        Command::Upgrade(pid) => ask::upgrade(pid).map(|answer| print(&format!("{answer}\n"))),
        Command::Help(_) | Command::Version => Ok(ExitCode::SUCCESS),
    };
    let code = outcome.unwrap_or_else(|cause| {
        error!("{cause}");
        ExitCode::FAILURE
    });
    logging::flush(run::LOG_FLUSH);
    code
}

/// Prints what a check of each server came to.
fn tell(tested: run::Tested) -> ExitCode {
    let code = print(&tested.table);
    if tested.are_valid {
        code
    } else {
        ExitCode::FAILURE
    }
}

/// Writes `text` to standard output; a reader that has gone is no fault of ours.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
