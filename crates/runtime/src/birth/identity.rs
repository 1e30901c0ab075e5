//! Who a program runs as: users and groups of the container's own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{Gid, Mode, OFlags, Uid};

use crate::report::Refusal;
use crate::users::Space;

/// No honest file has more bytes.
const LONGEST: u64 = 4 << 20;

/// A user with groups, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user.
    pub(crate) uid: u32,
    /// The group.
    pub(crate) gid: u32,
    /// All further groups.
    pub(crate) groups: Vec<u32>,
    /// Where the user is at home; `/` if nobody says.
    pub(crate) home: Option<String>,
}

/// There is no such user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    /// The name is not in the file.
    #[error("there is no {kind} '{name}' in the container's {file}")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// A file cannot be read.
    #[error("{0}")]
    File(String),
}

impl Identity {
    /// Who that is on the host.
    pub(crate) fn outside(&self, space: Option<&Space>) -> Result<(Uid, Gid), Refusal> {
        let outside = |number: u32| {
            super::outside(space, number).ok_or_else(|| {
                let message =
                    format!("the user or group {number} is beyond the numbers of its user namespace");
                Refusal::new(message).hint("give it more with --userns UID:SIZE")
            })
        };
        for group in &self.groups {
            outside(*group)?;
        }
        Ok((Uid::from_raw(outside(self.uid)?), Gid::from_raw(outside(self.gid)?)))
    }

    /// `USER[:GROUP]` in the container that this process is in; empty is root.
    ///
    /// # Errors
    /// [`UserError`].
    pub(crate) fn find(text: &str) -> Result<Identity, UserError> {
        let (passwd, group) = (content("/etc/passwd")?, content("/etc/group")?);
        Identity::among(text, &passwd, &group)
    }

    /// The same, with the files' contents.
    fn among(text: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
        let (user, wanted) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let mut identity = Identity::default();
        let mut name = None;
        let of_user = |fields: &Vec<&str>| fields[0] == user || fields.get(2) == Some(&user);
        match rows(passwd, 4).find(of_user) {
            Some(fields) => {
                identity.uid = number(fields[2]).unwrap_or_default();
                identity.gid = number(fields[3]).unwrap_or_default();
                identity.home = fields.get(5).filter(|h| h.starts_with('/')).map(|h| (*h).to_owned());
                name = Some(fields[0]);
            }
            None => {
                let unknown =
                    || UserError::Unknown { kind: "user", name: user.to_owned(), file: "/etc/passwd" };
                identity.uid = number(user).ok_or_else(unknown)?;
            }
        }
        if let Some(wanted) = wanted {
            let found = rows(group, 3).find(|f| f[0] == wanted || f[2] == wanted).and_then(|f| number(f[2]));
            let unknown =
                || UserError::Unknown { kind: "group", name: wanted.to_owned(), file: "/etc/group" };
            identity.gid = found.or_else(|| number(wanted)).ok_or_else(unknown)?;
            return Ok(identity); // as with Docker: who names a group has no others
        }
        let mine = |f: &Vec<&str>| f.get(3).is_some_and(|all| all.split(',').any(|m| Some(m) == name));
        identity.groups = rows(group, 3).filter(mine).filter_map(|f| number(f[2])).collect();
        Ok(identity)
    }
}

/// Rows of at least `least` fields, the third of which is a number.
fn rows(text: &str, least: usize) -> impl Iterator<Item = Vec<&str>> {
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.filter(move |f| f.len() >= least && number(f[2]).is_some())
}

/// Not the number that means "leave as it is" to the kernel.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n != u32::MAX)
}

/// A file's text; a file that is not there is empty.
fn content(path: &str) -> Result<String, UserError> {
    let failed = |error: io::Error| UserError::File(format!("failed to read {path}: {error}"));
    // NONBLOCK: a fifo must not hang.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        other => File::from(other.map_err(|e| failed(e.into()))?),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/false\nbad:x:-1:0::/:\n\n::::\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nadm:x:4:web,other\nlog:x:5:web\n";

    fn find(text: &str) -> Result<(u32, u32, Vec<u32>), UserError> {
        Identity::among(text, PASSWD, GROUP).map(|i| (i.uid, i.gid, i.groups))
    }

    #[test]
    fn users_and_groups_by_name_and_number() {
        assert_eq!(find(""), Ok((0, 0, vec![])));
        assert_eq!(find("web"), Ok((33, 34, vec![4, 5])));
        assert_eq!(find("33"), Ok((33, 34, vec![4, 5])));
        assert_eq!(find("web:adm"), Ok((33, 4, vec![])));
        assert_eq!(find("1000:2000"), Ok((1000, 2000, vec![])));
        assert_eq!(find(":adm"), Ok((0, 4, vec![])));
        for unknown in ["nobody", "bad", "-1", "4294967295", "web:none", "x:y:z"] {
            assert!(find(unknown).is_err(), "{unknown}");
        }
        assert_eq!(Identity::among("web", PASSWD, GROUP).unwrap().home.as_deref(), Some("/srv"));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in "[a-z0-9:]{0,8}", passwd in "[a-z0-9:,\\n]*", group in "[a-z0-9:,\\n]*") {
            let _ = Identity::among(&text, &passwd, &group);
        }
    }
}
