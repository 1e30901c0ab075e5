//! What the suite wants of a container engine.

use std::net::IpAddr;

use anyhow::Result;

/// The port on which every container of the suite serves one page.
pub const PORT: u16 = 8080;

/// A program that starts containers and calls CNI for their network.
pub trait Engine: Sync {
    /// For messages.
    fn name(&self) -> String;

    /// Starts a container that serves `id` as its page, and gives the addresses that the engine reports
    /// to its user. The page need not be up when this returns.
    ///
    /// # Errors
    /// The engine's.
    fn start(&self, id: &str) -> Result<Vec<IpAddr>>;

    /// Runs a program of busybox in the container, and gives what it printed.
    ///
    /// # Errors
    /// The engine's, or the program's.
    fn exec(&self, id: &str, args: &[&str]) -> Result<String>;

    /// Stops the container and takes it away.
    ///
    /// # Errors
    /// The engine's.
    fn remove(&self, id: &str) -> Result<()>;
}

/// The command of a container that serves `id` as its page.
#[must_use]
pub fn server(id: &str) -> [String; 3] {
    ["/bin/sh".into(), "-c".into(), format!("echo {id} >/www/index.html; exec httpd -f -p {PORT} -h /www")]
}
