//! What container runtimes find in their folder of CNI configurations: they take the first file.

use super::{CniFile, Facts, Finding, Severity};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut files: Vec<&CniFile> = facts.cni.iter().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let ours = files.iter().position(|f| f.types.iter().any(|t| t == "weft"));
    let mut all = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let path = format!("{}/{}", facts.cni_folder, file.name);
        let aside = vec![format!("mv {path} {path}.disabled")];
        if let Some(why) = &file.broken {
            all.push(Finding {
                severity: if ours.is_some_and(|ours| at < ours) { Severity::Error } else { Severity::Note },
                kind: "cni-broken",
                what: format!("{path} is not a CNI configuration: {why}"),
                why: "some runtimes give up at a file that they cannot read, and start no container"
                    .to_owned(),
                fix: aside,
            });
        } else if ours.is_some_and(|ours| at < ours) {
            all.push(Finding {
                severity: Severity::Error,
                kind: "cni-precedes",
                what: format!(
                    "{path} ({}) comes before weft's {}",
                    file.types.join(", "),
                    files[ours.unwrap_or(0)].name
                ),
                why: "Kubernetes' runtimes take the first file: containers join that network and not weft's"
                    .to_owned(),
                fix: aside,
            });
        } else if ours.is_some_and(|ours| at > ours) && !file.types.iter().any(|t| t == "weft") {
            all.push(Finding {
                severity: Severity::Note,
                kind: "cni-other",
                what: format!("{path} is another network's ({})", file.types.join(", ")),
                why: "it takes over when weft's file goes; left by a network that is gone, it fails every container then".to_owned(),
                fix: aside,
            });
        }
        // One that nobody reads does no harm.
        let read = ours.is_none_or(|ours| at <= ours);
        all.extend(file.missing.iter().filter(|_| read && file.broken.is_none()).map(|program| Finding {
            severity: Severity::Error,
            kind: "cni-program",
            what: format!("{path} needs the plugin '{program}', which is not installed"),
            why: "the runtime cannot start any container on that network".to_owned(),
            fix: vec![if program == "weft" {
                "weft cni install".to_owned()
            } else {
                format!("# install '{program}' into /opt/cni/bin, or remove it from the file")
            }],
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, types: &[&str]) -> CniFile {
        CniFile {
            name: name.to_owned(),
            types: types.iter().map(|t| (*t).to_owned()).collect(),
            ..CniFile::default()
        }
    }

    fn judged(cni: Vec<CniFile>) -> Vec<(&'static str, Severity)> {
        findings(&Facts { cni, ..Facts::default() }).iter().map(|f| (f.kind, f.severity)).collect()
    }

    #[test]
    fn the_first_file_counts() {
        let ours = || file("10-weft.conflist", &["weft"]);
        assert_eq!(judged(vec![]), []);
        assert_eq!(
            judged(vec![file("10-calico.conflist", &["calico"])]),
            [],
            "weft is not installed for runtimes"
        );
        assert_eq!(judged(vec![ours(), file("11-weft.conflist", &["weft", "portmap"])]), []);
        assert_eq!(
            judged(vec![ours(), file("05-calico.conflist", &["calico"])]),
            [("cni-precedes", Severity::Error)]
        );
        assert_eq!(
            judged(vec![file("87-podman.conflist", &["bridge"]), ours()]),
            [("cni-other", Severity::Note)]
        );
        let broken = CniFile { broken: Some("not JSON".into()), ..file("05-x.conf", &[]) };
        assert_eq!(judged(vec![ours(), broken.clone()]), [("cni-broken", Severity::Error)]);
        assert_eq!(
            judged(vec![ours(), CniFile { name: "99-x.conf".into(), ..broken }]),
            [("cni-broken", Severity::Note)]
        );
        let missing = CniFile { missing: vec!["portmap".into()], ..ours() };
        assert_eq!(judged(vec![missing]), [("cni-program", Severity::Error)]);
    }
}
