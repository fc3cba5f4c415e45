//! Golden conversations: a few cores talk on a stage, and what they say and write is compared with a text of this
//! directory, line by line.
//!
//! A text is a script and its conversation in one: comments begin with `#`, what is done to the cores with `>`, and the
//! indented lines between are what happened. Nothing on the stage is random and no time passes by itself, so a change of
//! a single message shows. `5@2` is entry 5, of term 2; `1'` is node 1 in its second life, `#3` its third write.
//!
//! After a wanted change: `QUORATE_GOLDEN=write cargo test -p quorate-raft --test main golden`, and then a person reads
//! `git diff raft/tests/golden` line by line, as if it were code; a line that nobody can explain is a bug.
//! The words of the scripts are in `stage.rs`.

mod stage;
mod words;

use std::path::PathBuf;

use stage::Stage;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Plays the script of a text and gives it back with what happened now.
fn play(text: &str) -> String {
    let mut stage = Stage::default();
    let mut out = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("  ") {
            continue;
        }
        out += line;
        out.push('\n');
        if let Some(command) = line.strip_prefix("> ") {
            stage.act(command).unwrap_or_else(|why| panic!("line {number}, `{command}`: {why}"));
            for line in stage.said.drain(..) {
                out += &format!("  {line}\n");
            }
        } else {
            assert!(
                line.is_empty() || line.starts_with('#'),
                "line {number} is neither comment, nor command, nor talk"
            );
        }
    }
    out
}

fn compare(name: &str) {
    let path = directory().join(format!("{name}.txt"));
    let golden = std::fs::read_to_string(&path).expect("a text of this name");
    let now = play(&golden);
    if std::env::var("QUORATE_GOLDEN").as_deref() == Ok("write") {
        return std::fs::write(&path, now).expect("the text can be written");
    }
    for (number, (was, is)) in (1..).zip(golden.lines().zip(now.lines())) {
        assert_eq!(was, is, "{name}.txt line {number}: another conversation; `golden/mod.rs` says what to do");
    }
    assert_eq!(golden.len(), now.len(), "{name}.txt has another length");
}

macro_rules! conversations {
    ($($name:ident),* $(,)?) => {
        const ALL: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                compare(stringify!($name));
            }
        )*
    };
}

conversations! {
    election,
    pre_vote,
    seven_logs,
    old_terms,
    held_fsync,
    truncate_and_append_again,
    lost_window,
    joint_add_two,
    joint_replace_leader,
    transfer,
    slow_follower,
    read_index,
    deposed_leader,
    lagging_commit,
    missing,
}

/// No text lies there that nobody plays.
#[test]
fn every_text_is_played() {
    let texts = std::fs::read_dir(directory()).expect("the directory of the texts");
    let names = texts.filter_map(|entry| entry.expect("an entry").file_name().into_string().ok());
    let mut names: Vec<_> = names.filter_map(|name| name.strip_suffix(".txt").map(str::to_owned)).collect();
    names.sort();
    let mut all = ALL.to_vec();
    all.sort_unstable();
    assert_eq!(names, all);
}

/// The comparison can fail: what did not happen is not repeated, and what happened is told.
#[test]
fn a_false_line_is_noticed() {
    let text = "> nodes 1\n> campaign 1\n  1 does nothing\n";
    let told = play(text);
    assert!(told != text && told.contains("  1 writes #1: term 2, vote for 1\n"), "{told}");
    assert_eq!(play(&told), told);
}
