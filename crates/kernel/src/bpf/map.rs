//! Maps: what programs and those who load them share.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use super::syscall::{Attributes, Error, Object, bpf, descriptor, pinned, raw};

const MAP_CREATE: i32 = 0;
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const MAP_NEXT_KEY: i32 = 4;
const NO_PREALLOC: u32 = 1; // BPF_F_NO_PREALLOC

/// How a map finds its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// By hash; elements take memory when they are made.
    Hash,
    /// By hash; the one that was used least recently makes room for a new one.
    Recent,
}

/// A map from keys of `K` bytes to values of `V` bytes.
#[derive(Debug)]
pub struct Map<const K: usize, const V: usize> {
    fd: OwnedFd,
}

impl<const K: usize, const V: usize> Object for Map<K, V> {
    fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl<const K: usize, const V: usize> Map<K, V> {
    /// Makes a map for at most so many elements.
    ///
    /// # Errors
    /// [`Error::Map`]; `CAP_BPF` is needed.
    pub fn create(name: &'static str, kind: MapKind, most: u32) -> Result<Self, Error> {
        let (kind, flags) = match kind {
            MapKind::Hash => (1, NO_PREALLOC), // BPF_MAP_TYPE_HASH
            MapKind::Recent => (9, 0),         // BPF_MAP_TYPE_LRU_HASH
        };
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let attributes = Attributes::new()
            .word(0, kind)
            .word(4, size(K))
            .word(8, size(V))
            .word(12, most)
            .word(16, flags)
            .name(28, name);
        // SAFETY: there is no address in it.
        let made = unsafe { bpf(MAP_CREATE, &attributes) }.and_then(descriptor);
        made.map(|fd| Map { fd }).map_err(|source| Error::Map { name, source })
    }

    /// The map that bears a name, which must be one of these sizes; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn pinned(path: &Path) -> Result<Option<Self>, Error> {
        Ok(pinned(path)?.map(|fd| Map { fd }))
    }

    /// The number by which a program that is being written names it.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The value under a key.
    ///
    /// # Errors
    /// [`Error::Element`].
    pub fn get(&self, key: &[u8; K]) -> Result<Option<[u8; V]>, Error> {
        let mut value = [0; V];
        let attributes = self.element(key).pointer(16, value.as_mut_ptr());
        // SAFETY: key and value have the map's sizes and live through the call; the kernel writes the value.
        match unsafe { bpf(MAP_LOOKUP, &attributes) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Element { what: "read", source }),
        }
    }

    /// Puts a value under a key, in the place of any before it.
    ///
    /// # Errors
    /// [`Error::Element`]; `E2BIG` when the map is full.
    pub fn put(&self, key: &[u8; K], value: &[u8; V]) -> Result<(), Error> {
        let attributes = self.element(key).pointer(16, value.as_ptr());
        // SAFETY: key and value have the map's sizes and live through the call; the kernel only reads them.
        let result = unsafe { bpf(MAP_UPDATE, &attributes) };
        result.map(|_| ()).map_err(|source| Error::Element { what: "write", source })
    }

    /// Takes a key away. Absence is success.
    ///
    /// # Errors
    /// [`Error::Element`].
    pub fn remove(&self, key: &[u8; K]) -> Result<(), Error> {
        // SAFETY: the key has the map's size and lives through the call.
        match unsafe { bpf(MAP_DELETE, &self.element(key)) } {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Element { what: "delete", source: error })
            }
            _ => Ok(()),
        }
    }

    /// All keys, as far as nobody else changes the map meanwhile.
    ///
    /// # Errors
    /// [`Error::Element`].
    pub fn keys(&self) -> Result<Vec<[u8; K]>, Error> {
        let (mut keys, mut next) = (Vec::new(), [0; K]);
        loop {
            let attributes = match keys.last() {
                None => Attributes::new().word(0, raw(&self.fd)),
                Some(last) => self.element(last),
            };
            let attributes = attributes.pointer(16, next.as_mut_ptr());
            // SAFETY: both keys have the map's size and live through the call; the kernel writes the second.
            match unsafe { bpf(MAP_NEXT_KEY, &attributes) } {
                Ok(_) => keys.push(next),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(keys),
                Err(source) => return Err(Error::Element { what: "list", source }),
            }
        }
    }

    fn element(&self, key: &[u8; K]) -> Attributes {
        Attributes::new().word(0, raw(&self.fd)).pointer(8, key.as_ptr())
    }
}
