//! Which links a partition cuts, and which links bad weather is on.
//!
//! It never decides who is meant by "the leader": that is known when the moment has come.

use super::link::Policy;
use super::plan::Cut;

/// A policy for some links, by sender and receiver; the number behind the last agent stands for the clients.
pub(super) type Overlay = Vec<(usize, usize, Policy)>;

const GONE: Policy =
    Policy { cut: true, flap_ms: 0, delay_ms: 0, jitter_ms: 0, loss: 0, duplicate: 0, reorder: 0, rate: 0 };

/// The links that `cut` cuts, where `who` is the agent that it is about. Clients reach everybody: what a cluster answers
/// while it is cut is what is to be checked.
pub(super) fn cut(cut: Cut, who: usize, nodes: usize) -> Overlay {
    let mut overlay = Vec::new();
    for from in 0..nodes {
        for to in (0..nodes).filter(|to| *to != from) {
            let is_cut = match cut {
                Cut::Halves(half) => (from < half) != (to < half),
                Cut::Isolate(_) => from == who || to == who,
                Cut::Bridge(bridge) => {
                    let side = |agent: usize| (agent + nodes - bridge) % nodes <= nodes / 2;
                    from != bridge && to != bridge && side(from) != side(to)
                }
                Cut::Mute(_) => from == who,
                Cut::Deaf(_) => to == who,
                Cut::Flap(_, flap_ms) => {
                    if from == who || to == who {
                        overlay.push((from, to, Policy { flap_ms, ..Policy::default() }));
                    }
                    false
                }
            };
            if is_cut {
                overlay.push((from, to, GONE));
            }
        }
    }
    overlay
}

/// All links in both directions, of clients too, or those of one agent.
pub(super) fn weather(policy: Policy, of: Option<usize>, nodes: usize) -> Overlay {
    let all = (0..=nodes).flat_map(|from| (0..=nodes).map(move |to| (from, to)));
    let meant = all.filter(|(from, to)| from != to && of.is_none_or(|of| *from == of || *to == of));
    meant.map(|(from, to)| (from, to, policy)).collect()
}

/// What all of them together do to each link.
pub(super) fn together<'a>(overlays: impl Iterator<Item = &'a Overlay>, nodes: usize) -> Vec<Vec<Policy>> {
    let mut all = vec![vec![Policy::default(); nodes + 1]; nodes + 1];
    for (from, to, policy) in overlays.flatten() {
        all[*from][*to] = all[*from][*to].and(*policy);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::torture::plan::Who;

    fn links(of: Cut, who: usize, nodes: usize) -> Vec<(usize, usize)> {
        cut(of, who, nodes).into_iter().map(|(from, to, _)| (from, to)).collect()
    }

    #[test]
    fn a_partition_cuts_what_its_name_says() {
        assert_eq!(links(Cut::Halves(1), 0, 3), [(0, 1), (0, 2), (1, 0), (2, 0)]);
        assert_eq!(links(Cut::Isolate(Who::Leader), 2, 3), [(0, 2), (1, 2), (2, 0), (2, 1)]);
        assert_eq!(links(Cut::Mute(Who::Nth(1)), 1, 3), [(1, 0), (1, 2)]);
        assert_eq!(links(Cut::Deaf(Who::Nth(1)), 1, 3), [(0, 1), (2, 1)]);
        assert_eq!(links(Cut::Flap(Who::Leader, 9), 0, 3).len(), 4);
        assert!(cut(Cut::Flap(Who::Leader, 9), 0, 3).iter().all(|(.., policy)| policy.flap_ms == 9 && !policy.cut));
        // Of three, the bridge hears both others; of five, there are two on each side.
        assert_eq!(links(Cut::Bridge(0), 0, 3), [(1, 2), (2, 1)]);
        let five = links(Cut::Bridge(3), 0, 5);
        assert_eq!(five.len(), 8);
        assert!(five.iter().all(|(from, to)| *from != 3 && *to != 3));
    }

    #[test]
    fn weather_is_everywhere_or_at_one_agent() {
        let rain = Policy { loss: 10, ..Policy::default() };
        assert_eq!(weather(rain, None, 3).len(), 12);
        let at_one: Vec<_> = weather(rain, Some(1), 3).into_iter().map(|(from, to, _)| (from, to)).collect();
        assert_eq!(at_one, [(0, 1), (1, 0), (1, 2), (1, 3), (2, 1), (3, 1)]);
        let all = together([&weather(rain, Some(1), 3), &cut(Cut::Halves(1), 0, 3)].into_iter(), 3);
        assert!(all[0][1].cut && all[0][1].loss == 10 && !all[1][2].cut && all[0][3] == Policy::default());
    }
}
