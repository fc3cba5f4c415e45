//! The keys of a data directory: who this node is, and how peers notice that it has started again.
//!
//! It never gives a directory that has a log another identity.

use super::error::Error;
use super::files::{read, write};
use crate::pledge::{Keys, PublicKey, Signature};
use quorate_transport::{NodeKey, Secrets};
use std::io;
use std::path::Path;

pub(super) const NODE_KEY: &str = "node.key";
/// The same bytes, in another place of the disk.
pub(super) const NODE_KEY_COPY: &str = "node.key.copy";
pub(super) const QUIC_KEY: &str = "quic.key";
const QUIC_KEY_BYTES: usize = 40;

/// The node key. A damaged one is put back from its copy, a missing copy is made; a directory that holds nothing gets a
/// new key.
pub(super) fn node_key(dir: &Path, has_log: bool) -> Result<NodeKey, Error> {
    let found = read(&dir.join(NODE_KEY));
    if let Ok(Some(pkcs8)) = &found
        && let Ok(key) = NodeKey::load(pkcs8)
    {
        if read(&dir.join(NODE_KEY_COPY)).ok().flatten().as_ref() != Some(pkcs8) {
            // Made by an earlier version, or damaged. A full disk does not stop a start.
            keep(dir, NODE_KEY_COPY, pkcs8);
        }
        return Ok(key);
    }
    if matches!(found, Ok(None)) && !has_log {
        // Identity dies with the disk: a copy that was left behind is of a history that is gone.
        let (key, pkcs8) = NodeKey::generate()?;
        write(dir, NODE_KEY, &pkcs8)?;
        keep(dir, NODE_KEY_COPY, &pkcs8);
        return Ok(key);
    }
    let copy = read(&dir.join(NODE_KEY_COPY)).ok().flatten();
    if let Some((pkcs8, Ok(key))) = copy.map(|pkcs8| (NodeKey::load(&pkcs8), pkcs8)).map(|(key, pkcs8)| (pkcs8, key)) {
        tracing::warn!("{NODE_KEY} is damaged or missing; it was put back from {NODE_KEY_COPY}; check the disk");
        keep(dir, NODE_KEY, &pkcs8);
        return Ok(key);
    }
    match found? {
        Some(pkcs8) => Ok(NodeKey::load(&pkcs8)?),
        // A log without its key is somebody's history without its owner.
        None => Err(Error::Foreign {
            path: dir.join(NODE_KEY),
            what: "is missing, but there is a log beside it".into(),
            next: "restore the key, or wipe the data directory to join as a new node",
        }),
    }
}

/// Writes what is good to have and not needed for this start.
fn keep(dir: &Path, name: &str, bytes: &[u8]) {
    if let Err(error) = write(dir, name, bytes) {
        tracing::warn!("{error}; the agent goes on without it");
    }
}

/// Keys that let peers notice a restart at once. Nothing depends on their being the same again: what cannot be read is made
/// anew.
pub(super) fn secrets(dir: &Path) -> Result<Secrets, Error> {
    match read(&dir.join(QUIC_KEY)).map(|bytes| bytes.map(|bytes| decode(&bytes))) {
        Ok(Some(Some(secrets))) => return Ok(secrets),
        Ok(None) => {}
        Ok(Some(None)) | Err(_) => tracing::warn!("{QUIC_KEY} is damaged; a new one is made"),
    }
    let mut bytes = [0; QUIC_KEY_BYTES];
    entropy(&mut bytes)?;
    keep(dir, QUIC_KEY, &bytes);
    decode(&bytes).ok_or_else(|| Error::Options("random bytes of the wrong length".into()))
}

fn decode(bytes: &[u8]) -> Option<Secrets> {
    let (reset, rest) = bytes.split_first_chunk::<32>()?;
    let connection_id = u64::from_le_bytes(rest.try_into().ok()?);
    Some(Secrets { reset: *reset, connection_id })
}

/// The node key as the core that founds logs together wants it.
#[derive(Debug)]
pub(super) struct FoundingKeys(pub(super) NodeKey);

impl Keys for FoundingKeys {
    fn public(&self) -> PublicKey {
        self.0.public()
    }
    fn node_of(&self, key: &PublicKey) -> Option<u64> {
        quorate_transport::node_id(key)
    }
    fn sign(&self, statement: &[u8]) -> Signature {
        self.0.sign_statement(statement)
    }
    fn holds(&self, key: &PublicKey, statement: &[u8], signature: &Signature) -> bool {
        quorate_transport::is_statement_of(key, statement, signature)
    }
}

/// Fills `bytes` from the system's generator.
pub(super) fn entropy(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|e| Error::System { what: "random bytes", source: io::Error::other(e.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Every bit of either copy, one at a time: the node is the same one, and both copies are whole again.
    #[test]
    fn one_flipped_bit_costs_no_identity() {
        let dir = tempfile::tempdir().unwrap();
        let id = node_key(dir.path(), false).unwrap().node();
        let good = fs::read(dir.path().join(NODE_KEY)).unwrap();
        for name in [NODE_KEY, NODE_KEY_COPY] {
            for bit in (0..good.len() * 8).step_by(5) {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                fs::write(dir.path().join(name), &bad).unwrap();
                assert_eq!(node_key(dir.path(), true).unwrap().node(), id, "bit {bit} of {name}");
                assert_eq!(fs::read(dir.path().join(name)).unwrap(), good, "bit {bit} of {name}");
            }
            fs::write(dir.path().join(name), b"").unwrap();
            assert_eq!(node_key(dir.path(), true).unwrap().node(), id);
            fs::remove_file(dir.path().join(name)).unwrap();
            assert_eq!(node_key(dir.path(), true).unwrap().node(), id, "{name} is gone");
        }
    }

    #[test]
    fn a_copy_alone_revives_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let id = node_key(dir.path(), false).unwrap().node();
        fs::remove_file(dir.path().join(NODE_KEY)).unwrap();
        assert_ne!(node_key(dir.path(), false).unwrap().node(), id, "there is no log any more: a new node");
        for name in [NODE_KEY, NODE_KEY_COPY] {
            fs::write(dir.path().join(name), b"neither").unwrap();
        }
        assert!(matches!(node_key(dir.path(), true), Err(Error::Key(_))), "nothing is made up beside a log");
    }

    #[test]
    fn a_damaged_quic_key_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let first = secrets(dir.path()).unwrap();
        assert_eq!(secrets(dir.path()).unwrap().reset, first.reset);
        fs::write(dir.path().join(QUIC_KEY), [1; 39]).unwrap();
        assert_ne!(secrets(dir.path()).unwrap().reset, first.reset);
        assert_eq!(fs::read(dir.path().join(QUIC_KEY)).unwrap().len(), QUIC_KEY_BYTES);
    }
}
