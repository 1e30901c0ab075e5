//! Folders in a place of the test's own: names are taken once, locks tell who lives.

use super::*;
use crate::reconcile::reconcile;
use crate::spec::Root;
use crate::wish::{Defaults, Wish};

fn places(folder: &Path) -> Places {
    let at = |name: &str| folder.join(name);
    Places { state: at("state"), run: at("run"), socket: at("no.sock"), journal: at("journal") }
}

fn spec(name: &str) -> Spec {
    let (name, command) = (Some(name.parse().unwrap()), vec!["true".to_owned()]);
    // Nothing that another may have by chance: no network, so that nobody is asked for anything.
    let net = Some(crate::spec::Net::Host);
    let wish = Wish { name, command, net, ..Wish::default() };
    wish.resolve(Root::Folder("/".into()), &Defaults::default()).unwrap()
}

#[test]
fn a_name_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let held = Held::create(&places, &spec("web")).unwrap();
    assert!(matches!(Held::create(&places, &spec("web")), Err(Error::Exists(_))));
    assert!(Held::take(&held.folder).is_none(), "it is held");
    let found = Container::find(&places, &"web".parse().unwrap()).unwrap();
    assert_eq!((found.spec.command, found.live, found.end), (vec!["true".to_owned()], None, None));
    let files = fs::read_dir(places.containers()).unwrap().count();
    assert_eq!(files, 1, "nothing but the container's folder");
    let path = held.folder.clone();
    drop(held);
    assert!(Held::take(&path).is_some(), "nobody holds it any more");
}

#[test]
fn one_that_nobody_holds_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    drop(Held::create(&places, &spec("left")).unwrap());
    let held = Held::create(&places, &spec("lives")).unwrap();
    assert_eq!(reconcile(&places), Vec::<String>::new());
    let all = Container::all(&places);
    let ends: Vec<(&str, bool)> = all.iter().map(|c| (c.spec.name.as_str(), c.end.is_some())).collect();
    assert_eq!(ends, [("left", true), ("lives", false)]);
    assert_eq!(all[0].end.as_ref().and_then(|e| e.error.as_deref()), Some("the host was restarted"));
    drop(held);
}

#[test]
fn what_is_being_made_is_left_alone_while_its_maker_lives() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let (mine, dead) = (format!(".new-a-{}", std::process::id()), ".new-b-999999999");
    for name in [mine.as_str(), dead] {
        fs::create_dir_all(places.containers().join(name)).unwrap();
    }
    reconcile(&places);
    assert!(places.containers().join(mine).exists() && !places.containers().join(dead).exists());
}
