//! Reading and writing kernel settings below `/proc/sys`, in the calling thread's network namespace.

use std::fs;
use std::io;

use crate::state::Sysctl;

/// The setting's value without the trailing newline; `None` where the kernel has no such setting.
///
/// # Errors
/// Any other than absence.
pub fn read(key: &Sysctl) -> io::Result<Option<String>> {
    match fs::read_to_string(format!("/proc/sys/{}", key.path())) {
        Ok(value) => Ok(Some(value.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a setting. Absence is success: a kernel without IPv6 has nothing to switch off.
///
/// # Errors
/// Any other than absence.
pub fn write(key: &Sysctl, value: &str) -> io::Result<()> {
    match fs::write(format!("/proc/sys/{}", key.path()), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
