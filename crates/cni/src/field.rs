//! Reading JSON values so that every complaint names the key it is about.
//!
//! Derived deserializers stop at "invalid type: integer, expected a string at line 1 column 93",
//! which is of little use to somebody who did not write that line.

use std::str::FromStr;

use serde_json::{Map, Value};

/// What is wrong with the value of a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The value is of another JSON type.
    #[error("key '{key}' must be {wanted}, but is {found}")]
    Type {
        /// The key, with the keys that lead to it.
        key: String,
        /// The type it should be of.
        wanted: &'static str,
        /// The type it is of.
        found: &'static str,
    },
    /// The value is of the right type and still makes no sense.
    #[error("key '{key}': '{value}' is not {wanted}")]
    Value {
        /// The key, with the keys that lead to it.
        key: String,
        /// The value.
        value: String,
        /// What it should be.
        wanted: String,
    },
    /// A key that must be there is not.
    #[error("key '{key}' is missing")]
    Missing {
        /// The key, with the keys that lead to it.
        key: String,
    },
}

/// A value and how one gets to it.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub(crate) key: String,
    pub(crate) value: &'a Value,
}

/// A JSON object and how one gets to it.
#[derive(Clone)]
pub(crate) struct Object<'a> {
    key: String,
    pub(crate) map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(crate) fn root(map: &'a Map<String, Value>) -> Object<'a> {
        Object { key: String::new(), map }
    }

    /// The value of a key; `null` is what Go prints for "nothing", so it counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<Field<'a>> {
        let value = self.map.get(name).filter(|v| !v.is_null())?;
        Some(Field { key: self.path(name), value })
    }

    /// The value of a key in whatever case. containerd passes `Servers` where CONVENTIONS.md says
    /// `servers`: its types have no names for JSON, and readers written in Go do not mind.
    pub(crate) fn get_any_case(&self, name: &str) -> Option<Field<'a>> {
        self.get(name).or_else(|| {
            let (found, _) = self.map.iter().find(|(k, _)| k.eq_ignore_ascii_case(name))?;
            self.get(found)
        })
    }

    pub(crate) fn require(&self, name: &str) -> Result<Field<'a>, FieldError> {
        self.get(name).ok_or_else(|| FieldError::Missing { key: self.path(name) })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let name = shown(name);
        if self.key.is_empty() { name } else { format!("{}.{name}", self.key) }
    }
}

impl<'a> Field<'a> {
    pub(crate) fn text(&self) -> Result<&'a str, FieldError> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a string"))
    }

    pub(crate) fn boolean(&self) -> Result<bool, FieldError> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    /// A boolean, or one in quotes: the specification calls `disableCheck` a string up to 0.4.0.
    pub(crate) fn boolean_or_text(&self) -> Result<bool, FieldError> {
        match self.value.as_str() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => self.boolean(),
        }
    }

    pub(crate) fn number(&self) -> Result<u32, FieldError> {
        let number = self.value.as_u64().and_then(|n| u32::try_from(n).ok());
        number.ok_or_else(|| self.wrong_type("a whole number of at most 32 bits"))
    }

    pub(crate) fn large_number(&self) -> Result<u64, FieldError> {
        self.value.as_u64().ok_or_else(|| self.wrong_type("a whole number of at most 64 bits"))
    }

    pub(crate) fn object(&self) -> Result<Object<'a>, FieldError> {
        let map = self.value.as_object().ok_or_else(|| self.wrong_type("an object"))?;
        Ok(Object { key: self.key.clone(), map })
    }

    pub(crate) fn list(&self) -> Result<Vec<Field<'a>>, FieldError> {
        let list = self.value.as_array().ok_or_else(|| self.wrong_type("a list"))?;
        let field = |(i, value)| Field { key: format!("{}[{i}]", self.key), value };
        Ok(list.iter().enumerate().map(field).collect())
    }

    pub(crate) fn texts(&self) -> Result<Vec<String>, FieldError> {
        self.list()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// Text that means a `T`.
    pub(crate) fn parse<T: FromStr>(&self, wanted: &str) -> Result<T, FieldError> {
        self.text()?.parse().map_err(|_| self.not(wanted))
    }

    /// The complaint that the value is not what is wanted.
    pub(crate) fn not(&self, wanted: impl Into<String>) -> FieldError {
        let value = self.value.as_str().map_or_else(|| shown(&self.value.to_string()), shown);
        FieldError::Value { key: self.key.clone(), value, wanted: wanted.into() }
    }

    fn wrong_type(&self, wanted: &'static str) -> FieldError {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        // "must be a number, but is a number" would puzzle: say which.
        match (self.value, wanted) {
            (Value::Number(_), wanted) if wanted.contains("number") => self.not(wanted),
            _ => FieldError::Type { key: self.key.clone(), wanted, found },
        }
    }
}

/// A foreign string as it may stand in a message: one line, and not a long one.
pub(crate) fn shown(value: &str) -> String {
    const LIMIT: usize = 64;
    let mut text: String = value.chars().take(LIMIT).flat_map(char::escape_debug).collect();
    if value.chars().nth(LIMIT).is_some() {
        text.push('…');
    }
    text
}
