//! How a decoder is fed, and what it may take.

use peakmem_alloc::PeakMemAllocTrait;
use std::panic::RefUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What one byte of input may cost at most, in bytes: a table of members is the worst, with entries, indexes and events.
const BYTES_PER_BYTE: usize = 128;
/// What no input at all may cost. MessagePack's lists are given room ahead, up to serde's bound of 1 MiB, and a list in a
/// list has it twice.
pub(crate) const BYTES_ANYWAY: usize = 5 << 19;
/// The same for layouts of our own, which never make room ahead of what is there.
pub(crate) const BYTES_LAID_BY_HAND: usize = 64 << 10;

/// One measurement at a time: the counter is the process's.
static TURN: Mutex<()> = Mutex::new(());

/// Every test begins by taking its turn, before it makes anything.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a fuzzer chooses: which example; bytes of it to change; where to cut it, and what to put there.
type Choice = (u8, Vec<(u16, u8)>, u16, Vec<u8>);

fn time() -> Duration {
    let seconds = std::env::var("QUORATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map_or(Duration::from_millis(800), Duration::from_secs)
}

/// Noise alone, an example with some bytes changed, or half an example and noise.
fn spoil(examples: &[Vec<u8>], (which, edits, cut, noise): &Choice) -> Vec<u8> {
    let Some(example) = examples.get(usize::from(*which) % (examples.len() + 1)) else { return noise.clone() };
    let mut bytes = example.clone();
    for (at, value) in edits.iter().take(4).filter(|_| !example.is_empty()) {
        let at = usize::from(*at) % bytes.len();
        bytes[at] = *value;
    }
    if cut % 3 == 0 {
        bytes.truncate(usize::from(*cut) % (bytes.len() + 1));
        bytes.extend_from_slice(noise);
    }
    bytes
}

/// Runs `decode` and says what it took at its height, in bytes.
fn measured(decode: impl FnOnce()) -> usize {
    crate::MEMORY.reset_peak_memory();
    decode();
    crate::MEMORY.get_peak_memory()
}

/// Feeds a decoder for its time.
pub(crate) fn feed(examples: Vec<Vec<u8>>, anyway: usize, decode: impl Fn(&[u8]) + RefUnwindSafe) {
    for example in &examples {
        check(example, anyway, &decode);
    }
    bolero::check!().with_test_time(time()).with_type::<Choice>().for_each(|choice: &Choice| {
        check(&spoil(&examples, choice), anyway, &decode);
    });
}

/// Feeds it these, once.
pub(crate) fn feed_each(inputs: &[(String, Vec<u8>)], anyway: usize, decode: impl Fn(&[u8])) {
    for (what, bytes) in inputs {
        let peak = measured(|| decode(bytes));
        assert!(peak <= bytes.len() * BYTES_PER_BYTE + anyway, "{what}: {} bytes took {peak}", bytes.len());
    }
}

fn check(bytes: &[u8], anyway: usize, decode: &impl Fn(&[u8])) {
    let peak = measured(|| decode(bytes));
    assert!(peak <= bytes.len() * BYTES_PER_BYTE + anyway, "{} bytes took {peak}", bytes.len());
}

/// The counter counts: else no bound would mean anything.
#[test]
fn what_a_decoder_takes_is_seen() {
    let _turn = turn();
    let greedy = measured(|| drop(std::hint::black_box(vec![1_u8; 10 << 20])));
    assert!(greedy >= 10 << 20);
    let modest = measured(|| drop(std::hint::black_box(vec![1_u8; 10])));
    assert!((10..BYTES_LAID_BY_HAND).contains(&modest), "{modest}");
}
