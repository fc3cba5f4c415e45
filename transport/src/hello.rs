//! The greeting: what two agents tell and prove to each other before they are peers, and the light one for clients.
//! Never does IO.
//!
//! | frame | bytes |
//! |---|---|
//! | Hello, Welcome | kind (1 or 2), MessagePack map, Ed25519 signature (64) |
//! | Ready | kind (3) |
//! | rpc Hello, rpc Welcome | kind (4 or 5), MessagePack map |
//!
//! A frame of the greeting is the first on its stream, which is the first that the dialler opens. On `peer` and `bulk`
//! that stream stays and carries what follows; on `rpc` the client may end its side after Hello, and the agent ends its
//! own after Welcome. The limit of each frame is `Limits::hello_bytes_max` (4 KiB), its deadline `hello_deadline` (2 s).
//!
//! The maps have these keys, in any order:
//!
//! | key | value | Hello, Welcome | rpc Hello | rpc Welcome |
//! |---|---|---|---|---|
//! | `min`, `max` | the protocol versions spoken, u16 | yes | yes | yes |
//! | `version` | the program's version, text of at most 64 bytes | yes | yes | yes |
//! | `features` | bits, u64 | yes | yes | yes |
//! | `cluster` | the cluster id, 16 bytes (`bin`) | yes | | yes |
//! | `name` | the name in the certificate, text | yes | | yes |
//! | `key` | the node key, 32 bytes (`bin`) | yes | | |
//! | `node` | the node id, u64 | | | yes |
//! | `boot_epoch` | count of starts, u64 | yes | | |
//! | `boot_id` | random for each start, u64 | yes | | yes |
//! | `log_id` | the history, 16 bytes (`bin`), or nil | yes | | yes |
//! | `advertised` | where to dial the sender, an address or nil | yes | | |
//! | `port` | the sender's UDP port, u16 | yes | | |
//! | `observed` | the other side's address as the sender sees it | yes | | yes |
//!
//! An address is a map of one entry: `{"V4": [[a, b, c, d], port]}`, or `"V6"` with 16 bytes as integers.
//!
//! The signature is over 64 bytes of the TLS exporter with the label `EXPORTER-quorate-hello`, whose context is the
//! kind and the map as sent: it binds every field to this one connection and to the sender's side of it. Unknown keys
//! of the map are skipped, so a newer version may say more; the keys `min` and `max` never change.

use std::net::SocketAddr;

use quorate_certs::{AgentName, ClusterId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::key::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES, node_id, verified};
use crate::{Code, LocalNode, LogId, NodeKey, PeerHello, Refused, sanitize};

/// The protocol versions this build speaks.
pub(crate) const PROTOCOL: (u16, u16) = (1, 1);
/// The longest version text, in bytes.
const VERSION_BYTES_MAX: usize = 64;
/// The deepest nesting of a greeting.
const DEPTH_MAX: usize = 8;
const LABEL: &[u8] = b"EXPORTER-quorate-hello";
/// Bytes taken from the exporter.
const EXPORT_BYTES: usize = 64;

/// Which greeting it is; bound by the signature, so that one cannot be returned as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 1,
    Welcome = 2,
    Ready = 3,
    RpcHello = 4,
    RpcWelcome = 5,
}

/// The map of Hello and Welcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) min: u16,
    pub(crate) max: u16,
    pub(crate) version: String,
    pub(crate) features: u64,
    pub(crate) cluster: ByteArray<16>,
    pub(crate) name: String,
    pub(crate) key: ByteArray<PUBLIC_KEY_BYTES>,
    pub(crate) boot_epoch: u64,
    pub(crate) boot_id: u64,
    pub(crate) log_id: Option<ByteArray<16>>,
    pub(crate) advertised: Option<SocketAddr>,
    pub(crate) port: u16,
    /// The other side's address, as this side sees it.
    pub(crate) observed: SocketAddr,
}

/// The map of the client's Hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RpcHello {
    pub(crate) min: u16,
    pub(crate) max: u16,
    pub(crate) version: String,
    pub(crate) features: u64,
}

/// What an agent says about itself to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RpcWelcome {
    /// The lowest protocol version it speaks.
    pub min: u16,
    /// The highest protocol version it speaks.
    pub max: u16,
    /// Its program's version (sanitised).
    pub version: String,
    /// Its feature bits.
    pub features: u64,
    /// The cluster's id.
    pub cluster: ByteArray<16>,
    /// Its name, which its certificate proves too.
    pub name: String,
    /// Its node id.
    pub node: u64,
    /// Its present start.
    pub boot_id: u64,
    /// The history it holds.
    pub log_id: Option<ByteArray<16>>,
    /// The client's address as the agent sees it.
    pub observed: SocketAddr,
}

