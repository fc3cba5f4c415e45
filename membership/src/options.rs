//! Options: every tunable with its unit, bounds and reason; profiles `lan`, `wan` and `local`.
//!
//! They never change while a core runs, except what follows from the number of members.

use crate::error::Error;
use crate::packet::FOCA_BYTES_MAX;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

/// How soon after joining the first exchange with a random member follows; the next waits double up to the period.
pub(crate) const EXCHANGE_WAIT_MIN: Duration = Duration::from_secs(1);

/// All tunables. Take a profile and change what you must; [`Options::validate`] is called by the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often a random member is probed. Shorter finds failures sooner and costs two packets each.
    pub probe_period: Duration,
    /// How long a direct probe may take before others are asked and the probe is repeated over a stream. Less than
    /// half of `probe_period`, for both need an answer within the rest of it.
    pub probe_timeout: Duration,
    /// How many others are asked to probe a silent member; also to how many members one round of gossip goes.
    pub fanout: usize,
    /// How often the next member in the ring of node ids is made sure of, if it is silent: a failure is noticed no later.
    pub watch_interval: Duration,
    /// How long a suspect has to answer at least, among up to ten members. Six times as long unless others find by
    /// themselves that it does not answer, where there are others.
    pub suspicion: Duration,
    /// How much longer for each tenfold of that number: where many run, some are stopped for a while at any time. In the
    /// profile `lan` a pause of five seconds is no failure among fifty.
    pub suspicion_per_tenfold: Duration,
    /// How often news is passed on, as long as there is any.
    pub gossip_interval: Duration,
    /// The least times that one piece of news is sent. foca's own rule sends an update twice among three members, and
    /// one in sixty then never hears of it; at 15 % loss that means false failures. Eight has none.
    pub transmissions_min: u8,
    /// How often a whole table is exchanged with one random member, for up to 32 members; longer beyond.
    pub exchange_interval: Duration,
    /// The most bytes of one exchanged table; a larger one goes in turns.
    pub exchange_bytes_max: usize,
    /// How often a failed member is dialled again, and seeds are asked for while this node is alone. Jittered by 20 %.
    pub reconnect_interval: Duration,
    /// How long the intent to leave is spread before leaving, and the leaving after it. Less if all was sent sooner.
    pub leave_patience: Duration,
    /// How long a member is announced without a name if no record of it arrives. Then it is announced as it is.
    pub introduction_patience: Duration,
    /// How long failed and left members are remembered (Serf: 24 h).
    pub tombstone_timeout: Duration,
    /// The most members remembered, present and gone. Beyond it newcomers are refused with an alarm: it bounds memory
    /// against a peer that invents members.
    pub members_max: usize,
}

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

impl Default for Options {
    fn default() -> Self {
        Self::lan()
    }
}

