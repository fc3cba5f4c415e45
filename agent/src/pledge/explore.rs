//! Explore: every state that the protocol can reach with a few agents and a bounded number of faults, one by one.
//!
//! It drives the production `Member` and `Sight`; what it makes up is only the world around them. It knows no time: whatever
//! a clock could bring about may happen at any moment.
//!
//! # The world
//! Machines are started in any order. What was told once may reach anybody at any later time, any number of times, in any
//! order, or never. A crash takes what was not saved; a wipe takes all, and the machine comes back as another node. Whoever
//! looks around sees others as they are, or does not see them at all ([`Looking::True`]); or nobody looks, and any three may
//! be proposed at any moment ([`Looking::Blind`]), which is what the promise about shared founders must bear.
//!
//! # The promises
//! - No two logs are ever founded that share a founder. Where agents look before they pledge: no two at all.
//! - From a state, without further faults, all agents come to be of one log ([`Bounds::probe_every`]).

use super::content::Founder;
use super::keys::SymbolicKeys;
use super::member::Member;
use super::proposal::ProposalId;
use super::record::Record;
use super::report::Report;
use super::scene::{Heard, Scene, Sight};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const CLUSTER: [u8; 16] = *b"explored cluster";
const RECORD_BYTES_MAX: u64 = 1 << 20;
/// Rounds of everybody telling everybody that a probe may take.
const PROBE_ROUNDS: usize = 60;

/// Steps of one walk.
const WALK_STEPS: usize = 120;
/// Walks in each world in one turn of a search for a deliberate bug, and turns.
const HUNT_WALKS: u64 = 500;
const HUNT_TURNS: u64 = 40;

/// What agents see of each other before they found a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looking {
    /// What is so at that moment, except of those who do not answer.
    True,
    /// Nothing: any set of founders may be proposed and agreed to at any time.
    Blind,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Machines.
    pub machines: usize,
    /// How many each expects.
    pub expect: usize,
    /// Crashes in all.
    pub crashes: u8,
    /// Disks lost in all.
    pub wipes: u8,
    /// Times that somebody loses patience.
    pub call_offs: u8,
    /// What is seen.
    pub looking: Looking,
    /// A wiped machine comes back with a lower id than all others, not a higher one.
    pub reborn_low: bool,
    /// States after which the search ends unfinished.
    pub states_max: usize,
    /// From one state in so many, see whether a group forms; 0 for none.
    pub probe_every: u64,
}

/// What a search has shown.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: u64,
    /// The longest shortest way to one of them.
    pub depth: u32,
    /// States in which a log is founded.
    pub founded: u64,
    /// States from which a group was seen to form.
    pub formed: u64,
    /// States that need a person, since most founders of an open proposal have lost their disks.
    pub blocked: u64,
    /// Every state within the bounds was seen.
    pub is_whole: bool,
    /// The first promise that was broken, and how it came to that.
    pub violation: Option<String>,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Start(u8),
    Propose(u8),
    Deliver { to: u8, from: u64 },
    CallOff(u8),
    Join(u8),
    Crash(u8),
    CrashUnsaved(u8),
    Wipe(u8),
}

#[derive(Clone)]
struct Machine {
    member: Member,
    up: bool,
    print: u64,
}

#[derive(Clone)]
struct Told {
    from: u64,
    report: Report,
    print: u64,
}

#[derive(Clone)]
struct State {
    machines: Vec<Arc<Machine>>,
    /// Ascending by print.
    told: Arc<Vec<Arc<Told>>>,
    logs: Arc<BTreeMap<ProposalId, BTreeSet<u64>>>,
    crashes: u8,
    wipes: u8,
    call_offs: u8,
    depth: u32,
}

