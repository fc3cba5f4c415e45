//! Spelling: which of the known words was meant.
//!
//! It never corrects anything: it is for people to read.

/// Characters of a word that are looked at.
const CHARS_MAX: usize = 64;

/// The known word with the smallest edit distance, if it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(CHARS_MAX).map(|c| c.to_ascii_lowercase()).collect();
    let (distance, best) = known.into_iter().map(|known| (edit_distance(&word, known), known)).min()?;
    (distance <= (best.len() / 3).max(1)).then_some(best)
}

/// Levenshtein's distance, one row at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_guessed_and_another_word_is_not() {
        let agents = ["rome-1", "rome-2", "oslo"];
        assert_eq!(nearest("Rome_1", agents), Some("rome-1"));
        assert_eq!(nearest("olso", ["oslo", "x"]), None, "two slips in four letters");
        assert_eq!(nearest("osl", agents), Some("oslo"));
        assert_eq!(nearest("paris", agents), None);
        assert_eq!(nearest("b", ["a"]), Some("a"));
        assert_eq!(nearest("a", []), None);
    }
}
