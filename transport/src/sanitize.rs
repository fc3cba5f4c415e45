//! Makes text of strangers fit for a log line or a terminal.
//! Never interprets it.

/// The longest sanitised text, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Text with every control, escape and invisible character shown as its escape, cut after 200 characters.
///
/// Quotes and printable letters of all scripts pass; bidirectional overrides do not, since they can reorder a line.
pub fn sanitize(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(TEXT_CHARS_MAX));
    for (count, c) in text.chars().enumerate() {
        if count == TEXT_CHARS_MAX {
            clean.push('…');
            break;
        }
        if c.is_control() || invisible(c) {
            clean.extend(c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Format characters that change how the characters around them appear.
fn invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        let evil = "\u{1b}]0;pwn\u{7}\nFAKE\r\u{9b}31m\u{202e}x\0";
        let clean = sanitize(evil);
        assert!(clean.chars().all(|c| !c.is_control() && !invisible(c)), "{clean}");
        assert_eq!(sanitize("plain text, \"quoted\", größe"), "plain text, \"quoted\", größe");
    }

    #[test]
    fn text_at_the_limit_stays_and_one_more_is_cut() {
        let limit = "x".repeat(TEXT_CHARS_MAX);
        assert_eq!(sanitize(&limit), limit);
        assert_eq!(sanitize(&format!("{limit}y")), format!("{limit}…"));
    }
}
