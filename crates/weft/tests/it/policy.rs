//! Policies without an agent: `weft policy test`, and `--world` of what asks for verdicts.

use tempfile::TempDir;

use crate::scene::weft;

const WORLD: &str = "\
apiVersion: weft.network/v1alpha1
kind: Workload
spec: {name: front, namespace: shop, labels: {app: front}, addresses: [10.0.0.1, 'fd00::1']}
---
apiVersion: weft.network/v1alpha1
kind: Workload
spec: {name: web, namespace: shop, labels: {app: web}, addresses: [10.0.0.2, 'fd00::2'], ports: {http: {port: 8080}}}
---
apiVersion: weft.network/v1alpha1
kind: Node
spec: {name: host1, addresses: [192.0.2.11]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: front}}}], ports: [{port: http}]}]
---
apiVersion: weft.network/v1alpha1
kind: ClusterNetworkPolicy
metadata: {name: hosts}
spec: {tier: Admin, priority: 1, subject: {nodes: {}}, ingress: [{action: Deny, from: [{networks: [0.0.0.0/0]}]}]}
";

/// The folder with the world, and a scenario beside it.
fn folder(expectations: &str) -> (TempDir, String, String) {
    let folder = TempDir::new().unwrap();
    let world = folder.path().join("world");
    std::fs::create_dir(&world).unwrap();
    std::fs::write(world.join("world.yaml"), WORLD).unwrap();
    let scenario = folder.path().join("scenario.yaml");
    let text = format!("apiVersion: weft.network/v1alpha1\nkind: Expectation\nspec:\n{expectations}");
    std::fs::write(&scenario, text).unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (world, scenario) = (text(&world), text(&scenario));
    (folder, world, scenario)
}

#[test]
fn expectations_that_hold_and_those_that_do_not() {
    let good = "\
- {from: shop/front, to: 'shop/web:8080/TCP', allowed: true}
- {from: shop/front, to: 'shop/web:8081/TCP', allowed: false}
- {from: 192.0.2.1, to: 'shop/web:8080/TCP', allowed: false}
- {from: shop/web, to: 'shop/front:1/UDP', allowed: true}
- {from: 192.0.2.7, to: 'node/host1:22', allowed: true}
- {from: 192.0.2.7, to: 'node/host1:23', allowed: false}
";
    let (_folder, world, scenario) = folder(good);
    let run = weft(&["policy", "test", "-f", &world, "-f", &scenario]).ok();
    assert_eq!(run.out, "6 as expected, 0 not\n", "{run:?}");
    let (_folder, world, scenario) =
        folder(&good.replace("8081/TCP', allowed: false", "8081/TCP', allowed: true"));
    let run = weft(&["policy", "test", "-f", &world, "-f", &scenario]).code(1);
    assert!(run.out.contains("shop/front -> shop/web:8081/TCP is denied (10.0.0.2): ingress of shop/web: isolated by NetworkPolicy/shop/web"), "{run:?}");
    assert!(run.out.contains("(fd00::2)"), "each family is judged: {run:?}");
    assert!(run.out.ends_with("5 as expected, 2 not\n"), "{run:?}");
    let (document, keys) =
        weft(&["--json", "policy", "test", "-f", &world, "-f", &scenario]).code(1).document();
    assert_eq!((document["passed"].as_u64(), keys.contains(&"failed".to_owned())), (Some(5), true));
}

#[test]
fn what_makes_no_sense_is_named() {
    for (bad, wanted) in [
        ("- {from: shop/nobody, to: 'shop/web:80', allowed: true}\n", "there is no workload 'shop/nobody'"),
        ("- {from: shop/front, to: 'shop/web:80', alowed: true}\n", "unknown field `alowed`"),
        ("- {from: shop/front, to: 'shop/web:eighty', allowed: true}\n", "'eighty' is not a port"),
        ("- {from: 10.9.9.9, to: 'node/host9:80', allowed: true}\n", "there is no host 'host9'"),
    ] {
        let (_folder, world, scenario) = folder(bad);
        let run = weft(&["policy", "test", "-f", &world, "-f", &scenario]);
        assert_ne!(run.code, Some(0), "{run:?}");
        assert!(run.err.contains(wanted), "{bad}: {run:?}");
    }
}

#[test]
fn a_folder_answers_in_the_agents_place() {
    let (_folder, world, _) = folder("[]\n");
    for command in [&["policy", "explain"][..], &["explain"]] {
        let ask = |from: &str, to: &str| weft(&[command, &[from, to, "--world", &world]].concat());
        let run = ask("shop/front", "shop/web:8080/TCP").ok();
        assert!(run.out.contains("passes"), "{run:?}");
        let run = ask("shop/front", "shop/web:8081/TCP").code(1);
        assert!(
            run.out.contains("is denied") && run.out.contains("isolated by NetworkPolicy/shop/web"),
            "{run:?}"
        );
        assert!(
            run.out.contains(
                "to let it pass: add to NetworkPolicy/shop/web an ingress rule for shop/front at 8081/TCP"
            ),
            "{run:?}"
        );
        let run = ask("192.0.2.7", "node/host1:22").ok();
        assert!(run.out.contains("fail-safe 22/TCP"), "{run:?}");
        let run = ask("192.0.2.7", "node/host1:80").code(1);
        assert!(run.out.contains("to let it pass: add to ClusterNetworkPolicy/hosts, before ingress[0], an Accept for 192.0.2.7 at 80/TCP"), "{run:?}");
    }
}

/// The suggestion, taken for what it says, lets the packet pass.
#[test]
fn the_cure_of_a_folder_cures() {
    let (folder, world, _) = folder("[]\n");
    let run = weft(&["--json", "explain", "192.0.2.7", "node/host1:80", "--world", &world]).code(1);
    let (document, _) = run.document();
    let fix = document["packets"][0]["fixes"][0]["object"].to_string();
    std::fs::write(folder.path().join("world/zz.json"), fix).unwrap();
    weft(&["explain", "192.0.2.7", "node/host1:80", "--world", &world]).ok();
}
