//! Carries out the plan: each blow at its time, and what ends it at its time.
//!
//! It never strikes an agent that another blow has in its hands, and never wounds a second copy of the log before the first
//! one is whole again: that is what keeps committed data within what the disks can bear.

mod care;
mod strikes;

use super::damage::Part;
use super::draw::Draw;
use super::fleet::{Fleet, copy_dir};
use super::partition::{self, Overlay};
use super::plan::{Blow, Cut, Deed, Plan, Who};
use super::proxy::Proxy;
use super::small_disk::SmallDisk;
use super::tally::Tally;
use super::watch::Watch;
use crate::cli::output::CliError;
use crate::cli::process::Process;
use crate::cli::story::Story;
use crate::client::ClientError;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two looks at what the agents do by themselves.
const LOOK: Duration = Duration::from_millis(200);
/// How long an administrator's request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// When a copy of the log is not whole for so long, no new blow falls until it is.
const MERCY_AFTER: Duration = Duration::from_secs(20);
/// Most blows that wait for their turn; more are skipped.
const POSTPONED_MAX: usize = 4;
/// What is going on until a blow is over.
enum Ongoing {
    /// These are down, and start again.
    Down(Vec<usize>),
    /// These are stopped, and go on.
    Stopped(Vec<usize>),
    /// It is killed so often still.
    CrashLoop(usize, u8),
    /// The overlay of this blow is on the network.
    Network,
    /// A clone of this agent runs.
    Clone(usize, Process),
    /// This agent runs on an old copy; its own directory lies there.
    OldCopy(usize, PathBuf),
    /// It has left, or is about to.
    Left(usize),
    /// The disk of this agent is full.
    Full(usize),
}

/// An agent whose copy of the log is not whole.
struct Wound {
    agent: usize,
    /// What every voter that is whole again holds.
    goal: u64,
    /// Only a later life than this one can be whole.
    life: u64,
    since: Instant,
}

/// The torturer.
pub(super) struct Nemesis<'a> {
    pub(super) fleet: Fleet,
    pub(super) tally: Tally,
    /// What should never be, besides what the history shows.
    pub(super) findings: Vec<String>,
    proxy: Arc<Proxy>,
    pub(super) watch: &'a Watch,
    story: &'a Story<'a>,
    draw: Draw,
    blows: Vec<Blow>,
    /// What ends or goes on, by time.
    agenda: BinaryHeap<Reverse<(Duration, usize)>>,
    ongoing: BTreeMap<usize, Ongoing>,
    overlays: BTreeMap<usize, Overlay>,
    wounds: Vec<Wound>,
    /// Blows that must wait until every copy is whole again.
    postponed: VecDeque<usize>,
    leaving: Vec<(usize, JoinHandle<Result<(), ClientError>>)>,
    deaths: Vec<u32>,
    backups: BTreeMap<usize, PathBuf>,
    small_disk: Option<SmallDisk>,
}

impl<'a> Nemesis<'a> {
    pub(super) fn new(
        fleet: Fleet,
        proxy: Arc<Proxy>,
        watch: &'a Watch,
        story: &'a Story<'a>,
        plan: &Plan,
        draw: Draw,
        small_disk: Option<SmallDisk>,
    ) -> Self {
        let deaths = vec![0; fleet.len()];
        Self {
            fleet,
            tally: Tally::default(),
            findings: Vec::new(),
            proxy,
            watch,
            story,
            draw,
            blows: plan.blows.clone(),
            agenda: BinaryHeap::new(),
            ongoing: BTreeMap::new(),
            overlays: BTreeMap::new(),
            wounds: Vec::new(),
            postponed: VecDeque::new(),
            leaving: Vec::new(),
            deaths,
            backups: BTreeMap::new(),
            small_disk,
        }
    }

    /// The whole plan, from `began` on; `progress` is told every now and then.
    pub(super) async fn run(
        &mut self,
        began: Instant,
        span: Duration,
        progress: impl Fn(&Self),
    ) -> Result<(), CliError> {
        let mut next = 0;
        let mut waited = Duration::ZERO;
        let mut looked = began;
        loop {
            // The plan waits while nothing is under way and a copy is not whole for long: with blows on top of each other a name
            // would never be silent for long enough to pass to a new disk.
            let is_long = self.wounds.iter().any(|wound| wound.since.elapsed() > MERCY_AFTER);
            if is_long && self.ongoing.is_empty() && waited < span / 2 {
                waited += looked.elapsed();
            }
            looked = Instant::now();
            let now = began.elapsed().saturating_sub(waited);
            if let Some(blow) = self.blows.get(next).copied().filter(|blow| blow.at <= now) {
                self.begin(next, blow, now).await?;
                next += 1;
                continue;
            }
            if let Some(Reverse((_, number))) = self.agenda.peek().filter(|Reverse((at, _))| *at <= now).copied() {
                self.agenda.pop();
                self.go_on(number, now).await?;
                continue;
            }
            if began.elapsed() >= span {
                self.tally.add("skipped", self.postponed.len() as u64);
                return Ok(());
            }
            self.tend().await?;
            if let Some(number) = self.postponed.front().copied().filter(|_| self.may_wound()) {
                self.postponed.pop_front();
                self.begin(number, self.blows[number], now).await?;
                continue;
            }
            progress(self);
            let coming = self.agenda.peek().map(|Reverse((at, _))| *at);
            let coming = coming.into_iter().chain(self.blows.get(next).map(|blow| blow.at)).min();
            let wait = coming.map_or(LOOK, |at| at.saturating_sub(now)).min(LOOK);
            tokio::time::sleep(wait).await;
        }
    }

