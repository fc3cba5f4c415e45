//! Recovery: the log of one disk goes on alone, as a new history, after the quorum of the old one is lost for good.
//!
//! It never guesses what other disks held, keeps nothing behind a damaged place (offsets have no holes), and destroys
//! nothing: the old log is set aside. No agent runs on the directory meanwhile.
//!
//! Every entry keeps its index, term, offset, time and payload; it is sealed again under the new log id, so that no
//! agent of the old history can ever exchange a Raft message with the new one. Behind them come two kinds of entries:
//! every other node that holds a name is dropped, and in legal steps this node becomes the only voter.

use super::error::Error;
use super::unused::Unused;
use crate::codec;
use crate::machine::registry::{Command, Registry};
use crate::node::Founding;
use bytes::Bytes;
use quorate_raft::wal::{
    self, Batch, Damage, Disk, Entry, EntryFields, EntryHeader, EntryKind, Meta, Opened, OsDisk, Seen, Verified,
};
use quorate_raft::{Configuration, HardState, LogIndex, NodeId, Term};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of entries written and synced at a time.
const BATCH_BYTES: usize = 4 << 20;

/// What would be kept, and what not.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The identity of the disk, its term and vote.
    pub(crate) meta: Meta,
    /// The id of the history that ends.
    pub(crate) log_id: [u8; 16],
    /// Entries kept.
    pub(crate) entries: u64,
    /// Records in them.
    pub(crate) records: u64,
    /// The last of them.
    pub(crate) last: EntryHeader,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// The group, as far as the kept entries tell.
    pub(crate) configuration: Configuration,
    /// Who holds which name, as far as the kept entries tell.
    pub(crate) registry: Registry,
    /// Entries that stand behind the first damaged place and cannot be kept.
    pub(crate) entries_behind_damage: u64,
    /// Records in them.
    pub(crate) records_behind_damage: u64,
    /// The first place that is damaged, if one is.
    pub(crate) damage: Option<Damage>,
}

/// Looks at a directory and changes nothing. `None` if its log holds no entry. `progress` hears bytes read, of so many.
pub(crate) fn look(unused: &Unused, progress: &mut dyn FnMut(u64, u64)) -> Result<Option<Kept>, Error> {
    let mut walk = Walk::default();
    let found = walk.through(unused, progress, &mut |_, _| Ok(()))?;
    let (Some(last), Some(meta)) = (walk.last, found.meta) else { return Ok(None) };
    let Some(log_id) = meta.log_id else { return Ok(None) };
    Ok(Some(Kept {
        meta,
        log_id,
        entries: walk.entries,
        records: walk.records,
        last,
        bytes: walk.bytes,
        configuration: walk.configuration,
        registry: walk.registry,
        entries_behind_damage: walk.entries_behind,
        records_behind_damage: walk.records_behind,
        damage: found.damaged.into_iter().next(),
    }))
}

/// Makes the new history beside the old one, then puts it in its place. Gives where the old one lies. A crash at any
/// point leaves the old history, or this one: what was begun is finished by the next start.
pub(crate) fn carry_out(
    unused: Unused,
    kept: &Kept,
    new_id: [u8; 16],
    seed: u64,
    time: &str,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PathBuf, Error> {
    let beside = unused.prepare_recovery()?;
    let log_error = |error| Error::of_log(&beside, error);
    let term = kept.meta.hard_state.term.max(kept.last.term).next();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(&beside).map_err(super::files::at("open", &beside))?);
    let meta = Meta {
        log_id: Some(new_id),
        boot_epoch: kept.meta.boot_epoch,
        hard_state: HardState { term, vote: None },
        start: kept.meta.start,
        ..Meta::new(kept.meta.cluster, kept.meta.node)
    };
    wal::create(&disk, meta).map_err(log_error)?;
    let opened = wal::open(disk, wal::Options { seed, ..wal::Options::default() }).map_err(log_error)?;
    let mut copy = Copy::new(opened, new_id, beside.clone());
    let mut walk = Walk::default();
    walk.through(&unused, progress, &mut |entry, payload| copy.take(entry, payload))?;
    if walk.last != Some(kept.last) {
        let what = "the directory was changed meanwhile".to_owned();
        return Err(Error::Foreign { path: beside, what, next: "run the command again" });
    }
    copy.end(term, kept)?;
    unused.finish_recovery(time)
}

/// One pass over the entries in force, up to the first one that cannot be read.
#[derive(Default)]
struct Walk {
    last: Option<EntryHeader>,
    entries: u64,
    records: u64,
    bytes: u64,
    configuration: Configuration,
    registry: Registry,
    entries_behind: u64,
    records_behind: u64,
    broken: bool,
}

