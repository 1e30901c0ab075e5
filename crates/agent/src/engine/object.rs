//! Declared objects: taken in whole or not at all, shown, and forgotten.

use weft_model::api::{Apply, Error, ErrorKind, Get, Outcome};
use weft_model::namespace::{NamespacePhase, default_namespace};
use weft_model::{Declared, Kind, NamespaceName, Object, ObjectId};
use weft_store::Write;

use super::Engine;
use super::policy::Enforced;

const OPERATION: &str = "declare";

/// What became of objects, and what is to be recorded.
type Taken = (Vec<(ObjectId, Outcome)>, Vec<Write>);

/// What changed objects were, one by one: what is declared can be ten thousand objects, and is not copied for the sake of one.
#[derive(Debug, Default)]
struct Before(Vec<(ObjectId, Option<Object>)>);

impl Before {
    /// Takes it all back.
    fn restore(self, declared: &mut Declared) {
        for (id, was) in self.0.into_iter().rev() {
            match was {
                Some(object) => declared.insert(object),
                None => declared.remove(&id),
            };
        }
    }
}

impl Engine {
    /// Takes objects in. All are in force when this returns, or none is: the last good ones stay.
    ///
    /// # Errors
    /// With nothing changed.
    pub(crate) fn apply_objects(&mut self, request: Apply) -> Result<Vec<(ObjectId, Outcome)>, Error> {
        let (mut before, dry_run) = (Before::default(), request.dry_run);
        match self.take_in(request.objects, dry_run, &mut before) {
            Ok((outcomes, writes)) if !dry_run && !writes.is_empty() => {
                self.declare_objects(before, writes).map(|()| outcomes)
            }
            other => {
                before.restore(&mut self.world.declared);
                other.map(|(outcomes, _)| outcomes)
            }
        }
    }

    fn take_in(&mut self, objects: Vec<Object>, dry_run: bool, before: &mut Before) -> Result<Taken, Error> {
        let mut outcomes = Vec::with_capacity(objects.len());
        let mut writes = Vec::new();
        let mut services = None;
        for mut object in objects {
            let id = object.id();
            object.validate().map_err(|flaw| self.refuse(&id, &flaw, dry_run))?;
            if let Some(ending) = ending(&self.world.declared, &object) {
                let message = format!("{id} cannot be taken in: namespace {ending} is terminating");
                return Err(Error::new(ErrorKind::TryAgain, message)
                    .hint("it goes when its last workload does; `weft status` shows them"));
            }
            object.settle();
            self.settle_service(&mut services, &mut object)?;
            let was = self.world.declared.insert(object.clone());
            let outcome = match &was {
                None => Outcome::Created,
                Some(old) if *old == object => Outcome::Unchanged,
                Some(_) => Outcome::Configured,
            };
            before.0.push((object.id(), was));
            outcomes.push((id, outcome));
            if outcome != Outcome::Unchanged {
                writes.push(Write::PutObject(Box::new(object)));
            }
        }
        if !dry_run {
            self.mended(outcomes.iter().map(|(id, _)| id));
        }
        Ok((outcomes, writes))
    }

    /// Forgets objects. A namespace with workloads is only marked, and its policies stay in force until the last
    /// of them is gone (CVE-2024-7598).
    ///
    /// # Errors
    /// With nothing changed.
    pub(crate) fn delete_objects(&mut self, ids: &[ObjectId]) -> Result<Vec<(ObjectId, Outcome)>, Error> {
        self.mended(ids.iter());
        let (mut outcomes, mut writes, mut before) = (Vec::new(), Vec::new(), Before::default());
        for id in ids {
            let outcome = match self.delete_one(id, &mut writes, &mut before) {
                Some(outcome) => outcome,
                None => match self.world.declared.remove(id) {
                    Some(was) => {
                        before.0.push((id.clone(), Some(was)));
                        writes.push(Write::RemoveObject(id.clone()));
                        Outcome::Deleted
                    }
                    None => Outcome::Absent,
                },
            };
            outcomes.push((id.clone(), outcome));
        }
        if !writes.is_empty() {
            self.declare_objects(before, writes)?;
        }
        Ok(outcomes)
    }

    /// What becomes of an object whose namespace ends with it, or before it; `None` if it can just go.
    fn delete_one(&mut self, id: &ObjectId, writes: &mut Vec<Write>, before: &mut Before) -> Option<Outcome> {
        let declared = &mut self.world.declared;
        if id.kind != Kind::Namespace {
            let namespace = declared.namespaces.get(id.namespace.as_ref()?)?;
            return (namespace.status.phase == NamespacePhase::Terminating).then_some(Outcome::Terminating);
        }
        let name: NamespaceName = id.name.as_str().parse().ok()?;
        if self.world.workloads.values().any(|w| w.namespace() == name) {
            let mut namespace = declared.namespaces.get(&name)?.clone();
            namespace.status.phase = NamespacePhase::Terminating;
            let object = Object::Namespace(namespace);
            writes.push(Write::PutObject(Box::new(object.clone())));
            before.0.push((id.clone(), declared.insert(object)));
            return Some(Outcome::Terminating);
        }
        end_namespace(declared, &name, writes, before).then_some(Outcome::Deleted)
    }