    /// Nothing is wrong with the network any more, and every agent runs on its own directory.
    pub(super) async fn heal(&mut self) -> Result<(), CliError> {
        self.agenda.clear();
        for (number, ongoing) in std::mem::take(&mut self.ongoing) {
            self.end(number, ongoing).await?;
        }
        self.tend().await
    }

    /// Is no copy of the log known not to be whole?
    pub(super) fn is_unwounded(&self) -> bool {
        self.wounds.is_empty()
    }

    /// The one that is meant, if no other blow has it; else the next that is free.
    fn choose(&self, who: Who) -> Option<usize> {
        let first = match who {
            Who::Nth(nth) => nth,
            Who::Leader => self.watch.leader().unwrap_or(0),
        };
        let nodes = self.fleet.len();
        (0..nodes).map(|by| (first + by) % nodes).find(|agent| self.is_free(*agent))
    }

    fn is_free(&self, agent: usize) -> bool {
        self.fleet.agents[agent].busy.is_none() && self.fleet.is_awake(agent)
    }

    fn free(&self) -> Vec<usize> {
        (0..self.fleet.len()).filter(|agent| self.is_free(*agent)).collect()
    }

    fn skip(&mut self, blow: &Blow, why: &str) {
        self.tally.add("skipped", 1);
        self.story.say(&format!("skipped: {} ({why})", blow.deed));
    }

    async fn begin(&mut self, number: usize, blow: Blow, now: Duration) -> Result<(), CliError> {
        if blow.deed.wounds() && !self.may_wound() {
            if self.postponed.len() < POSTPONED_MAX {
                self.postponed.push_back(number);
            } else {
                self.skip(&blow, "another copy is not whole, or somebody is away");
            }
            return Ok(());
        }
        let (who, name) = match self.target(&blow.deed) {
            Ok(who) => (who, self.fleet.name(who).to_owned()),
            Err(why) => {
                self.skip(&blow, why);
                return Ok(());
            }
        };
        let seconds = blow.lasts.as_secs_f64();
        let meant = if matches!(blow.deed, Deed::Cut(_)) || blow.deed.to_string().contains("leader") {
            format!(" ({name})")
        } else {
            String::new()
        };
        self.story.say(&format!("{}{meant}, {seconds:.2} s", blow.deed));
        self.tally.add(blow.deed.name(), 1);
        let ongoing = match blow.deed {
            Deed::Kill(_) => self.kill(number, &[who]).await?,
            Deed::KillAll => self.kill(number, &self.free()).await?,
            Deed::CrashLoop(_, lives) => {
                self.kill(number, &[who]).await?;
                Some(Ongoing::CrashLoop(who, lives.saturating_sub(1)))
            }
            Deed::Pause(_) => self.pause(number, &[who])?,
            Deed::PauseAll => self.pause(number, &self.free())?,
            Deed::Restart(_) => {
                self.hold(number, who);
                if !self.fleet.stop(who).await? {
                    self.tally.add("stop_took_too_long", 1);
                }
                Some(Ongoing::Down(vec![who]))
            }
            Deed::Transfer => {
                self.transfer(who);
                None
            }
            Deed::Cut(cut) => self.overlay(number, partition::cut(cut, who, self.fleet.len())),
            Deed::Weather(policy) => self.overlay(number, partition::weather(policy, None, self.fleet.len())),
            Deed::BadCable(nth, policy) => {
                self.overlay(number, partition::weather(policy, Some(nth), self.fleet.len()))
            }
            Deed::Leave(_) => self.leave(number, who)?,
            Deed::Wipe(_) => {
                self.wound(who);
                let ongoing = self.kill(number, &[who]).await?;
                self.lose_directory(who)?;
                ongoing
            }
            Deed::Clone(_) => self.clone_of(number, who).await?,
            Deed::Rollback(_) => self.roll_back(number, who).await?,
            Deed::Damage(_, harm) => {
                self.wound(who);
                let ongoing = self.kill(number, &[who]).await?;
                self.damage(who, harm, Part::Any)?;
                ongoing
            }
            Deed::Helical(harm) => self.helical(number, harm).await?,
            Deed::DiskFull => self.fill(number)?,
        };
        if let Some(ongoing) = ongoing {
            let step = self.step(number, &ongoing);
            self.agenda.push(Reverse((now + step, number)));
            self.ongoing.insert(number, ongoing);
        }
        Ok(())
    }

