//! Backends by selector and by slice, choices that follow from names, and the law: what changes step by step is what
//! comes from scratch.

use std::net::IpAddr;

use proptest::prelude::*;
use weft_model::policy::{Protocol, WorkloadPort};
use weft_model::{Declared, Mode, Object, Service, ServiceRanges, World};

use super::allocate::{Taken, settle};
use super::standing::Source;
use super::*;
use crate::policy::cases;

fn service(name: &str, spec: &str) -> Service {
    let text =
        format!(r#"{{"apiVersion":"v1","metadata":{{"name":"{name}","namespace":"x"}},"spec":{spec}}}"#);
    serde_json::from_str(&text).unwrap()
}

fn slice(name: &str, of: &str, endpoints: &str, ports: &str) -> Object {
    let text = format!(
        r#"{{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv4",
        "metadata":{{"name":"{name}","namespace":"x","labels":{{"kubernetes.io/service-name":"{of}"}}}},
        "endpoints":{endpoints},"ports":{ports}}}"#
    );
    let object: Object = serde_json::from_str(&text).unwrap();
    object.validate().unwrap();
    object
}

fn settled(declared: &Declared, mut service: Service) -> Result<Service, String> {
    let before = declared.services.get(&service.name());
    settle(&mut service, before, &Taken::of(declared), &ServiceRanges::default())
        .map_err(|f| f.to_string())?;
    Ok(service)
}

fn declare(world: &mut World, service: Service) {
    let service = settled(&world.declared, service).unwrap();
    world.declared.insert(Object::Service(service));
}

/// The backends of each port, in order.
fn backends(world: &World, name: &str) -> Vec<Vec<String>> {
    let plan = plan(world, &cases::here());
    let plan = &plan.services[&("x".parse().unwrap(), name.parse().unwrap())];
    plan.ports.iter().map(|p| p.backends.iter().map(ToString::to_string).collect()).collect()
}

