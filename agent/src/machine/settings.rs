//! Settings of the autopilot: replicated, one value for all agents, with every default in this file.
//!
//! It never acts on them; the autopilot of the leader does.
//!
//! | key | default | bounds | why |
//! |---|---|---|---|
//! | `replace_after` | 10 m | 1 s to 30 d | a reboot, an update or a new cable takes less; a dead machine costs its tolerance longer |
//! | `stabilization` | 10 s | 0 s to 1 h | a spare that takes a seat must have been there for this long; doubled per failure seen, 16 times at most |
//! | `remove_after` | off | off, or 1 m to 365 d | a dead voter without a spare keeps its seat: every seat removed lowers the quorum |
//! | `voters_min` | 3 | 1 to 7 | removal never goes below |
//! | `zone_tag` | `zone` | a tag key, or empty for none | which tag names the zone of an agent |
//! | `flaps_max` | 3 | 1 to 16 | failures within `flap_window` from which on an agent gets no seat |
//! | `flap_window` | 10 m | 10 s to 1 d | |
//! | `upgrade` | on | on, off | spares of a newer version take the seats of older ones |

use crate::duration;
use crate::limits;
use crate::spelling::nearest;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the autopilot goes by. New fields are added at the end, with a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How long a voter must be dead before a spare takes its seat, in milliseconds.
    pub replace_after_ms: u64,
    /// How long a spare must have been stable before it takes a seat, in milliseconds.
    pub stabilization_ms: u64,
    /// How long a voter must be dead before it is removed without a replacement, in milliseconds; 0 for never.
    pub remove_after_ms: u64,
    /// Fewest voters that a removal without replacement leaves.
    pub voters_min: u32,
    /// The tag that names an agent's zone; empty for none.
    pub zone_tag: String,
    /// So many failures within the window make an agent one that flaps.
    pub flaps_max: u32,
    /// That window, in milliseconds.
    pub flap_window_ms: u64,
    /// Do spares of a newer version take the seats of older ones.
    pub upgrade: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            replace_after_ms: 10 * MINUTE_MS,
            stabilization_ms: 10 * SECOND_MS,
            remove_after_ms: 0,
            voters_min: 3,
            zone_tag: "zone".into(),
            flaps_max: 3,
            flap_window_ms: 10 * MINUTE_MS,
            upgrade: true,
        }
    }
}

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
/// More voters than any group has.
const VOTERS_MAX: u32 = 7;
/// Failures of one agent that are remembered.
pub const FLAPS_MAX: u32 = 16;

/// All keys, as they are written on the command line.
pub const KEYS: [&str; 8] =
    ["replace_after", "stabilization", "remove_after", "voters_min", "zone_tag", "flaps_max", "flap_window", "upgrade"];

/// A setting that cannot be had: what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadSetting {
    /// What, and why.
    pub what: String,
    /// What to do next.
    pub next: String,
}

fn bad<T>(what: String, next: impl Into<String>) -> Result<T, BadSetting> {
    Err(BadSetting { what, next: next.into() })
}

impl Settings {
    /// Sets one key from what a person wrote.
    ///
    /// # Errors
    /// The key is not known, or the value breaks its bound.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), BadSetting> {
        match key {
            "replace_after" => self.replace_after_ms = span(key, value, SECOND_MS, 30 * DAY_MS)?,
            "stabilization" => self.stabilization_ms = span(key, value, 0, 60 * MINUTE_MS)?,
            "remove_after" if value == "off" => self.remove_after_ms = 0,
            "remove_after" => self.remove_after_ms = span(key, value, MINUTE_MS, 365 * DAY_MS)?,
            "voters_min" => self.voters_min = number(key, value, 1, VOTERS_MAX)?,
            "zone_tag" => self.zone_tag = tag(value)?,
            "flaps_max" => self.flaps_max = number(key, value, 1, FLAPS_MAX)?,
            "flap_window" => self.flap_window_ms = span(key, value, 10 * SECOND_MS, DAY_MS)?,
            "upgrade" => self.upgrade = switch(value)?,
            _ => {
                let key: String = limits::printable(key).chars().take(64).collect();
                let next = match nearest(&key, KEYS) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("the keys are {}", KEYS.join(", ")),
                };
                return bad(format!("the autopilot has no setting {key}"), next);
            }
        }
        Ok(())
    }

    /// Every key with its value, as a person would write it.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let values = [
            written(self.replace_after_ms),
            written(self.stabilization_ms),
            if self.remove_after_ms == 0 { "off".into() } else { written(self.remove_after_ms) },
            self.voters_min.to_string(),
            self.zone_tag.clone(),
            self.flaps_max.to_string(),
            written(self.flap_window_ms),
            if self.upgrade { "on".into() } else { "off".into() },
        ];
        KEYS.into_iter().zip(values).collect()
    }

    /// See [`replace_after_ms`](Self::replace_after_ms).
    #[must_use]
    pub fn replace_after(&self) -> Duration {
        Duration::from_millis(self.replace_after_ms)
    }

    /// See [`flap_window_ms`](Self::flap_window_ms).
    #[must_use]
    pub fn flap_window(&self) -> Duration {
        Duration::from_millis(self.flap_window_ms)
    }

    /// How long a spare that failed so often lately must have been stable before it takes a seat.
    #[must_use]
    pub fn stabilization(&self, flaps: u32) -> Duration {
        Duration::from_millis(self.stabilization_ms.saturating_mul(1 << flaps.min(4)))
    }
}

