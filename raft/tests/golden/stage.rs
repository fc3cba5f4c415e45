//! Stage: cores, their disks and what is on the way between them, moved by the words of a script and by nothing else.
//!
//! The words: `option entries|bytes|window N` · `nodes N ...` (voters, founded) · `node N term T log T T ...` (after
//! `voters N ...`) · `fresh N` · `campaign N` (its election timeout passes) · `tick MS` (time passes for all) ·
//! `propose N [COUNT]` · `read N` · `change N voters N ... [learners N ...]` · `transfer N [TO]` · `run` (disks and
//! messages, until all is quiet) · `deliver A B [KIND]` (the first such message) ·
//! `drop A B [KIND]` (all such) · `duplicate A B [KIND]` · `cut A B ...` (A from each) · `heal` · `hold N` / `sync N`
//! (its disk; `sync N WRITE` up to that write, and holds on) · `crash N` / `restart N` · `roll back N KEEP` (a
//! stopped disk is as it was after KEEP entries) · `rot N FROM` (a start will cut there, and know it) · `unplug N PEER` (N is told that the link is gone) · `lead N` (it campaigns, in silence
//! until it leads) · `show [N ...]` · `silently` before any of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_raft::*;

use super::words;
use crate::cluster::{MS, Micros, node, set};
use crate::machine::{Disk, Entry};

/// Rounds of disks and messages after which a `run` is endless.
const ROUNDS_MAX: usize = 200;

/// One node.
pub(super) struct Actor {
    pub(super) raft: Option<Raft>,
    pub(super) boot: BootId,
    disk: Disk,
    pub(super) log: Vec<Entry>,
    writes: VecDeque<Persist>,
    held: bool,
    known: BTreeMap<u64, BootId>,
}

#[derive(Clone)]
struct Letter {
    from: u64,
    from_boot: BootId,
    to: u64,
    message: Message,
    entries: Vec<EntryShape>,
}

#[derive(Default)]
pub(super) struct Stage {
    now: Micros,
    actors: BTreeMap<u64, Actor>,
    air: Vec<Letter>,
    cut: BTreeSet<(u64, u64)>,
    voters: Vec<u64>,
    options: Options,
    tickets: u64,
    pub(super) said: Vec<String>,
}

type Done = Result<(), String>;

fn boot(node: u64, life: u64) -> BootId {
    BootId(node * 1000 + life)
}