impl RpcWelcome {
    /// The history it holds.
    pub fn log(&self) -> Option<LogId> {
        self.log_id.map(|id| *id)
    }
}

/// The range alone: all that must be readable in a greeting of any version.
#[derive(Deserialize)]
struct Range {
    min: u16,
    max: u16,
}

/// Makes the exporter's bytes; a closure, so that the greeting needs no connection.
pub(crate) type Export<'a> = &'a dyn Fn(&mut [u8], &[u8], &[u8]) -> bool;

/// What a verified Hello or Welcome says.
#[derive(Debug, Clone)]
pub(crate) struct Proven {
    pub(crate) hello: PeerHello,
    pub(crate) observed: SocketAddr,
}

/// What this node says to `observed`.
pub(crate) fn greeting(
    local: &LocalNode,
    log_id: Option<LogId>,
    cluster: ClusterId,
    port: u16,
    observed: SocketAddr,
) -> Greeting {
    Greeting {
        min: PROTOCOL.0,
        max: PROTOCOL.1,
        version: cut(&local.version),
        features: local.features,
        cluster: ByteArray::new(cluster.to_bytes()),
        name: local.name.to_string(),
        key: ByteArray::new(local.key.public()),
        boot_epoch: local.boot_epoch,
        boot_id: local.boot_id,
        log_id: log_id.map(ByteArray::new),
        advertised: local.advertise,
        port,
        observed,
    }
}

/// The frame of a Hello or a Welcome.
pub(crate) fn seal(kind: Kind, greeting: &Greeting, key: &NodeKey, export: Export<'_>) -> Result<Vec<u8>, Refused> {
    let mut frame = vec![kind as u8];
    encode(greeting, &mut frame)?;
    let signature = key.sign(&exported(&frame, export)?);
    frame.extend_from_slice(&signature);
    Ok(frame)
}

/// Reads a Hello or a Welcome and checks all that it can prove: versions, cluster, name, key.
pub(crate) fn open(
    kind: Kind,
    frame: &[u8],
    cluster: ClusterId,
    certified: &AgentName,
    bulk: bool,
    export: Export<'_>,
) -> Result<Proven, Refused> {
    let malformed = || Refused::new(Code::Malformed, "the greeting is malformed");
    let split = frame.len().checked_sub(SIGNATURE_BYTES).filter(|&at| at > 1).ok_or_else(malformed)?;
    let (signed, signature) = frame.split_at(split);
    if signed[0] != kind as u8 {
        return Err(malformed());
    }
    // The range comes first: a greeting of another version may hold nothing else that can be read.
    common_version(&decode::<Range>(&signed[1..])?)?;
    let said: Greeting = decode(&signed[1..])?;
    if *said.cluster != cluster.to_bytes() {
        return Err(Refused::new(
            Code::ClusterMismatch,
            format!("this side is of cluster {cluster}, the greeting of another"),
        ));
    }
    if said.name != certified.as_str() {
        return Err(Refused::new(Code::IdentityMismatch, "the name in the greeting is not the certificate's"));
    }
    if said.version.len() > VERSION_BYTES_MAX {
        return Err(malformed());
    }
    let node = node_id(&said.key).ok_or_else(malformed)?;
    if !verified(&said.key, &exported(signed, export)?, signature) {
        return Err(Refused::new(Code::IdentityMismatch, "the node key did not sign this greeting"));
    }
    let hello = PeerHello {
        node,
        name: certified.clone(),
        public_key: *said.key,
        boot_epoch: said.boot_epoch,
        boot_id: said.boot_id,
        log_id: said.log_id.map(|id| *id),
        advertised: said.advertised.filter(dialable),
        port: said.port,
        version: sanitize(&said.version),
        features: said.features,
        bulk,
        dialled: kind == Kind::Welcome,
    };
    Ok(Proven { hello, observed: said.observed })
}

/// The frame of a client's Hello.
pub(crate) fn rpc_hello(version: &str, features: u64) -> Result<Vec<u8>, Refused> {
    let mut frame = vec![Kind::RpcHello as u8];
    let version = cut(version);
    encode(&RpcHello { min: PROTOCOL.0, max: PROTOCOL.1, version, features }, &mut frame)?;
    Ok(frame)
}

/// The frame of the answer to a client.
pub(crate) fn rpc_welcome(welcome: &RpcWelcome) -> Result<Vec<u8>, Refused> {
    let mut frame = vec![Kind::RpcWelcome as u8];
    encode(welcome, &mut frame)?;
    Ok(frame)
}

