//! What is understood, and how what is not is refused.

use super::*;

const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  namespace: shop
spec:
  podSelector:
    matchLabels: {app: web}
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app: front
    ports:
    - {port: 80}
    - {protocol: UDP, port: 8000, endPort: 8100}
    - {protocol: SCTP, port: signal}
";

fn refusal(text: &str) -> String {
    parse("p.yaml", text).unwrap_err().to_string()
}

#[test]
fn several_documents_lists_and_empty_ones() {
    let text = format!(
        "# nothing\n---\n{POLICY}---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {{name: shop, labels: {{team: a}}}}\n"
    );
    let objects = parse("p.yaml", &text).unwrap();
    let ids: Vec<String> = objects.iter().map(|o| o.id().to_string()).collect();
    assert_eq!(ids, ["NetworkPolicy/shop/web", "Namespace/shop"]);
}

#[test]
fn what_is_written_is_read_back() {
    let objects = parse("p.yaml", POLICY).unwrap();
    let text = yaml(&objects).unwrap();
    assert_eq!(parse("again", &text).unwrap(), objects, "{text}");
}

#[test]
fn an_unknown_field_is_refused_by_line_path_and_name() {
    let text = POLICY.replace("      matchLabels:\n", "      matchLabel:\n");
    let said = refusal(&text);
    assert!(said.starts_with("p.yaml:12: NetworkPolicy web: spec.ingress[0].from[0].podSelector.matchLabel: unknown field `matchLabel`"), "{said}");
}

/// Every field wrong in turn: what is replaced, by what, and where and why it is refused.
#[test]
fn every_field_wrong_in_turn() {
    let table = [
        (
            "networking.k8s.io/v1",
            "networking.k8s.io/v2",
            "1: NetworkPolicy web: apiVersion: 'networking.k8s.io/v2' is not",
        ),
        ("kind: NetworkPolicy", "kind: NetPolicy", "2: NetPolicy web: kind: unknown kind"),
        ("name: web", "name: Web", "4: NetworkPolicy Web: metadata.name: object name 'Web'"),
        ("name: web", "nam: web", "4: NetworkPolicy without a name: metadata.nam: unknown field `nam`"),
        ("namespace: shop", "namespace: a.b", "5: NetworkPolicy web: metadata.namespace: namespace name"),
        ("namespace: shop", "namespace: [a]", "5: NetworkPolicy web: metadata.namespace: invalid type"),
        ("{app: web}", "{'app web': web}", "8: NetworkPolicy web: spec.podSelector.matchLabels"),
        ("{app: web}", "{app: true}", "8: NetworkPolicy web: spec.podSelector.matchLabels.app: invalid type"),
        ("{app: web}", "{app: -x}", "8: NetworkPolicy web: spec.podSelector.matchLabels.app"),
        (
            "podSelector:\n        matchLabels:\n          app: front",
            "{}",
            "11: NetworkPolicy web: spec.ingress[0].from[0]: a peer needs",
        ),
        (
            "podSelector:\n        matchLabels:\n          app: front",
            "ipBlock: {cidr: 10.0.0.0/33}",
            "11: NetworkPolicy web: spec.ingress[0].from[0].ipBlock.cidr",
        ),
        (
            "podSelector:\n        matchLabels:\n          app: front",
            "ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}",
            "11: NetworkPolicy web: spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/9 is not a part",
        ),
        (
            "podSelector:\n        matchLabels:\n          app: front",
            "{podSelector: {}, ipBlock: {cidr: ::/0}}",
            "ipBlock stands alone",
        ),
        (
            "podSelector:\n        matchLabels:\n          app: front",
            "podSelector: {matchExpressions: [{key: a, operator: In}]}",
            "In needs at least one value",
        ),
        (
            "podSelector:\n        matchLabels:\n          app: front",
            "podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
            "Exists takes no values",
        ),
        (
            "podSelector:\n        matchLabels:\n          app: front",
            "podSelector: {matchExpressions: [{key: a, operator: Is}]}",
            "unknown variant `Is`",
        ),
        ("{port: 80}", "{port: 0}", "15: NetworkPolicy web: spec.ingress[0].ports[0].port: invalid value"),
        (
            "{port: 80}",
            "{port: 65536}",
            "15: NetworkPolicy web: spec.ingress[0].ports[0].port: invalid value",
        ),
        ("{port: 80}", "{port: '80'}", "15: NetworkPolicy web: spec.ingress[0].ports[0].port: invalid value"),
        ("{port: 80}", "{port: Web}", "15: NetworkPolicy web: spec.ingress[0].ports[0].port: port name"),
        (
            "{port: 80}",
            "{endPort: 80}",
            "15: NetworkPolicy web: spec.ingress[0].ports[0].endPort: endPort needs a port",
        ),
        (
            "{port: 80}",
            "{protocol: ICMP}",
            "15: NetworkPolicy web: spec.ingress[0].ports[0].protocol: unknown variant `ICMP`",
        ),
        (
            "endPort: 8100",
            "endPort: 7000",
            "16: NetworkPolicy web: spec.ingress[0].ports[1].endPort: 7000 is less than port 8000",
        ),
        ("  ingress:\n", "  ingres:\n", "9: NetworkPolicy web: spec.ingres: unknown field `ingres`"),
        ("spec:\n", "status: {}\nspec:\n", "unknown field `status`"),
    ];
    for (from, to, wanted) in table {
        assert!(POLICY.contains(from), "{from}");
        let said = refusal(&POLICY.replacen(from, to, 1));
        assert!(
            said.contains(wanted) || said.starts_with(&format!("p.yaml:{wanted}")),
            "{from} → {to}: {said}"
        );
    }
}

