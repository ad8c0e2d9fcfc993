//! Text to phonemes through espeak-ng, which stays a process of its own: it is licensed under the
//! GPL, and a crash of it must not be ours.
//!
//! In its line mode espeak-ng answers each line at once, in a fraction of a millisecond instead of
//! the ten that a start takes, but a line may give several lines of phonemes. So every line is
//! followed by a marker, a phoneme string that no text produces, and what comes before the
//! marker's echo is the answer.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use parking_lot::Mutex;

use super::{EspeakError, PROGRAM};

/// espeak-ng reads text between double brackets as phonemes; text never contains brackets here.
const MARKER_INPUT: &str = "[[tptptptp]]";
const MARKER_OUTPUT: &str = "tptptptp";
/// espeak-ng reads lines of up to a thousand bytes.
const MAX_LINE_BYTES: usize = 600;
/// How long an answer may take; a busy machine needs milliseconds.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Words of a text that are left out because espeak-ng dies of them; with more, it is espeak-ng that
/// is broken.
const MAX_DEADLY_WORDS: u32 = 4;
/// Processes kept per language while nobody needs them.
const MAX_IDLE: usize = 2;
/// Lines of an answer that may wait to be read; a process that writes more is waited for.
const MAX_WAITING_LINES: usize = 256;

/// A pool of espeak-ng processes, started when needed and replaced when they die. Shared between
/// threads.
#[derive(Default)]
pub struct Phonemizer {
    idle: Mutex<HashMap<&'static str, Vec<Process>>>,
}

impl Phonemizer {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// The phonemes of each text in IPA as espeak-ng's voice `voice` (such as `en-us`) would say
    /// it. The phonemes of a diphthong or an affricate are tied by `^`; a word in another language
    /// is enclosed in flags such as `(e^n)`.
    ///
    /// A word that espeak-ng dies of has none.
    ///
    /// # Errors
    /// If espeak-ng cannot be started, or fails again and again.
    pub fn phonemes(
        &self,
        voice: &'static str,
        texts: &[&str],
    ) -> Result<Vec<String>, EspeakError> {
        match self.ask(voice, texts) {
            Err(EspeakError::Died) => {
                texts.iter().map(|text| self.spared_phonemes(voice, text)).collect()
            }
            outcome => outcome,
        }
    }

    fn ask(&self, voice: &'static str, texts: &[&str]) -> Result<Vec<String>, EspeakError> {
        let kept = self.idle.lock().get_mut(voice).and_then(Vec::pop);
        if let Some(mut process) = kept
            && let Ok(answers) = process.ask(texts)
        {
            self.keep(voice, process);
            return Ok(answers);
        }
        // None was there, or it had died since it was last used: a fresh one decides.
        let mut process = Process::start(voice)?;
        let answers = process.ask(texts)?;
        self.keep(voice, process);
        Ok(answers)
    }

    /// The phonemes of a text without the words that espeak-ng dies of: version 1.51 does of some
    /// letters of foreign scripts in Hindi.
    fn spared_phonemes(&self, voice: &'static str, text: &str) -> Result<String, EspeakError> {
        let mut answers = Vec::new();
        let mut deadly = 0;
        for word in text.split_whitespace() {
            match self.ask(voice, &[word]) {
                Ok(answer) => answers.extend(answer),
                Err(EspeakError::Died) if deadly < MAX_DEADLY_WORDS => deadly += 1,
                Err(error) => return Err(error),
            }
        }
        if deadly > 0 {
            tracing::warn!(voice, deadly, "espeak-ng dies of some words: they are left out");
        }
        answers.retain(|answer: &String| !answer.is_empty());
        Ok(answers.join(" "))
    }

    fn keep(&self, voice: &'static str, process: Process) {
        let mut idle = self.idle.lock();
        let processes = idle.entry(voice).or_default();
        if processes.len() < MAX_IDLE {
            processes.push(process);
        }
    }
}

struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    fn start(voice: &str) -> Result<Self, EspeakError> {
        let mut child = Command::new(PROGRAM)
            .args(["-q", "-b", "1", "--ipa", "--tie=^", "-v", voice])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(EspeakError::Start)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(EspeakError::Died);
        };
        let (sender, lines) = bounded(MAX_WAITING_LINES);
        std::thread::Builder::new()
            .name("espeak-reader".to_owned())
            .spawn(move || {
                // Ends when the process closes its output or nobody listens any more.
                for line in BufReader::new(output).split(b'\n') {
                    let Ok(line) = line else { break };
                    if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        break;
                    }
                }
            })
            .map_err(EspeakError::Start)?;
        Ok(Self { child, input, lines })
    }

    fn ask(&mut self, texts: &[&str]) -> Result<Vec<String>, EspeakError> {
        texts.iter().map(|text| self.ask_one(text)).collect()
    }

    fn ask_one(&mut self, text: &str) -> Result<String, EspeakError> {
        let mut question = String::with_capacity(text.len() + MARKER_INPUT.len() + 2);
        for line in lines_of(text) {
            question.push_str(&line);
            question.push('\n');
        }
        question.push_str(MARKER_INPUT);
        question.push('\n');
        self.input
            .write_all(question.as_bytes())
            .and_then(|()| self.input.flush())
            .map_err(|_| EspeakError::Died)?;

        let deadline = Instant::now() + TIMEOUT;
        let mut answer = String::new();
        loop {
            match self.lines.recv_deadline(deadline) {
                Ok(line) if line.trim() == MARKER_OUTPUT => return Ok(answer),
                Ok(line) => {
                    for word in line.split_whitespace() {
                        if !answer.is_empty() {
                            answer.push(' ');
                        }
                        answer.push_str(word);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(EspeakError::Timeout(TIMEOUT)),
                Err(RecvTimeoutError::Disconnected) => return Err(EspeakError::Died),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text as lines that espeak-ng takes whole, without what it would not read as text.
fn lines_of(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for character in text.chars() {
        let character = match character {
            '[' | ']' => ' ',
            character if character.is_control() => ' ',
            character => character,
        };
        let line = lines.last_mut().expect("there is at least one line");
        let full = line.len() + character.len_utf8() > MAX_LINE_BYTES;
        if full || (character == ' ' && line.len() > MAX_LINE_BYTES / 2) {
            lines.push(String::new());
        }
        lines.last_mut().expect("there is at least one line").push(character);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_answered_however_many_lines_the_answer_has() {
        let phonemizer = Phonemizer::new();
        let texts = ["uno. dos. tres.", "", "[[tptptptp]] hola\nmundo", "..."];
        let answers = phonemizer.phonemes("es", &texts).expect("espeak-ng is installed");
        assert_eq!([&*answers[0], &*answers[1], &*answers[3]], ["ˈuno ðˈos tɾˈes", "", ""]);
        // Brackets in the text do not make it phonemes, so no text ends its own answer.
        assert!(
            answers[2].ends_with("ˈola mˈundo") && !answers[2].contains(MARKER_OUTPUT),
            "{answers:?}"
        );
    }

    #[test]
    fn a_killed_process_is_replaced() {
        let phonemizer = Phonemizer::new();
        let before = phonemizer.phonemes("it", &["buongiorno"]).expect("espeak-ng is installed");
        for process in phonemizer.idle.lock().get_mut("it").expect("one is kept") {
            process.child.kill().expect("it runs");
            process.child.wait().expect("it ends");
        }
        assert_eq!(phonemizer.phonemes("it", &["buongiorno"]).expect("a new one"), before);
    }

    #[test]
    fn a_word_that_kills_the_process_is_left_out_and_nothing_else() {
        let phonemizer = Phonemizer::new();
        let greeting = phonemizer.phonemes("hi", &["नमस्ते"]).expect("espeak-ng is installed");
        let deadly = ["नमस्ते ᏇUUἨ नमस्ते", "ᏇUUἨ", "नमस्ते"];
        let answers = phonemizer.phonemes("hi", &deadly).expect("answered");
        assert!(answers[0].starts_with(&greeting[0]) && answers[0].ends_with(&greeting[0]));
        assert_eq!(answers[2], greeting[0]);
    }

    #[test]
    fn a_process_that_keeps_silent_is_given_up_and_replaced() {
        let phonemizer = Phonemizer::new();
        phonemizer.phonemes("fr-fr", &["oui"]).expect("espeak-ng is installed");
        let (sender, lines) = bounded(1);
        phonemizer.idle.lock().get_mut("fr-fr").expect("one is kept")[0].lines = lines;
        drop(sender);
        assert_eq!(phonemizer.phonemes("fr-fr", &["oui"]).expect("a new one"), ["wˈi"]);
    }

    #[test]
    fn long_text_is_cut_into_lines_without_losing_a_character() {
        let text = "palabra ".repeat(400) + &"ñ".repeat(2000);
        let lines = lines_of(&text);
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES));
        assert_eq!(lines.concat(), text);
    }

    #[test]
    fn threads_share_the_pool() {
        let phonemizer = Phonemizer::new();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        assert_eq!(phonemizer.phonemes("es", &["sí"]).expect("answered"), ["sˈi"]);
                    }
                });
            }
        });
        assert!(phonemizer.idle.lock()["es"].len() <= MAX_IDLE);
    }
}