/// Reads a client's Hello.
pub(crate) fn open_rpc_hello(frame: &[u8]) -> Result<RpcHello, Refused> {
    let body = of_kind(Kind::RpcHello, frame)?;
    common_version(&decode::<Range>(body)?)?;
    decode(body)
}

/// Reads the answer to a client.
pub(crate) fn open_rpc_welcome(frame: &[u8]) -> Result<RpcWelcome, Refused> {
    let body = of_kind(Kind::RpcWelcome, frame)?;
    common_version(&decode::<Range>(body)?)?;
    let mut welcome: RpcWelcome = decode(body)?;
    welcome.version = sanitize(&welcome.version);
    Ok(welcome)
}

/// A version text within its limit.
fn cut(version: &str) -> String {
    let mut end = version.len().min(VERSION_BYTES_MAX);
    while !version.is_char_boundary(end) {
        end -= 1;
    }
    version[..end].to_owned()
}

fn of_kind(kind: Kind, frame: &[u8]) -> Result<&[u8], Refused> {
    match frame.split_first() {
        Some((&first, body)) if first == kind as u8 => Ok(body),
        _ => Err(Refused::new(Code::Malformed, "the greeting is malformed")),
    }
}

fn common_version(theirs: &Range) -> Result<(), Refused> {
    if theirs.min <= theirs.max && theirs.min <= PROTOCOL.1 && theirs.max >= PROTOCOL.0 {
        return Ok(());
    }
    let (min, max) = PROTOCOL;
    let text =
        format!("this side speaks {min}..{max}, the other {}..{}; upgrade the older one", theirs.min, theirs.max);
    Err(Refused::new(Code::Version, text))
}

/// An address that a peer may ask to be dialled at: a port, and one machine.
fn dialable(addr: &SocketAddr) -> bool {
    addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
}

fn exported(context: &[u8], export: Export<'_>) -> Result<[u8; EXPORT_BYTES], Refused> {
    let mut bytes = [0; EXPORT_BYTES];
    if export(&mut bytes, LABEL, context) {
        Ok(bytes)
    } else {
        Err(Refused::new(Code::Malformed, "the handshake is not complete"))
    }
}

fn encode<T: Serialize>(value: &T, frame: &mut Vec<u8>) -> Result<(), Refused> {
    rmp_serde::encode::write_named(frame, value)
        .map_err(|_| Refused::new(Code::Malformed, "this side's greeting cannot be encoded"))
}

