//! Shrinking: from a plan that breaks a promise to a shorter one that breaks the same promise.
//!
//! It draws nothing: it only takes things away (delta debugging), and asks its judge about what is left.

use super::{AgentPlan, Call, Invariant, Plan};

/// Runs of one shrinking at most: a plan that long resists is short enough.
const RUNS_MAX: usize = 4_000;

/// What became of a plan.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The shortest plan found.
    pub plan: Plan,
    /// Which promise it breaks, as the first one did; none if that broke none.
    pub invariant: Option<Invariant>,
    /// How many plans were run.
    pub runs: usize,
}

/// The shortest plan found that breaks the same promise. `judge` runs a plan and says which one it breaks.
pub fn shrink(plan: Plan, mut judge: impl FnMut(&Plan) -> Option<Invariant>) -> Shrunk {
    let invariant = judge(&plan);
    let mut search = Search { best: plan, invariant, runs: 1, judge };
    if invariant.is_some() {
        loop {
            let before = search.best.clone();
            search.steps();
            search.script();
            search.agents();
            search.time();
            if search.best == before || search.runs >= RUNS_MAX {
                break;
            }
        }
    }
    Shrunk { plan: search.best, invariant, runs: search.runs }
}

struct Search<J> {
    best: Plan,
    invariant: Option<Invariant>,
    runs: usize,
    judge: J,
}

impl<J: FnMut(&Plan) -> Option<Invariant>> Search<J> {
    /// Takes the plan if it breaks the same promise.
    fn takes(&mut self, plan: Plan) -> bool {
        if self.runs >= RUNS_MAX || plan == self.best {
            return false;
        }
        self.runs += 1;
        let same = (self.judge)(&plan) == self.invariant;
        if same {
            self.best = plan;
        }
        same
    }

    /// Takes away pieces of a list, large ones first, until no single one can go.
    fn without<T: Clone>(&mut self, list: impl Fn(&Plan) -> Vec<T>, put: impl Fn(&mut Plan, Vec<T>)) {
        let mut piece = list(&self.best).len();
        while piece > 0 {
            let mut from = 0;
            while from < list(&self.best).len() {
                let mut left = list(&self.best);
                left.drain(from..(from + piece).min(left.len()));
                let mut less = self.best.clone();
                put(&mut less, left);
                if !self.takes(less) {
                    from += piece;
                }
            }
            piece /= 2;
        }
    }

    fn steps(&mut self) {
        self.without(|plan| plan.steps.clone(), |plan, steps| plan.steps = steps);
    }

    fn script(&mut self) {
        self.without(|plan| plan.consumers.clone(), |plan, consumers| plan.consumers = consumers);
        self.without(
            |plan| {
                let calls = |(client, calls): (usize, &Vec<Call>)| {
                    calls.iter().cloned().map(move |c| (client, c)).collect::<Vec<_>>()
                };
                plan.script.iter().enumerate().flat_map(calls).collect::<Vec<(usize, Call)>>()
            },
            |plan, calls| {
                plan.script.iter_mut().for_each(Vec::clear);
                for (client, call) in calls {
                    plan.script[client].push(call);
                }
            },
        );
        let mut less = self.best.clone();
        less.script.retain(|calls| !calls.is_empty());
        self.takes(less);
    }

    /// Takes away agents, the last first.
    fn agents(&mut self) {
        for gone in (0..self.best.agents.len()).rev() {
            // Without anybody who founds, another promise is broken under the same name.
            let founds = |(at, agent): (usize, &AgentPlan)| at != gone && agent.bootstrap && !agent.foreign;
            if self.best.agents.iter().enumerate().any(founds) {
                self.takes(without_agent(&self.best, gone));
            }
        }
    }

    /// Calms down earlier.
    fn time(&mut self) {
        for _ in 0..8 {
            let starts = self.best.agents.iter().map(|agent| agent.start_us);
            let last = self.best.steps.iter().map(|step| step.at_us).chain(starts).max().unwrap_or(0);
            let mut less = self.best.clone();
            less.calm_at_us = last + (self.best.calm_at_us - last.min(self.best.calm_at_us)) / 2;
            if !self.takes(less) {
                return;
            }
        }
    }
}

/// The plan without this agent, those behind it moved up.
fn without_agent(plan: &Plan, gone: usize) -> Plan {
    let mut less = plan.clone();
    let up = |agent: usize| if agent > gone { agent - 1 } else { agent };
    less.agents.remove(gone);
    for agent in &mut less.agents {
        agent.join.retain(|join| *join != gone);
        agent.join.iter_mut().for_each(|join| *join = up(*join));
    }
    less.steps.retain(|step| step.action.agent() != Some(gone));
    for step in &mut less.steps {
        if let super::Action::Halves { left } = &mut step.action {
            left.retain(|agent| *agent != gone);
        }
        for agent in step.action.agents_mut() {
            *agent = up(*agent).min(less.agents.len() - 1);
        }
    }
    for call in less.script.iter_mut().flatten() {
        call.agent = up(call.agent).min(less.agents.len() - 1);
    }
    for consumer in &mut less.consumers {
        consumer.agent = up(consumer.agent).min(less.agents.len() - 1);
    }
    less
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Step};
    use super::*;

    /// Of a whole storm two steps matter, and one agent: that is all that is left.
    #[test]
    fn what_does_not_matter_goes() {
        let mut plan = Plan::draw(11);
        plan.steps.retain(|step| !matches!(step.action, Action::IsolateLeader | Action::Ring));
        plan.steps.insert(plan.steps.len() / 3, Step { at_us: 5_000_000, action: Action::IsolateLeader });
        plan.steps.push(Step { at_us: 6_000_000, action: Action::Ring });
        let matters = |plan: &Plan| {
            let has = |action: Action| plan.steps.iter().any(|step| step.action == action);
            let breaks = has(Action::IsolateLeader) && has(Action::Ring);
            breaks.then_some(if plan.agents.is_empty() { Invariant::OneVote } else { Invariant::OneLeader })
        };
        let shrunk = shrink(plan, matters);
        assert_eq!(shrunk.invariant, Some(Invariant::OneLeader));
        assert_eq!(shrunk.plan.steps.len(), 2);
        assert_eq!((shrunk.plan.agents.len(), shrunk.plan.script.len(), shrunk.plan.consumers.len()), (1, 0, 0));
        assert!(shrunk.runs < 1_000, "{} runs", shrunk.runs);
    }

    /// A plan that breaks another promise is another find.
    #[test]
    fn another_promise_is_not_the_same() {
        let mut plan = Plan::draw(11);
        plan.steps = vec![Step { at_us: 0, action: Action::Ring }, Step { at_us: 1, action: Action::IsolateLeader }];
        let shrunk =
            shrink(plan, |plan| Some(if plan.steps.len() == 2 { Invariant::OneVote } else { Invariant::Serves }));
        assert_eq!((shrunk.plan.steps.len(), shrunk.invariant), (2, Some(Invariant::OneVote)));
    }
}