#[test]
fn cluster_policies_are_checked_too() {
    let good = "{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: a}, spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]}}";
    parse("p", good).unwrap();
    for (from, to, wanted) in [
        ("tier: Admin", "tier: Other", "spec.tier"),
        ("priority: 1", "priority: 1001", "spec.priority: 1001 is more than 1000"),
        ("priority: 1", "priority: -1", "spec.priority"),
        ("subject: {namespaces: {}}", "subject: {}", "spec.subject: exactly one of"),
        ("action: Deny", "action: Drop", "spec.ingress[0].action"),
        ("from: [{namespaces: {}}]", "from: []", "spec.ingress[0].from: has 0 entries"),
        ("from: [{namespaces: {}}]", "from: [{}]", "spec.ingress[0].from[0]: exactly one of"),
        (
            "from: [{namespaces: {}}]",
            "from: [{networks: [10.0.0.0/8]}]",
            "spec.ingress[0].from[0].networks: is for egress",
        ),
        ("from: [{namespaces: {}}]", "from: [{domainNames: [a.b]}]", "domainNames: unknown field"),
        (
            "protocols: [{tcp: {destinationPort: {number: 80}}}]",
            "protocols: []",
            "spec.ingress[0].protocols: has 0",
        ),
        ("{number: 80}", "{number: 0}", "destinationPort.number: ports are"),
        ("{number: 80}", "{range: {start: 8, end: 8}}", "destinationPort.range: start is"),
        ("{number: 80}", "{}", "destinationPort: exactly one of"),
    ] {
        let said = refusal(&good.replacen(from, to, 1));
        assert!(said.contains(wanted), "{from} → {to}: {said}");
    }
}

#[test]
fn text_that_is_not_yaml_names_its_line() {
    let said = refusal("a: b\nc: [\n");
    assert!(said.starts_with("p.yaml:"), "{said}");
    let said = refusal("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\nmetadata: {name: b}\n");
    assert!(said.starts_with("p.yaml:4:"), "{said}");
}

