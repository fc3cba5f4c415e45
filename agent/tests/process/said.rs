//! One run of the command line: what it said on both streams, with which exit code, and how long it took.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A command that has not ended by then hangs, whatever its own `--timeout` says.
const HANGS_AFTER: Duration = Duration::from_secs(120);

pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Said {
    /// Runs `command` to its end.
    #[track_caller]
    pub(crate) fn by(command: &mut Command) -> Self {
        Self::to(command, &[])
    }

    /// The same with `input` on stdin.
    #[track_caller]
    pub(crate) fn to(command: &mut Command, input: &[u8]) -> Self {
        let started = Instant::now();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        // A command that fails early reads none of it.
        thread::spawn(move || drop(stdin.write_all(&input)));
        let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
        let code = end(&mut child, started, command);
        Self { code, out: out.join().unwrap(), err: err.join().unwrap(), took: started.elapsed() }
    }

    /// It succeeded; its output.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        &self.out
    }

    /// It failed with this code, and one line on stderr: `error: what (why); what to do`.
    #[track_caller]
    pub(crate) fn one_error(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        let errors: Vec<_> = self.err.lines().collect();
        assert_eq!(errors.len(), 1, "one line: {}", self.err);
        assert!(errors[0].starts_with("error: ") && errors[0].contains("; "), "{}", self.err);
        errors[0]
    }

    /// Its only line of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let text = self.ok();
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(text).unwrap()
    }

    /// The error object on stderr.
    #[track_caller]
    pub(crate) fn json_error(&self, code: i32) -> serde_json::Value {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        let value: serde_json::Value = serde_json::from_str(&self.err).unwrap();
        assert_eq!(value["v"], 1);
        value["error"].clone()
    }
}

fn drain(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    let mut stream = stream.unwrap();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    })
}

#[track_caller]
fn end(child: &mut Child, started: Instant, command: &Command) -> i32 {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if started.elapsed() > HANGS_AFTER {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it hangs: {command:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