#[test]
fn a_selector_finds_workloads_of_its_namespace_wherever_they_are() {
    let mut world = cases::world(Mode::Routed, true);
    declare(
        &mut world,
        service("one", r#"{"selector":{"pod":"a"},"ports":[{"port":80,"targetPort":8080}]}"#),
    );
    assert_eq!(backends(&world, "one"), [[format!("{}:8080", cases::address(0, 0, true))]]);
    let dual = r#"{"selector":{"pod":"c"},"ipFamilyPolicy":"RequireDualStack","ports":[{"port":80}]}"#;
    declare(&mut world, service("two", dual));
    let v6 = cases::address(0, 2, false);
    assert_eq!(
        backends(&world, "two"),
        [[format!("{}:80", cases::address(0, 2, true))], [format!("[{v6}]:80")]]
    );
    declare(&mut world, service("none", r#"{"selector":{"pod":"z"},"ports":[{"port":80}]}"#));
    assert_eq!(backends(&world, "none"), [[""; 0]]);
    let name = ("x".parse().unwrap(), "none".parse().unwrap());
    assert_eq!(explain::why_none(&world, &name), "no workload of namespace x has pod=z");
}

#[test]
fn a_named_port_is_each_backends_own() {
    let mut world = cases::world(Mode::Routed, false);
    for (number, workload) in (8000..).zip(world.workloads.values_mut()) {
        let port = WorkloadPort { protocol: Protocol::Tcp, port: number };
        workload.profile.named_ports = [("http".parse().unwrap(), port)].into();
        workload.profile.labels.insert("all".parse().unwrap(), "yes".parse().unwrap());
    }
    declare(
        &mut world,
        service("web", r#"{"selector":{"all":"yes"},"ports":[{"port":80,"targetPort":"http"}]}"#),
    );
    let all = &backends(&world, "web")[0];
    let ports: BTreeSet<&str> = all.iter().filter_map(|b| b.rsplit(':').next()).collect();
    assert_eq!((all.len(), ports.len()), (3, 3), "{all:?}");
    // The same name of another protocol is another port.
    let udp = r#"{"selector":{"all":"yes"},"ports":[{"port":80,"protocol":"UDP","targetPort":"http"}]}"#;
    declare(&mut world, service("udp", udp));
    assert_eq!(backends(&world, "udp"), [[""; 0]]);
}

#[test]
fn slices_name_backends_that_are_ready() {
    let mut world = cases::world(Mode::Routed, false);
    declare(&mut world, service("db", r#"{"ports":[{"name":"sql","port":5432}]}"#));
    let endpoints = r#"[{"addresses":["192.0.2.1"]},{"addresses":["192.0.2.2"],"conditions":{"ready":false}},
        {"addresses":["192.0.2.3"],"conditions":{"ready":false,"serving":true,"terminating":true}}]"#;
    let port = r#"[{"name":"sql","port":15432}]"#;
    world.declared.insert(slice("db-1", "db", endpoints, port));
    assert_eq!(backends(&world, "db"), [["192.0.2.1:15432"]]);
    // Whoever is about to end is better than nobody.
    let last = &endpoints.replace(r#"{"addresses":["192.0.2.1"]},"#, "");
    world.declared.insert(slice("db-1", "db", last, port));
    assert_eq!(backends(&world, "db"), [["192.0.2.3:15432"]]);
    let all = r#"{"publishNotReadyAddresses":true,"ports":[{"name":"sql","port":5432}]}"#;
    declare(&mut world, service("db", all));
    assert_eq!(backends(&world, "db"), [["192.0.2.2:15432", "192.0.2.3:15432"]]);
    // Another service's, and another port's.
    world.declared.insert(slice("db-1", "other", endpoints, port));
    world.declared.insert(slice("db-2", "db", endpoints, r#"[{"name":"web","port":80}]"#));
    assert_eq!(backends(&world, "db"), [[""; 0]]);
}

#[test]
fn what_is_left_open_follows_from_the_name_and_stays() {
    let declared = Declared::default();
    let spec = r#"{"type":"NodePort","ports":[{"port":80}]}"#;
    let first = settled(&declared, service("web", spec)).unwrap();
    let [address] = first.addresses().collect::<Vec<_>>()[..] else { panic!("{first:?}") };
    assert!("10.96.0.0/16".parse::<IpNet>().unwrap().contains(&address));
    let port = first.spec.ports[0].node_port.unwrap();
    assert!((30_000..=32_767).contains(&port));
    assert_eq!(settled(&declared, service("web", spec)).unwrap(), first);

    // Who comes later gets something else, and keeps it.
    let mut squatter = service("squatter", &format!(r#"{{"clusterIP":"{address}","ports":[{{"port":1}}]}}"#));
    squatter.metadata.namespace = Some("y".parse().unwrap());
    let mut declared = Declared::default();
    let squatter = settled(&declared, squatter).unwrap();
    declared.insert(Object::Service(squatter.clone()));
    let second = settled(&declared, service("web", spec)).unwrap();
    assert_ne!(second.addresses().next(), Some(address));
    declared.insert(Object::Service(second.clone()));
    declared.services.remove(&squatter.name());
    assert_eq!(settled(&declared, service("web", spec)).unwrap(), second);
}

#[test]
fn what_cannot_be_had_is_refused_by_field() {
    let mut declared = Declared::default();
    let node_port = r#"{"type":"NodePort","clusterIP":"10.96.7.7","ports":[{"port":80,"nodePort":30080}]}"#;
    declared.insert(Object::Service(settled(&declared, service("web", node_port)).unwrap()));
    for (bad, words) in [
        (
            r#"{"clusterIP":"10.97.0.1","ports":[{"port":80}]}"#,
            "10.97.0.1 is not in services' range 10.96.0.0/16",
        ),
        (r#"{"clusterIP":"10.96.0.0","ports":[{"port":80}]}"#, "10.96.0.0 is not in"),
        (r#"{"clusterIP":"10.96.7.7","ports":[{"port":80}]}"#, "10.96.7.7 is that of Service/x/web"),
        (
            r#"{"type":"NodePort","ports":[{"port":80,"nodePort":30080}]}"#,
            "spec.ports[0].nodePort: 30080/TCP is that of Service/x/web",
        ),
        (r#"{"type":"NodePort","ports":[{"port":80,"nodePort":80}]}"#, "80 is not in the range 30000-32767"),
        (r#"{"externalIPs":["8.8.8.8"],"ports":[{"port":80}]}"#, "spec.externalIPs[0]: 8.8.8.8 is in none"),
        (r#"{"externalIPs":["169.254.169.254"],"ports":[{"port":80}]}"#, "a link-local address"),
    ] {
        let why = settled(&declared, service("other", bad)).expect_err(bad);
        assert!(why.contains(words), "{bad}: {why}");
    }
}

#[test]
fn families_as_kubernetes_counts_them() {
    let families = |spec: &str| {
        let service = settled(&Declared::default(), service("web", spec)).unwrap();
        service.addresses().map(|a| if a.is_ipv4() { '4' } else { '6' }).collect::<String>()
    };
    assert_eq!(families(r#"{"ports":[{"port":80}]}"#), "4");
    assert_eq!(families(r#"{"ipFamilies":["IPv6"],"ports":[{"port":80}]}"#), "6");
    assert_eq!(families(r#"{"ipFamilies":["IPv6","IPv4"],"ports":[{"port":80}]}"#), "64");
    assert_eq!(families(r#"{"ipFamilyPolicy":"PreferDualStack","ports":[{"port":80}]}"#), "46");
    assert_eq!(
        families(r#"{"ipFamilies":["IPv6"],"ipFamilyPolicy":"RequireDualStack","ports":[{"port":80}]}"#),
        "64"
    );
    assert_eq!(families(r#"{"clusterIP":"None"}"#), "");
}

/// What happens to a world.
#[derive(Clone, Debug)]
enum Event {
    Service(usize, usize),
    NoService(usize),
    Slice(usize, usize),
    NoSlice(usize),
    Label(usize, usize),
    Gone(usize),
    RemoteLabel(usize, usize),
    RemoteGone(usize),
}

const SPECS: [&str; 5] = [
    r#"{"selector":{"app":"a"},"ports":[{"port":80}]}"#,
    r#"{"selector":{"app":"a","tier":"t"},"ports":[{"port":80},{"name":"u","port":53,"protocol":"UDP"}]}"#,
    r#"{"selector":{"app":"b"},"ipFamilyPolicy":"RequireDualStack","ports":[{"name":"u","port":53}]}"#,
    r#"{"type":"NodePort","ports":[{"name":"u","port":53}]}"#,
    r#"{"clusterIP":"None","selector":{"tier":"t"},"ports":[{"port":80}]}"#,
];
const LABELS: [&[(&str, &str)]; 4] = [&[], &[("app", "a")], &[("app", "a"), ("tier", "t")], &[("app", "b")]];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4_usize, 0..5_usize).prop_map(|(n, s)| Event::Service(n, s)),
        (0..4_usize).prop_map(Event::NoService),
        (0..3_usize, 0..4_usize).prop_map(|(n, s)| Event::Slice(n, s)),
        (0..3_usize).prop_map(Event::NoSlice),
        (0..9_usize, 0..4_usize).prop_map(|(n, l)| Event::Label(n, l)),
        (0..9_usize).prop_map(Event::Gone),
        (0..9_usize, 0..4_usize).prop_map(|(n, l)| Event::RemoteLabel(n, l)),
        (0..9_usize).prop_map(Event::RemoteGone),
    ]
}

/// A world, and what is kept beside it.
struct Kept {
    world: World,
    standing: Standing,
    plan: ServicesPlan,
}

impl Kept {
    fn derive(&mut self, touched: BTreeSet<ServiceName>) {
        for name in touched {
            let mut after = self.standing.derive(&self.world, &name);
            if let (Some(after), Some(before)) = (&mut after, self.plan.services.get(&name)) {
                after.keep_slots(before);
            }
            self.plan.put(&name, after);
        }
    }

    fn object(&mut self, after: Option<&Object>, id: &weft_model::ObjectId) {
        let before = self.world.declared.remove(id);
        if let Some(object) = after {
            self.world.declared.insert(object.clone());
        }
        let touched = match (before.as_ref(), after) {
            (Some(Object::EndpointSlice(_)), _) | (_, Some(Object::EndpointSlice(_))) => {
                let of = |o: Option<&Object>| match o {
                    Some(Object::EndpointSlice(slice)) => Some(slice.clone()),
                    _ => None,
                };
                self.standing.slice(of(before.as_ref()).as_ref(), of(after).as_ref())
            }
            _ => {
                let of = |o: Option<&Object>| match o {
                    Some(Object::Service(service)) => Some(service.clone()),
                    _ => None,
                };
                let (before, after) = (of(before.as_ref()), of(after));
                self.standing.service(&self.world, before.as_ref(), after.as_ref());
                before.into_iter().chain(after).map(|s| s.name()).collect()
            }
        };
        self.derive(touched);
    }

    fn happen(&mut self, event: &Event) {
        let name = |n: usize| format!("s{n}");
        let id = |kind, n: usize| weft_model::ObjectId {
            kind,
            namespace: Some("x".parse().unwrap()),
            name: name(n).parse().unwrap(),
        };
        let labels = |l: usize| {
            LABELS[l]
                .iter()
                .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
                .collect::<weft_model::Labels>()
        };
        match event {
            Event::Service(n, spec) => {
                let service = settled(&self.world.declared, service(&name(*n), SPECS[*spec])).unwrap();
                self.object(Some(&Object::Service(service)), &id(weft_model::Kind::Service, *n));
            }
            Event::NoService(n) => self.object(None, &id(weft_model::Kind::Service, *n)),
            Event::Slice(n, of) => {
                let endpoints = format!(r#"[{{"addresses":["192.0.2.{n}"]}},{{"addresses":["192.0.2.9"]}}]"#);
                let slice = slice(&name(*n), &name(*of), &endpoints, r#"[{"name":"u","port":5}]"#);
                self.object(Some(&slice), &id(weft_model::Kind::EndpointSlice, *n));
            }
            Event::NoSlice(n) => self.object(None, &id(weft_model::Kind::EndpointSlice, *n)),
            Event::Label(n, l) => {
                let all: Vec<_> = self.world.workloads.keys().cloned().collect();
                let Some(id) = all.get(n % all.len().max(1)) else { return };
                let workload = self.world.workloads.get_mut(id).unwrap();
                let before = std::mem::replace(&mut workload.profile.labels, labels(*l));
                let namespace = workload.namespace();
                let source = Source::Local(id.clone());
                let after = (&namespace, &workload.profile.labels);
                let touched = self.standing.workload(&source, Some((&namespace, &before)), Some(after));
                self.derive(touched);
            }
            Event::Gone(n) => {
                let all: Vec<_> = self.world.workloads.keys().cloned().collect();
                let Some(id) = all.get(n % all.len().max(1)) else { return };
                let gone = self.world.workloads.remove(id).unwrap();
                let before = (&gone.namespace(), &gone.profile.labels);
                let touched = self.standing.workload(&Source::Local(id.clone()), Some(before), None);
                self.derive(touched);
            }
            Event::RemoteLabel(n, l) => {
                let all: Vec<_> = self.world.remote.keys().cloned().collect();
                let Some(name) = all.get(n % all.len().max(1)) else { return };
                let remote = self.world.remote.get_mut(name).unwrap();
                let before = std::mem::replace(&mut remote.labels, std::sync::Arc::new(labels(*l)));
                let after = Some((&remote.namespace, &*remote.labels));
                let source = Source::Remote(name.clone());
                let touched = self.standing.workload(&source, Some((&remote.namespace, &before)), after);
                self.derive(touched);
            }
            Event::RemoteGone(n) => {
                let all: Vec<_> = self.world.remote.keys().cloned().collect();
                let Some(name) = all.get(n % all.len().max(1)) else { return };
                let gone = self.world.remote.remove(name).unwrap();
                let before = Some((&gone.namespace, &*gone.labels));
                let touched = self.standing.workload(&Source::Remote(name.clone()), before, None);
                self.derive(touched);
            }
        }
    }
}

fn sorted(plan: &ServicesPlan) -> ServicesPlan {
    let services = plan.services.iter().map(|(name, p)| (name.clone(), p.clone().sorted())).collect();
    ServicesPlan { services, ..plan.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("WEFT_FULL").is_some() { 5000 } else { 200 }))]
    #[test]
    fn step_by_step_is_from_scratch(events in proptest::collection::vec(event(), 1..60)) {
        let world = cases::world(Mode::Routed, true);
        let standing = Standing::of(&world);
        let plan = standing.plan(&world, &cases::here());
        let mut kept = Kept { world, standing, plan };
        for event in &events {
            kept.happen(event);
            prop_assert_eq!(sorted(&kept.plan), super::plan(&kept.world, &cases::here()), "after {:?}", event);
        }
        let mut again = super::plan(&kept.world, &cases::here());
        again.keep_slots(&kept.plan);
        prop_assert_eq!(again, kept.plan);
    }
}

#[test]
fn an_address_is_served_as_long_as_some_service_leads_there() {
    let mut plan = ServicesPlan::default();
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let with = |name: &str| {
        (
            ("x".parse().unwrap(), name.parse().unwrap()),
            ServicePlan { local: [address].into(), ..ServicePlan::default() },
        )
    };
    let ((one, first), (two, second)) = (with("one"), with("two"));
    plan.put(&one, Some(first.clone()));
    plan.put(&one, Some(first));
    plan.put(&two, Some(second));
    assert_eq!(plan.served, [(address, 2)].into());
    plan.put(&one, None);
    assert_eq!(plan.served, [(address, 1)].into());
    plan.put(&two, None);
    assert_eq!(plan.served, [].into());
}
