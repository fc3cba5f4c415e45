//! What the doctor told, as programs read it, and waiting until it tells something.
//!
//! It asks nobody: the caller says how.

use crate::cluster::wait_until;
use crate::said::Said;
use serde_json::Value;

/// What a look may take; each agent that it asks has two seconds of that.
pub(crate) const PATIENCE: &str = "9s";

/// The answer, whatever the exit code.
#[track_caller]
pub(crate) fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {:?} {:?}", said.out, said.err))
}

/// The finding with this code, if there is one.
pub(crate) fn finding<'a>(answer: &'a Value, code: &str) -> Option<&'a Value> {
    answer["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code)
}

/// The code of the first finding.
pub(crate) fn first_code(answer: &Value) -> String {
    answer["findings"][0]["code"].as_str().unwrap_or_default().to_owned()
}

/// Does this finding have this code, and are all of `parts` in its evidence?
fn is(finding: &Value, code: &str, parts: &[&str]) -> bool {
    let evidence = finding["evidence"].as_str().unwrap_or_default();
    finding["code"] == code && parts.iter().all(|part| evidence.contains(part))
}

/// Looks until there is what `pick` takes; a failure shows what was told last.
#[track_caller]
fn wait_for<T>(what: &str, look: impl Fn() -> (i32, Value), pick: impl Fn(i32, &Value) -> Option<T>) -> T {
    let mut last = String::new();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until(what, || {
            let (exit, answer) = look();
            last = format!("{exit} {answer}");
            pick(exit, &answer)
        })
    }));
    found.unwrap_or_else(|_| panic!("in vain; it says {last}"))
}

/// Looks until the first finding has this code, its evidence holds all of `parts`, and the exit code is this one.
#[track_caller]
pub(crate) fn wait_first(look: impl Fn() -> (i32, Value), exit: i32, code: &str, parts: &[&str]) -> Value {
    let what = format!("the doctor says {code} {parts:?} first, and ends with {exit}");
    let right = |ended: i32, answer: &Value| ended == exit && is(&answer["findings"][0], code, parts);
    let answer = wait_for(&what, look, |ended, answer| right(ended, answer).then(|| answer.clone()));
    seen(&answer["findings"][0]);
    answer
}

/// The same wherever it stands: the finding.
#[track_caller]
pub(crate) fn wait_among(look: impl Fn() -> (i32, Value), exit: i32, code: &str, parts: &[&str]) -> Value {
    let what = format!("the doctor says {code} {parts:?}, and ends with {exit}");
    let told = |answer: &Value| answer["findings"].as_array().unwrap().iter().find(|f| is(f, code, parts)).cloned();
    let found = wait_for(&what, look, |ended, answer| told(answer).filter(|_| ended == exit));
    seen(&found);
    found
}

fn seen(finding: &Value) {
    assert!(!finding["next"].as_array().unwrap().is_empty(), "{finding}");
    println!("seen: {}: {} | {}", finding["code"].as_str().unwrap_or_default(), finding["title"], finding["evidence"]);
}
