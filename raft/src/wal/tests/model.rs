//! The log against a list in memory, through random writes, syncs, truncations, restarts and crashes.
//!
//! The model knows which entries a crash must keep (`floor`) and in which order the others may survive.

use proptest::prelude::*;

use super::*;
use crate::HardState;
use crate::wal::sim::SimDisk;
use crate::wal::view;

/// What a log may look like after a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) log: Vec<Entry>,
    /// So many entries are durable.
    pub(super) floor: usize,
    pub(super) hard_state: HardState,
    pub(super) boot_epoch: u64,
    pub(super) suspect: Option<crate::Position>,
}

impl Model {
    pub(super) fn last(&self) -> Option<&EntryHeader> {
        self.log.last().map(Entry::header)
    }

    /// The batch was written; entries of it are not durable yet.
    pub(super) fn wrote(&mut self, batch: &Batch) {
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
        self.suspect = batch.suspect.unwrap_or(self.suspect);
        if let Some(from) = batch.truncate_from.filter(|f| f.0 as usize <= self.log.len()) {
            self.log.truncate(from.0 as usize - 1);
            // A truncation is durable when the write returns, and so is all before it.
            self.floor = self.log.len();
        }
        self.log.extend(batch.append.iter().cloned());
    }

    pub(super) fn synced(&mut self) {
        self.floor = self.log.len();
    }

    /// May a recovery find this?
    pub(super) fn allows(&self, log: &[Entry], hard_state: HardState) -> bool {
        log.len() >= self.floor && self.log.starts_with(log) && hard_state == self.hard_state
    }

    /// May a recovery find this if the power went while `batch` was being written?
    pub(super) fn allows_during(&self, batch: &Batch, log: &[Entry], hard_state: HardState) -> bool {
        let mut after = self.clone();
        after.wrote(batch);
        // Seen only when the new segment has its name, and then everything before it is durable too; a batch that
        // only appends makes nothing durable.
        let hard_state_only = Self { hard_state: after.hard_state, ..self.clone() };
        self.allows(log, hard_state) || hard_state_only.allows(log, hard_state) || after.allows(log, hard_state)
    }

    /// The log is now what a recovery found, all of it durable.
    pub(super) fn found(&mut self, opened: &Opened) {
        self.log = all(&opened.reader);
        self.floor = self.log.len();
        self.hard_state = opened.meta.hard_state;
        self.boot_epoch = opened.meta.boot_epoch;
    }
}