impl Walk {
    fn through(
        &mut self,
        unused: &Unused,
        progress: &mut dyn FnMut(u64, u64),
        visit: &mut dyn FnMut(&Entry, Control) -> Result<(), Error>,
    ) -> Result<Verified, Error> {
        let mut trouble = None;
        let mut see = |seen: Seen<'_>| {
            match seen {
                Seen::Entry { entry, in_force: true, .. } if trouble.is_none() => match self.take(entry) {
                    Some(control) => trouble = visit(entry, control).err(),
                    None => self.leave_behind(entry.header()),
                },
                Seen::Progress { bytes, of } => progress(bytes, of),
                Seen::Entry { .. } | Seen::Segment { .. } => {}
            }
            None
        };
        let found = wal::verify(unused.log(), &mut see).map_err(|e| Error::of_log(unused.log().path(), e))?;
        trouble.map_or(Ok(found), Err)
    }

    /// What a control entry says; `None` if this entry cannot follow what is kept.
    fn take(&mut self, entry: &Entry) -> Option<Control> {
        let header = entry.header();
        let follows = match &self.last {
            Some(last) => entry.follows(last).is_ok(),
            // A log begins with its founding; nothing else tells who was in it.
            None => header.index == LogIndex(1) && entry.chains_to(wal::CHAIN_GENESIS).is_ok(),
        };
        if self.broken || !follows {
            return None;
        }
        let control = Control::of(entry)?;
        match &control {
            Control::Founding(founding) => {
                self.configuration = founding.configuration.clone();
                let founders = founding.founders().cloned();
                founders.for_each(|founder| self.registry.apply(Command::Register(founder)));
            }
            Control::Configuration(configuration) => self.configuration = configuration.clone(),
            Control::Registry(command) => self.registry.apply(command.clone()),
            Control::None => {}
        }
        self.last = Some(*header);
        self.entries += 1;
        self.records += u64::from(header.count);
        self.bytes += entry.bytes().len() as u64;
        Some(control)
    }

    fn leave_behind(&mut self, header: &EntryHeader) {
        self.broken = true;
        self.entries_behind += 1;
        self.records_behind += u64::from(header.count);
    }
}

/// What an entry says to the group.
enum Control {
    None,
    Founding(Founding),
    Configuration(Configuration),
    Registry(Command),
}

impl Control {
    /// `None` if its payload does not decode: nothing may be built on it.
    fn of(entry: &Entry) -> Option<Self> {
        let payload = entry.payload();
        match entry.header().kind {
            EntryKind::Normal | EntryKind::Noop => Some(Self::None),
            EntryKind::Founding => codec::decode(&payload, "founding entry").ok().map(Self::Founding),
            EntryKind::Configuration => codec::decode(&payload, "configuration").ok().map(Self::Configuration),
            EntryKind::Registry => codec::decode(&payload, "registration").ok().map(Self::Registry),
        }
    }
}

/// The new history as it grows.
struct Copy {
    opened: Opened,
    new_id: [u8; 16],
    path: PathBuf,
    chain: u64,
    last: Option<EntryHeader>,
    pending: Vec<Entry>,
    pending_bytes: usize,
}

impl Copy {
    fn new(opened: Opened, new_id: [u8; 16], path: PathBuf) -> Self {
        let chain = opened.meta.start.chain;
        Self { opened, new_id, path, chain, last: None, pending: Vec::new(), pending_bytes: 0 }
    }

    fn take(&mut self, entry: &Entry, control: Control) -> Result<(), Error> {
        let payload = match control {
            Control::Founding(founding) => codec::encode(&Founding { log_id: self.new_id, ..founding }).into(),
            _ => entry.payload(),
        };
        let h = entry.header();
        let fields = EntryFields {
            seed: crate::node::log_seed(&self.new_id),
            index: h.index,
            term: h.term,
            kind: h.kind,
            base_offset: h.base_offset,
            count: h.count,
            time: h.time,
            lamport: h.lamport,
            shard: h.shard,
            session: h.session,
            seq: h.seq,
        };
        self.push(fields, &payload)
    }

    fn push(&mut self, fields: EntryFields, payload: &Bytes) -> Result<(), Error> {
        let entry = Entry::seal(fields, self.chain, payload);
        self.chain = entry.header().chain;
        self.last = Some(*entry.header());
        self.pending_bytes += entry.bytes().len();
        self.pending.push(entry);
        if self.pending_bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.pending_bytes = 0;
        let batch = Batch { append: std::mem::take(&mut self.pending), ..Batch::default() };
        let writer = &mut self.opened.writer;
        writer.write(&batch).and_then(|()| writer.sync()).map_err(|error| Error::of_log(&self.path, error))
    }

    /// The others are dropped, and this node votes alone, in a term that nobody has seen.
    fn end(mut self, term: Term, kept: &Kept) -> Result<(), Error> {
        let me = kept.meta.node;
        let others = kept.registry.nodes().filter(|r| r.node != me.get());
        let dropped: Vec<_> = others.map(|r| Command::Forget { node: r.node, name: r.name.clone() }).collect();
        for command in dropped {
            self.control(term, EntryKind::Registry, codec::encode(&command).into())?;
        }
        for step in kept.configuration.steps_to_sole(me) {
            self.control(term, EntryKind::Configuration, codec::encode(&step).into())?;
        }
        self.flush()
    }

    fn control(&mut self, term: Term, kind: EntryKind, payload: Bytes) -> Result<(), Error> {
        let Some(last) = self.last else { return Ok(()) };
        let fields = EntryFields {
            seed: last.seed,
            index: last.index.next(),
            term,
            kind,
            base_offset: last.next_offset(),
            count: 0,
            time: last.time,
            lamport: last.lamport,
            shard: 0,
            session: 0,
            seq: 0,
        };
        self.push(fields, &payload)
    }
}

/// The nodes that voted in the old history, each with the name it held.
pub(crate) fn voters(kept: &Kept) -> Vec<(NodeId, Option<String>)> {
    let configuration = &kept.configuration;
    let all = configuration.voters.union(&configuration.outgoing);
    all.map(|node| (*node, kept.registry.node(node.get()).map(|r| r.name.clone()))).collect()
}
