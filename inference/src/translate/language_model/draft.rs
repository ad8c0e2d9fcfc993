//! What the model will probably write next, looked up in another translation of the same text: a
//! quick translator finds many of the words that the model chooses. The model reads a few of them
//! along with the token before, and those that it would have chosen itself cost no step of their own
//! (prompt lookup decoding: Saxena, 2023; speculative decoding: Leviathan et al., 2023). It writes
//! the same as without them.

use std::sync::{Arc, OnceLock};

/// Tokens of the other translation, with the token that ends a turn behind them. It may come while
/// the model writes, or never.
pub(super) type Hint = Arc<OnceLock<Vec<u32>>>;

/// Places of the hint whose neighbourhood is compared, counted in tokens before them.
const LONGEST_MATCH: usize = 3;

/// Up to `most` tokens that follow in the hint where the same was written before as in `chosen`; of
/// several such places the one that agrees for longest and is nearest.
pub(super) fn lookup(hint: &[u32], chosen: &[u32], most: usize) -> Vec<u32> {
    if chosen.is_empty() {
        return hint.iter().take(most).copied().collect();
    }
    let agreement = |place: usize| {
        let before = hint[..place].iter().rev().zip(chosen.iter().rev());
        before.take(LONGEST_MATCH).take_while(|(hinted, chosen)| hinted == chosen).count()
    };
    let place = (1..hint.len())
        .filter(|place| agreement(*place) > 0)
        .max_by_key(|place| (agreement(*place), std::cmp::Reverse(place.abs_diff(chosen.len()))));
    place.map_or_else(Vec::new, |place| hint[place..].iter().take(most).copied().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_follows_the_same_words_is_found() {
        let hint = [10, 11, 12, 13, 11, 14, 99];
        assert_eq!(lookup(&hint, &[], 2), [10, 11]);
        assert_eq!(lookup(&hint, &[10], 2), [11, 12]);
        assert_eq!(lookup(&hint, &[7, 12], 3), [13, 11, 14]);
        assert!(lookup(&hint, &[7], 2).is_empty());
        assert_eq!(lookup(&hint, &[14], 2), [99], "the end is a guess as well");
        assert!(lookup(&hint, &[99], 2).is_empty(), "nothing follows the end");
        assert!(lookup(&[], &[1], 2).is_empty() && lookup(&[], &[], 2).is_empty());
    }

    #[test]
    fn of_several_places_the_one_that_agrees_for_longest_wins_and_then_the_nearest() {
        let hint = [10, 11, 12, 13, 11, 14];
        assert_eq!(lookup(&hint, &[13, 11], 1), [14]);
        assert_eq!(lookup(&hint, &[7, 11], 1), [12]);
        assert_eq!(lookup(&hint, &[7, 7, 7, 7, 11], 1), [14]);
    }

    proptest! {
        #[test]
        fn whatever_was_written_a_draft_is_a_part_of_the_hint(
            hint in prop::collection::vec(0u32..6, 0..20),
            chosen in prop::collection::vec(0u32..6, 0..20),
            most in 0usize..4,
        ) {
            let draft = lookup(&hint, &chosen, most);
            prop_assert!(draft.len() <= most);
            prop_assert!(draft.is_empty() || hint.windows(draft.len()).any(|part| part == draft));
        }
    }
}
