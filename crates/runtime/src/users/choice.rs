//! Which numbers a container gets that asks for any: those that follow from its name, or the next that are free.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::container::{Container, private_folder};
use crate::image::Digest;
use crate::name::Name;
use crate::places::Places;
use crate::report::{Refusal, chain};
use crate::spec::Spec;
use crate::spec::users::{Range, Users};

/// Numbers of a container: as many as a program can name with 16 bits, which images expect.
const COUNT: u32 = 65536;
/// The first container's numbers, and how many can have some: those that systemd sets aside for containers
/// (systemd, UIDS-GIDS.md).
const FIRST: u32 = 524_288;
const PLACES: u32 = (1_879_048_191 - FIRST + 1) / COUNT;

/// What numbers are being chosen from; nobody else chooses while this lives.
#[derive(Debug)]
pub(crate) struct Choosing(#[expect(dead_code, reason = "it is the lock")] Option<OwnedFd>);

/// Settles who the users of a container are, before its folder is made: with that, others see what is taken.
pub(crate) fn settle(places: &Places, spec: &mut Spec) -> Result<Choosing, Refusal> {
    if spec.users != Users::Auto {
        return Ok(Choosing(None));
    }
    let folder = places.containers();
    private_folder(&folder).map_err(|e| chain(&e))?;
    let lock = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&folder, flags, Mode::empty())?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    };
    let lock: rustix::io::Result<OwnedFd> = lock();
    let lock = lock.map_err(|e| Refusal::new(format!("failed to lock {}: {e}", folder.display())))?;
    let mut taken: Vec<Range> =
        Container::all(places).iter().filter_map(|container| container.spec.users.range()).collect();
    for file in ["/etc/subuid", "/etc/subgid"] {
        taken.extend(ranges(&fs::read_to_string(file).unwrap_or_default()));
    }
    let range = choose(&spec.name, &taken).ok_or_else(|| {
        Refusal::new("all numbers for users of containers are taken")
            .hint("remove containers with `weft rm`, or choose some with --userns UID:SIZE")
    })?;
    spec.users = Users::Range(range);
    Ok(Choosing(Some(lock)))
}

/// The same name gets the same numbers if it can, so that what it wrote into a volume stays its own.
fn choose(name: &Name, taken: &[Range]) -> Option<Range> {
    let digest = Digest::of(name.as_str().as_bytes()).hex();
    let start = u32::from_str_radix(&digest[..8], 16).expect("these are digits") % PLACES;
    let at = |place: u32| Range { first: FIRST + place % PLACES * COUNT, count: COUNT };
    (start..start + PLACES).map(at).find(|range| !taken.iter().any(|other| other.overlaps(range)))
}

/// What users may have for containers of their own (subuid(5)).
fn ranges(text: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut words = line.split(':').skip(1);
        Some(Range { first: words.next()?.parse().ok()?, count: words.next()?.trim().parse().ok()? })
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_numbers_and_another_has_others() {
        let name: Name = "web".parse().unwrap();
        let first = choose(&name, &[]).unwrap();
        assert_eq!(choose(&name, &[]), Some(first));
        let next = choose(&name, &[first]).unwrap();
        assert!(!next.overlaps(&first));
        assert!(first.first >= FIRST && next.first.checked_add(next.count).is_some());
        let all = Range { first: 1, count: u32::MAX - 1 };
        assert_eq!(choose(&name, &[all]), None);
    }

    #[test]
    fn what_users_have_is_read() {
        let text = "# x\nadmin:100000:65536\nbad:1\nother:x:5\nbuild:600000:10\n";
        let (a, b) = (Range { first: 100_000, count: 65536 }, Range { first: 600_000, count: 10 });
        assert_eq!(ranges(text), [a, b]);
    }
}
