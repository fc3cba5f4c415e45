//! Scenarios: `scenarios.md` says which test tells which scenario and which known bug; here is what keeps it true.
//!
//! It runs no scenario: it reads texts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// How many scenarios of each letter there are.
const SCENARIOS: [(char, u32); 7] = [('E', 22), ('R', 21), ('Q', 6), ('M', 18), ('S', 7), ('T', 5), ('D', 6)];
/// The bugs of others: of cores, B1 to here, and of whole products, I1 to here.
const BUGS: [(char, u32); 2] = [('B', 43), ('I', 50)];

fn raft() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of the tables: id, and the names of the tests; none for what waits for a part that is not built.
fn table() -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(raft().join("tests/scenarios.md")).expect("the table");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.map(|row| row.split(" | ").collect::<Vec<_>>()).filter(|row| row.len() == 3);
    let rows = rows.filter(|row| !matches!(row[0], "id" | "---"));
    rows.map(|row| {
        let names: Vec<_> = row[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(names.is_empty(), row[1].starts_with("not yet: "), "{row:?}");
        (row[0].to_owned(), names)
    })
    .collect()
}

fn file_of(test: &str) -> (PathBuf, &str) {
    let parts: Vec<_> = test.split("::").collect();
    let file = match parts[..] {
        ["golden", text] => format!("tests/golden/{text}.txt"),
        ["core", file, _] => format!("src/{file}.rs"),
        ["wal", file, _] => format!("src/wal/tests/{file}.rs"),
        ["sim", file, _] => format!("../agent/src/sim/stories/{file}.rs"),
        ["process", file, _] => format!("../agent/tests/process/{file}.rs"),
        [file, _] => format!("tests/{file}.rs"),
        _ => panic!("`{test}` names no test"),
    };
    (raft().join(file), parts[parts.len() - 1])
}

/// Each test of a file with the comment above it. A golden conversation is a test with all of its comments.
fn tests_of(text: &str) -> BTreeMap<String, String> {
    let (mut tests, mut doc, mut is_test) = (BTreeMap::new(), String::new(), false);
    for line in text.lines().map(str::trim_start) {
        if let Some(comment) = line.strip_prefix("///") {
            doc += comment;
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]";
        } else {
            if let (true, Some((name, _))) = (is_test, line.strip_prefix("fn ").and_then(|rest| rest.split_once('('))) {
                tests.insert(name.to_owned(), std::mem::take(&mut doc));
            }
            doc.clear();
            is_test = false;
        }
    }
    tests
}

/// The ids that a comment names: `E12`, and `M8` for the `M8b` of a second story.
fn ids_in(comment: &str) -> BTreeSet<String> {
    let words = comment.split(|c: char| !c.is_ascii_alphanumeric());
    let id = |word: &str| {
        let word = word.strip_suffix(['a', 'b', 'c']).unwrap_or(word);
        let (letter, number) = (word.chars().next()?, word.get(1..)?);
        let is_id =
            SCENARIOS.iter().any(|(known, n)| *known == letter && number.parse().is_ok_and(|i| (1..=*n).contains(&i)));
        is_id.then(|| word.to_owned())
    };
    words.filter_map(id).collect()
}

fn comment_of(test: &str) -> String {
    let (file, name) = file_of(test);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|why| panic!("`{test}`: {}: {why}", file.display()));
    if test.starts_with("golden::") {
        return text.lines().filter(|line| line.starts_with('#')).collect();
    }
    tests_of(&text).remove(name).unwrap_or_else(|| panic!("{} has no test `{name}`", file.display()))
}

/// Each id once, in order, with at least one test.
#[test]
fn every_scenario_and_every_bug_has_its_line() {
    let letters = SCENARIOS.iter().chain(&BUGS);
    let expected: Vec<_> = letters.flat_map(|(letter, n)| (1..=*n).map(move |i| format!("{letter}{i}"))).collect();
    let found: Vec<_> = table().into_iter().map(|(id, _)| id).collect();
    assert_eq!(found, expected);
}

/// Each test that a line names is there; the one that tells a scenario says so.
#[test]
fn every_line_names_tests_that_exist() {
    for (id, tests) in table() {
        for test in tests {
            let comment = comment_of(&test);
            let is_bug = id.starts_with(['B', 'I']);
            assert!(is_bug || ids_in(&comment).contains(&id), "`{test}` does not name {id}: {comment}");
        }
    }
}

/// And each story of the core that begins with an id stands in the line of that id.
#[test]
fn every_story_that_names_a_scenario_has_its_place() {
    let listed: BTreeMap<_, BTreeSet<_>> =
        table().into_iter().map(|(id, tests)| (id, tests.into_iter().collect())).collect();
    let mut told = 0;
    for file in std::fs::read_dir(raft().join("tests")).expect("the stories") {
        let path = file.expect("a file").path();
        let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".rs")) else { continue };
        for (name, comment) in tests_of(&std::fs::read_to_string(&path).expect("a story")) {
            let head = comment.split(['.', '(']).next().unwrap_or_default();
            for id in ids_in(head) {
                told += 1;
                let test = format!("{stem}::{name}");
                assert!(
                    listed.get(&id).is_some_and(|tests| tests.contains(&test)),
                    "`{test}` tells {id}, and is not in its line"
                );
            }
        }
    }
    assert!(told > 80, "only {told} stories name a scenario: is the reading still right?");
}
