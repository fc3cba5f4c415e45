//! Remembered addresses, and tags that were set at run time: what a start can do without.
//!
//! It never gives what it cannot vouch for: a flipped digit of a boot epoch would keep an honest peer out.

use super::error::Error;
use super::files;
use crate::node::Known;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const PEERS: &str = "peers.json";
/// Beside it, of the same kind.
pub(super) const TAGS: &str = "tags.json";

/// The file of tags; its checksum as below.
#[derive(Serialize, Deserialize)]
struct Tags {
    v: u32,
    crc32c: u32,
    tags: BTreeMap<String, String>,
}

fn seal_tags(tags: &BTreeMap<String, String>) -> Option<u32> {
    Some(crc32c::crc32c(&serde_json::to_vec(tags).ok()?))
}

/// Keeps the tags that were set at run time, durably.
pub(super) fn keep_tags(path: &Path, tags: &BTreeMap<String, String>) -> Result<(), Error> {
    let file = Tags { v: 1, crc32c: seal_tags(tags).unwrap_or_default(), tags: tags.clone() };
    let json = serde_json::to_vec(&file).map_err(|e| Error::Options(e.to_string()))?;
    files::write(path, TAGS, &json)
}

/// The tags that were set at run time; none if the file is not there or is damaged, which stops no start.
pub(super) fn read_tags(path: &Path) -> BTreeMap<String, String> {
    let Some(bytes) = files::read(&path.join(TAGS)).ok().flatten() else { return BTreeMap::new() };
    match serde_json::from_slice::<Tags>(&bytes) {
        Ok(file) if file.v == 1 && seal_tags(&file.tags) == Some(file.crc32c) => file.tags,
        _ => {
            tracing::warn!("{TAGS} is damaged; set the tags again with `quorate tags --set`");
            BTreeMap::new()
        }
    }
}

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
    fn tags_are_kept_and_damage_to_them_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_tags(dir.path()).is_empty());
        let tags: BTreeMap<String, String> = [("zone".to_owned(), "a".to_owned())].into();
        keep_tags(dir.path(), &tags).unwrap();
        assert_eq!(read_tags(dir.path()), tags);
        let good = fs::read(dir.path().join(TAGS)).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.path().join(TAGS), &bad).unwrap();
            let found = read_tags(dir.path());
            assert!(found.is_empty() || found == tags, "bit {bit} made {found:?}");
        }
    }

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
