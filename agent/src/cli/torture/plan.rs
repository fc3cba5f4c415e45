//! What will be done to a cluster, and when: drawn from the seed before anything starts, and printed.
//!
//! It never looks at the cluster: "the leader" is whoever leads when the moment has come.

use super::draw::Draw;
use super::link::Policy;
use std::fmt;
use std::time::Duration;

/// The cluster gets so long in peace before the first blow.
const PEACE: Duration = Duration::from_secs(1);
/// Between two rounds of blows: some rounds come upon a cluster that has not yet recovered from the one before.
const CALM_MS: (u64, u64) = (200, 4_000);
/// How long a blow lasts, in milliseconds.
const LASTS_MS: (u64, u64) = (50, 30_000);
/// No blow takes a larger share of the whole time than this.
const SHARE_MAX: u32 = 6;
/// A run that is shorter has no time for what costs a seat for half a minute.
const LONG_ENOUGH: Duration = Duration::from_secs(90);

/// Whom a blow is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The agent of this number, from 0 on.
    Nth(usize),
    /// Whoever leads then.
    Leader,
}

/// How a network falls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The agents of the lower numbers, so many, and the others do not hear each other.
    Halves(usize),
    /// One hears nobody and nobody hears it.
    Isolate(Who),
    /// Two halves, and one that hears both.
    Bridge(usize),
    /// One hears everybody and nobody hears it.
    Mute(Who),
    /// Everybody hears one and it hears nobody.
    Deaf(Who),
    /// One is isolated every other while.
    Flap(Who, u32),
}

/// What is damaged in the files of a stopped agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// So many single bits.
    Flip(u8),
    /// So many bytes become zero.
    Zero(u32),
}

/// One thing that is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// `kill -9`, and a start when it is over.
    Kill(Who),
    /// `kill -9` of all, one right after the other, and a start of all.
    KillAll,
    /// `kill -9` and a start, so often.
    CrashLoop(Who, u8),
    /// SIGSTOP and SIGCONT.
    Pause(Who),
    /// SIGSTOP and SIGCONT of all.
    PauseAll,
    /// SIGTERM, and a start when it is over.
    Restart(Who),
    /// Leadership is handed over.
    Transfer,
    /// A partition.
    Cut(Cut),
    /// All links, of clients too, are bad in this way.
    Weather(Policy),
    /// All links of one agent are.
    BadCable(usize, Policy),
    /// It leaves for good, and joins again as a new node.
    Leave(Who),
    /// Its directory is lost, and it starts with an empty one.
    Wipe(Who),
    /// A second process starts on a copy of its directory while it lives.
    Clone(usize),
    /// It starts from a copy of its directory that is some boots old.
    Rollback(usize),
    /// Bytes of its files are damaged while it is stopped.
    Damage(Who, Harm),
    /// All are stopped, and each one's log is damaged somewhere else.
    Helical(Harm),
    /// The disk of the agent that has a small one is full until it is over.
    DiskFull,
}

/// The names of deeds, as they are counted and switched.
pub(super) const NAMES: [&str; 17] = [
    "kill",
    "kill_all",
    "crash_loop",
    "pause",
    "pause_all",
    "restart",
    "transfer",
    "partition",
    "weather",
    "bad_cable",
    "leave",
    "wipe",
    "clone",
    "rollback",
    "damage",
    "helical",
    "disk_full",
];

impl Deed {
    /// One of [`NAMES`].
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::KillAll => "kill_all",
            Self::CrashLoop(..) => "crash_loop",
            Self::Pause(_) => "pause",
            Self::PauseAll => "pause_all",
            Self::Restart(_) => "restart",
            Self::Transfer => "transfer",
            Self::Cut(_) => "partition",
            Self::Weather(_) => "weather",
            Self::BadCable(..) => "bad_cable",
            Self::Leave(_) => "leave",
            Self::Wipe(_) => "wipe",
            Self::Clone(_) => "clone",
            Self::Rollback(_) => "rollback",
            Self::Damage(..) => "damage",
            Self::Helical(_) => "helical",
            Self::DiskFull => "disk_full",
        }
    }

    /// May it destroy what an agent has acknowledged? One of these at a time.
    pub(super) fn wounds(&self) -> bool {
        matches!(self, Self::Leave(_) | Self::Wipe(_) | Self::Rollback(_) | Self::Damage(..) | Self::Helical(_))
    }

    /// What must happen while nothing else does, or it would mean something else.
    fn is_alone(&self) -> bool {
        matches!(self, Self::Clone(_) | Self::Rollback(_) | Self::Helical(_))
    }

    /// What takes a seat away for half a minute.
    fn is_slow(&self) -> bool {
        matches!(self, Self::Leave(_) | Self::Wipe(_) | Self::Rollback(_))
    }
}

