//! How a registry asks who is there: the header `WWW-Authenticate` (RFC 9110, 11.6.1; RFC 6750, 3).

/// A way to say who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from another server.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The best of what was offered; a token rather than the password each time.
pub(super) fn choose(headers: &[&str]) -> Option<Challenge> {
    let all: Vec<Challenge> = headers.iter().flat_map(|header| parse(header)).collect();
    let bearer = all.iter().find(|c| matches!(c, Challenge::Bearer { .. }));
    bearer.or_else(|| all.first()).cloned()
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut words = Words { rest: header };
    let mut scheme = words.scheme();
    while let Some(name) = scheme.take() {
        let mut parameters = Vec::new();
        while let Some(parameter) = words.parameter() {
            parameters.push(parameter);
        }
        let get = |key: &str| {
            parameters.iter().find(|(k, _): &&(String, String)| k == key).map(|(_, value)| value.clone())
        };
        if name.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if name.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            found.push(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
        }
        scheme = words.scheme();
    }
    found
}

/// What is left of a header.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }

    /// A word that is followed by parameters or by nothing.
    fn scheme(&mut self) -> Option<String> {
        self.skip();
        let word = self.token()?;
        self.rest = &self.rest[word.len()..];
        Some(word)
    }

    fn token(&self) -> Option<String> {
        let inside = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len());
        (end > 0).then(|| self.rest[..end].to_owned())
    }

    /// `NAME=VALUE` or `NAME="VALUE"`.
    fn parameter(&mut self) -> Option<(String, String)> {
        self.skip();
        let name = self.token()?;
        let after = self.rest[name.len()..].trim_start().strip_prefix('=')?.trim_start();
        let value = match after.strip_prefix('"') {
            None => {
                let end = after.find([',', ' ', '\t']).unwrap_or(after.len());
                self.rest = &after[end..];
                after[..end].to_owned()
            }
            Some(quoted) => {
                let (mut value, mut escaped, mut end) = (String::new(), false, quoted.len());
                for (at, c) in quoted.char_indices() {
                    match c {
                        _ if escaped => {
                            value.push(c);
                            escaped = false;
                        }
                        '\\' => escaped = true,
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        _ => value.push(c),
                    }
                }
                self.rest = &quoted[end..];
                value
            }
        };
        Some((name.to_ascii_lowercase(), value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |word: Option<&str>| word.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) }
    }

    #[test]
    fn challenges_as_registries_write_them() {
        assert_eq!(choose(&["Basic realm=\"Registry Realm\""]), Some(Challenge::Basic));
        assert_eq!(choose(&["basic"]), Some(Challenge::Basic));
        assert_eq!(
            choose(&[
                "Bearer realm=\"https://t.example/token\",service=\"r\",scope=\"repository:a/b:pull,push\""
            ]),
            Some(bearer("https://t.example/token", Some("r"), Some("repository:a/b:pull,push")))
        );
        assert_eq!(
            choose(&["Basic realm=x, Bearer realm=\"https://t/\\\"q\" , error=\"invalid_token\""]),
            Some(bearer("https://t/\"q", None, None))
        );
        assert_eq!(choose(&["Basic", "Bearer realm=https://t"]), Some(bearer("https://t", None, None)));
        for nothing in [&[][..], &[""], &["Negotiate"], &["Bearer service=\"x\""], &["=,=\"\"\""]] {
            assert_eq!(choose(nothing), None, "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_breaks_it(header in "[A-Za-z=\", \\\\é]{0,60}") {
            let _ = choose(&[&header]);
        }
    }
}