/// Checks that what recovery says agrees with what the reader gives.
pub(super) fn check_summary(opened: &Opened) {
    let log = all(&opened.reader);
    let recovered = &opened.recovered;
    assert_eq!(recovered.last.as_ref(), log.last().map(Entry::header));
    assert_eq!(opened.reader.last_index().0 as usize, log.len());
    let mut runs = Vec::new();
    let mut control = Vec::new();
    for (at, entry) in log.iter().enumerate() {
        let head = entry.header();
        assert_eq!(head.index.0 as usize, at + 1);
        if runs.last().is_none_or(|(_, term)| *term != head.term) {
            runs.push((head.index, head.term));
        }
        if head.kind.is_remembered() {
            control.push(head.index);
        }
    }
    assert_eq!(recovered.runs.iter().map(|r| (r.first, r.term)).collect::<Vec<_>>(), runs);
    assert_eq!(recovered.control, control);
    let remembered: Vec<&Entry> = log.iter().filter(|entry| entry.header().kind.is_remembered()).collect();
    assert_eq!(recovered.remembered.iter().collect::<Vec<_>>(), remembered);
    // The index tells of entries in force alone, and nothing wrong of them.
    for extent in &opened.reader.shared.view().extents {
        let points = &extent.points;
        assert!(points.first().map(|p| p.index) == (extent.first < extent.next).then_some(extent.first));
        assert!(points.is_sorted_by(|a, b| a.index < b.index));
        for point in points {
            assert!((extent.first..extent.next).contains(&point.index));
            assert_eq!(*point, view::Point::of(log[point.index as usize - 1].header(), point.at));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { sizes: Vec<usize>, new_term: bool },
    Control,
    Sync,
    Truncate { back: usize, sizes: Vec<usize> },
    Vote(u64),
    Read { from: u64, len: u64, bytes: usize },
    Seek { offset: u64, time: i64 },
    Restart,
    Idle,
    Close,
    Kill,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = || prop::collection::vec(prop_oneof![0..40_usize, 400..600_usize, Just(5_000_usize)], 1..5);
    prop_oneof![
        8 => (sizes(), prop::bool::weighted(0.1)).prop_map(|(sizes, new_term)| Step::Append { sizes, new_term }),
        1 => Just(Step::Control),
        5 => Just(Step::Sync),
        2 => (1..8_usize, prop::collection::vec(0..600_usize, 0..4))
            .prop_map(|(back, sizes)| Step::Truncate { back, sizes }),
        2 => (1..4_u64).prop_map(Step::Vote),
        2 => (1..60_u64, 0..20_u64, 0..3_000_usize).prop_map(|(from, len, bytes)| Step::Read { from, len, bytes }),
        2 => (0..120_u64, 900..1_700_i64).prop_map(|(offset, time)| Step::Seek { offset, time }),
        1 => Just(Step::Restart),
        2 => Just(Step::Idle),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => Just(Step::Crash),
    ]
}

struct World {
    disk: SimDisk,
    log: Opened,
    model: Model,
    term: u64,
    lives: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        create(&disk.attach(), meta()).unwrap();
        let log = open(disk.attach(), small(seed)).unwrap();
        let model = Model { boot_epoch: 1, ..Model::default() };
        Self { disk, log, model, term: 1, lives: 1 }
    }

    fn write(&mut self, batch: Batch) {
        self.log.writer.write(&batch).unwrap();
        self.model.wrote(&batch);
    }

    fn reopen(&mut self) {
        self.lives += 1;
        // Every other life reads no more than it must.
        let verify_at_open_bytes = if self.lives.is_multiple_of(2) { 0 } else { u64::MAX };
        let options = Options { verify_at_open_bytes, ..small(self.lives) };
        let log = open(self.disk.attach(), options).unwrap();
        assert_eq!((log.recovered.damaged.len(), log.recovered.suspect), (0, None));
        let found = all(&log.reader);
        assert!(
            self.model.allows(&found, log.meta.hard_state),
            "found {} entries, {} of {} were durable; {:?} was to be {:?}",
            found.len(),
            self.model.floor,
            self.model.log.len(),
            log.meta.hard_state,
            self.model.hard_state
        );
        assert!(log.meta.boot_epoch > self.model.boot_epoch);
        check_summary(&log);
        self.model.found(&log);
        self.log = log;
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { sizes, new_term } => {
                self.term += u64::from(new_term);
                let entries = chain_of(self.model.last().copied(), self.term, sizes);
                self.write(append(entries));
            }
            Step::Control => {
                let entry = after_of(self.model.last(), self.term, EntryKind::Configuration, 0, b"who votes");
                self.write(append(vec![entry]));
            }
            Step::Sync => {
                let before = self.disk.counters().syncs;
                let dirty = self.model.floor < self.model.log.len();
                self.log.writer.sync().unwrap();
                assert!(self.disk.counters().syncs - before <= u64::from(dirty), "one sync per group commit");
                self.model.synced();
            }
            Step::Truncate { back, sizes } => {
                let keep = self.model.log.len().saturating_sub(back);
                self.term += 1;
                let before = keep.checked_sub(1).map(|at| *self.model.log[at].header());
                let hard_state = Some(HardState { term: Term(self.model.hard_state.term.0 + 1), vote: None });
                let truncate_from = (keep < self.model.log.len()).then_some(LogIndex(keep as u64 + 1));
                let append = chain_of(before, self.term, sizes);
                self.write(Batch { hard_state, truncate_from, ..super::append(append) });
            }
            Step::Vote(node) => {
                let term = self.model.hard_state.term.next();
                let hard_state = Some(HardState { term, vote: NodeId::new(node) });
                self.write(Batch { hard_state, ..Batch::default() });
            }
            Step::Read { from, len, bytes } => self.read(from, len, bytes),
            Step::Seek { offset, time } => self.seek(offset, time),
            Step::Restart => {
                // A clean end without a sync: the cache is still there.
                self.disk.kill();
                let written = self.model.log.len();
                self.reopen();
                assert_eq!(self.model.log.len(), written);
            }
            Step::Idle => self.log.writer.mark_idle(),
            Step::Close => {
                // Only a new log can take the place of the writer that is closed.
                let elsewhere = SimDisk::new(0);
                create(&elsewhere.attach(), meta()).unwrap();
                let spare = open(elsewhere.attach(), small(0)).unwrap();
                std::mem::replace(&mut self.log, spare).writer.close().unwrap();
                self.model.synced();
                self.disk.crash_keeping(|_| false);
                self.reopen();
            }
            Step::Kill => {
                self.disk.kill();
                self.reopen();
                // What a start reports is durable, though nobody synced it before.
                self.disk.crash_keeping(|_| false);
                self.reopen();
            }
            Step::Crash => {
                self.disk.crash();
                self.reopen();
            }
        }
    }

    fn read(&self, from: u64, len: u64, bytes: usize) {
        let got = self.log.reader.read(LogIndex(from), LogIndex(from + len), bytes).unwrap();
        let wanted: Vec<_> = self.model.log.iter().skip(from as usize - 1).take(len as usize + 1).collect();
        let mut fits = 0;
        let mut sum = 0;
        for entry in &wanted {
            sum += entry.bytes().len();
            if sum > bytes && fits > 0 {
                break;
            }
            fits += 1;
        }
        assert_eq!(got.iter().collect::<Vec<_>>(), wanted[..fits]);
    }

    fn seek(&self, offset: u64, time: i64) {
        let holds = |e: &&Entry| (e.header().base_offset..e.header().next_offset()).contains(&offset);
        let wanted = self.model.log.iter().find(holds).map(|e| e.header().index);
        assert_eq!(self.log.reader.seek_offset(offset).unwrap(), wanted);
        let wanted = self.model.log.iter().find(|e| e.header().time.0 >= time).map(|e| e.header().index);
        assert_eq!(self.log.reader.seek_time(Wall(time)).unwrap(), wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: Sweep::random(300), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, the log is the list: synced entries stay, the others survive in order or not at all.
    #[test]
    fn the_log_is_a_list(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(seed);
        for step in steps {
            world.take(step);
        }
        world.read(1, u64::MAX / 2, usize::MAX);
    }

    /// Where sectors tear inside, a start may suspect; it never invents, reorders or drops what was synced.
    #[test]
    fn torn_sectors_never_lie(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..30)) {
        let mut world = World::new(seed);
        world.disk.set_torn_sectors(true);
        for step in steps {
            if matches!(step, Step::Crash) {
                world.disk.crash();
                let log = open(world.disk.attach(), small(99)).unwrap();
                let found = log.reader.last_index().0 as usize;
                if let Some(suspect) = log.recovered.suspect {
                    // Whatever is not there may be missed: it was synced, or stands behind the tear.
                    let lost = world.model.log[found..world.model.floor.max(found)].last();
                    let bounded = lost.is_none_or(|e| suspect.is_at_least_as_up_to_date_as(e.header().position()));
                    prop_assert!(bounded, "{:?} is below what was acked", suspect);
                    prop_assert!(world.model.log.starts_with(&all(&log.reader)));
                    return Ok(());
                }
                world.disk.kill();
                world.reopen();
            } else {
                world.take(step);
            }
        }
    }
}