fn print_of(what: &impl Hash) -> u64 {
    let mut hasher = Xxh3::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Machine {
    fn new(member: Member, up: bool) -> Self {
        let print = print_of(&(member.me().node, member.record(), member.log(), up));
        Self { member, up, print }
    }
}

fn member_of(machine: usize, node: u64, expect: usize, record: Record, log: Option<[u8; 16]>) -> Member {
    let keys = SymbolicKeys(node);
    let me = Founder { node, key: super::keys::Keys::public(&keys), name: format!("m{machine}") };
    let mut member = Member::restore(Arc::new(keys), me, CLUSTER, (expect, RECORD_BYTES_MAX), record, log);
    save(&mut member);
    member
}

fn save(member: &mut Member) {
    if let Some((change, _)) = member.poll_save() {
        member.saved(change);
    }
}

impl State {
    fn first(bounds: &Bounds) -> Self {
        let machine = |at: usize| {
            let node = 100 + at as u64;
            Arc::new(Machine::new(member_of(at, node, bounds.expect, Record::default(), None), false))
        };
        Self {
            machines: (0..bounds.machines).map(machine).collect(),
            told: Arc::default(),
            logs: Arc::default(),
            crashes: bounds.crashes,
            wipes: bounds.wipes,
            call_offs: bounds.call_offs,
            depth: 0,
        }
    }

    fn print(&self) -> u128 {
        let mut hasher = Xxh3::new();
        for machine in &self.machines {
            hasher.write_u64(machine.print);
        }
        for told in self.told.iter() {
            hasher.write_u64(told.print);
        }
        hasher.write(&[self.crashes, self.wipes, self.call_offs]);
        hasher.digest128()
    }

    fn tell(&mut self, from: u64, report: Report) {
        let print = print_of(&(from, &report));
        if let Err(at) = self.told.binary_search_by_key(&print, |t| t.print) {
            Arc::make_mut(&mut self.told).insert(at, Arc::new(Told { from, report, print }));
        }
    }

    /// Puts a member back after a step: what it decided is founded, and what is durable is told.
    fn settle(&mut self, at: usize, mut member: Member) {
        save(&mut member);
        if let Some(proposal) = member.founds().cloned() {
            let founders = proposal.founders().iter().map(|f| f.node).collect();
            Arc::make_mut(&mut self.logs).insert(proposal.id(), founders);
            member.joined(proposal.id());
            save(&mut member);
        }
        if let Some(report) = member.report().filter(|r| r.pledge.is_some()) {
            self.tell(member.me().node, Report { expect: 0, floor: 0, log: None, ..report });
        }
        self.put(at, member, true);
    }

    fn put(&mut self, at: usize, member: Member, up: bool) {
        if let Some(machine) = self.machines.get_mut(at) {
            *machine = Arc::new(Machine::new(member, up));
        }
    }

    /// Whom a machine may fail to see: nobody, one, or two, which are too many for a group of three.
    fn hidden(&self) -> impl Iterator<Item = u32> + use<> {
        (0_u32..1 << self.machines.len()).filter(|set| set.count_ones() <= 2)
    }

    /// What this machine sees if it does not see these others.
    fn scene(&self, at: usize, hidden: u32) -> (Scene, BTreeMap<u64, Heard>) {
        let (mut scene, mut reports) = (Scene::default(), BTreeMap::new());
        for (other, machine) in self.machines.iter().enumerate().filter(|(other, _)| *other != at) {
            let (name, node) = (machine.member.me().name.clone(), machine.member.me().node);
            match machine.member.report().filter(|_| machine.up && hidden & (1 << other) == 0) {
                Some(report) => {
                    scene.peers.insert(node, name.clone());
                    reports.insert(node, Heard { name, report });
                }
                None => scene.silent.push(name),
            }
        }
        (scene, reports)
    }

    /// May this machine pledge itself, if it is lucky in what it does not see?
    fn may_found(&self, at: usize, toward: &ProposalId, looking: Looking) -> bool {
        looking == Looking::Blind
            || self.hidden().any(|hidden| {
                let (scene, reports) = self.scene(at, hidden);
                let member = &self.machines[at].member;
                Sight { member, scene: &scene, reports: &reports }.may_found(Some(toward))
            })
    }

    /// Who may be proposed by this machine now, and the floor that it has heard of.
    fn proposals(&self, at: usize, looking: Looking) -> Vec<(Vec<Founder>, u64)> {
        let member = &self.machines[at].member;
        let mut all: Vec<(Vec<Founder>, u64)> = Vec::new();
        match looking {
            Looking::True => {
                for hidden in self.hidden() {
                    let (scene, reports) = self.scene(at, hidden);
                    all.extend(Sight { member, scene: &scene, reports: &reports }.founders());
                }
            }
            Looking::Blind if member.is_free() => {
                let everyone: Vec<&Founder> = self.machines.iter().map(|m| m.member.me()).collect();
                let floor = member.record().floor;
                for set in 0_u32..1 << everyone.len() {
                    if set.count_ones() as usize == member.expect() && set & (1 << at) != 0 {
                        let chosen = everyone.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0);
                        let chosen: Vec<Founder> = chosen.map(|(_, f)| (*f).clone()).collect();
                        // In this round or one later: who does not look knows nothing of rounds either.
                        all.extend([floor, floor + 1].map(|floor| (chosen.clone(), floor)));
                    }
                }
            }
            Looking::Blind => {}
        }
        all.sort();
        all.dedup();
        all
    }

    /// Every state one step from here.
    fn next(&self, bounds: &Bounds, mut found: impl FnMut(Step, State)) {
        (0..self.machines.len()).for_each(|at| self.next_of(at, bounds, &mut found));
    }

    /// Every state one step of this machine from here.
    fn next_of(&self, at: usize, bounds: &Bounds, found: &mut impl FnMut(Step, State)) {
        let machine = &self.machines[at];
        if machine.up {
            self.moves(at, bounds, found);
            return self.faults(at, bounds, found);
        }
        let mut next = self.clone();
        next.put(at, reread(at, &machine.member), true);
        found(Step::Start(at as u8), next);
    }

    fn moves(&self, at: usize, bounds: &Bounds, found: &mut impl FnMut(Step, State)) {
        let member = &self.machines[at].member;
        for (founders, floor) in self.proposals(at, bounds.looking) {
            let mut changed = member.clone();
            changed.propose(founders, floor);
            self.after(at, changed, Step::Propose(at as u8), found);
        }
        for told in self.told.iter().filter(|told| told.from != member.me().node) {
            let toward = told.report.pledge.as_ref().map(|(p, _)| p.id());
            let asks = toward.filter(|_| member.is_free());
            let may_found = asks.is_some_and(|id| self.may_found(at, &id, bounds.looking));
            let mut changed = member.clone();
            let answer = changed.hear(told.from, &told.report, may_found);
            let step = Step::Deliver { to: at as u8, from: told.from };
            if let Some(never) = answer.never.filter(|_| changed.changes() == member.changes()) {
                let mut next = self.clone();
                if let Some(report) = member.report() {
                    next.tell(
                        member.me().node,
                        Report { pledge: None, never: Some(never), expect: 0, floor: 0, log: None, ..report },
                    );
                }
                found(step, next);
            }
            self.after(at, changed, step, found);
        }
        if member.open().is_some() && self.call_offs > 0 {
            let mut changed = member.clone();
            changed.call_off();
            let mut before = self.clone();
            before.call_offs -= 1;
            before.after(at, changed, Step::CallOff(at as u8), found);
        }
        let log = self.machines.iter().filter(|m| m.up).find_map(|m| m.member.log());
        if let Some(log) = log.filter(|_| member.log().is_none() && member.record().pledge.is_none()) {
            let mut changed = member.clone();
            changed.joined(log);
            let mut next = self.clone();
            next.put(at, changed, true);
            found(Step::Join(at as u8), next);
        }
    }

    fn after(&self, at: usize, changed: Member, step: Step, found: &mut impl FnMut(Step, State)) {
        if changed.changes() == self.machines[at].member.changes() {
            return;
        }
        // What was told before it was saved outlives the crash that takes it. Sound code tells nothing then.
        if let Some(report) = changed.report().filter(|_| self.crashes > 0) {
            let mut next = self.clone();
            next.crashes -= 1;
            next.tell(changed.me().node, Report { expect: 0, floor: 0, log: None, ..report });
            next.put(at, self.machines[at].member.clone(), false);
            found(Step::CrashUnsaved(at as u8), next);
        }
        let mut next = self.clone();
        next.settle(at, changed);
        found(step, next);
    }

    fn faults(&self, at: usize, bounds: &Bounds, found: &mut impl FnMut(Step, State)) {
        let member = &self.machines[at].member;
        if self.crashes > 0 {
            let mut next = self.clone();
            next.crashes -= 1;
            next.put(at, member.clone(), false);
            found(Step::Crash(at as u8), next);
        }
        if self.wipes > 0 {
            let mut next = self.clone();
            next.wipes -= 1;
            let node = if bounds.reborn_low { 10 + u64::from(next.wipes) } else { 1000 - u64::from(next.wipes) };
            next.put(at, member_of(at, node, bounds.expect, Record::default(), None), true);
            found(Step::Wipe(at as u8), next);
        }
    }

    fn broken(&self, looking: Looking) -> Option<String> {
        let mut seen = BTreeSet::new();
        let shared = self.logs.values().flatten().find(|node| !seen.insert(**node));
        if let Some(node) = shared {
            return Some(format!("two logs were founded, and node {node} is a founder of both"));
        }
        (looking == Looking::True && self.logs.len() > 1).then(|| "two logs were founded".into())
    }

    /// Everybody is up, sees all others and hears all they say: do all come to be of one log? An error says why not.
    fn forms(mut self) -> Result<(), String> {
        for at in 0..self.machines.len() {
            let member = reread(at, &self.machines[at].member);
            self.settle(at, member);
        }
        for round in 0..PROBE_ROUNDS {
            let logs: BTreeSet<_> = self.machines.iter().map(|m| m.member.log()).collect();
            if logs.len() == 1 && !logs.contains(&None) {
                return Ok(());
            }
            for at in 0..self.machines.len() {
                self.probe(at, round % 10 == 9);
            }
            if let Some(broken) = self.broken(Looking::True) {
                return Err(broken);
            }
        }
        let picture: Vec<String> = self.machines.iter().map(|m| picture(&m.member)).collect();
        Err(format!("nothing formed: {}", picture.join(", ")))
    }

    /// One turn of one machine in a calm world.
    fn probe(&mut self, at: usize, loses_patience: bool) {
        let mut member = self.machines[at].member.clone();
        let (scene, reports) = self.scene(at, 0);
        for (from, heard) in &reports {
            let toward = heard.report.pledge.as_ref().map(|(p, _)| p.id());
            let sight = Sight { member: &member, scene: &scene, reports: &reports };
            let may_found = toward.is_some_and(|id| sight.may_found(Some(&id)));
            let answer = member.hear(*from, &heard.report, may_found);
            save(&mut member);
            let asker = self.machines.iter().position(|m| m.member.me().node == *from);
            if let (Some(never), Some(asker), Some(report)) = (answer.never, asker, member.report()) {
                let mut told = self.machines[asker].member.clone();
                told.hear(member.me().node, &Report { never: Some(never), pledge: None, ..report }, false);
                self.settle(asker, told);
            }
        }
        let log = self.machines.iter().find_map(|m| m.member.log());
        if let (Some(log), None, None) = (log, &member.record().pledge, member.log()) {
            member.joined(log);
        }
        let (scene, reports) = self.scene(at, 0);
        if let Some((founders, floor)) = (Sight { member: &member, scene: &scene, reports: &reports }).founders() {
            member.propose(founders, floor);
        }
        if loses_patience {
            member.call_off();
        }
        self.settle(at, member);
    }

    /// Is there an open proposal most of whose founders are gone for good?
    fn is_blocked(&self) -> bool {
        let there = |node: u64| self.machines.iter().any(|m| m.member.me().node == node);
        self.machines.iter().filter_map(|m| m.member.open()).any(|open| {
            let left = open.proposal.founders().iter().filter(|f| there(f.node)).count();
            left < open.proposal.quorum()
        })
    }
}

