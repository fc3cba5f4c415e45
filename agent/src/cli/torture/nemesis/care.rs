//! What the torturer looks after: who ended by itself, who left, whose copy of the log is whole again.
//!
//! It never strikes.

use super::Nemesis;
use crate::cli::cluster;
use crate::cli::output::{CliError, Exit};
use crate::cli::torture::fleet::Death;
use crate::limits::printable;

/// How often an agent may end by itself in a row before that is a finding of its own.
const DEATHS_MAX: u32 = 5;
/// The exit code of an agent that refuses to serve from a damaged disk.
const CORRUPT: i32 = 11;

impl Nemesis<'_> {
    /// What became of those that were asked to leave.
    async fn look_at_leavers(&mut self) {
        for (agent, leaving) in std::mem::take(&mut self.leaving) {
            if !leaving.is_finished() {
                self.leaving.push((agent, leaving));
            } else if let Ok(Err(error)) = leaving.await {
                self.tally.add("leave_refused", 1);
                self.story.say(&format!("{} does not leave: {error}", self.fleet.name(agent)));
                // It stays, or goes later: then it starts again and is whole in its next life.
                let of_it = self.wounds.iter_mut().filter(|wound| wound.agent == agent);
                of_it.for_each(|wound| wound.life = 0);
            }
        }
    }

    /// Agents that ended by themselves are looked at and started again; wounds that have healed are closed.
    pub(in crate::cli::torture) async fn tend(&mut self) -> Result<(), CliError> {
        self.look_at_leavers().await;
        for death in self.fleet.deaths().await? {
            self.bury(&death)?;
        }
        for agent in 0..self.fleet.len() {
            if !self.fleet.runs(agent) && self.fleet.agents[agent].busy.is_none() {
                self.fleet.start(agent, false)?;
            }
            if self.watch.lacks(agent, 0).is_none() {
                self.deaths[agent] = 0;
            }
        }
        let (watch, story, fleet) = (self.watch, self.story, &self.fleet);
        let mut healed = 0;
        self.wounds.retain(|wound| {
            let is_later = fleet.directory.life(wound.agent) > wound.life && fleet.agents[wound.agent].busy.is_none();
            let is_back = is_later && watch.lacks(wound.agent, wound.goal).is_none();
            if is_back {
                healed += 1;
                let seconds = wound.since.elapsed().as_secs_f64();
                story.say(&format!("{} is whole again after {seconds:.1} s", fleet.name(wound.agent)));
            }
            !is_back
        });
        self.tally.add("healed", healed);
        Ok(())
    }

    /// Why an agent ended, and whether it may.
    fn bury(&mut self, death: &Death) -> Result<(), CliError> {
        let agent = death.agent;
        let name = self.fleet.name(agent).to_owned();
        let log = cluster::tail_of(&self.fleet.agents[agent].log).unwrap_or_default();
        let it = &mut self.fleet.agents[agent];
        if death.status.success() && (it.may_end || it.may_leave) {
            (it.may_end, it.may_leave) = (false, false);
            return Ok(());
        }
        self.deaths[agent] += 1;
        if death.is_port_taken(&log) {
            self.fleet.move_port(agent)?;
        } else if death.status.code() == Some(CORRUPT) && matches!(&self.wounds[..], [one] if one.agent == agent) {
            // It cannot be repaired in place: an operator gives it a new disk, as long as the others have theirs.
            self.tally.add("refused_damage", 1);
            self.story.say(&format!("{name} refuses its damaged directory, and gets an empty one"));
            self.lose_directory(agent)?;
        } else {
            let said = log.lines().last().map(printable).unwrap_or_default();
            let what = format!("{name} ended by itself ({}): {said}", death.words());
            // The next ones say the same.
            if self.deaths[agent] == 1 {
                self.story.say(&what);
                self.findings.push(what);
            }
        }
        if self.deaths[agent] > DEATHS_MAX {
            let what =
                format!("{name} ended by itself {DEATHS_MAX} times in a row (the last time by {})", death.words());
            return Err(CliError::new(Exit::Error, what, ""));
        }
        Ok(())
    }

    /// Everybody is whole and at work: only then may a copy be lost.
    pub(super) fn may_wound(&self) -> bool {
        let goal = self.watch.committed();
        // One that is slow to follow still holds what the quorum of the others acknowledged without it.
        let at_work = |agent| self.is_free(agent) && self.watch.lacks(agent, goal.saturating_sub(10_000)).is_none();
        self.wounds.is_empty() && (0..self.fleet.len()).all(at_work)
    }
}
