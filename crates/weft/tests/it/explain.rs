//! `--explain`: a script that says of itself that nothing was changed.

use weft_model::api::{Error, ErrorKind, Reply, Request};

use crate::canned::{Agent, usual};

#[test]
fn the_script_can_be_run_and_says_that_nothing_was_changed() {
    let agent = Agent::new(usual);
    let run = agent.weft(&["attach", "--pid", "1", "--explain"]).ok();
    let expected = "#!/bin/sh\n# To join /proc/1/ns/net to network default. Nothing was changed.\n\
                    set -e\nip link add weft0 type veth\n";
    assert_eq!(run.out, expected);
    let Request::Attach(asked) = agent.asked() else { panic!() };
    assert!(asked.explain);
    let run = agent.weft(&["network", "create", "app", "--explain"]).ok();
    assert!(run.out.ends_with("set -e\nip link add weft-app type dummy\n"), "{run:?}");
    let run = agent.weft(&["network", "rm", "app", "b", "--explain"]).ok();
    assert!(run.out.starts_with("#!/bin/sh\n# To remove app, b. Nothing was changed.\nset -e\n"), "{run:?}");
}

#[test]
fn nothing_to_do_is_said_in_a_comment() {
    let agent = Agent::new(|_| Reply::Done { commands: Vec::new() });
    let run = agent.weft(&["detach", "blue", "--explain"]).ok();
    assert!(run.out.ends_with("set -e\n# nothing to do\n"), "{run:?}");
}

#[test]
fn diff_is_quiet_when_kernel_and_plan_agree() {
    let agent = Agent::new(|_| Reply::Diff(Vec::new()));
    assert_eq!(agent.weft(&["diff"]).ok().out, "kernel and plan agree\n");
    assert_eq!(Agent::new(usual).weft(&["diff"]).code(1).out, "ip link set weft0 up\n");
}

#[test]
fn one_network_that_cannot_be_removed_does_not_keep_the_others() {
    let agent = Agent::new(|request| match request {
        Request::NetworkRemove { name, .. } if name.as_str() == "busy" => {
            Reply::Error(Error::new(ErrorKind::Exists, "network busy has workloads"))
        }
        _ => Reply::Done { commands: Vec::new() },
    });
    let run = agent.weft(&["network", "rm", "a", "busy", "c"]).code(1);
    assert_eq!(
        (run.out.as_str(), run.err.as_str()),
        ("removed a\nremoved c\n", "weft: network busy has workloads\n")
    );
}