fn reread(at: usize, member: &Member) -> Member {
    member_of(at, member.me().node, member.expect(), member.record().clone(), member.log())
}

fn picture(member: &Member) -> String {
    let (node, record) = (member.me().node, member.record());
    match (&record.pledge, member.log()) {
        (_, Some(log)) => format!("{node} is of log {}", hex::encode(&log[..2])),
        (Some(p), None) => {
            let founders: Vec<u64> = p.proposal.founders().iter().map(|f| f.node).collect();
            let said = p.words.decided(p.proposal.quorum());
            format!("{node} is pledged to {founders:?} in round {} ({said:?})", p.proposal.round())
        }
        (None, None) => format!("{node} is free above {}", record.floor),
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, founded, formed, blocked, is_whole, .. } = self;
        let end = if *is_whole { "all of them" } else { "not all of them" };
        write!(f, "{states} states ({end}), {steps} steps, depth {depth}, {founded} with a log; ")?;
        write!(f, "of those tried without further faults {formed} formed, {blocked} need a person")
    }
}

/// Walks through every state within the bounds, breadth first, until a promise is broken.
#[must_use]
pub fn explore(bounds: &Bounds) -> Explored {
    let mut explored = Explored::default();
    let first = State::first(bounds);
    let mut seen: HashMap<u128, (u128, Option<Step>)> = HashMap::from([(first.print(), (0, None))]);
    let mut line = VecDeque::from([first]);
    while let Some(state) = line.pop_front() {
        let print = state.print();
        explored.depth = explored.depth.max(state.depth);
        explored.founded += u64::from(!state.logs.is_empty());
        let mut broken = state.broken(bounds.looking);
        if broken.is_none() && bounds.probe_every > 0 && (print as u64).is_multiple_of(bounds.probe_every) {
            match state.clone().forms() {
                Ok(()) => explored.formed += 1,
                Err(_) if state.is_blocked() => explored.blocked += 1,
                Err(why) => broken = Some(why),
            }
        }
        if let Some(what) = broken {
            let way: Vec<String> = way(&seen, print).iter().map(|step| format!("{step:?}")).collect();
            explored.violation = Some(format!("{what}; after {}", way.join(", ")));
            break;
        }
        let mut room = seen.len() < bounds.states_max;
        state.next(bounds, |step, mut next| {
            explored.steps += 1;
            next.depth = state.depth + 1;
            if room && let std::collections::hash_map::Entry::Vacant(place) = seen.entry(next.print()) {
                place.insert((print, Some(step)));
                line.push_back(next);
            }
        });
        room = seen.len() < bounds.states_max;
        if !room {
            // What is known is still looked at; nothing new is taken up.
            line.iter().find_map(|state| state.broken(bounds.looking)).into_iter().for_each(|what| {
                explored.violation = Some(what);
            });
            explored.states = seen.len();
            return explored;
        }
    }
    explored.states = seen.len();
    explored.is_whole = explored.violation.is_none();
    explored
}

