//! What the documents lean on is there: the tests that they name, the files that they lead to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::harness::cluster::crate_root;

const DOCUMENTS: [&str; 4] = ["README.md", "CHANGELOG.md", "docs", "examples"];

/// A claim whose test was renamed away is a claim without a test.
#[test]
fn every_test_that_is_named_exists() {
    let mut tests = BTreeSet::new();
    for file in files(&["src", "tests"], "rs") {
        for line in read(&file).lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            if let Some(rest) = line.strip_prefix("fn ") {
                let end = rest.find(['(', '<']).unwrap_or(rest.len());
                tests.insert(rest[..end].to_owned());
            }
        }
    }
    let mut named = 0;
    for document in ["docs/THREAT-MODEL.md", "docs/PRIOR-CVES.md"] {
        let text = read(&crate_root().join(document));
        for name in text.split('`').filter(|text| is_test_name(text)) {
            assert!(tests.contains(name), "{document} names {name}");
            named += 1;
        }
    }
    assert!(named > 80, "only {named} were found");
}

/// An advisory without a test is one that may be ours tomorrow.
#[test]
fn every_advisory_has_a_test() {
    let text = read(&crate_root().join("docs/PRIOR-CVES.md"));
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| advisory"))
        .collect();
    assert!(rows.len() > 30, "only {} were found", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let last = cells.last().unwrap();
        let heading = row.contains("what went wrong |");
        assert!(
            heading || last.split('`').any(is_test_name),
            "no test: {row}"
        );
    }
}

/// Nothing else that stands in backticks there is written so.
fn is_test_name(text: &str) -> bool {
    text.contains('_') && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

#[test]
fn every_link_leads_somewhere() {
    for document in files(&DOCUMENTS, "md") {
        let text = read(&document);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let from = if path.is_empty() {
                document.clone()
            } else {
                document.parent().unwrap().join(path)
            };
            assert!(
                from.exists(),
                "{} leads to {link}, which is not there",
                document.display()
            );
            let leads = heading.is_empty()
                || read(&from)
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == heading);
            assert!(leads, "{}: no heading #{heading}", document.display());
        }
    }
}

/// As forges make anchors of headings.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches(['#', ' '])
        .to_lowercase()
        .replace(' ', "-")
        .replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "")
}

fn files(under: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut waiting: Vec<PathBuf> = under.iter().map(|path| crate_root().join(path)).collect();
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
