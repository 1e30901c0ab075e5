//! Forms of policy with real connections: audit, named ports, published ports and hairpin, many values, equal priorities, what
//! labels cannot say, and what is refused.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use weft_lab::Namespace;
use weft_lab::traffic::{WebServer, get};
use weft_model::api::{Apply, Flows, Reply, Request};
use weft_model::policy::{Protocol, WorkloadPort};
use weft_model::{Mode, NetworkName, Object, Profile};
use weft_tests::scene::{Case, Families, SOON, Scene, Workload, anywhere, program};
use weft_tests::wait;

const CASE: Case = Case { mode: Mode::Routed, families: Families::Dual };
const SILENT: Duration = Duration::from_millis(300);

fn request(scene: &Scene, json: &[&str]) -> Result<Reply> {
    let objects = json.iter().map(|text| serde_json::from_str(text)).collect::<Result<Vec<Object>, _>>()?;
    Ok(scene.host.request(&Request::Apply(Apply { objects, dry_run: false }))?)
}

fn apply(scene: &Scene, json: &str) -> Result<()> {
    match request(scene, &[json])? {
        Reply::Applied(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}

fn policy(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        r#"{{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1",
            "metadata":{{"name":"{name}","annotations":{{{annotations}}}}},"spec":{{{spec}}}}}"#
    )
}

fn labelled(
    scene: &Scene,
    network: &NetworkName,
    app: &str,
    more: impl FnOnce(&mut Profile),
) -> Result<Workload> {
    let namespace = Namespace::new()?;
    let mut wish = namespace.wish(network, "eth0")?;
    wish.profile = Profile { labels: [("app".parse()?, app.parse()?)].into(), ..Profile::default() };
    more(&mut wish.profile);
    let attached = Namespace::attach_as(&scene.host, wish)?;
    Ok(Workload { namespace, attached })
}

fn plain(_: &mut Profile) {}

fn reaches(from: &Workload, to: &Workload, port: u16) -> bool {
    let mut addresses = to.addresses();
    addresses.all(|address| get(from.namespace.netns(), SocketAddr::new(address, port), SILENT).is_ok())
}

/// Nothing of it gets through in either family.
fn is_shut(from: &Workload, to: &Workload, port: u16) -> bool {
    let mut addresses = to.addresses();
    addresses.all(|address| get(from.namespace.netns(), SocketAddr::new(address, port), SILENT).is_err())
}

