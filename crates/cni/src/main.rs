//! `weft-cni`, installed as `/opt/cni/bin/weft`.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::process::ExitCode;

use weft_cni::{Env, Host, Streams, run};

fn main() -> ExitCode {
    let (mut input, mut output, mut log) = (stdin().lock(), stdout().lock(), stderr().lock());
    let terminal = stdin().is_terminal();
    let mut streams = Streams { stdin: &mut input, stdout: &mut output, stderr: &mut log, terminal };
    run(&Env::from_process(), &Host::default(), &mut streams)
}