/// A deed at its time, from the beginning of the run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blow {
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) deed: Deed,
}

/// All that will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// By time.
    pub(super) blows: Vec<Blow>,
}

impl Plan {
    /// For `span` and a cluster of `nodes`; `without`: names of deeds that shall not happen.
    pub(super) fn draw(mut draw: Draw, span: Duration, nodes: usize, without: &[String]) -> Self {
        let allowed = |deed: &Deed| !without.iter().any(|name| name == deed.name());
        let (mut light, mut heavy) = (Deck::new(light_ones), Deck::new(heavy_ones));
        let longest = (span / SHARE_MAX).as_millis() as u64;
        let mut blows = Vec::new();
        let mut at = PEACE;
        for round in 0.. {
            let mut deeds = Vec::new();
            // Every other round has something heavy in it.
            if round % 2 == 0 {
                let fits = |deed: &Deed| allowed(deed) && (span >= LONG_ENOUGH || !deed.is_slow());
                deeds.extend(heavy.deal(&mut draw, nodes, fits));
            }
            let more = draw.below(3);
            while !deeds.first().is_some_and(Deed::is_alone) && deeds.len() as u64 <= more {
                let Some(deed) = light.deal(&mut draw, nodes, allowed) else { break };
                deeds.push(deed);
            }
            if deeds.is_empty() {
                break;
            }
            let mut end = at;
            for deed in deeds {
                let lasts = Duration::from_millis(draw.log_between(LASTS_MS.0, LASTS_MS.1.min(longest)));
                let at = at + Duration::from_millis(draw.below(500));
                end = end.max(at + lasts);
                blows.push(Blow { at, lasts, deed });
            }
            at = end + Duration::from_millis(draw.log_between(CALM_MS.0, CALM_MS.1));
            if at >= span {
                break;
            }
        }
        blows.retain(|blow| blow.at < span);
        blows.sort_by_key(|blow| blow.at);
        Self { blows }
    }
}

/// Deeds in a random order; each comes once before any comes again, so that a short run sees many kinds.
struct Deck {
    fresh: fn(&mut Draw, usize) -> Vec<Deed>,
    cards: Vec<Deed>,
}

impl Deck {
    fn new(fresh: fn(&mut Draw, usize) -> Vec<Deed>) -> Self {
        Self { fresh, cards: Vec::new() }
    }

    /// The next one that is allowed; `None` if none is.
    fn deal(&mut self, draw: &mut Draw, nodes: usize, allowed: impl Fn(&Deed) -> bool) -> Option<Deed> {
        for _ in 0..2 {
            while let Some(card) = self.cards.pop() {
                if allowed(&card) {
                    return Some(card);
                }
            }
            self.cards = (self.fresh)(draw, nodes);
            draw.shuffle(&mut self.cards);
        }
        None
    }
}

