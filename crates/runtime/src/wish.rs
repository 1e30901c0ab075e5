//! From what was typed, and what an image says of itself, to what a container is to be.

use std::net::IpAddr;
use std::path::PathBuf;

use rustix::process::Signal;
use weft_kernel::signal;
use weft_model::Profile;

use crate::log;
use crate::name::Name;
use crate::report::Refusal;
use crate::spec::{Capabilities, Limits, Net, Restart, Root, Spec, Users, Volume};
use crate::time;

/// What an image says about how it wants to be run; for a plain folder nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The program, and arguments that always come first.
    pub entrypoint: Vec<String>,
    /// What is run, or the entry point's arguments, unless something else is typed.
    pub command: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Where it starts.
    pub workdir: String,
    /// `USER[:GROUP]`.
    pub user: String,
    /// What asks it to end.
    pub stop_signal: String,
}

/// What was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the options of `weft run`, which says what each means")]
pub struct Wish {
    pub name: Option<Name>,
    pub command: Vec<String>,
    pub entrypoint: Option<String>,
    pub env: Vec<String>,
    pub workdir: Option<PathBuf>,
    pub user: Option<String>,
    pub users: Users,
    pub hostname: Option<String>,
    pub net: Option<Net>,
    pub ips: Vec<IpAddr>,
    pub profile: Profile,
    pub volumes: Vec<Volume>,
    pub limits: Limits,
    pub read_only: bool,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub tty: bool,
    pub interactive: bool,
    pub remove: bool,
    pub restart: Restart,
    pub stop_signal: Option<String>,
    pub log_limit: Option<u64>,
}

impl Wish {
    /// Puts both together and checks what can be checked before anything is made.
    ///
    /// # Errors
    /// What cannot be, and what to do instead.
    pub fn resolve(self, root: Root, image: &Defaults) -> Result<Spec, Refusal> {
        let command = self.whole_command(image)?;
        let name = self.name.unwrap_or_else(Name::random);
        let net = self.net.unwrap_or_else(|| Net::Network("default".parse().expect("it is a name")));
        if !self.ips.is_empty() && !matches!(net, Net::Network(_)) {
            return Err(Refusal::new(format!("an address cannot be had with --network {net}"))
                .hint("leave --ip out, or name a network"));
        }
        let asks = !self.profile.ports.is_empty() || !self.profile.bandwidth.is_unlimited();
        if asks && !matches!(net, Net::Network(_)) {
            return Err(Refusal::new(format!(
                "ports and bandwidth are a network's: there is none with --network {net}"
            ))
            .hint("leave -p and --bandwidth out, or name a network"));
        }
        if let (Net::Container(other), false) = (&net, self.users.is_host()) {
            let message = format!("root of a user namespace has no rights over the network of '{other}'");
            return Err(Refusal::new(message).hint("leave --userns out, or give it a network of its own"));
        }
        if self.remove && self.restart != Restart::No {
            return Err(Refusal::new("--rm and --restart exclude each other").hint("leave one of them out"));
        }
        let hostname = self.hostname.unwrap_or_else(|| name.to_string());
        if hostname.is_empty()
            || hostname.len() > 64
            || hostname.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return Err(Refusal::new(format!("'{}' is no host name", hostname.escape_default())));
        }
        let stop = self.stop_signal.as_deref().unwrap_or(&image.stop_signal);
        let stop_signal = match stop {
            "" => Signal::TERM,
            text => signal::parse(text).ok_or_else(|| Refusal::new(format!("'{text}' is no signal")))?,
        };
        let workdir = self.workdir.unwrap_or_else(|| PathBuf::from(&image.workdir));
        let volumes = self.volumes.into_iter().map(real).collect::<Result<_, _>>()?;
        Ok(Spec {
            name,
            created: time::now() / 1000,
            root,
            command,
            env: image.env.iter().chain(&self.env).cloned().collect(),
            workdir: if workdir.as_os_str().is_empty() {
                "/".into()
            } else {
                PathBuf::from("/").join(workdir)
            },
            user: self.user.unwrap_or_else(|| image.user.clone()),
            users: self.users,
            hostname,
            net,
            ips: self.ips,
            profile: self.profile,
            volumes,
            limits: self.limits,
            read_only: self.read_only,
            capabilities: self.capabilities,
            no_new_privileges: self.no_new_privileges,
            tty: self.tty,
            interactive: self.interactive,
            remove: self.remove,
            restart: self.restart,
            stop_signal: stop_signal.as_raw(),
            log_limit: self.log_limit.unwrap_or(log::LIMIT),
        })
    }

    /// As with Docker: what is typed takes the place of the image's command; an entry point that is typed takes the
    /// place of both.
    fn whole_command(&self, image: &Defaults) -> Result<Vec<String>, Refusal> {
        let entrypoint = match &self.entrypoint {
            Some(program) => vec![program.clone()],
            None => image.entrypoint.clone(),
        };
        let typed = !self.command.is_empty() || self.entrypoint.is_some();
        let arguments = if typed { &self.command } else { &image.command };
        let command: Vec<String> = entrypoint.iter().chain(arguments).cloned().collect();
        if command.iter().any(|word| word.contains('\0')) {
            return Err(Refusal::new("a NUL cannot be part of a command"));
        }
        if command.is_empty() {
            return Err(Refusal::new("no command was given, and the image names none")
                .hint("type one behind the image: weft run IMAGE /bin/sh"));
        }
        Ok(command)
    }
}

