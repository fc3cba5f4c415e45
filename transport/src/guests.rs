//! How many connections each client holds, so that one client cannot take the room of all.
//! Never counts by address: clients behind one address are different guests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use quorate_certs::Subject;

use crate::lock::lock;
use crate::{Code, Refused};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guests(Arc<Mutex<BTreeMap<Subject, usize>>>);

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Guests,
    who: Subject,
}

impl Guests {
    /// Counts one more connection of `who`.
    pub(crate) fn enter(&self, who: &Subject, connections_max: usize) -> Result<Guest, Refused> {
        let mut guests = lock(&self.0);
        let present = guests.get(who).copied().unwrap_or(0);
        if present >= connections_max {
            return Err(Refused::new(Code::Busy, "too many connections of this client"));
        }
        guests.insert(who.clone(), present + 1);
        Ok(Guest { guests: self.clone(), who: who.clone() })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = lock(&self.guests.0);
        match guests.get_mut(&self.who) {
            Some(present) if *present > 1 => *present -= 1,
            _ => {
                guests.remove(&self.who);
            }
        }
    }
}
