//! One running chain of Apertium programs, and the pool that lends chains out.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::{Condvar, Mutex};

use super::modes::Stage;

/// A chain answers in milliseconds; one that takes this long is stuck.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a chain gave no answer. It is not to be used again.
#[derive(Debug, thiserror::Error)]
pub(super) enum PipelineError {
    #[error("cannot start {program}: install apertium and the language pair")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("the pipeline broke")]
    Broken(#[source] io::Error),
    #[error("the pipeline ended")]
    Ended,
    #[error("the pipeline gave no answer within {} s", PATIENCE.as_secs())]
    Stuck,
}

/// Programs chained by pipes, with one request under way at most. Dropping it ends them; should
/// this process be killed, the closed input ends them too.
#[derive(Debug)]
pub(super) struct Pipeline {
    children: Vec<Child>,
    input: Option<ChildStdin>,
    answers: Receiver<Vec<u8>>,
}

impl Pipeline {
    pub(super) fn start(stages: &[Stage]) -> Result<Self, PipelineError> {
        let (sender, answers) = crossbeam_channel::bounded(1);
        // Children go into the pipeline as they start: if a later one fails, the drop ends them.
        let mut pipeline = Self { children: Vec::new(), input: None, answers };
        let mut upstream: Option<ChildStdout> = None;
        for stage in stages {
            let mut child = Command::new(&stage.program)
                .args(&stage.arguments)
                .stdin(upstream.take().map_or_else(Stdio::piped, Stdio::from))
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|source| PipelineError::Spawn {
                    program: stage.program.clone(),
                    source,
                })?;
            upstream = child.stdout.take();
            if let Some(input) = child.stdin.take() {
                pipeline.input = Some(input);
            }
            pipeline.children.push(child);
        }
        let Some(output) = upstream else { return Err(PipelineError::Ended) };
        std::thread::Builder::new()
            .name("apertium-reader".to_owned())
            .spawn(move || read_answers(output, &sender))
            .map_err(PipelineError::Broken)?;
        Ok(pipeline)
    }

    /// Sends a null-terminated request and waits for its answer, which comes without the NUL.
    pub(super) fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, PipelineError> {
        let Some(input) = &mut self.input else { return Err(PipelineError::Ended) };
        input.write_all(request).map_err(PipelineError::Broken)?;
        input.flush().map_err(PipelineError::Broken)?;
        match self.answers.recv_timeout(PATIENCE) {
            // Programs after one that died finish with an empty answer, and may do so before the
            // dead one can be waited for. A request is never empty, so neither is its answer.
            Ok(answer) if !answer.is_empty() && self.is_whole() => Ok(answer),
            Err(RecvTimeoutError::Timeout) => Err(PipelineError::Stuck),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => Err(PipelineError::Ended),
        }
    }