/// Strict: bounded depth and nothing after the value.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    let malformed = |_| Refused::new(Code::Malformed, "the greeting is malformed");
    let mut rest = bytes;
    #[expect(clippy::disallowed_methods, reason = "this is the one place of this crate")]
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut deserializer).map_err(malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(Refused::new(Code::Malformed, "the greeting is malformed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(out: &mut [u8], label: &[u8], context: &[u8]) -> bool {
        let digest = ring::digest::digest(&ring::digest::SHA512, &[label, context].concat());
        out.copy_from_slice(digest.as_ref());
        true
    }

    fn local() -> LocalNode {
        LocalNode {
            key: NodeKey::generate().unwrap().0,
            name: AgentName::new("a1").unwrap(),
            boot_epoch: 3,
            boot_id: 77,
            log_id: None,
            advertise: Some("10.0.0.1:7373".parse().unwrap()),
            version: "1.2.3".to_owned(),
            features: 5,
        }
    }

    const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);

    fn said(local: &LocalNode) -> Greeting {
        greeting(local, Some([9; 16]), CLUSTER, 7373, "[::1]:1".parse().unwrap())
    }

    fn read(kind: Kind, frame: &[u8]) -> Result<Proven, Refused> {
        open(kind, frame, CLUSTER, &AgentName::new("a1").unwrap(), false, &exporter)
    }

    #[test]
    fn a_greeting_proves_what_it_says() {
        let local = local();
        let frame = seal(Kind::Hello, &said(&local), &local.key, &exporter).unwrap();
        assert!(frame.len() < 1_000, "{}", frame.len());
        let proven = read(Kind::Hello, &frame).unwrap();
        assert_eq!(proven.hello.node, local.key.node());
        assert_eq!((proven.hello.boot_epoch, proven.hello.boot_id), (3, 77));
        assert_eq!(proven.hello.log_id, Some([9; 16]));
        assert_eq!(proven.hello.advertised, local.advertise);
    }

    #[test]
    fn a_greeting_returned_to_its_sender_is_no_answer() {
        let local = local();
        let mut frame = seal(Kind::Hello, &said(&local), &local.key, &exporter).unwrap();
        assert_eq!(read(Kind::Welcome, &frame).unwrap_err().code, Code::Malformed);
        frame[0] = Kind::Welcome as u8;
        assert_eq!(read(Kind::Welcome, &frame).unwrap_err().code, Code::IdentityMismatch);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let local = local();
        let frame = seal(Kind::Hello, &said(&local), &local.key, &exporter).unwrap();
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            assert!(read(Kind::Hello, &changed).is_err(), "byte {at}");
        }
        for end in 0..frame.len() {
            assert!(read(Kind::Hello, &frame[..end]).is_err());
        }
        assert!(read(Kind::Hello, &[frame.as_slice(), b"x"].concat()).is_err());
    }

    #[test]
    fn an_impostor_cannot_use_the_public_key_of_another() {
        let (victim, impostor) = (local(), local());
        let frame = seal(Kind::Hello, &said(&victim), &impostor.key, &exporter).unwrap();
        assert_eq!(read(Kind::Hello, &frame).unwrap_err().code, Code::IdentityMismatch);
    }

    #[test]
    fn a_claim_beyond_the_certificate_is_refused() {
        let local = local();
        let mut other_name = said(&local);
        other_name.name = "b2".to_owned();
        let frame = seal(Kind::Hello, &other_name, &local.key, &exporter).unwrap();
        assert_eq!(read(Kind::Hello, &frame).unwrap_err().code, Code::IdentityMismatch);
        let mut other_cluster = said(&local);
        other_cluster.cluster = ByteArray::new([2; 16]);
        let frame = seal(Kind::Hello, &other_cluster, &local.key, &exporter).unwrap();
        assert_eq!(read(Kind::Hello, &frame).unwrap_err().code, Code::ClusterMismatch);
    }

    /// A later version may add keys, and a much later one may have none of ours but the range.
    #[test]
    fn versions_are_compared_before_anything_else() {
        let local = local();
        #[derive(Serialize)]
        struct Later {
            min: u16,
            max: u16,
            novelty: bool,
        }
        let mut frame = vec![Kind::Hello as u8];
        encode(&Later { min: 5, max: 6, novelty: true }, &mut frame).unwrap();
        let signature = local.key.sign(&exported(&frame, &exporter).unwrap());
        frame.extend_from_slice(&signature);
        let refused = read(Kind::Hello, &frame).unwrap_err();
        assert_eq!(refused.code, Code::Version);
        assert!(refused.text.contains("1..1") && refused.text.contains("5..6"), "{}", refused.text);
    }

    /// A second; `QUORATE_FUZZ_SECONDS` makes it longer.
    fn fuzz_time() -> std::time::Duration {
        let seconds = std::env::var("QUORATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        std::time::Duration::from_secs(seconds.unwrap_or(1))
    }

    #[test]
    fn no_bytes_make_the_decoders_panic() {
        bolero::check!().with_test_time(fuzz_time()).for_each(|bytes: &[u8]| {
            let _ = read(Kind::Hello, bytes);
            let _ = read(Kind::Welcome, bytes);
            let _ = open_rpc_hello(bytes);
            let _ = open_rpc_welcome(bytes);
        });
    }

    /// A greeting with any byte changed, cut or grown is refused: the signature is over all of it. The greeting of a client
    /// has none, and is read or refused.
    #[test]
    fn a_greeting_that_was_touched_is_refused() {
        let local = local();
        let good = seal(Kind::Hello, &said(&local), &local.key, &exporter).unwrap();
        assert!(read(Kind::Hello, &good).is_ok());
        let light = rpc_hello("1.2.3", 5).unwrap();
        bolero::check!().with_test_time(fuzz_time()).with_type::<(Vec<(u16, u8)>, u16, Vec<u8>)>().for_each(
            |(edits, cut, noise): &(Vec<(u16, u8)>, u16, Vec<u8>)| {
                let touch = |good: &[u8]| {
                    let mut bytes = good.to_vec();
                    edits.iter().take(4).for_each(|(at, value)| bytes[usize::from(*at) % good.len()] = *value);
                    if cut % 3 == 0 {
                        bytes.truncate(usize::from(*cut) % (good.len() + 1));
                        bytes.extend_from_slice(noise);
                    }
                    bytes
                };
                let bytes = touch(&good);
                assert_eq!(read(Kind::Hello, &bytes).is_ok(), bytes == good);
                if let Ok(hello) = open_rpc_hello(&touch(&light)) {
                    assert!(rpc_hello(&hello.version, hello.features).is_ok());
                }
            },
        );
    }
}
