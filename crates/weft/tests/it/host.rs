//! The host itself, in mount and network namespaces of its own: `/etc`, `/var`, `/run` and the rest are empty there.

use std::process::Command;

use crate::canned::{Agent, honest};
use crate::scene::{Run, WEFT};

/// Runs a script as root of a host that has nothing yet.
fn on_a_fresh_host(script: &str, environment: &[(&str, &str)]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("weft-cni");
    std::fs::write(&plugin, "plugin").unwrap();
    let fresh = "set -e; for d in /etc /var /run /opt /usr/local; do mount -t tmpfs none $d; done; mkdir /var/lib\n\
                 list() { find /etc /var /run /opt /usr/local -printf '%p %y %m %s %l\\n' | grep -v '^[^ ]* d' | sort; \
                 find /etc /var /run /opt /usr/local -type d | sort; }\n";
    let allowed =
        Command::new("unshare").args(["-m", "-n", "true"]).output().is_ok_and(|o| o.status.success());
    assert!(allowed, "`unshare -m -n` is refused: these tests need root, and a kernel with namespaces");
    let mut command = Command::new("unshare");
    command.args(["-m", "-n", "sh", "-c", &format!("{fresh}{script}")]);
    command.env("WEFT", WEFT).env("PLUGIN", &plugin).envs(environment.iter().copied());
    Run::of(&command.output().unwrap())
}

#[test]
fn the_host_is_as_it_was() {
    let script = "\
        list >/tmp/weft-before.$$; trap 'rm -f /tmp/weft-before.$$ /tmp/weft-after.$$' EXIT\n\
        $WEFT install --plugin $PLUGIN >/dev/null 2>&1\n\
        test -x /usr/local/bin/weft; mkdir -p /run/weft/journal; touch /var/lib/weft/state /run/weft/attachments\n\
        /usr/local/bin/weft inventory --offline | grep -c ^file\n\
        $WEFT uninstall >/dev/null\n\
        list >/tmp/weft-after.$$; diff /tmp/weft-before.$$ /tmp/weft-after.$$\n\
        $WEFT uninstall; $WEFT inventory --offline\n";
    let run = on_a_fresh_host(script, &[]);
    let run = run.ok();
    assert_eq!(run.out, "11\nnothing is installed\nnothing on this host is weft's\n", "{run:?}");
}

#[test]
fn root_made_links_of_the_system_are_followed_and_others_are_not() {
    let script = "\
        mkdir /var/bin; ln -s ../../var/bin /usr/local/bin\n\
        $WEFT install --plugin $PLUGIN >/dev/null 2>&1; test -x /var/bin/weft; $WEFT uninstall >/dev/null\n\
        test ! -e /var/bin/weft; chown -h 1000 /usr/local/bin; ! $WEFT install --plugin $PLUGIN\n";
    let run = on_a_fresh_host(script, &[]);
    assert!(run.ok().err.contains("a symbolic link stands on the way"));
}

#[test]
fn an_agent_that_cannot_be_verified_is_neither_killed_nor_undermined() {
    let agent = Agent::new(honest);
    let socket = agent.socket().display().to_string();
    let script = "$WEFT install --plugin $PLUGIN >/dev/null 2>&1; ! $WEFT uninstall --socket $SOCKET\n\
                  test -x /usr/local/bin/weft\n";
    let run = on_a_fresh_host(script, &[("SOCKET", &socket)]);
    let run = run.ok();
    let me = std::process::id();
    assert!(run.err.contains(&format!("cannot be stopped from here: process {me} is ")), "{run:?}");
    assert!(run.err.contains("\nhint: stop it first"), "{run:?}");
}

/// Not a test by itself: this program, under the name `weft`, as the agent of the test below.
#[test]
fn serve() {
    let Some(folder) = std::env::var_os("SERVE_IN") else { return };
    let agent = Agent::at(folder, |request| serde_json::to_string(&honest(request)).unwrap() + "\n");
    std::thread::sleep(std::time::Duration::from_secs(60));
    drop(agent);
}

#[test]
fn an_agent_that_no_systemd_manages_is_stopped_by_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("weft");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let script = "mkdir /run/weft\n\
        SERVE_IN=/run/weft $AGENT --exact host::serve >/dev/null & agent=$!\n\
        while ! test -S /run/weft/agent.sock; do sleep 0.01; done\n\
        $WEFT uninstall; ! kill -0 $agent 2>/dev/null || ! wait $agent; test ! -e /run/weft\n";
    let run = on_a_fresh_host(script, &[("AGENT", &program.display().to_string())]);
    let run = run.ok();
    assert!(run.err.starts_with("stopped the agent (process "), "{run:?}");
    assert_eq!(run.out, "removed  /run/weft\n");
}