/// Walks at random, each from the beginning and far deeper than a search comes, until a promise is broken.
#[must_use]
pub fn wander(bounds: &Bounds, walks: u64, seed: u64) -> Explored {
    let mut explored = Explored::default();
    for walk in 0..walks {
        let mut random = seed.wrapping_add(walk).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |n: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % n.max(1)
        };
        let (mut state, mut way) = (State::first(bounds), Vec::new());
        for _ in 0..WALK_STEPS {
            let at = draw(state.machines.len());
            let mut ways: Vec<(Step, State)> = Vec::new();
            state.next_of(at, bounds, &mut |step, next| ways.push((step, next)));
            // What changes nothing leads nowhere.
            ways.retain(|(_, next)| next.print() != state.print());
            if ways.is_empty() {
                continue;
            }
            let (step, next) = ways.swap_remove(draw(ways.len()));
            (state, explored.steps) = (next, explored.steps + 1);
            way.push(format!("{step:?}"));
            explored.depth = explored.depth.max(way.len() as u32);
            if let Some(what) = state.broken(bounds.looking) {
                explored.violation = Some(format!("{what}; after {}", way.join(", ")));
                return explored;
            }
        }
        explored.founded += u64::from(!state.logs.is_empty());
        if bounds.probe_every > 0 {
            match state.clone().forms() {
                Ok(()) => explored.formed += 1,
                Err(_) if state.is_blocked() => explored.blocked += 1,
                Err(what) => {
                    explored.violation = Some(format!("{what}; after {}", way.join(", ")));
                    return explored;
                }
            }
        }
    }
    explored
}

