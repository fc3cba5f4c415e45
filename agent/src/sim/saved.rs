//! Saved: a plan as a file, in JSON.
//!
//! A file of another version, or with a word that this program does not know, is refused: it would run as another plan.

use super::plan::Plan;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the format: another one means that an old plan would mean something else.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    plan: &'a Plan,
}

/// First only the version, whatever else there is.
#[derive(Deserialize)]
struct Read<'a> {
    version: u32,
    #[serde(borrow)]
    plan: &'a RawValue,
}

impl Plan {
    /// As it is saved.
    #[must_use]
    pub fn to_json(&self) -> String {
        let written = Written { version: VERSION, plan: self };
        // Numbers, words and lists: nothing in a plan can fail to be written.
        serde_json::to_string(&written).map_or_else(|_| String::new(), |text| one_line_each(&text))
    }

    /// From a file.
    ///
    /// # Errors
    /// In one sentence, what is wrong with it and what to do.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let read: Read<'_> = serde_json::from_str(text).map_err(|e| format!("this is no saved plan: {e}"))?;
        if read.version != VERSION {
            let other = read.version;
            return Err(format!(
                "the plan has version {other}, and this program reads version {VERSION}; run it with the program that wrote it"
            ));
        }
        let plan: Self = serde_json::from_str(read.plan.get()).map_err(|e| format!("the plan does not read: {e}"))?;
        plan.checked()
    }

    /// What would make a run meaningless.
    fn checked(mut self) -> Result<Self, String> {
        let n = self.agents.len();
        if n == 0 || n > AGENTS_MAX {
            return Err(format!("a plan has 1 to {AGENTS_MAX} agents, and this one {n}"));
        }
        let named = self.steps.iter_mut().flat_map(|step| step.action.agents_mut()).map(|agent| *agent).max();
        let joined = self.agents.iter().flat_map(|agent| agent.join.iter().copied()).max();
        if let Some(agent) = named.max(joined).filter(|agent| *agent >= n) {
            return Err(format!("the plan names agent {agent}, and has agents 0 to {}", n - 1));
        }
        Ok(self)
    }
}

/// Most agents of a plan: each has a letter.
const AGENTS_MAX: usize = 20;

/// A line for each step, agent and request: two versions of a plan can be compared.
fn one_line_each(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut depth = 0;
    for byte in text.chars() {
        match byte {
            '{' | '[' => {
                depth += 1;
                out.push(byte);
            }
            '}' | ']' => {
                depth -= 1;
                out.push(byte);
            }
            ',' if depth <= 5 => out.push_str(",\n"),
            _ => out.push(byte),
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_plan_is_the_plan() {
        for seed in 0..200 {
            let plan = Plan::draw(seed);
            let text = plan.to_json();
            assert_eq!(Plan::from_json(&text).as_ref(), Ok(&plan), "seed {seed}");
            for step in &plan.steps {
                let word = serde_json::to_string(&step.action).unwrap();
                assert!(
                    word.starts_with(&format!("\"{}\"", step.action.kind()))
                        || word.starts_with(&format!("{{\"{}\"", step.action.kind())),
                    "{word}"
                );
            }
        }
    }

    #[test]
    fn another_version_an_unknown_word_and_an_agent_that_is_not_there_are_refused() {
        let good = Plan::draw(7).to_json();
        let refused = |text: &str| Plan::from_json(text).expect_err("it must be refused");
        assert!(refused(&good.replacen("\"version\":1", "\"version\":2", 1)).contains("version 2"));
        let unknown = refused(&good.replacen("\"seed\":7", "\"seed\":7,\"mood\":1", 1));
        assert!(unknown.contains("unknown field `mood`"), "{unknown}");
        assert!(refused("{}").contains("no saved plan"));
        let mut plan = Plan::draw(7);
        plan.agents[0].join = vec![99];
        assert!(refused(&plan.to_json()).contains("agent 99"));
    }
}
