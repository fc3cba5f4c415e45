//! Conversing: two members who cannot agree about one of them, and go on about it without end unless something stops them.
//!
//! Tests only.

use crate::io::{Input, Output};
use crate::membership::{Local, Membership};
use crate::options::Options;
use crate::tags::Tags;
use crate::types::{Mono, Now};
use foca::{Member, State};
use std::collections::VecDeque;
use std::time::Duration;

/// A word takes so long to the other side.
const HOP_US: u64 = 500;

fn core(node: u64) -> Membership {
    let (name, addr) = (format!("agent-{node}"), ([10, 0, 0, node as u8], 7373).into());
    let local = Local { node, name, addr, epoch: 1, boot: 11, version: "0.1.0".to_owned(), tags: Tags::default() };
    // No probe and no table in turns: what is said is said about the one who was called failed.
    let hour = Duration::from_secs(3600);
    let options = Options { probe_period: hour, suspicion: hour, exchange_interval: hour, ..Options::default() };
    Membership::new(options, local, node, now(0)).expect("legal options")
}

fn now(us: u64) -> Now {
    Now { mono: Mono(us), wall_us: 0 }
}

/// Everything that crosses between two, in order, each word a hop late.
struct Two {
    cores: [Membership; 2],
    line: VecDeque<(u64, usize, Input)>,
    at: u64,
    words: u64,
}

impl Two {
    fn meet(follows_all: bool) -> Self {
        let mut two = Self { cores: [core(1), core(2)], line: VecDeque::new(), at: 0, words: 0 };
        for (me, other) in [(0, 2_u64), (1, 1)] {
            if follows_all {
                two.cores[me].follow_all_hints();
            }
            let (name, addr) = (format!("agent-{other}"), ([10, 0, 0, other as u8], 7373).into());
            let version = "0.1.0".to_owned();
            two.feed(me, Input::Contact { node: other, name, addr, epoch: 1, boot: 11, version });
        }
        two.run_to(5_000_000);
        two
    }

    fn feed(&mut self, me: usize, input: Input) {
        let from = me as u64 + 1;
        self.cores[me].handle(now(self.at), input);
        while let Some(output) = self.cores[me].poll_output() {
            let said = match output {
                Output::Datagram { bytes, .. } => Input::Datagram { from, bytes },
                Output::Exchange { bytes, .. } => Input::Exchange { from, bytes },
                Output::ExchangeReply { bytes, .. } => Input::ExchangeReply { from, bytes },
                _ => continue,
            };
            self.line.push_back((self.at + HOP_US, 1 - me, said));
        }
    }

    fn run_to(&mut self, until: u64) {
        loop {
            let due = |core: &Membership| core.poll_timeout().map_or(u64::MAX, |at| at.0.max(self.at));
            let timers = self.cores.each_ref().map(due);
            let word = self.line.front().map_or(u64::MAX, |(at, _, _)| *at);
            let next = timers.into_iter().min().unwrap_or(u64::MAX).min(word);
            if next > until {
                self.at = until;
                return;
            }
            self.at = next;
            if word == next {
                let Some((_, me, input)) = self.line.pop_front() else { return };
                self.words += 1;
                self.feed(me, input);
            } else {
                let me = usize::from(timers[1] == next);
                self.feed(me, Input::Timeout);
            }
        }
    }

    /// The second one has come back from the dead so often that it waits a minute before it does so again, and the first
    /// holds it for failed. Counts what they say to each other in ten seconds.
    fn words_about_one_called_failed(follows_all: bool) -> u64 {
        let mut two = Self::meet(follows_all);
        let second = *two.cores[1].swim.identity();
        two.cores[1].renew_from = two.cores[1].now.mono.after(Duration::from_secs(60));
        let effects = two.cores[0].swim.apply(vec![Member::new(second, 0, State::Down)], false);
        two.cores[0].carry_out(effects);
        two.words = 0;
        // Somebody holds it for present, and says so.
        two.cores[0].retry(2);
        two.feed(0, Input::Timeout);
        two.run_to(two.at + 10_000_000);
        two.words
    }
}

/// The answer to a hint may be the same hint again: a member that was called failed, lives, and must not renew itself yet
/// says so in each answer. Whoever asks again at once talks as fast as the network carries it for a minute.
#[test]
fn who_is_called_failed_and_must_wait_is_not_asked_without_end() {
    let (storm, sound) = (Two::words_about_one_called_failed(true), Two::words_about_one_called_failed(false));
    println!("words in ten seconds: {storm} if each hint is followed, {sound} if one a second is");
    assert!(storm > 10_000, "the bug shows nothing: {storm} words");
    assert!(sound < 200, "{sound} words");
}