fn light_ones(draw: &mut Draw, nodes: usize) -> Vec<Deed> {
    let mut nth = || draw.below(nodes as u64) as usize;
    let [a, b, c, d, e, f, g] = [nth(), nth(), nth(), nth(), nth(), nth(), nth()];
    let half = 1 + draw.below(nodes as u64 - 1) as usize;
    let flap_ms = draw.log_between(100, 3_000) as u32;
    let lives = draw.between(2, 6) as u8;
    let or_leader = |nth: usize, draw: &mut Draw| if draw.chance(400) { Who::Leader } else { Who::Nth(nth) };
    vec![
        Deed::Kill(Who::Nth(a)),
        Deed::Kill(Who::Leader),
        Deed::KillAll,
        Deed::CrashLoop(or_leader(b, draw), lives),
        Deed::Pause(Who::Nth(c)),
        Deed::Pause(Who::Leader),
        Deed::PauseAll,
        Deed::Restart(or_leader(d, draw)),
        Deed::Transfer,
        Deed::Cut(Cut::Halves(half)),
        Deed::Cut(Cut::Isolate(Who::Nth(e))),
        Deed::Cut(Cut::Isolate(Who::Leader)),
        Deed::Cut(Cut::Bridge(f)),
        Deed::Cut(Cut::Mute(or_leader(a, draw))),
        Deed::Cut(Cut::Deaf(or_leader(b, draw))),
        Deed::Cut(Cut::Flap(or_leader(c, draw), flap_ms)),
        Deed::Weather(weather(draw)),
        Deed::Weather(weather(draw)),
        Deed::BadCable(g, weather(draw)),
    ]
}

fn heavy_ones(draw: &mut Draw, nodes: usize) -> Vec<Deed> {
    let who = |draw: &mut Draw| match draw.below(nodes as u64 + 1) as usize {
        n if n == nodes => Who::Leader,
        n => Who::Nth(n),
    };
    let nth = |draw: &mut Draw| draw.below(nodes as u64) as usize;
    vec![
        Deed::Damage(who(draw), harm(draw)),
        Deed::Wipe(who(draw)),
        Deed::Clone(nth(draw)),
        Deed::Damage(who(draw), harm(draw)),
        Deed::DiskFull,
        Deed::Leave(who(draw)),
        Deed::Damage(who(draw), harm(draw)),
        Deed::Rollback(nth(draw)),
        Deed::Helical(harm(draw)),
        Deed::DiskFull,
    ]
}

fn harm(draw: &mut Draw) -> Harm {
    if draw.chance(600) { Harm::Flip(draw.between(1, 8) as u8) } else { Harm::Zero(draw.log_between(1, 65_536) as u32) }
}