    /// Whether every program still runs.
    fn is_whole(&mut self) -> bool {
        self.children.iter_mut().all(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Process ids of the chain.
    pub(super) fn process_ids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        drop(self.input.take());
        for child in &mut self.children {
            // Fails for a child that is gone already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Cuts the output at NULs until it ends or nobody listens anymore.
fn read_answers(mut output: ChildStdout, answers: &Sender<Vec<u8>>) {
    let mut pending = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = match output.read(&mut chunk) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        for &byte in &chunk[..read] {
            if byte != 0 {
                pending.push(byte);
            } else if answers.send(std::mem::take(&mut pending)).is_err() {
                return;
            }
        }
    }
}

/// Chains of one direction: started when first needed, at most `size`; who comes when all are lent
/// waits for one to come back.
#[derive(Debug)]
pub(super) struct Pool {
    stages: Vec<Stage>,
    size: usize,
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    idle: Vec<Pipeline>,
    lent: usize,
}

impl Pool {
    pub(super) fn new(stages: Vec<Stage>, size: usize) -> Self {
        Self { stages, size: size.max(1), state: Mutex::default(), returned: Condvar::new() }
    }

    /// Asks an idle chain. A chain that fails is ended, and the request tried once more on a new
    /// one.
    pub(super) fn ask(&self, request: &[u8]) -> Result<Vec<u8>, PipelineError> {
        let mut lease = self.lease();
        match lease.ask(request) {
            Ok(answer) => Ok(answer),
            Err(error) => {
                tracing::warn!(%error, "restarting an apertium pipeline");
                lease.ask(request)
            }
        }
    }

    /// Process ids of the chains that are idle now.
    pub(super) fn idle_process_ids(&self) -> Vec<u32> {
        self.state.lock().idle.iter().flat_map(Pipeline::process_ids).collect()
    }

    fn lease(&self) -> Lease<'_> {
        let mut state = self.state.lock();
        while state.lent >= self.size {
            self.returned.wait(&mut state);
        }
        state.lent += 1;
        Lease { pool: self, pipeline: state.idle.pop() }
    }
}

/// The right to use one chain, given back when dropped, with the chain if it still works.
struct Lease<'a> {
    pool: &'a Pool,
    pipeline: Option<Pipeline>,
}

impl Lease<'_> {
    fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, PipelineError> {
        // Taken out while asking, so that a chain that fails is dropped rather than given back.
        let mut pipeline = match self.pipeline.take() {
            Some(pipeline) => pipeline,
            None => Pipeline::start(&self.pool.stages)?,
        };
        let answer = pipeline.ask(request)?;
        self.pipeline = Some(pipeline);
        Ok(answer)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.lent -= 1;
        state.idle.extend(self.pipeline.take());
        drop(state);
        self.pool.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(program: &str, arguments: &[&str]) -> Stage {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Stage { program: program.to_owned(), arguments }
    }

    fn echo() -> Pool {
        Pool::new(vec![stage("cat", &[]), stage("cat", &["-u"])], 2)
    }

    fn is_running(process: u32) -> bool {
        std::path::Path::new(&format!("/proc/{process}")).exists()
    }

    #[test]
    fn a_chain_answers_request_after_request() {
        let pool = echo();
        assert_eq!(pool.ask(b"one\0").expect("an answer"), b"one");
        assert_eq!(pool.ask(b"two\0").expect("an answer"), b"two");
        assert_eq!(pool.idle_process_ids().len(), 2);
    }

    #[test]
    fn chains_end_with_their_pool() {
        let pool = echo();
        pool.ask(b"one\0").expect("an answer");
        let processes = pool.idle_process_ids();
        assert!(processes.iter().all(|process| is_running(*process)));
        drop(pool);
        assert!(!processes.iter().any(|process| is_running(*process)));
    }

    #[test]
    fn chains_end_when_their_owner_panics() {
        let pool = echo();
        pool.ask(b"one\0").expect("an answer");
        let processes = pool.idle_process_ids();
        let panicked = std::thread::spawn(move || {
            let _owned = pool;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert!(!processes.iter().any(|process| is_running(*process)));
    }

    #[test]
    fn a_program_that_cannot_start_is_named_and_its_forerunners_end() {
        let pool = Pool::new(vec![stage("cat", &[]), stage("no-such-program", &[])], 1);
        let error = pool.ask(b"one\0").expect_err("no such program");
        assert!(error.to_string().contains("no-such-program"));
    }

    #[test]
    fn a_chain_that_ends_at_once_fails_after_one_retry() {
        let pool = Pool::new(vec![stage("true", &[])], 1);
        assert!(pool.ask(b"one\0").is_err());
        assert!(pool.ask(b"one\0").is_err(), "the lease came back");
    }

    #[test]
    fn an_empty_answer_is_not_believed() {
        let pool = Pool::new(vec![stage("stdbuf", &["-o0", "tr", "-d", "a-z"])], 1);
        assert!(matches!(pool.ask(b"one\0"), Err(PipelineError::Ended)));
    }

    #[test]
    fn a_stuck_chain_is_given_up() {
        let pool = Pool::new(vec![stage("sleep", &["30"])], 1);
        assert!(matches!(pool.ask(b"one\0"), Err(PipelineError::Stuck)));
        assert!(pool.idle_process_ids().is_empty());
    }

    #[test]
    fn more_callers_than_chains_take_turns() {
        let pool = echo();
        std::thread::scope(|scope| {
            for caller in 0..8u8 {
                let pool = &pool;
                scope.spawn(move || {
                    let request = [b'a' + caller, 0];
                    assert_eq!(pool.ask(&request).expect("an answer"), [b'a' + caller]);
                });
            }
        });
        assert!(pool.idle_process_ids().len() <= 4);
    }
}