impl Options {
    /// For one network with round trips of a few milliseconds: a killed member among ten is known within 4 s.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            probe_period: S(1),
            probe_timeout: MS(200),
            fanout: 3,
            watch_interval: S(1),
            suspicion: S(2),
            suspicion_per_tenfold: MS(4800),
            gossip_interval: MS(200),
            transmissions_min: 8,
            exchange_interval: S(30),
            exchange_bytes_max: 1 << 20,
            reconnect_interval: S(5),
            leave_patience: S(1),
            introduction_patience: S(2),
            tombstone_timeout: S(24 * 60 * 60),
            members_max: 10_000,
        }
    }

    /// For members spread over continents: patient, less talk.
    #[must_use]
    pub fn wan() -> Self {
        Self {
            probe_period: S(5),
            probe_timeout: S(2),
            fanout: 4,
            watch_interval: S(5),
            suspicion: S(30),
            suspicion_per_tenfold: S(30),
            gossip_interval: MS(500),
            exchange_interval: S(60),
            reconnect_interval: S(30),
            leave_patience: S(3),
            introduction_patience: S(5),
            ..Self::lan()
        }
    }

    /// For agents on one machine: quick.
    #[must_use]
    pub fn local() -> Self {
        Self {
            probe_period: MS(500),
            probe_timeout: MS(100),
            watch_interval: MS(500),
            suspicion: MS(1500),
            suspicion_per_tenfold: MS(3600),
            gossip_interval: MS(100),
            exchange_interval: S(15),
            reconnect_interval: S(2),
            leave_patience: MS(500),
            introduction_patience: S(1),
            ..Self::lan()
        }
    }

    /// Refuses what the protocol cannot run with.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |option, why| Err(Error::Option { option, why });
        let hour = S(60 * 60);
        let durations = [
            ("probe_period", self.probe_period),
            ("probe_timeout", self.probe_timeout),
            ("watch_interval", self.watch_interval),
            ("suspicion", self.suspicion),
            ("suspicion_per_tenfold", self.suspicion_per_tenfold),
            ("gossip_interval", self.gossip_interval),
            ("exchange_interval", self.exchange_interval),
            ("reconnect_interval", self.reconnect_interval),
            ("leave_patience", self.leave_patience),
            ("introduction_patience", self.introduction_patience),
        ];
        for (option, duration) in durations {
            if duration < MS(10) || duration > hour {
                return refuse(option, "must be from 10 ms to 1 h");
            }
        }
        if self.probe_timeout * 2 > self.probe_period {
            return refuse(
                "probe_timeout",
                "must be at most half of probe_period: repeated probes need the other half",
            );
        }
        if self.suspicion < self.probe_period {
            return refuse("suspicion", "must be at least probe_period: a suspect could not answer in time");
        }
        if !(1..=16).contains(&self.fanout) {
            return refuse("fanout", "must be from 1 to 16");
        }
        if !(1..=64).contains(&self.transmissions_min) {
            return refuse("transmissions_min", "must be from 1 to 64");
        }
        if !(64 << 10..=64 << 20).contains(&self.exchange_bytes_max) {
            return refuse("exchange_bytes_max", "must be from 64 KiB to 64 MiB");
        }
        if self.tombstone_timeout < self.suspicion * 2 {
            return refuse("tombstone_timeout", "must be at least twice suspicion: the failed would rise from rumours");
        }
        if !(2..=100_000).contains(&self.members_max) {
            return refuse("members_max", "must be from 2 to 100,000");
        }
        Ok(())
    }

    /// How often one piece of news is sent among `members`: memberlist's `4 * ceil(log10(n + 1))` and four more. Without those
    /// one failure in fifty is not heard of by somebody among fifty before tables are exchanged.
    pub(crate) fn transmissions(&self, members: usize) -> u8 {
        // ceil(log10(n + 1)) is the number of digits of n.
        u8::try_from(4 * (members.max(1).ilog10() + 2)).unwrap_or(u8::MAX).max(self.transmissions_min)
    }

    /// The period of table exchanges among `members`, stretched so that the cluster's load stays level (memberlist).
    pub(crate) fn exchange_period(&self, members: usize) -> Duration {
        let n = u32::try_from(members).unwrap_or(u32::MAX);
        if n <= 32 {
            self.exchange_interval
        } else {
            self.exchange_interval * (n.div_ceil(32).next_power_of_two().ilog2() + 1)
        }
    }

    /// How long a suspect has to answer at least, among `members`.
    pub(crate) fn suspicion_among(&self, members: usize) -> Duration {
        self.suspicion + self.suspicion_per_tenfold.mul_f64((members.max(10) as f64).log10() - 1.0)
    }

    /// What foca is told for `members` present members.
    pub(crate) fn foca(&self, members: usize) -> foca::Config {
        let one = NonZeroUsize::MIN;
        foca::Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_timeout,
            num_indirect_probes: NonZeroUsize::new(self.fanout).unwrap_or(one),
            max_transmissions: NonZeroU8::new(self.transmissions(members)).unwrap_or(NonZeroU8::MIN),
            // Not used: see `judging`.
            suspect_to_down_after: self.suspicion_among(members),
            // The roster forgets, in step with foca: a timer for every rumour of a death would have no bound.
            remove_down_after: None,
            max_packet_size: NonZeroUsize::new(FOCA_BYTES_MAX).unwrap_or(one),
            notify_down_members: true,
            // The core does these itself: exchanges are complete where announcements are a sample, the reconnect loop
            // also runs when foca is idle, and gossip runs only while there is news.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_valid() {
        for options in [Options::lan(), Options::wan(), Options::local()] {
            assert_eq!(options.validate(), Ok(()));
        }
    }

    #[test]
    fn news_is_never_sent_less_than_eight_times_and_more_often_in_large_clusters() {
        let sent = [1, 3, 10, 99, 100, 999, 1_000, 10_000].map(|n| Options::lan().transmissions(n));
        assert_eq!(sent, [8, 8, 12, 12, 16, 16, 20, 24]);
    }

    #[test]
    fn exchanges_stretch_as_in_memberlist() {
        let periods = [2, 32, 33, 100, 1_000, 10_000].map(|n| Options::lan().exchange_period(n).as_secs());
        assert_eq!(periods, [30, 30, 60, 90, 180, 300]);
    }

    #[test]
    fn options_are_refused_one_past_their_bounds() {
        let refused = |change: fn(&mut Options)| {
            let mut options = Options::lan();
            change(&mut options);
            options.validate().is_err()
        };
        assert!(!refused(|o| o.probe_timeout = o.probe_period / 2));
        assert!(refused(|o| o.probe_timeout = o.probe_period / 2 + MS(1)));
        assert!(!refused(|o| o.suspicion = o.probe_period));
        assert!(refused(|o| o.suspicion = o.probe_period - MS(1)));
        assert!(!refused(|o| o.gossip_interval = MS(10)));
        assert!(refused(|o| o.gossip_interval = MS(9)));
        assert!(!refused(|o| o.fanout = 16));
        assert!(refused(|o| o.fanout = 17) && refused(|o| o.fanout = 0));
        assert!(!refused(|o| o.transmissions_min = 64));
        assert!(refused(|o| o.transmissions_min = 65) && refused(|o| o.transmissions_min = 0));
        assert!(!refused(|o| o.exchange_bytes_max = 64 << 10));
        assert!(refused(|o| o.exchange_bytes_max = (64 << 10) - 1));
        assert!(!refused(|o| o.members_max = 100_000));
        assert!(refused(|o| o.members_max = 100_001) && refused(|o| o.members_max = 1));
        assert!(!refused(|o| o.tombstone_timeout = o.suspicion * 2));
        assert!(refused(|o| o.tombstone_timeout = o.suspicion * 2 - MS(1)));
    }
}