    /// Which agent a deed is about; any for those that are about all.
    fn target(&self, deed: &Deed) -> Result<usize, &'static str> {
        let one = |who| self.choose(who).ok_or("nobody is free");
        match *deed {
            Deed::Kill(who)
            | Deed::CrashLoop(who, _)
            | Deed::Pause(who)
            | Deed::Restart(who)
            | Deed::Leave(who)
            | Deed::Wipe(who)
            | Deed::Damage(who, _) => one(who),
            Deed::DiskFull => match self.small_disk.as_ref().map(SmallDisk::agent) {
                Some(agent) if self.is_free(agent) => Ok(agent),
                Some(_) => Err("another blow has the agent with the small disk"),
                None => Err("no small disk can be mounted here"),
            },
            Deed::Clone(nth) | Deed::Rollback(nth) => one(Who::Nth(nth)),
            Deed::Transfer => self.watch.leader().ok_or("nobody leads"),
            Deed::KillAll | Deed::PauseAll if self.free().is_empty() => Err("nobody is free"),
            Deed::Cut(Cut::Isolate(who) | Cut::Mute(who) | Cut::Deaf(who) | Cut::Flap(who, _)) => Ok(match who {
                Who::Nth(nth) => nth,
                Who::Leader => self.watch.leader().unwrap_or(0),
            }),
            Deed::Cut(Cut::Bridge(nth)) | Deed::BadCable(nth, _) => Ok(nth),
            Deed::KillAll | Deed::PauseAll | Deed::Cut(Cut::Halves(_)) | Deed::Weather(_) | Deed::Helical(_) => Ok(0),
        }
    }

    fn hold(&mut self, number: usize, agent: usize) {
        self.fleet.agents[agent].busy = Some(number);
    }

    fn wound(&mut self, agent: usize) {
        let life = self.fleet.directory.life(agent);
        self.wounds.push(Wound { agent, goal: self.watch.committed(), life, since: Instant::now() });
    }

    fn set_network(&self) {
        self.proxy.set_policies(&partition::together(self.overlays.values(), self.fleet.len()));
    }

    /// The time of a blow has come again: it is over, or its next part follows.
    async fn go_on(&mut self, number: usize, now: Duration) -> Result<(), CliError> {
        let Some(ongoing) = self.ongoing.remove(&number) else { return Ok(()) };
        let Ongoing::CrashLoop(who, left) = ongoing else { return self.end(number, ongoing).await };
        let left = if self.fleet.runs(who) {
            self.kill(number, &[who]).await?;
            left.saturating_sub(1)
        } else if left > 0 {
            self.fleet.start(who, false)?;
            left
        } else {
            return self.end(number, ongoing).await;
        };
        let step = self.step(number, &ongoing);
        self.ongoing.insert(number, Ongoing::CrashLoop(who, left));
        self.agenda.push(Reverse((now + step, number)));
        Ok(())
    }

    /// How long until a blow ends or its next part comes.
    fn step(&self, number: usize, ongoing: &Ongoing) -> Duration {
        let Blow { lasts, deed, .. } = self.blows[number];
        match (ongoing, deed) {
            (Ongoing::CrashLoop(..), Deed::CrashLoop(_, lives)) => lasts / (2 * u32::from(lives.max(1))),
            _ => lasts,
        }
    }

    /// A blow is over.
    async fn end(&mut self, number: usize, ongoing: Ongoing) -> Result<(), CliError> {
        let held = match ongoing {
            Ongoing::Network => {
                self.overlays.remove(&number);
                self.set_network();
                return Ok(());
            }
            Ongoing::Stopped(agents) => {
                for agent in &agents {
                    self.fleet.resume(*agent)?;
                }
                agents
            }
            Ongoing::Full(agent) => {
                self.small_disk_is_free()?;
                vec![agent]
            }
            Ongoing::Clone(agent, mut clone) => {
                let _ = clone.kill();
                let _ = clone.reap().await;
                let _ = std::fs::remove_dir_all(self.fleet.spare(&format!("clone-{number}")));
                vec![agent]
            }
            Ongoing::OldCopy(agent, aside) => {
                self.fleet.kill(agent).await?;
                self.lose_directory(agent)?;
                let data = &self.fleet.agents[agent].data;
                copy_dir(&aside, data).map_err(|e| CliError::system("cannot put a directory back", &e, ""))?;
                let _ = std::fs::remove_dir_all(&aside);
                vec![agent]
            }
            Ongoing::Left(agent) | Ongoing::CrashLoop(agent, _) => vec![agent],
            Ongoing::Down(agents) => agents,
        };
        for agent in held {
            self.fleet.agents[agent].busy = None;
            if !self.fleet.runs(agent) {
                self.fleet.start(agent, false)?;
            }
        }
        Ok(())
    }

    fn small_disk_is_free(&self) -> Result<(), CliError> {
        self.small_disk.as_ref().map_or(Ok(()), SmallDisk::make_room)
    }
}
