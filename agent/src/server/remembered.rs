//! Remembered addresses: a cache that a start can do without.
//!
//! It never gives what it cannot vouch for: a flipped digit of a boot epoch would keep an honest peer out.

use super::error::Error;
use super::files;
use crate::node::Known;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub(super) const PEERS: &str = "peers.json";

/// The file. The checksum is that of `known` as this program writes it, so it holds for values, not for white space.
#[derive(Serialize, Deserialize)]
struct Peers {
    v: u32,
    crc32c: u32,
    known: Vec<Known>,
}

fn seal(known: &[Known]) -> Option<u32> {
    Some(crc32c::crc32c(&serde_json::to_vec(known).ok()?))
}

/// Remembers addresses. A failure costs nothing but time at the next start.
pub(super) fn remember(path: &Path, known: &[Known]) -> Result<(), Error> {
    let peers = Peers { v: 1, crc32c: seal(known).unwrap_or_default(), known: known.to_vec() };
    let json = serde_json::to_vec(&peers).map_err(|e| Error::Options(e.to_string()))?;
    files::write(path, PEERS, &json)
}

/// Addresses from before; none if the file cannot be read or is damaged. A list without a checksum is of an earlier version.
pub(super) fn read(path: &Path) -> Vec<Known> {
    let Some(bytes) = files::read(&path.join(PEERS)).ok().flatten() else { return Vec::new() };
    if let Ok(known) = serde_json::from_slice::<Vec<Known>>(&bytes) {
        return known;
    }
    match serde_json::from_slice::<Peers>(&bytes) {
        Ok(peers) if peers.v == 1 && seal(&peers.known) == Some(peers.crc32c) => peers.known,
        _ => {
            tracing::warn!("{PEERS} is damaged; the addresses of the other members are learnt anew");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn one_flipped_bit_is_noticed_and_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let known: Vec<Known> = (1..4)
            .map(|node| Known {
                node,
                name: format!("a{node}"),
                addr: ([10, 0, 0, 1], 7373).into(),
                epoch: 12,
                boot: 34,
            })
            .collect();
        remember(dir.path(), &known).unwrap();
        assert_eq!(read(dir.path()), known);
        let good = fs::read(dir.path().join(PEERS)).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.path().join(PEERS), &bad).unwrap();
            let found = read(dir.path());
            assert!(found.is_empty() || found == known, "bit {bit} made {found:?}");
        }
        fs::write(dir.path().join(PEERS), serde_json::to_vec(&known).unwrap()).unwrap();
        assert_eq!(read(dir.path()), known, "as an earlier version wrote it");
    }
}
