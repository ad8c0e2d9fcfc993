//! The programs that download for us: pip, npm and curl, as the operator has configured them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::source::SupplyError;

/// How often a running client is looked at.
const POLL: Duration = Duration::from_millis(150);

/// The longest reason quoted from a client's error output, in characters.
const LONGEST_REASON: usize = 500;

/// The clients of one store.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) pip: Tool,
    pub(super) npm: Tool,
    pub(super) curl: Tool,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            pip: Tool::new(&[&["pip"], &["pip3"], &["python3", "-m", "pip"]]),
            npm: Tool::new(&[&["npm"]]),
            curl: Tool::new(&[&["curl"]]),
        }
    }
}

/// A program that may go by several names; the first that answers is used.
#[derive(Debug)]
pub(super) struct Tool {
    candidates: Vec<Vec<OsString>>,
    found: OnceLock<Option<usize>>,
}

impl Tool {
    /// Each candidate is a program with its first arguments.
    pub(super) fn new<S: Into<OsString> + Copy>(candidates: &[&[S]]) -> Self {
        let candidates = candidates
            .iter()
            .map(|words| words.iter().map(|word| (*word).into()).collect())
            .collect();
        Self::of(candidates)
    }

    pub(super) fn of(candidates: Vec<Vec<OsString>>) -> Self {
        Self { candidates, found: OnceLock::new() }
    }

    /// A command to add arguments to.
    ///
    /// # Errors
    /// [`SupplyError::Unsuitable`] when no candidate answers `--version`.
    pub(super) fn command(&self) -> Result<Command, SupplyError> {
        let answers = |words: &Vec<OsString>| {
            // A name that is found may still be a stub without a program behind it.
            to_command(words)
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let found = self.found.get_or_init(|| self.candidates.iter().position(answers));
        match found {
            Some(index) => Ok(to_command(&self.candidates[*index])),
            None => Err(SupplyError::Unsuitable(self.absence())),
        }
    }

    fn absence(&self) -> String {
        let names: Vec<_> = self
            .candidates
            .iter()
            .map(|words| {
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
                format!("`{}`", words.join(" "))
            })
            .collect();
        match names.as_slice() {
            [name] => format!("{name} does not run here; install it"),
            names => format!("none of {} runs here; install one", names.join(", ")),
        }
    }
}

fn to_command(words: &[OsString]) -> Command {
    let (program, arguments) = words.split_first().expect("every candidate names a program");
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Ends the client if we stop waiting for it.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> Result<Self, SupplyError> {
        command.stdin(Stdio::null()).spawn().map(Self).map_err(|error| {
            let program = command.get_program().to_string_lossy();
            SupplyError::Unsuitable(format!("cannot start {program}: {error}"))
        })
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the client has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `command` to its end, calling `meanwhile` several times a second. Its error output goes to
/// the file `errors`, so that no pipe can fill up.
///
/// # Errors
/// [`SupplyError::Unsuitable`] with the client's own words when it fails.
pub(super) fn run(
    command: &mut Command,
    errors: &Path,
    mut meanwhile: impl FnMut(),
) -> Result<(), SupplyError> {
    let unsuitable = |error: io::Error| SupplyError::Unsuitable(error.to_string());
    let error_file = File::create(errors).map_err(unsuitable)?;
    let mut running = Running::start(command.stdout(Stdio::null()).stderr(error_file))?;
    let status = loop {
        if let Some(status) = running.child().try_wait().map_err(unsuitable)? {
            break status;
        }
        std::thread::sleep(POLL);
        meanwhile();
    };
    if status.success() {
        return Ok(());
    }
    let output = fs::read(errors).unwrap_or_default();
    Err(SupplyError::Unsuitable(reason(&String::from_utf8_lossy(&output), status)))
}

/// What a client said about its failure: its last lines that speak of an error.
pub(super) fn reason(output: &str, status: ExitStatus) -> String {
    let lines: Vec<_> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let speaks_of_error = |line: &&&str| line.to_lowercase().contains("error");
    let mut told: Vec<_> = lines.iter().rev().filter(speaks_of_error).take(3).copied().collect();
    told.reverse();
    if told.is_empty() {
        told.extend(lines.last());
    }
    match told.as_slice() {
        [] => format!("it ended with {status}"),
        told => told.join("; ").chars().take(LONGEST_REASON).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_tool_that_is_missing_gives_way_to_the_next_candidate() {
        let tool = Tool::new(&[
            &["no-such-program-anywhere"][..],
            &["sh", "-c", "exit 127"],
            &["sh", "-c", "exit 0"],
        ]);
        let command = tool.command().unwrap();
        assert!(command.get_args().any(|argument| argument == "exit 0"));
    }

    #[test]
    fn when_no_candidate_runs_all_are_named() {
        let tool = Tool::new(&[&["no-such-pip"][..], &["no-such-python", "-m", "pip"]]);
        let error = tool.command().unwrap_err().to_string();
        assert_eq!(error, "none of `no-such-pip`, `no-such-python -m pip` runs here; install one");
    }

    #[test]
    fn a_failing_client_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo Looking >&2; echo 'ERROR: no such package' >&2; echo bye >&2; exit 1";
        let error = run(&mut shell(script), &folder.path().join("errors"), || {}).unwrap_err();
        assert_eq!(error.to_string(), "ERROR: no such package");
    }

    #[test]
    fn a_client_that_fails_without_a_word_is_told_by_its_status() {
        let folder = tempfile::tempdir().unwrap();
        let error = run(&mut shell("exit 7"), &folder.path().join("errors"), || {}).unwrap_err();
        assert!(error.to_string().contains('7'), "{error}");
    }

    #[test]
    fn a_running_client_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let mut calls = 0;
        run(&mut shell("sleep 0.4"), &folder.path().join("errors"), || calls += 1).unwrap();
        assert!(calls >= 2, "{calls}");
    }
}