pub(super) fn life_of(boot: BootId) -> u64 {
    boot.0 % 1000
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

fn numbers(words: &[&str]) -> Result<Vec<u64>, String> {
    words.iter().map(|word| number(word)).collect()
}

impl Stage {
    pub(super) fn act(&mut self, command: &str) -> Done {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["option", which, value] => self.option(which, number(value)?),
            ["nodes", ref nodes @ ..] => {
                self.voters = numbers(nodes)?;
                self.voters.clone().into_iter().try_for_each(|n| self.enter(n, 1, &[]))
            }
            ["voters", ref nodes @ ..] => numbers(nodes).map(|nodes| self.voters = nodes),
            ["node", n, "term", term, "log", ref terms @ ..] => {
                let terms = numbers(terms)?;
                self.enter(number(n)?, number(term)?, &terms)
            }
            ["fresh", n] => self.raise(number(n)?, Disk::default()),
            ["campaign", n] => self.campaign(number(n)?),
            ["tick", ms] => number(ms).map(|ms| self.tick(ms)),
            ["propose", n] => self.propose(number(n)?, 1),
            ["propose", n, count] => self.propose(number(n)?, number(count)?),
            ["read", n] => {
                let ticket = self.ticket("read", n);
                self.input(number(n)?, Input::Read { ticket })
            }
            ["change", n, "voters", ref wish @ ..] => self.change(number(n)?, wish),
            ["transfer", n, ref to @ ..] => {
                let to = numbers(to)?.first().map(|to| node(*to));
                let ticket = self.ticket("transfer", n);
                self.input(number(n)?, Input::Transfer { ticket, to })
            }
            ["run"] => self.run(),
            ["silently", ref rest @ ..] => {
                let before = self.said.len();
                self.act(&rest.join(" "))?;
                self.said.truncate(before);
                Ok(())
            }
            ["lead", n] => self.lead(number(n)?),
            ["deliver", from, to, ref kind @ ..] => {
                let at = self.find(number(from)?, number(to)?, kind.first()).next().ok_or("no such message")?;
                let letter = self.air.remove(at);
                self.deliver(letter);
                Ok(())
            }
            ["drop", from, to, ref kind @ ..] => {
                let all: Vec<_> = self.find(number(from)?, number(to)?, kind.first()).collect();
                for at in all.into_iter().rev() {
                    let letter = self.air.remove(at);
                    self.lost(&letter);
                }
                Ok(())
            }
            ["duplicate", from, to, ref kind @ ..] => {
                let at = self.find(number(from)?, number(to)?, kind.first()).next().ok_or("no such message")?;
                let twin = self.air[at].clone();
                self.air.push(twin);
                Ok(())
            }
            ["cut", a, ref others @ ..] => {
                let a = number(a)?;
                for b in numbers(others)? {
                    self.cut.extend([(a, b), (b, a)]);
                }
                Ok(())
            }
            ["heal"] => {
                self.cut.clear();
                Ok(())
            }
            ["hold", n] => self.actor(number(n)?).map(|actor| actor.held = true),
            ["sync", n] => {
                let n = number(n)?;
                self.actor(n)?.held = false;
                self.sync(n, u64::MAX);
                Ok(())
            }
            ["sync", n, write] => {
                self.sync(number(n)?, number(write)?);
                Ok(())
            }
            ["crash", n] => self.crash(number(n)?),
            ["restart", n] => self.restart(number(n)?),
            ["rot", n, from] => {
                let from = LogIndex(number(from)?);
                let actor = self.actor(number(n)?)?;
                actor.disk.rot_from(from);
                actor.log.clone_from(&actor.disk.log);
                Ok(())
            }
            ["roll", "back", n, keep] => {
                let keep = number(keep)? as usize;
                let actor = self.actor(number(n)?)?;
                actor.disk.log.truncate(keep);
                actor.log.truncate(keep);
                Ok(())
            }
            ["unplug", n, peer] => self.input(number(n)?, Input::PeerDown { peer: node(number(peer)?) }),
            ["show", ref which @ ..] => {
                let which = numbers(which)?;
                let shown = self.actors.iter().filter(|(n, _)| which.is_empty() || which.contains(n));
                let pictures = shown.flat_map(|(n, actor)| words::picture(*n, actor));
                self.said.extend(pictures);
                Ok(())
            }
            _ => Err("no such command".into()),
        }
    }

    // ---- who is on the stage ----

    fn option(&mut self, which: &str, value: u64) -> Done {
        let small = u32::try_from(value).map_err(|_| "too large")?;
        match which {
            "entries" => self.options.append_entries_max = small,
            "bytes" => self.options.append_bytes_max = small,
            "window" => self.options.window_bytes = small,
            _ => return Err("no such option".into()),
        }
        Ok(())
    }

    /// A node whose disk holds the founding configuration and then entries of these terms.
    fn enter(&mut self, n: u64, term: u64, terms: &[u64]) -> Done {
        let founding = Configuration { voters: set(&self.voters), ..Configuration::default() };
        let mut log = vec![Entry { term: Term(1), kind: EntryKind::Configuration(founding), data: 0, bytes: 0 }];
        let normal = |term: &u64| Entry { term: Term(*term), kind: EntryKind::Normal, data: 0, bytes: 100 };
        log.extend(terms.iter().map(normal));
        self.raise(n, Disk { hard_state: HardState { term: Term(term), vote: None }, log, ..Disk::default() })
    }

    fn raise(&mut self, n: u64, disk: Disk) -> Done {
        let actor = Actor {
            raft: None,
            boot: boot(n, 0),
            log: disk.log.clone(),
            disk,
            writes: VecDeque::new(),
            held: false,
            known: BTreeMap::new(),
        };
        self.actors.insert(n, actor);
        self.restart(n)
    }

    fn restart(&mut self, n: u64) -> Done {
        let (now, options) = (self.clock(), self.options.clone());
        let actor = self.actor(n)?;
        actor.boot = boot(n, life_of(actor.boot) + 1);
        let saved = actor.disk.saved(LogIndex::ZERO);
        actor.raft = Some(Raft::restore(options, node(n), actor.boot, saved, actor.boot.0, now));
        self.drain(n);
        Ok(())
    }

    fn crash(&mut self, n: u64) -> Done {
        let actor = self.actor(n)?;
        actor.raft = None;
        actor.known.clear();
        actor.log = actor.disk.log.clone();
        let lost: Vec<_> = actor.writes.drain(..).map(|write| format!("#{}", write.ticket)).collect();
        if !lost.is_empty() {
            self.said.push(format!("{n} loses {}", lost.join(", ")));
        }
        Ok(())
    }

    fn actor(&mut self, n: u64) -> Result<&mut Actor, String> {
        self.actors.get_mut(&n).ok_or_else(|| format!("no node {n}"))
    }

    fn clock(&self) -> Now {
        Now { mono: Mono(self.now), wall: Wall(0) }
    }

    // ---- what the world does to them ----

    fn input(&mut self, n: u64, input: Input) -> Done {
        let clock = self.clock();
        let raft = self.actor(n)?.raft.as_mut().ok_or("it is down")?;
        raft.handle(clock, input);
        self.drain(n);
        Ok(())
    }

    fn ticket(&mut self, what: &str, at: &str) -> Ticket {
        self.tickets += 1;
        self.said.push(format!("{at} is asked: {what}, ticket {}", self.tickets));
        Ticket(self.tickets)
    }

    fn campaign(&mut self, n: u64) -> Done {
        let due = self.actor(n)?.raft.as_ref().and_then(Raft::poll_timeout).ok_or("it waits for nothing")?;
        self.now = self.now.max(due.0);
        self.input(n, Input::Timeout)
    }

    fn tick(&mut self, ms: u64) {
        self.now += ms * MS;
        let is_due =
            |actor: &Actor| actor.raft.as_ref().and_then(Raft::poll_timeout).is_some_and(|at| at.0 <= self.now);
        let due: Vec<u64> = self.actors.iter().filter(|(_, actor)| is_due(actor)).map(|(n, _)| *n).collect();
        for n in due {
            self.input(n, Input::Timeout).expect("it runs");
        }
    }

    /// All of them before the core is asked for orders, as a caller with a full queue does.
    fn propose(&mut self, n: u64, count: u64) -> Done {
        let clock = self.clock();
        for _ in 0..count {
            let ticket = self.ticket("propose", &n.to_string());
            let raft = self.actor(n)?.raft.as_mut().ok_or("it is down")?;
            raft.handle(clock, Input::Propose { ticket, bytes: 100, term: None });
        }
        self.drain(n);
        Ok(())
    }

    fn change(&mut self, n: u64, wish: &[&str]) -> Done {
        let (voters, learners) = match wish.iter().position(|word| *word == "learners") {
            Some(at) => (&wish[..at], &wish[at + 1..]),
            None => (wish, &[][..]),
        };
        let (voters, learners) = (set(&numbers(voters)?), set(&numbers(learners)?));
        let expected = self.actor(n)?.raft.as_ref().ok_or("it is down")?.configuration_index();
        let ticket = self.ticket("change", &n.to_string());
        self.input(n, Input::Change { ticket, expected, voters, learners })
    }

    /// Disks first, then all that is on the way, and so on until nothing moves.
    fn run(&mut self) -> Done {
        for _ in 0..ROUNDS_MAX {
            let all: Vec<u64> = self.actors.keys().copied().collect();
            let syncs = all.into_iter().filter(|n| !self.actors[n].held && self.sync(*n, u64::MAX)).count();
            let letters = std::mem::take(&mut self.air);
            if syncs + letters.len() == 0 {
                return Ok(());
            }
            letters.into_iter().for_each(|letter| self.deliver(letter));
        }
        Err("it does not come to rest".into())
    }

    /// Until it leads and not a step further: what it does as a leader is told.
    fn lead(&mut self, n: u64) -> Done {
        let before = self.said.len();
        self.campaign(n)?;
        for _ in 0..ROUNDS_MAX {
            let all: Vec<u64> = self.actors.keys().copied().collect();
            for at in all {
                let _ = !self.actors[&at].held && self.sync(at, u64::MAX);
            }
            for _ in 0..self.air.len() {
                self.said.truncate(before);
                let letter = self.air.remove(0);
                self.deliver(letter);
                if self.actor(n)?.raft.as_ref().is_some_and(Raft::is_leader) {
                    return Ok(());
                }
            }
        }
        Err("it does not come to lead".into())
    }

    /// Everything written up to that write is durable. False if nothing was waiting.
    fn sync(&mut self, n: u64, upto: u64) -> bool {
        let actor = self.actors.get_mut(&n).expect("a node of this stage");
        let mut done = None;
        while actor.writes.front().is_some_and(|write| write.ticket.0 <= upto) {
            if let Some(write) = actor.writes.pop_front() {
                actor.disk.apply(&write, &entries_of(&write));
                done = Some(write.ticket);
            }
        }
        let Some(ticket) = done else { return false };
        self.said.push(format!("{} has #{ticket} on disk", words::name(n, self.actors[&n].boot)));
        self.input(n, Input::Persisted { ticket }).expect("it runs");
        true
    }

    fn find(&self, from: u64, to: u64, kind: Option<&&str>) -> impl Iterator<Item = usize> {
        let fits = move |letter: &Letter| {
            (letter.from, letter.to) == (from, to) && kind.is_none_or(|kind| *kind == letter.message.kind())
        };
        let all: Vec<_> = self.air.iter().enumerate().filter(|(_, l)| fits(l)).map(|(at, _)| at).collect();
        all.into_iter()
    }

    fn lost(&mut self, letter: &Letter) {
        self.said.push(format!("{} -> {} is lost: {}", letter.from, letter.to, letter.message.kind()));
    }

    fn deliver(&mut self, letter: Letter) {
        let is_up = self.actors.get(&letter.to).is_some_and(|actor| actor.raft.is_some());
        if !is_up || self.cut.contains(&(letter.from, letter.to)) {
            return self.lost(&letter);
        }
        let Letter { from, from_boot, to, message, entries } = letter;
        // A live link begins with Hello: each side learns the other's life.
        if self.actors[&from].boot == from_boot && self.actors[&from].raft.is_some() {
            self.hello(from, to);
            self.hello(to, from);
        }
        let (hears, says) = (words::name(to, self.actors[&to].boot), words::name(from, from_boot));
        self.said.push(format!("{hears} hears {says}: {}", message.kind()));
        self.input(to, Input::Message { from: node(from), message, entries }).expect("it runs");
    }

    fn hello(&mut self, to: u64, peer: u64) {
        let boot = self.actors[&peer].boot;
        let actor = self.actors.get_mut(&to).expect("a node of this stage");
        if actor.known.insert(peer, boot) != Some(boot) {
            self.input(to, Input::PeerUp { peer: node(peer), boot }).expect("it runs");
        }
    }

    // ---- what they ask for ----

    fn drain(&mut self, n: u64) {
        while let Some(output) = self.actors.get_mut(&n).and_then(|actor| actor.raft.as_mut()?.poll_output()) {
            self.obey(n, output);
        }
    }

    fn obey(&mut self, n: u64, output: Output) {
        let actor = self.actors.get_mut(&n).expect("a node of this stage");
        let me = words::name(n, actor.boot);
        let Some(raft) = &actor.raft else { return };
        let line = match output {
            Output::Persist(write) => {
                if let Some(from) = write.truncate_from {
                    actor.log.truncate(from.0 as usize - 1);
                }
                actor.log.extend(entries_of(&write));
                let line = words::write(&write);
                actor.writes.push_back(write);
                format!("{me} {line}")
            }
            Output::Send { to, message } => {
                let line = format!("{me} -> {}: {}", to.get(), words::message(&message));
                let range = message.entries().map_or(1..1, |(first, last)| first.0..last.0 + 1);
                let shape = |index: u64| {
                    let entry = &actor.log[index as usize - 1];
                    let position = Position { index: LogIndex(index), term: entry.term };
                    EntryShape { position, kind: entry.kind.clone(), bytes: entry.bytes }
                };
                let entries = range.map(shape).collect();
                self.air.push(Letter { from: n, from_boot: actor.boot, to: to.get(), message, entries });
                line
            }
            Output::Committed { index } => format!("{me} commits up to {index}"),
            Output::Accepted { ticket, position } => format!("{me} takes ticket {ticket} at {}", words::at(position)),
            Output::Done { ticket, outcome } => format!("{me} says: ticket {ticket} {}", words::outcome(outcome)),
            Output::ReadReady { ticket, index } => {
                format!("{me} says: ticket {ticket} may be served once {index} is applied")
            }
            Output::RoleChanged => format!("{me} {}", words::role(raft)),
            Output::ConfigurationChanged => format!("{me} has {}", words::configuration(raft.configuration())),
            Output::Alarm { from, what, .. } if from.get() == n => format!("{me} warns of itself: {what}"),
            Output::Alarm { from, what, .. } => format!("{me} warns of {}: {what}", from.get()),
            Output::Halted(why) => format!("{me} stops: {why:?}"),
        };
        self.said.push(line);
    }
}

fn entries_of(write: &Persist) -> Vec<Entry> {
    let entry =
        |shape: &EntryShape| Entry { term: shape.position.term, kind: shape.kind.clone(), data: 0, bytes: shape.bytes };
    write.append.iter().map(entry).collect()
}
