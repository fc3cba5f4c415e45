//! `quorate explain`: the page of a code, and which code was meant.
//!
//! It never looks at a case.

use super::{Cause, pages};

/// The page of a cause, in lines of text.
#[must_use]
pub fn page(cause: Cause) -> Vec<String> {
    let pages::Page { means, seen, todo, never } = cause.row().page;
    let mut lines = vec![format!("{}  {}  ({})", cause.code(), cause.title(), cause.severity())];
    let mut part = |title: &str, text: &[&str], numbered: bool| {
        lines.extend([String::new(), title.to_owned()]);
        for (at, item) in text.iter().enumerate() {
            let lead = if numbered { format!("  {}) ", at + 1) } else { "  ".into() };
            let indent = " ".repeat(lead.len());
            let wrapped = wrap(item, 96);
            lines.extend(
                wrapped
                    .into_iter()
                    .enumerate()
                    .map(|(n, line)| if n == 0 { format!("{lead}{line}") } else { format!("{indent}{line}") }),
            );
        }
    };
    part("What it means", &[means], false);
    part("How it is recognised", &[seen], false);
    part("What to do", todo, true);
    part("What not to do", &[never], false);
    lines
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut();
        match last {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The code that was most likely meant: the nearest number, or, of words, the title that holds them, if any does.
#[must_use]
pub fn nearest(text: &str) -> Option<Cause> {
    let digits: String = text.chars().filter(char::is_ascii_digit).take(6).collect();
    let Ok(number) = digits.parse::<u32>() else {
        let word = text.trim().to_lowercase();
        return Cause::all().find(|cause| word.len() > 2 && cause.title().to_lowercase().contains(&word));
    };
    Cause::all().min_by_key(|cause| u32::from(cause.row().number).abs_diff(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for cause in Cause::all() {
            let lines = page(cause);
            assert!(lines[0].starts_with(&cause.code()), "{lines:?}");
            assert!(lines.iter().all(|line| line.chars().count() <= 110), "{lines:?}");
            let text = lines[1..].join("\n");
            assert!(text.len() > 300, "{cause:?} says too little: {text}");
            assert!(seen.insert(text), "{cause:?} has the page of another cause");
        }
    }

    #[test]
    fn the_nearest_code_is_told() {
        assert_eq!(nearest("E0144"), Some(Cause::ProcessStalled));
        assert_eq!(nearest("E9999"), Some(Cause::Reported));
        assert_eq!(nearest("Quorum"), Some(Cause::QuorumDown));
        assert_eq!((nearest(""), nearest("x"), nearest("nonsense")), (None, None, None));
    }
}
