//! What `weft run` and `weft exec` have in common: how a program is executed, and who sits at it.

use std::path::PathBuf;

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct ProcessArgs {
    /// A variable of the environment, KEY=VALUE, or KEY to take over this one; may be repeated
    #[arg(long, short, value_name = "VARIABLE")]
    env: Vec<String>,
    /// Where the program starts [default: where the image or the container says]
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) workdir: Option<PathBuf>,
    /// As whom it runs, USER[:GROUP], names or numbers [default: as the image or the container says]
    #[arg(long, short, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Keep standard input open
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Run it in the background
    #[arg(long, short)]
    pub(crate) detach: bool,
}

impl ProcessArgs {
    /// A terminal needs one here if somebody is to type.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let sits = self.tty && !self.detach && self.interactive;
        if sits && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            return Err(Failure::new("standard input is no terminal").hint("leave -t out").code(125).into());
        }
        Ok(())
    }

    /// `KEY` alone takes the value that it has here; nothing if it has none.
    pub(crate) fn environment(&self) -> Vec<String> {
        let variable = |text: &String| {
            if text.contains('=') {
                return Some(text.clone());
            }
            std::env::var(text).ok().map(|value| format!("{text}={value}"))
        };
        self.env.iter().filter_map(variable).collect()
    }
}
