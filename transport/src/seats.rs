//! How many connections each identity holds and what they may have under way, so that one cannot take the room of all.
//! Never counts by address: clients behind one address are different guests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use quorate_certs::Subject;

use crate::budget::Budget;
use crate::lock::lock;
use crate::{Code, Refused};

/// The bounds of a room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Connections of all.
    pub(crate) connections_max: usize,
    /// Connections of one identity.
    pub(crate) own_connections_max: usize,
    /// What a connection may have under way at least and at most, in bytes, in each direction.
    pub(crate) window_bytes: (u64, u64),
    /// What the windows of all may have above the least one, in bytes.
    pub(crate) extra_bytes_max: u64,
    /// The same for the windows of one identity.
    pub(crate) own_extra_bytes_max: u64,
    /// What one identity may hold of the budget for large frames, in bytes.
    pub(crate) own_frames_bytes_max: usize,
    /// Streams of one identity.
    pub(crate) own_streams_max: usize,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Seats(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    room: Room,
    frames: Budget,
    streams: Budget,
    taken: BTreeMap<Subject, Taken>,
    connections: usize,
    extra: u64,
}

#[derive(Debug)]
struct Taken {
    connections: usize,
    extra: u64,
    frames: Budget,
    streams: Budget,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    who: Subject,
    extra: u64,
    /// What it may have under way in each direction, in bytes.
    pub(crate) window: u64,
    /// What its large frames draw on.
    pub(crate) frames: Budget,
    /// What its streams draw on.
    pub(crate) streams: Budget,
}

impl Seats {
    pub(crate) fn new(room: Room, frames: Budget, streams: Budget) -> Self {
        let state = State { room, frames, streams, taken: BTreeMap::new(), connections: 0, extra: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Counts one more connection of `who`. Whoever comes gets a fraction of what is left, so that there is always
    /// something left for the next.
    pub(crate) fn enter(&self, who: &Subject) -> Result<Seat, Refused> {
        let mut guard = lock(&self.0);
        let State { room, frames, streams, taken, connections, extra } = &mut *guard;
        if *connections >= room.connections_max {
            return Err(Refused::new(Code::Busy, "too many connections, try again in 1 s"));
        }
        let fresh = || Taken {
            connections: 0,
            extra: 0,
            frames: frames.part(room.own_frames_bytes_max),
            streams: streams.part(room.own_streams_max),
        };
        let own = taken.entry(who.clone()).or_insert_with(fresh);
        if own.connections >= room.own_connections_max {
            return Err(Refused::new(Code::Busy, "too many connections of this identity, try again in 1 s"));
        }
        let (least, most) = room.window_bytes;
        let left = room.extra_bytes_max.saturating_sub(*extra) / 8;
        let own_left = room.own_extra_bytes_max.saturating_sub(own.extra) / 4;
        let more = left.min(own_left).min(most.saturating_sub(least));
        own.connections += 1;
        own.extra += more;
        *connections += 1;
        *extra += more;
        let (frames, streams) = (own.frames.clone(), own.streams.clone());
        Ok(Seat { seats: self.clone(), who: who.clone(), extra: more, window: least + more, frames, streams })
    }

    /// Connections and bytes of windows that are granted now, in each direction.
    pub(crate) fn granted(&self) -> (usize, u64) {
        let state = lock(&self.0);
        (state.connections, state.extra + state.connections as u64 * state.room.window_bytes.0)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut guard = lock(&self.seats.0);
        let State { taken, connections, extra, .. } = &mut *guard;
        *connections -= 1;
        *extra -= self.extra;
        if let Some(own) = taken.get_mut(&self.who) {
            own.connections -= 1;
            own.extra -= self.extra;
            if own.connections == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_certs::{AgentName, ClusterId, Role};

    use super::*;

    const KIB: u64 = 1024;

    fn seats() -> Seats {
        let room = Room {
            connections_max: 100,
            own_connections_max: 60,
            window_bytes: (64 * KIB, 1024 * KIB),
            extra_bytes_max: 8192 * KIB,
            own_extra_bytes_max: 4096 * KIB,
            own_frames_bytes_max: 1 << 20,
            own_streams_max: 10,
        };
        Seats::new(room, Budget::of_bytes(4 << 20, 0), Budget::of_things(100))
    }

    fn client(name: &str) -> Subject {
        let cluster = ClusterId::random().unwrap();
        Subject::client(cluster, Role::Read, AgentName::new(name).unwrap())
    }

    /// However many come, the sum of their windows has a bound, and nobody is without one.
    #[test]
    fn windows_have_a_sum() {
        let seats = seats();
        let (greedy, modest) = (client("greedy"), client("modest"));
        let mut held: Vec<_> = (0..60).map(|_| seats.enter(&greedy).unwrap()).collect();
        assert_eq!(held[0].window, 1024 * KIB);
        assert!(held.iter().all(|seat| seat.window >= 64 * KIB));
        assert!(held.iter().map(|seat| seat.window).sum::<u64>() <= 4096 * KIB + 60 * 64 * KIB);
        assert_eq!(seats.enter(&greedy).unwrap_err().code, Code::Busy);
        // The other one finds room and a window worth having.
        let other = seats.enter(&modest).unwrap();
        assert!(other.window >= 512 * KIB, "{}", other.window);
        held.extend((0..39).map(|_| seats.enter(&modest).unwrap()));
        assert_eq!(seats.enter(&client("late")).unwrap_err().code, Code::Busy);
        assert!(seats.granted().1 <= 8192 * KIB + 100 * 64 * KIB);
        drop((held, other));
        assert_eq!(seats.granted(), (0, 0));
        assert!(lock(&seats.0).taken.is_empty());
        assert_eq!(seats.enter(&greedy).unwrap().window, 1024 * KIB);
    }
}