#[test]
fn policies_for_hosts_are_checked_too() {
    let good = "{apiVersion: weft.network/v1alpha1, kind: ClusterNetworkPolicy, metadata: {name: a}, spec: {tier: Admin, priority: 1, subject: {nodes: {}}, ingress: [{action: Deny, from: [{networks: [10.0.0.0/8]}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]}}";
    parse("p", good).unwrap();
    for (from, to, wanted) in [
        (
            "subject: {nodes: {}}",
            "subject: {namespaces: {}}",
            "spec.subject: policies of apiVersion weft.network/v1alpha1 are for hosts",
        ),
        (
            "subject: {nodes: {}}",
            "subject: {nodes: {}, pods: {podSelector: {}}}",
            "spec.subject: exactly one of",
        ),
        ("subject: {nodes: {}}", "subject: {nodes: {matchLabels: {'a b': c}}}", "spec.subject.nodes"),
        (
            "weft.network/v1alpha1",
            "policy.networking.k8s.io/v1alpha2",
            "spec.subject.nodes: hosts are the subject of policies of apiVersion weft.network/v1alpha1 only",
        ),
        (
            "weft.network/v1alpha1",
            "weft.network/v1",
            "apiVersion: 'weft.network/v1' is not ClusterNetworkPolicy's",
        ),
        (
            "{tcp: {destinationPort: {number: 80}}}",
            "{destinationNamedPort: web}",
            "destinationNamedPort: neither networks nor hosts",
        ),
        ("networks: [10.0.0.0/8]", "nodes: {}", "from[0].nodes: unknown field"),
        ("networks: [10.0.0.0/8]", "networks: [10.0.0.0/33]", "from[0].networks"),
    ] {
        let said = refusal(&good.replacen(from, to, 1));
        assert!(said.contains(wanted), "{from} → {to}: {said}");
    }
}

/// Every value of a policy in turn becomes one of another kind, and every structure gets a field more: nothing of it is taken in, and what is
/// wrong is named by line and path. Not tried is a list in a structure's place: its parts are taken for the fields in their order.
#[test]
fn no_field_takes_what_is_not_its_kind() {
    let cluster = "{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: a}, spec: {tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}}, ingress: [{name: x, action: Deny, from: [{namespaces: {matchLabels: {a: b}}}], protocols: [{tcp: {destinationPort: {range: {start: 1, end: 9}}}}]}], egress: [{action: Pass, to: [{networks: [10.0.0.0/8]}]}]}}";
    let host = "{apiVersion: weft.network/v1alpha1, kind: ClusterNetworkPolicy, metadata: {name: a}, spec: {tier: Baseline, priority: 1, subject: {nodes: {}}, egress: [{action: Accept, to: [{pods: {namespaceSelector: {}, podSelector: {}}}], protocols: [{udp: {destinationPort: {number: 53}}}]}]}}";
    let blocks = POLICY.replace(
        "    - podSelector:\n        matchLabels:\n          app: front\n",
        "    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}\n",
    );
    let mut tried = 0;
    for text in [POLICY, cluster, host, &blocks] {
        let [object] = &parse("p.yaml", text).unwrap()[..] else { panic!() };
        let whole = document(object);
        let mut paths = Vec::new();
        places(&whole, &mut Vec::new(), &mut paths);
        for path in &paths {
            for wrong in [
                serde_json::json!({"x": [1]}),
                serde_json::json!(-1),
                serde_json::json!(true),
                serde_json::json!("\u{1}"),
            ] {
                let mut changed = whole.clone();
                let at = changed.pointer_mut(path).unwrap();
                *at = wrong.clone();
                let Err(said) = parse("p.yaml", &changed.to_string()) else {
                    panic!("{path} may be {wrong}")
                };
                assert!(said.to_string().starts_with("p.yaml:1: "), "{path} = {wrong}: {said}");
                tried += 1;
            }
            let mut changed = whole.clone();
            let Some(fields) = changed.pointer_mut(path).and_then(|v| v.as_object_mut()) else { continue };
            // Where people choose the keys there is no unknown one.
            if !path.ends_with("matchLabels") {
                fields.insert("unheardOf".into(), true.into());
                let said = parse("p.yaml", &changed.to_string()).unwrap_err().to_string();
                assert!(said.contains("unheardOf"), "{path}: {said}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "only {tried} were tried");
}

/// The places of all values, as JSON pointers, but for the object itself.
fn places(value: &Value, path: &mut Vec<String>, all: &mut Vec<String>) {
    let mut below = |key: String, value: &Value| {
        path.push(key.replace('~', "~0").replace('/', "~1"));
        all.push(format!("/{}", path.join("/")));
        places(value, path, all);
        path.pop();
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| below(key.clone(), value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| below(at.to_string(), item)),
        _ => {}
    }
}