    /// Removes namespaces that only waited for their last workload.
    pub(crate) fn end_namespaces(&mut self) {
        let terminating = |n: &&weft_model::Namespace| n.status.phase == NamespacePhase::Terminating;
        let waiting = self.world.declared.namespaces.values().filter(terminating);
        let names: Vec<NamespaceName> =
            waiting.filter_map(|n| n.metadata.name.as_str().parse().ok()).collect();
        let used = |name: &NamespaceName| self.world.workloads.values().any(|w| w.namespace() == *name);
        let ended: Vec<NamespaceName> = names.into_iter().filter(|name| !used(name)).collect();
        if ended.is_empty() {
            return;
        }
        let (mut writes, mut before) = (Vec::new(), Before::default());
        for name in &ended {
            end_namespace(&mut self.world.declared, name, &mut writes, &mut before);
        }
        if let Err(error) = self.declare_objects(before, writes) {
            tracing::warn!(%error, "failed to remove a namespace that had ended");
        }
    }

    /// Records what is declared now and brings the kernel in line; takes it back, if it cannot be recorded.
    fn declare_objects(&mut self, before: Before, writes: Vec<Write>) -> Result<(), Error> {
        if let Err(error) = self.record(writes) {
            before.restore(&mut self.world.declared);
            return Err(error);
        }
        let served = self.serve_objects(&before.0, OPERATION);
        before.0.into_iter().for_each(|(id, _)| self.touched.object(id));
        let enforced = self.enforce(OPERATION);
        let done = if enforced == Enforced::Refused || !served { self.sync_strictly() } else { Ok(()) };
        if enforced != Enforced::Nothing {
            self.end_denied_flows();
        }
        done
    }

    /// Objects by kind, namespace and name.
    ///
    /// # Errors
    /// If one is named that is not there.
    pub(crate) fn objects(&self, wanted: &Get) -> Result<Vec<Object>, Error> {
        let namespace = |object: &Object| match (&wanted.namespace, object.id().namespace) {
            (Some(wanted), Some(found)) => *wanted == found,
            _ => true,
        };
        let fits = |object: &Object| {
            wanted.kind.is_none_or(|kind| kind == object.kind())
                && wanted.name.as_ref().is_none_or(|name| *name == object.metadata().name)
                && namespace(object)
        };
        let found: Vec<Object> = self.world.declared.objects().filter(fits).collect();
        match (&wanted.name, wanted.kind) {
            (Some(name), Some(kind)) if found.is_empty() => {
                let namespaced = wanted.namespace.as_ref().filter(|_| kind.info().namespaced);
                let place = namespaced.map(|n| format!(" in namespace {n}")).unwrap_or_default();
                let plural = kind.info().plural;
                Err(Error::new(ErrorKind::NotFound, format!("there is no {kind} '{name}'{place}"))
                    .hint(format!("`weft get {plural} -A` shows those there are")))
            }
            _ => Ok(found),
        }
    }
}

/// The namespace that keeps an object out, because it is about to end.
fn ending(declared: &Declared, object: &Object) -> Option<NamespaceName> {
    let ObjectId { kind, namespace, name } = object.id();
    let namespace = match kind {
        Kind::Namespace => name.as_str().parse().ok()?,
        _ => namespace?,
    };
    let found = declared.namespaces.get(&namespace)?;
    (found.status.phase == NamespacePhase::Terminating).then_some(namespace)
}

/// Takes a namespace away with all that is in it; whether there was any of it.
fn end_namespace(
    declared: &mut Declared,
    name: &NamespaceName,
    writes: &mut Vec<Write>,
    before: &mut Before,
) -> bool {
    let inside: Vec<ObjectId> = declared
        .ids()
        .filter(|id| match id.kind {
            Kind::Namespace => id.name.as_str() == name.as_str(),
            _ => id.namespace.as_ref() == Some(name),
        })
        .collect();
    let own = |id: &ObjectId| id.kind == Kind::Namespace;
    if !inside.iter().any(own) && *name != default_namespace() {
        return false;
    }
    for id in inside {
        before.0.push((id.clone(), declared.remove(&id)));
        writes.push(Write::RemoveObject(id));
    }
    true
}
