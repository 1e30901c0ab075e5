//! What the pages promise is there: files and headings behind links, commands and options in examples.
//! (What by-hand.md types is executed by `by_hand.rs`; reference.md is compared in crates/weft.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weft_tests::weft::programs_folder;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All pages: those beside the README, and those below docs.
fn pages() -> Result<BTreeMap<PathBuf, String>> {
    let (mut pages, mut folders) = (BTreeMap::new(), vec![root().join("docs")]);
    let mut files: Vec<PathBuf> = fs::read_dir(root())?.flatten().map(|e| e.path()).collect();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder)?.flatten().map(|e| e.path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    for file in files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        pages.insert(file, text);
    }
    ensure!(pages.len() > 8, "only {} pages were found", pages.len());
    Ok(pages)
}

/// The lines of a page with the words after the backticks of the block they are in, if they are in one.
fn lines(page: &str) -> impl Iterator<Item = (Option<&str>, &str)> {
    let mut block = None;
    page.lines().filter_map(move |line| match (line.trim_start().strip_prefix("```"), block) {
        (Some(words), None) => {
            block = Some(words);
            None
        }
        (Some(_), Some(_)) => {
            block = None;
            None
        }
        (None, _) => Some((block, line)),
    })
}

/// The names by which a page's headings can be linked to, as GitHub makes them.
fn headings(page: &str) -> BTreeSet<String> {
    let headings = lines(page).filter(|(block, line)| block.is_none() && line.starts_with('#'));
    let anchor = |(_, line): (_, &str)| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() -> Result<()> {
    let (pages, mut dead, mut seen) = (pages()?, Vec::new(), 0);
    for (file, page) in &pages {
        for (_, line) in lines(page).filter(|(block, _)| block.is_none()) {
            let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for link in links.filter(|l| !l.contains("://")) {
                seen += 1;
                let (path, anchor) = link.split_once('#').map_or((link, None), |(p, a)| (p, Some(a)));
                let folder = file.parent().context("a page lies in a folder")?;
                let target = if path.is_empty() { file.clone() } else { folder.join(path) };
                let there = match anchor {
                    None => target.exists(),
                    Some(anchor) => fs::read_to_string(&target).is_ok_and(|t| headings(&t).contains(anchor)),
                };
                if !there {
                    dead.push(format!("{}: {link}", file.display()));
                }
            }
        }
    }
    ensure!(seen > 20, "only {seen} links were found");
    ensure!(dead.is_empty(), "links that lead nowhere: {dead:#?}");
    Ok(())
}

/// The words of weft's commands on a line of a shell, each command by itself.
fn commands<'a>(block: &str, line: &'a str) -> Vec<Vec<&'a str>> {
    let typed = match block.split(' ').next() {
        Some("sh") => Some(line),
        Some("console") => line.strip_prefix("# "),
        _ => None,
    };
    let parts = typed.unwrap_or_default().split(['|', ';', '>', '<', '&', '(', ')']);
    let words = parts
        .map(|part| part.split_whitespace().skip_while(|w| ["sudo", "until", "!"].contains(w)).collect());
    words
        .filter(|words: &Vec<&str>| {
            words
                .first()
                .is_some_and(|w| *w == "weft" || w.ends_with("/bin/weft") || w.ends_with("dist/weft"))
        })
        .collect()
}

#[test]
fn examples_use_commands_and_options_that_there_are() -> Result<()> {
    let weft = programs_folder()?.join("weft");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (file, page) in pages()? {
        for (block, line) in lines(&page) {
            for words in commands(block.unwrap_or_default(), line) {
                if words[0].starts_with("/opt/cni") {
                    continue; // the plugin
                }
                seen += 1;
                let depth = if matches!(words.get(1), Some(&"network" | &"cni" | &"image")) { 2 } else { 1 };
                let command: Vec<&str> = words.iter().skip(1).take(depth).copied().collect();
                let help = Command::new(&weft).args(&command).arg("--help").output()?;
                let text = String::from_utf8_lossy(&help.stdout);
                let known: BTreeSet<&str> =
                    text.split([' ', '\n', ',']).filter(|w| w.starts_with("--")).collect();
                let options =
                    words.iter().filter(|w| w.starts_with("--")).map(|w| w.split('=').next().unwrap_or(w));
                let unknown: Vec<&str> = options.filter(|o| !known.contains(o)).collect();
                if !help.status.success() || !unknown.is_empty() {
                    wrong.push(format!("{}: {line} {unknown:?}", file.display()));
                }
            }
        }
    }
    ensure!(seen > 40, "only {seen} commands were found");
    ensure!(wrong.is_empty(), "examples that cannot be typed: {wrong:#?}");
    Ok(())
}
