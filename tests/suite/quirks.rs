//! The page about differences from the original names tests that exist.

use std::{fs, path::Path};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where tests lie, one file for each module.
const FOLDERS: [&str; 3] = [
    "tests/suite",
    "tests/cli",
    "rocketjob-testing/src/conformance",
];

fn exists(test: &str) -> bool {
    let Some((module, name)) = test.split_once("::") else {
        return false;
    };
    let function = format!("fn {name}(");
    FOLDERS.into_iter().any(|folder| {
        let file = Path::new(ROOT).join(folder).join(format!("{module}.rs"));
        fs::read_to_string(file).is_ok_and(|text| text.contains(&function))
    })
}

#[test]
fn every_row_names_tests_that_exist() {
    let page = Path::new(ROOT).join("docs/concerns/quirks.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<_> = rows.filter(|row| !row.ends_with("| shown by |")).collect();
    assert!(rows.len() >= 9, "{} rows", rows.len());
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let [_, _, shown_by] = cells.as_slice() else {
            panic!("a row has three cells: {row}");
        };
        let code = shown_by.split('`').skip(1).step_by(2);
        let tests: Vec<_> = code.filter(|code| code.contains("::")).collect();
        assert!(!tests.is_empty(), "no test is named: {row}");
        for test in tests {
            assert!(exists(test), "there is no test `{test}`");
        }
    }
}