/// Looks for a deliberate bug: after how many steps of how many walks it was found, and how.
#[must_use]
pub fn hunt() -> Option<(usize, String)> {
    let bounds = |machines, looking| Bounds {
        machines,
        expect: 3,
        crashes: 2,
        wipes: 1,
        call_offs: 3,
        looking,
        reborn_low: true,
        states_max: 0,
        probe_every: 0,
    };
    let worlds = [(3, Looking::Blind), (4, Looking::Blind), (5, Looking::Blind), (5, Looking::True)];
    let mut steps = 0;
    for turn in 0..HUNT_TURNS {
        for (machines, looking) in worlds {
            let wandered = wander(&bounds(machines, looking), HUNT_WALKS, 1 + turn * HUNT_WALKS);
            steps += wandered.steps;
            if let Some(what) = wandered.violation {
                return Some((steps as usize, what));
            }
        }
    }
    None
}

fn way(seen: &HashMap<u128, (u128, Option<Step>)>, mut print: u128) -> Vec<Step> {
    let mut way = Vec::new();
    while let Some((before, Some(step))) = seen.get(&print) {
        way.push(*step);
        print = *before;
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick() -> Bounds {
        Bounds {
            machines: 4,
            expect: 3,
            crashes: 1,
            wipes: 1,
            call_offs: 1,
            looking: Looking::True,
            reborn_low: false,
            states_max: 40_000,
            probe_every: 50,
        }
    }

    #[test]
    fn no_two_logs_and_always_one_in_the_end() {
        for reborn_low in [false, true] {
            let explored = explore(&Bounds { reborn_low, ..quick() });
            println!("looking, {explored}");
            assert_eq!(explored.violation, None);
            assert!(explored.founded > 0 && explored.formed > 0, "{explored}");
        }
        let explored = explore(&Bounds { looking: Looking::Blind, probe_every: 0, ..quick() });
        println!("blind, {explored}");
        assert_eq!(explored.violation, None);
    }

    #[test]
    fn walks_far_from_the_beginning_end_well_too() {
        for (looking, probe_every, least) in [(Looking::True, 1, 50), (Looking::Blind, 0, 1)] {
            let far = Bounds { machines: 5, crashes: 2, call_offs: 3, looking, probe_every, ..quick() };
            let wandered = wander(&far, 100, 7);
            println!("{looking:?}, {wandered}");
            assert_eq!(wandered.violation, None);
            assert!(wandered.founded >= least, "{wandered}");
        }
    }

    /// One deliberate bug as part of a quick test run; the table of `examples/mutants.rs` has all.
    #[cfg(feature = "mutants")]
    #[test]
    fn a_deliberate_bug_is_caught() {
        use quorate_raft::mutants::{Mutant, choose};
        choose(Some(Mutant::PledgeTwice));
        assert!(hunt().is_some());
        choose(None);
    }
}
