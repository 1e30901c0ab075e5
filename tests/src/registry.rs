//! Debian's docker-registry on a private host: with TLS, passwords and tokens, and a wire to it that breaks.

use std::path::Path;

use anyhow::{Context, Result};

use crate::{Sandbox, programs, wait};

/// What clients are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Nothing, and without TLS.
    Nothing,
    /// Name and password.
    Password,
    /// A token of another server, which asks name and password.
    Token,
}

/// Where it listens.
pub const HOST: &str = "localhost:5000";
/// Where the wire that breaks leads to it.
pub const BREAKING: &str = "localhost:5002";
/// Who may read.
pub const USER: &str = "reader";
/// With this password.
pub const PASSWORD: &str = "secret";
/// The authority that signed its certificate.
pub const AUTHORITY: &str = "/run/registry/ca.pem";

/// bcrypt of [`PASSWORD`], as `htpasswd -B` writes it.
const HASH: &str = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
const CERTIFICATES: &str = r#"
mkdir -p /run/registry && cd /run/registry
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj '/CN=test authority' 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost 2>/dev/null
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >extensions
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem 2>/dev/null
"#;

const END: &str = r"
for name in registry token; do
    [ -e /run/$name.pid ] || continue
    pid=$(cat /run/$name.pid); rm /run/$name.pid
    kill $pid 2>/dev/null || continue
    while kill -0 $pid 2>/dev/null; do sleep 0.05; done
done
";

/// Starts a registry that keeps what is pushed in `/run/registry/data`; one that ran before is ended.
///
/// # Errors
/// If a program is missing or something does not come up.
pub fn start(host: &Sandbox, asks: Asks) -> Result<()> {
    programs::require(&["docker-registry", "openssl", "python3", "skopeo"])?;
    host.sh(END).context("failed to end the registry that ran before")?;
    if !host.path("/run/registry/cert.pem").exists() {
        host.sh(CERTIFICATES).context("failed to make certificates")?;
    }
    let storage =
        "version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: /run/registry/data}}\n";
    let tls = "  tls: {certificate: /run/registry/cert.pem, key: /run/registry/key.pem}\n";
    let http = format!("http:\n  addr: {HOST}\n{}", if asks == Asks::Nothing { "" } else { tls });
    let auth = match asks {
        Asks::Nothing => "",
        Asks::Password => "auth: {htpasswd: {realm: weft, path: /run/registry/htpasswd}}\n",
        Asks::Token => {
            "auth: {token: {realm: 'https://localhost:5001/token', service: weft, issuer: weft-test, \
             rootcertbundle: /run/registry/ca.pem}}\n"
        }
    };
    host.write("/run/registry/htpasswd", format!("{USER}:{HASH}\n"))?;
    host.write("/run/registry/config.yml", format!("{storage}{http}{auth}"))?;
    host.sh("ip link set lo up")?;
    if asks == Asks::Token {
        host.write("/run/registry/token.py", include_str!("registry/token.py"))?;
        host.daemon("token", &[], &["python3", "/run/registry/token.py", USER, PASSWORD])?.leave();
        listens(host, 5001)?;
    }
    host.daemon("registry", &[], &["docker-registry", "serve", "/run/registry/config.yml"])?.leave();
    listens(host, 5000)
}

/// Starts a wire to the registry that ends in the middle of every blob once, and keeps what was asked for in
/// `/run/asked`. With `stall` it falls silent instead.
///
/// # Errors
/// If it does not come up.
pub fn breaking_wire(host: &Sandbox, stall: bool) -> Result<()> {
    host.write("/run/registry/breaking.py", include_str!("registry/breaking.py"))?;
    let how = if stall { "stall" } else { "break" };
    host.daemon("breaking", &[], &["python3", "/run/registry/breaking.py", how])?.leave();
    listens(host, 5002)
}

/// Puts an archive of `docker save` of the host into the registry, which asks nothing.
///
/// # Errors
/// What skopeo said.
pub fn push(host: &Sandbox, archive: &Path, name: &str) -> Result<()> {
    let (from, to) = (format!("docker-archive:{}", archive.display()), format!("docker://{HOST}/{name}"));
    let args = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &from, &to];
    host.run(&args).map(|_| ()).with_context(|| format!("failed to push {name}"))
}

fn listens(host: &Sandbox, port: u16) -> Result<()> {
    wait::until(&format!("port {port}"), wait::LONG, || {
        host.run(&["bash", "-c", &format!("exec 3<>/dev/tcp/localhost/{port}")]).map(|_| ())
    })
}