#[test]
fn audit_says_what_it_would_deny_and_denies_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    let (one, two) = (labelled(&scene, &network, "one", plain)?, labelled(&scene, &network, "two", plain)?);
    let _server = WebServer::start(two.namespace.netns(), anywhere(80))?;
    let spec = r#""podSelector":{"matchLabels":{"app":"two"}},"policyTypes":["Ingress"]"#;
    let name = format!("default/{}", two.namespace.container());
    let said = format!("policy under audit would deny ingress of {name}: NetworkPolicy/default/lock");
    apply(&scene, &policy("lock", r#""weft.network/enforcement":"audit""#, spec))?;
    ensure!(reaches(&one, &two, 80), "audit denies");
    ensure!(scene.host.refused(&said)? >= 2, "{:?}", scene.host.status()?.refused);
    wait::until("what it would deny among the flows", SOON, || {
        let Reply::Flows(flows) = scene.host.request(&Request::Flows(Flows { after: 0 }))? else {
            bail!("no flows")
        };
        let flow = flows.iter().find(|flow| flow.workload == name).context("nothing among the flows")?;
        ensure!(flow.audit && flow.by.contains("NetworkPolicy/default/lock"), "{flow:?}");
        Ok(())
    })?;
    // In force by the same file without the annotation; and back.
    apply(&scene, &policy("lock", r#""weft.network/enforcement":"enforce""#, spec))?;
    ensure!(is_shut(&one, &two, 80), "it is in force");
    apply(&scene, &policy("lock", r#""weft.network/enforcement":"audit""#, spec))?;
    ensure!(reaches(&one, &two, 80), "audit again");
    ensure!(
        request(&scene, &[&policy("lock", r#""weft.network/enforcement":"perhaps""#, spec)]).is_err(),
        "refused"
    );
    ensure!(reaches(&one, &two, 80), "what was refused changed something");
    Ok(())
}

/// A name means what the destination calls so: each workload its own number, in rules of either direction.
#[test]
fn named_ports_are_the_destinations() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    let web = |port| {
        move |profile: &mut Profile| {
            let number = WorkloadPort { protocol: Protocol::Tcp, port };
            profile.named_ports = [("web".parse().expect("a name"), number)].into();
        }
    };
    let one = labelled(&scene, &network, "served", web(8001))?;
    let two = labelled(&scene, &network, "served", web(8002))?;
    let none = labelled(&scene, &network, "served", plain)?;
    let client = labelled(&scene, &network, "client", plain)?;
    let mut servers = Vec::new();
    for workload in [&one, &two, &none] {
        for port in [8001, 8002] {
            servers.push(WebServer::start(workload.namespace.netns(), anywhere(port))?);
        }
    }
    let judged = |what: &str| -> Result<()> {
        ensure!(
            reaches(&client, &one, 8001) && is_shut(&client, &one, 8002),
            "{what}: the first serves 8001"
        );
        ensure!(
            reaches(&client, &two, 8002) && is_shut(&client, &two, 8001),
            "{what}: the second serves 8002"
        );
        ensure!(
            is_shut(&client, &none, 8001) && is_shut(&client, &none, 8002),
            "{what}: the third has no such name"
        );
        Ok(())
    };
    let ports = r#"[{"ports":[{"port":"web"}]}]"#;
    apply(
        &scene,
        &policy("p", "", &format!(r#""podSelector":{{"matchLabels":{{"app":"served"}}}},"ingress":{ports}"#)),
    )?;
    judged("ingress")?;
    apply(
        &scene,
        &policy(
            "p",
            "",
            &format!(
                r#""podSelector":{{"matchLabels":{{"app":"client"}}}},"policyTypes":["Egress"],"egress":{ports}"#
            ),
        ),
    )?;
    judged("egress")
}

/// Published ports: the real destination is judged, with the client's own address.
#[test]
fn published_ports_are_judged_by_their_backend() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    let served = labelled(&scene, &network, "served", |profile| {
        profile.ports = vec!["8080:80".parse().expect("a port")];
    })?;
    let friend = labelled(&scene, &network, "friend", plain)?;
    let _server = WebServer::start(served.namespace.netns(), anywhere(80))?;
    let host = scene.host.ipv4();
    let outside = || get(scene.underlay.netns(), SocketAddr::new(host, 8080), SILENT).is_ok();
    let inside = |from: &Workload| get(from.namespace.netns(), SocketAddr::new(host, 8080), SILENT).is_ok();
    ensure!(outside() && inside(&friend) && inside(&served), "without policy all is open, hairpin too");
    let allow = |from: &str, port: u16| {
        let spec = format!(
            r#""podSelector":{{"matchLabels":{{"app":"served"}}}},"ingress":[{{"from":[{from}],"ports":[{{"port":{port}}}]}}]"#
        );
        apply(&scene, &policy("p", "", &spec))
    };
    let friends = r#"{"podSelector":{"matchLabels":{"app":"friend"}}}"#;
    allow(friends, 80)?;
    ensure!(inside(&friend), "a friend's connection through the host's port is to the workload's port 80");
    ensure!(!outside(), "somebody from outside is no friend");
    allow(friends, 8080)?;
    ensure!(!inside(&friend), "the host's port is not what is judged");
    allow(r#"{"ipBlock":{"cidr":"192.0.2.0/24"}}"#, 80)?;
    ensure!(outside() && !inside(&friend), "from outside only");
    // Hairpin: its own connection through the host's port is one of its own address.
    allow(r#"{"podSelector":{"matchLabels":{"app":"served"}}}"#, 80)?;
    ensure!(inside(&served) && !inside(&friend), "hairpin is judged by who began it");
    Ok(())
}

/// Ten thousand values of a selector, ten thousand addresses: taken in, and right.
#[test]
fn selectors_and_rules_with_ten_thousand_values() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    let (friend, enemy) =
        (labelled(&scene, &network, "v9999", plain)?, labelled(&scene, &network, "v10000", plain)?);
    let served = labelled(&scene, &network, "served", plain)?;
    let _server = WebServer::start(served.namespace.netns(), anywhere(80))?;
    let values: Vec<String> = (0..10_000).map(|n| format!("\"v{n}\"")).collect();
    let spec = format!(
        r#""podSelector":{{"matchLabels":{{"app":"served"}}}},
           "ingress":[{{"from":[{{"podSelector":{{"matchExpressions":[{{"key":"app","operator":"In","values":[{}]}}]}}}}]}}]"#,
        values.join(",")
    );
    apply(&scene, &policy("p", "", &spec))?;
    ensure!(reaches(&friend, &served, 80) && is_shut(&enemy, &served, 80), "by labels");
    let mine: Vec<String> = friend
        .addresses()
        .map(|a| format!(r#"{{"ipBlock":{{"cidr":"{}"}}}}"#, ipnet::IpNet::from(a)))
        .collect();
    let blocks = (0..10_000_u32).map(|n| {
        format!(r#"{{"ipBlock":{{"cidr":"172.{}.{}.{}/32"}}}}"#, 16 + n / 65_536, n / 256 % 256, n % 256)
    });
    let all: Vec<String> = blocks.chain(mine).collect();
    let spec = format!(
        r#""podSelector":{{"matchLabels":{{"app":"served"}}}},"ingress":[{{"from":[{}]}}]"#,
        all.join(",")
    );
    apply(&scene, &policy("p", "", &spec))?;
    ensure!(reaches(&friend, &served, 80) && is_shut(&enemy, &served, 80), "by addresses");
    Ok(())
}

/// Two that contradict each other at one priority: the name decides, whichever came first, and nothing flaps.
#[test]
fn contradictory_priorities_are_settled_by_name() -> Result<()> {
    let cluster = |name: &str, action: &str, priority: u16| {
        format!(
            r#"{{"kind":"ClusterNetworkPolicy","apiVersion":"policy.networking.k8s.io/v1alpha2","metadata":{{"name":"{name}"}},
                "spec":{{"tier":"Admin","priority":{priority},"subject":{{"namespaces":{{}}}},
                "ingress":[{{"action":"{action}","from":[{{"namespaces":{{}}}}]}}]}}}}"#
        )
    };
    for order in [["a", "b"], ["b", "a"]] {
        let scene = Scene::new()?;
        let network = scene.network(1, CASE)?;
        let (one, two) =
            (labelled(&scene, &network, "one", plain)?, labelled(&scene, &network, "two", plain)?);
        let _server = WebServer::start(two.namespace.netns(), anywhere(80))?;
        for name in order {
            apply(&scene, &cluster(name, if name == "a" { "Deny" } else { "Accept" }, 7))?;
        }
        ensure!(is_shut(&one, &two, 80), "{order:?}: a is before b");
        apply(&scene, &cluster("b", "Accept", 6))?;
        ensure!(reaches(&one, &two, 80), "{order:?}: the lower number is before the higher one");
    }
    Ok(())
}

/// A workload's labels say nothing of its namespace, and what only the system may say is not taken from it (BAR.md, security row 12).
#[test]
fn labels_do_not_make_a_namespace() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    let _other = labelled(&scene, &network, "any", |profile| profile.namespace = "trusted".parse().ok())?;
    let served = labelled(&scene, &network, "served", plain)?;
    let _server = WebServer::start(served.namespace.netns(), anywhere(80))?;
    let spec = r#""podSelector":{"matchLabels":{"app":"served"}},"ingress":[{"from":[
        {"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"trusted"}}}]}]"#;
    apply(&scene, &policy("p", "", spec))?;
    let trusted = labelled(&scene, &network, "x", |profile| profile.namespace = "trusted".parse().ok())?;
    ensure!(reaches(&trusted, &served, 80), "one of the namespace");
    for key in
        ["kubernetes.io/metadata.name", "namespace", "io.kubernetes.pod.namespace", "weft.network/namespace"]
    {
        let crafted = labelled(&scene, &network, "x", |profile| {
            let label = (key.parse().expect("a key"), "trusted".parse().expect("a value"));
            profile.labels.extend([label]);
        })?;
        ensure!(
            is_shut(&crafted, &served, 80),
            "a workload that is labelled {key}=trusted passes for one of the namespace"
        );
    }
    // A namespace's own object cannot say that it is another one.
    apply(&scene, r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"crafty","labels":{"kubernetes.io/metadata.name":"trusted"}}}"#)
        .or_else(|_| Ok::<_, anyhow::Error>(()))?;
    let crafty = labelled(&scene, &network, "x", |profile| profile.namespace = "crafty".parse().ok())?;
    ensure!(is_shut(&crafty, &served, 80), "a namespace that calls itself by another's name passes for it");
    Ok(())
}

/// What is refused is refused by name, nothing of the file is taken in, and what was in force stays.
#[test]
fn the_last_good_policy_stays_in_force_and_status_says_so() -> Result<()> {
    let mut scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    let (one, two) = (labelled(&scene, &network, "one", plain)?, labelled(&scene, &network, "two", plain)?);
    let _server = WebServer::start(two.namespace.netns(), anywhere(80))?;
    let lock = r#""podSelector":{"matchLabels":{"app":"two"}},"policyTypes":["Ingress"]"#;
    apply(&scene, &policy("lock", "", lock))?;
    ensure!(is_shut(&one, &two, 80), "it is in force");
    let open = policy("lock", "", r#""podSelector":{"matchLabels":{"app":"two"}},"ingress":[{}]"#);
    let wrong = policy("wrong", "", r#""podSelector":{},"ingress":[{"ports":[{"port":80,"endPort":79}]}]"#);
    // The good one of a bad file is not taken in either.
    let refused = request(&scene, &[&open, &wrong])
        .map(|reply| format!("{reply:?}"))
        .unwrap_or_else(|e| format!("{e:#}"));
    ensure!(
        refused.contains("NetworkPolicy/default/wrong") && refused.contains("79 is less than port 80"),
        "{refused}"
    );
    ensure!(is_shut(&one, &two, 80), "half of a bad file was taken in");
    let health = scene.host.status()?.health.join("\n");
    ensure!(health.contains("NetworkPolicy/default/wrong") && health.contains("in force"), "{health}");
    scene.host.restart()?;
    ensure!(is_shut(&one, &two, 80), "after a restart");
    ensure!(
        request(&scene, &[&open, &wrong]).is_err() || scene.host.status()?.health.len() == 1,
        "refused again"
    );
    apply(&scene, &open)?;
    apply(&scene, &policy("wrong", "", r#""podSelector":{"matchLabels":{"app":"none"}}"#))?;
    ensure!(reaches(&one, &two, 80), "the good one alone");
    let health = scene.host.status()?.health.join("\n");
    ensure!(!health.contains("refused"), "what was mended is still said: {health}");
    Ok(())
}

/// `weft attach --explain` shows what policy would put into the kernel, and changes nothing.
#[test]
fn attach_explains_the_elements_of_policy() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    apply(
        &scene,
        &policy("lock", "", r#""podSelector":{"matchLabels":{"app":"two"}},"policyTypes":["Ingress"]"#),
    )?;
    let namespace = Namespace::new()?;
    let mut command = Command::new(program()?);
    command.arg("--socket").arg(scene.host.socket()).args([
        "attach",
        "--explain",
        "--network",
        network.as_str(),
    ]);
    let output = command.args(["-l", "app=two"]).arg(namespace.path()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(said.contains("add element inet weft in_isolated4"), "{said}");
    ensure!(said.contains("in_isolated6") && said.contains("denied_ingress_"), "{said}");
    let Reply::Diff(diff) = scene.host.request(&Request::Diff)? else { bail!("no diff") };
    ensure!(diff.is_empty(), "--explain changed something: {diff:?}");
    Ok(())
}