/// A source by its real path: what is a symbolic link by the time it is mounted was put there by somebody else.
fn real(volume: Volume) -> Result<Volume, Refusal> {
    match std::fs::canonicalize(&volume.source) {
        Ok(source) => Ok(Volume { source, ..volume }),
        Err(error) => {
            Err(Refusal::new(format!("the volume {} cannot be used: {error}", volume.source.display()))
                .hint("make it first: weft does not make folders of the host"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> Root {
        Root::Folder("/".into())
    }

    fn image() -> Defaults {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        Defaults {
            entrypoint: words("serve -v"),
            command: words("now"),
            workdir: "srv".into(),
            ..Defaults::default()
        }
    }

    #[test]
    fn what_is_typed_comes_before_what_the_image_says() {
        let command = |typed: &[&str], entrypoint: Option<&str>| {
            let command = typed.iter().map(|t| (*t).to_owned()).collect();
            let wish = Wish { command, entrypoint: entrypoint.map(str::to_owned), ..Wish::default() };
            wish.resolve(folder(), &image()).map(|spec| spec.command.join(" "))
        };
        assert_eq!(command(&[], None).unwrap(), "serve -v now");
        assert_eq!(command(&["later"], None).unwrap(), "serve -v later");
        assert_eq!(command(&[], Some("sh")).unwrap(), "sh");
        assert_eq!(command(&["-c", "x"], Some("sh")).unwrap(), "sh -c x");
        let none = Wish::default().resolve(folder(), &Defaults::default()).unwrap_err();
        assert!(none.message.contains("no command"), "{none}");
        assert_eq!(Wish::default().resolve(folder(), &image()).unwrap().workdir, PathBuf::from("/srv"));
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_made() {
        let sh = || Wish { command: vec!["sh".into()], ..Wish::default() };
        let ip = vec!["10.0.0.2".parse().unwrap()];
        for wish in [
            Wish { net: Some(Net::Host), ips: ip, ..sh() },
            Wish { users: Users::Auto, net: Some(Net::Container("web".parse().unwrap())), ..sh() },
            Wish { remove: true, restart: Restart::Always, ..sh() },
            Wish { hostname: Some("a\nb".into()), ..sh() },
            Wish { stop_signal: Some("SIGNOPE".into()), ..sh() },
            Wish { volumes: vec!["/nonexistent:/x".parse().unwrap()], ..sh() },
            Wish { command: vec!["a\0".into()], ..Wish::default() },
        ] {
            assert!(wish.clone().resolve(folder(), &Defaults::default()).is_err(), "{wish:?}");
        }
    }
}