/// Bad in some ways, each of which is as likely as not.
fn weather(draw: &mut Draw) -> Policy {
    let mut maybe = |most: u64| if draw.chance(500) { draw.log_between(1, most) as u32 } else { 0 };
    let policy = Policy {
        delay_ms: maybe(80),
        jitter_ms: maybe(60),
        loss: maybe(300),
        duplicate: maybe(300),
        reorder: maybe(300),
        ..Policy::default()
    };
    let rate = if draw.chance(250) { draw.log_between(50_000, 5_000_000) } else { 0 };
    match (Policy { rate, ..policy }) == Policy::default() {
        true => Policy { loss: 100, ..policy },
        false => Policy { rate, ..policy },
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nth(nth) => write!(f, "n{}", nth + 1),
            Self::Leader => write!(f, "the leader"),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Halves(half) => write!(f, "partition: n1 to n{half} from the others"),
            Self::Isolate(who) => write!(f, "partition: {who} alone"),
            Self::Bridge(nth) => write!(f, "partition: two halves, and n{} hears both", nth + 1),
            Self::Mute(who) => write!(f, "partition: nobody hears {who}"),
            Self::Deaf(who) => write!(f, "partition: {who} hears nobody"),
            Self::Flap(who, ms) => write!(f, "partition: {who} alone, on and off every {ms} ms"),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_cent = |name: &str, n: u32| (n > 0).then(|| format!("{name} {:.1} %", f64::from(n) / 10.0));
        let mut parts = Vec::new();
        if self.delay_ms + self.jitter_ms > 0 {
            parts.push(format!("delay {}+{} ms", self.delay_ms, self.jitter_ms));
        }
        parts.extend(per_cent("loss", self.loss));
        parts.extend(per_cent("twice", self.duplicate));
        parts.extend(per_cent("out of order", self.reorder));
        if self.rate > 0 {
            parts.push(format!("{} kB/s", self.rate / 1_000));
        }
        write!(f, "{}", parts.join(", "))
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip(1) => write!(f, "a flipped bit"),
            Self::Flip(bits) => write!(f, "{bits} flipped bits"),
            Self::Zero(bytes) => write!(f, "{bytes} zeroed bytes"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(who) => write!(f, "kill -9 {who}"),
            Self::KillAll => write!(f, "kill -9 all"),
            Self::CrashLoop(who, lives) => write!(f, "kill -9 {who}, {lives} times"),
            Self::Pause(who) => write!(f, "stop {who} (SIGSTOP)"),
            Self::PauseAll => write!(f, "stop all (SIGSTOP)"),
            Self::Restart(who) => write!(f, "restart {who} (SIGTERM)"),
            Self::Transfer => write!(f, "transfer leadership"),
            Self::Cut(cut) => write!(f, "{cut}"),
            Self::Weather(policy) => write!(f, "weather: {policy}"),
            Self::BadCable(nth, policy) => write!(f, "bad cable of n{}: {policy}", nth + 1),
            Self::Leave(who) => write!(f, "{who} leaves and joins again"),
            Self::Wipe(who) => write!(f, "wipe the directory of {who}"),
            Self::Clone(nth) => write!(f, "start a clone of n{}", nth + 1),
            Self::Rollback(nth) => write!(f, "start n{} from an old copy", nth + 1),
            Self::Damage(who, harm) => write!(f, "damage {who}: {harm}"),
            Self::Helical(harm) => write!(f, "damage all in different places: {harm}"),
            Self::DiskFull => write!(f, "fill the disk of the last agent"),
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.2} s  {} for {:.2} s", self.at.as_secs_f64(), self.deed, self.lasts.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn plan(seed: u64, seconds: u64, without: &[&str]) -> Plan {
        let without: Vec<_> = without.iter().map(|name| (*name).to_owned()).collect();
        Plan::draw(Draw::new(seed), Duration::from_secs(seconds), 3, &without)
    }

    fn names(plan: &Plan) -> BTreeSet<&'static str> {
        plan.blows.iter().map(|blow| blow.deed.name()).collect()
    }

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(plan(7, 300, &[]), plan(7, 300, &[]));
        assert_ne!(plan(7, 300, &[]), plan(8, 300, &[]));
    }

    #[test]
    fn ten_minutes_see_every_kind() {
        let plan = plan(7, 600, &[]);
        assert_eq!(names(&plan), NAMES.into_iter().collect());
        assert!(plan.blows.iter().all(|blow| blow.at < Duration::from_secs(600)));
        assert!(plan.blows.is_sorted_by_key(|blow| blow.at));
    }

    /// A seat that is lost comes back after half a minute: a short run does without, and so does whoever says so.
    #[test]
    fn what_is_not_wanted_does_not_happen() {
        for seed in 0..50 {
            assert!(plan(seed, 20, &[]).blows.iter().all(|blow| !blow.deed.is_slow()), "{seed}");
            let without = plan(seed, 300, &["wipe", "helical", "kill"]);
            assert!(["wipe", "helical", "kill"].iter().all(|name| !names(&without).contains(name)), "{seed}");
        }
        assert!(plan(1, 300, &NAMES).blows.is_empty());
    }

    /// One copy at a time: two losses at once would be beyond what three disks can bear.
    #[test]
    fn no_round_wounds_twice() {
        for seed in 0..50 {
            let plan = plan(seed, 600, &[]);
            for (i, blow) in plan.blows.iter().enumerate().filter(|(_, blow)| blow.deed.wounds()) {
                let end = blow.at + blow.lasts;
                let others = plan.blows[i + 1..].iter().take_while(|other| other.at < end);
                assert!(others.clone().all(|other| !other.deed.wounds()), "{seed}: {blow}");
                assert!(!blow.deed.is_alone() || others.count() == 0, "{seed}: {blow}");
            }
        }
    }

    #[test]
    fn a_plan_reads_as_a_schedule() {
        let blow = Blow {
            at: Duration::from_millis(12_340),
            lasts: Duration::from_millis(500),
            deed: Deed::Cut(Cut::Isolate(Who::Leader)),
        };
        assert_eq!(blow.to_string(), "  12.34 s  partition: the leader alone for 0.50 s");
        let policy = Policy { delay_ms: 5, loss: 25, rate: 50_000, ..Policy::default() };
        assert_eq!(Deed::Weather(policy).to_string(), "weather: delay 5+0 ms, loss 2.5 %, 50 kB/s");
    }
}
