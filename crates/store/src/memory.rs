//! A store that forgets with its process: the model for the laws, and a fake for the agent's tests.
//!
//! Never fails.

use crate::{Loaded, Store, StoreError, Write};

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory(Loaded);

impl Store for Memory {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(self.0.clone())
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        for write in writes {
            self.apply(write);
        }
        Ok(())
    }
}

impl Memory {
    fn apply(&mut self, write: &Write) {
        let kept = &mut self.0;
        match write {
            Write::PutNetwork(network) => {
                kept.next_network_id = kept.next_network_id.max(network.id.0.saturating_add(1));
                kept.networks.insert(network.name.clone(), network.clone());
            }
            Write::RemoveNetwork(name) => drop(kept.networks.remove(name)),
            Write::PutObject(object) => {
                kept.objects.insert(object.id(), (**object).clone());
            }
            Write::RemoveObject(id) => drop(kept.objects.remove(id)),
            Write::KeepSysctl { key, value } => {
                kept.sysctls.entry(key.clone()).or_insert_with(|| value.clone());
            }
            Write::ForgetSysctl(key) => drop(kept.sysctls.remove(key)),
            Write::PutWorkload(workload) => {
                for net in &workload.addresses {
                    kept.resting.remove(&(workload.id.network.clone(), net.addr()));
                }
                kept.workloads.insert(workload.id.clone(), (**workload).clone());
            }
            Write::RemoveWorkload { id, freed, at } => {
                kept.workloads.remove(id);
                kept.resting.extend(freed.iter().map(|address| ((id.network.clone(), *address), *at)));
            }
            Write::ForgetRested { before } => kept.resting.retain(|_, at| *at >= *before),
        }
    }
}
