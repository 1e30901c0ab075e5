//! Things by number, whose numbers are used again.

/// Things by number.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    all: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered { all: Vec::new(), free: Vec::new() }
    }
}

impl<T> Numbered<T> {
    pub(super) fn add(&mut self, thing: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.all[id as usize] = Some(thing);
            return id;
        }
        self.all.push(Some(thing));
        u32::try_from(self.all.len() - 1).expect("fewer than four thousand million things fit into memory")
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let thing = self.all.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(thing)
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.all.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.all.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.all).filter(|(_, thing)| thing.is_some()).map(|(id, _)| id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }
}