fn span(key: &str, value: &str, least_ms: u64, most_ms: u64) -> Result<u64, BadSetting> {
    let (least, most) = (written(least_ms), written(most_ms));
    let next = format!("write a span from {least} to {most}");
    let span = match duration::parse(value) {
        Ok(span) => u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
        Err(why) => return bad(format!("{key} cannot be {} ({why})", limits::printable(value)), next),
    };
    if (least_ms..=most_ms).contains(&span) {
        return Ok(span);
    }
    bad(format!("{key} cannot be {value} (it is from {least} to {most})"), next)
}

fn number(key: &str, value: &str, least: u32, most: u32) -> Result<u32, BadSetting> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let value = limits::printable(value);
            bad(format!("{key} cannot be {value}"), format!("write a number from {least} to {most}"))
        }
    }
}

fn switch(value: &str) -> Result<bool, BadSetting> {
    match value {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => bad(format!("upgrade cannot be {}", limits::printable(value)), "write on or off"),
    }
}

fn tag(value: &str) -> Result<String, BadSetting> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    if value.len() <= limits::TAG_KEY_BYTES_MAX && value.bytes().all(plain) {
        return Ok(value.to_owned());
    }
    let most = limits::TAG_KEY_BYTES_MAX;
    bad(
        format!("zone_tag cannot be {}", limits::printable(value)),
        format!("write the key of a tag, at most {most} letters, digits, '-', '_', '.' or '/'"),
    )
}

/// A span in the largest unit that tells all of it.
fn written(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(DAY_MS, "d"), (60 * MINUTE_MS, "h"), (MINUTE_MS, "m"), (SECOND_MS, "s")];
    let unit = UNITS.into_iter().find(|(of, _)| ms > 0 && ms.is_multiple_of(*of));
    match unit {
        Some((of, unit)) => format!("{}{unit}", ms / of),
        None if ms == 0 => "0s".into(),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn what_is_shown_can_be_set_again() {
        let mut settings = Settings { remove_after_ms: 72 * 60 * MINUTE_MS, upgrade: false, ..Settings::default() };
        settings.stabilization_ms = 1_500;
        let mut other = Settings::default();
        for (key, value) in settings.pairs() {
            other.set(key, &value).unwrap();
        }
        assert_eq!(settings, other);
        assert_eq!(settings.pairs()[0], ("replace_after", "10m".into()));
        assert_eq!(settings.pairs()[2], ("remove_after", "3d".into()));
        assert_eq!(settings.pairs()[1].1, "1500ms");
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_a_bound_is_told() {
        let mut settings = Settings::default();
        let why = settings.set("replace_atfer", "5m").unwrap_err();
        assert_eq!(why.next, "did you mean replace_after?");
        let why = settings.set("replace_after", "5").unwrap_err();
        assert!(why.what.contains("the unit is one of"), "{why}");
        assert!(settings.set("replace_after", "0s").unwrap_err().next.contains("1s to 30d"));
        assert!(settings.set("voters_min", "0").is_err() && settings.set("upgrade", "maybe").is_err());
        assert!(settings.set("zone_tag", "a b").is_err());
        assert_eq!(settings, Settings::default());
    }

    /// Settings written before a field was there are read with its default, so a later program reads today's log.
    #[test]
    fn settings_with_fewer_fields_are_read() {
        let short = codec::encode(&(60_000_u64, 5_000_u64));
        let read: Settings = codec::decode(&short, "settings").unwrap();
        let expected = Settings { replace_after_ms: 60_000, stabilization_ms: 5_000, ..Settings::default() };
        assert_eq!(read, expected);
    }

    #[test]
    fn each_failure_doubles_the_patience_up_to_sixteen_times() {
        let settings = Settings::default();
        let seconds: Vec<u64> = [0, 1, 4, 40].map(|flaps| settings.stabilization(flaps).as_secs()).to_vec();
        assert_eq!(seconds, [10, 20, 160, 160]);
    }
}
