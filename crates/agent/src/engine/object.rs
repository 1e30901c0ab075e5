//! Declared objects: taken in whole or not at all, shown, and forgotten.

use weft_model::api::{Apply, Error, ErrorKind, Get, Outcome};
use weft_model::namespace::{NamespacePhase, default_namespace};
use weft_model::{Declared, Kind, NamespaceName, Object, ObjectId};
use weft_store::Write;

use super::Engine;

const OPERATION: &str = "declare";

impl Engine {
    /// Takes objects in. All are in force when this returns, or none is: the last good ones stay.
    ///
    /// # Errors
    /// With nothing changed.
    pub(crate) fn apply_objects(&mut self, request: Apply) -> Result<Vec<(ObjectId, Outcome)>, Error> {
        let mut declared = self.world.declared.clone();
        let mut outcomes = Vec::with_capacity(request.objects.len());
        let mut writes = Vec::new();
        let mut taken = None;
        for mut object in request.objects {
            let id = object.id();
            object.validate().map_err(|flaw| {
                Error::new(ErrorKind::Invalid, format!("{id} makes no sense: {flaw}"))
                    .hint("nothing was changed; correct the field and apply again")
            })?;
            if let Some(ending) = ending(&declared, &object) {
                let message = format!("{id} cannot be taken in: namespace {ending} is terminating");
                return Err(Error::new(ErrorKind::TryAgain, message)
                    .hint("it goes when its last workload does; `weft status` shows them"));
            }
            object.settle();
            self.settle_service(&mut taken, &declared, &mut object)?;
            let before = declared.insert(object.clone());
            outcomes.push((
                id,
                match before {
                    None => Outcome::Created,
                    Some(old) if old == object => Outcome::Unchanged,
                    Some(_) => Outcome::Configured,
                },
            ));
            if outcomes.last().is_some_and(|(_, outcome)| *outcome != Outcome::Unchanged) {
                writes.push(Write::PutObject(Box::new(object)));
            }
        }
        if !request.dry_run && !writes.is_empty() {
            self.declare_objects(declared, writes)?;
        }
        Ok(outcomes)
    }

    /// Forgets objects. A namespace with workloads is only marked, and its policies stay in force until the last
    /// of them is gone (CVE-2024-7598).
    ///
    /// # Errors
    /// With nothing changed.
    pub(crate) fn delete_objects(&mut self, ids: &[ObjectId]) -> Result<Vec<(ObjectId, Outcome)>, Error> {
        let mut declared = self.world.declared.clone();
        let (mut outcomes, mut writes) = (Vec::new(), Vec::new());
        for id in ids {
            let outcome = match self.delete_one(&mut declared, id, &mut writes) {
                Some(outcome) => outcome,
                None if declared.remove(id).is_some() => {
                    writes.push(Write::RemoveObject(id.clone()));
                    Outcome::Deleted
                }
                None => Outcome::Absent,
            };
            outcomes.push((id.clone(), outcome));
        }
        if !writes.is_empty() {
            self.declare_objects(declared, writes)?;
        }
        Ok(outcomes)
    }

    /// What becomes of an object whose namespace ends with it, or before it; `None` if it can just go.
    fn delete_one(&self, declared: &mut Declared, id: &ObjectId, writes: &mut Vec<Write>) -> Option<Outcome> {
        if id.kind != Kind::Namespace {
            let namespace = declared.namespaces.get(id.namespace.as_ref()?)?;
            return (namespace.status.phase == NamespacePhase::Terminating).then_some(Outcome::Terminating);
        }
        let name: NamespaceName = id.name.as_str().parse().ok()?;
        if self.world.workloads.values().any(|w| w.namespace() == name) {
            let namespace = declared.namespaces.get_mut(&name)?;
            namespace.status.phase = NamespacePhase::Terminating;
            writes.push(Write::PutObject(Box::new(Object::Namespace(namespace.clone()))));
            return Some(Outcome::Terminating);
        }
        end_namespace(declared, &name, writes).then_some(Outcome::Deleted)
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
        let mut declared = self.world.declared.clone();
        let mut writes = Vec::new();
        for name in &ended {
            end_namespace(&mut declared, name, &mut writes);
        }
        if let Err(error) = self.declare_objects(declared, writes) {
            tracing::warn!(%error, "failed to remove a namespace that had ended");
        }
    }

    /// Records what is declared now and brings the kernel in line; neither, if it cannot be recorded.
    fn declare_objects(&mut self, declared: Declared, writes: Vec<Write>) -> Result<(), Error> {
        let served = super::services::among(&writes);
        self.record(writes)?;
        let before = std::mem::replace(&mut self.world.declared, declared);
        let serves = self.serve_objects(&before, &served, OPERATION);
        let done = if self.enforce(OPERATION) && serves { Ok(()) } else { self.sync_strictly() };
        self.end_denied_flows();
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
fn end_namespace(declared: &mut Declared, name: &NamespaceName, writes: &mut Vec<Write>) -> bool {
    let inside: Vec<ObjectId> = declared
        .objects()
        .map(|object| object.id())
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
        declared.remove(&id);
        writes.push(Write::RemoveObject(id));
    }
    true
}
