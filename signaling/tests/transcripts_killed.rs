//! What was announced is in the file, whenever the process is killed and even when its disk is full.
//!
//! Each test plays two roles: started by the test runner it starts itself again, as a child that
//! keeps rows, says on its standard output what it has kept, and is ended from outside.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use signaling::transcripts::{
    Export, Format, Meeting, NewMeeting, NewTranslation, NewUtterance, Reader, Store, StoreConfig,
};
use signaling::wire::{RoomKind, Transcript};

/// Names the file to a child.
const FILE: &str = "DRAGOMAN_TEST_TRANSCRIPTS";
/// Kills in one run.
const ROUNDS: u64 = 20;

fn child_file() -> Option<PathBuf> {
    std::env::var_os(FILE).map(PathBuf::from)
}

/// The child: speaks until it is ended, or until the file takes no more.
fn speak(file: &Path) {
    let store = Store::open(&StoreConfig { retention_days: 0, ..StoreConfig::new(file) }).unwrap();
    let meeting = Meeting::new(NewMeeting {
        room: format!("room-{}", std::process::id()),
        kind: RoomKind::Call,
        languages: Vec::new(),
        started_at_ms: 1_000,
    });
    let announce = |what: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "kept {what}").and_then(|()| out.flush()).unwrap();
    };
    for number in 0..1_000_000_u64 {
        let utterance = format!("utt-{number}");
        let said = NewUtterance {
            utterance: utterance.clone(),
            speaker: "ana".to_owned(),
            speaker_name: "Ana".to_owned(),
            language: "es".to_owned(),
            text: format!("Número {number}."),
            started_at_ms: 1_000 + number,
            ended_at_ms: 1_001 + number,
        };
        if store.keep_utterance(&meeting, said).is_err() {
            announce(&format!("nothing {:?}", store.stats()));
            return;
        }
        announce(&format!("es {utterance}"));
        let became = NewTranslation {
            utterance: utterance.clone(),
            language: "en".to_owned(),
            text: format!("Number {number}."),
            translator: "apertium".to_owned(),
        };
        if store.keep_translation(&meeting, became).is_err() {
            announce(&format!("nothing {:?}", store.stats()));
            return;
        }
        announce(&format!("en {utterance}"));
    }
}

/// Starts a child through `sh` with a prologue, and kills it a while after its first word. What it
/// announced, how it ended, and the room it spoke in.
fn hear(
    test: &str,
    file: &Path,
    prologue: &str,
    kill_after: Option<Duration>,
) -> (Vec<String>, ExitStatus, String) {
    let mut child = Command::new("sh")
        .args(["-c", &format!("{prologue} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let room = format!("room-{}", child.id());
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (first, begun) = sync_channel(1);
    let listening = std::thread::spawn(move || {
        let mut announced = Vec::new();
        let mut line = String::new();
        // A line that was cut off is none.
        while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            if let Some((_, what)) = line.trim_end().split_once("kept ") {
                announced.push(what.to_owned());
                // It is waited for once.
                let _ = first.try_send(());
            }
            line.clear();
        }
        announced
    });
    if let Some(after) = kill_after {
        begun.recv_timeout(Duration::from_secs(20)).unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    (listening.join().unwrap(), status, room)
}

/// The texts of a room in a language, by utterance.
fn texts(file: &Path, room: &str, language: &str) -> Vec<(String, String)> {
    let reader = Reader::open(file).unwrap();
    let meeting = reader.meeting(room, None).unwrap().unwrap();
    let mut export = Export::new(meeting, Format::Json, Some(language.to_owned()));
    let mut json = String::new();
    while let Some(piece) = export.next(&reader).unwrap() {
        json.push_str(&piece);
    }
    let transcript: Transcript = serde_json::from_str(&json).unwrap();
    let lines = transcript.lines.into_iter().filter(|line| line.language == language);
    lines.map(|line| (line.utterance, line.text)).collect()
}

/// Every announced row is there with its text, and at most the one that was being written besides.
fn assert_all_there(file: &Path, room: &str, announced: &[String]) {
    for (language, word) in [("es", "Número"), ("en", "Number")] {
        let prefix = format!("{language} ");
        let expected: Vec<_> = announced
            .iter()
            .filter_map(|what| what.strip_prefix(&prefix))
            .map(|name| {
                let number = name.trim_start_matches("utt-");
                (name.to_owned(), format!("{word} {number}."))
            })
            .collect();
        let found = texts(file, room, language);
        assert!(found.starts_with(&expected), "{} rows of {}", found.len(), expected.len());
        assert!(found.len() <= expected.len() + 1, "{} rows were not announced", found.len());
    }
}

#[test]
fn what_was_announced_is_in_the_file_whenever_the_process_is_killed() {
    if let Some(file) = child_file() {
        return speak(&file);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.sqlite3");
    let seed = 0x5eed;
    let mut draw = SmallRng::seed_from_u64(seed);
    let mut announced_in_all = 0;
    for round in 0..ROUNDS {
        let kill_after = Duration::from_micros(draw.random_range(0..100_000));
        let test = "what_was_announced_is_in_the_file_whenever_the_process_is_killed";
        let (announced, _, room) = hear(test, &file, "", Some(kill_after));
        println!("round {round}: killed after {kill_after:?}, {} rows", announced.len());
        assert_all_there(&file, &room, &announced);
        announced_in_all += announced.len();
    }
    assert!(announced_in_all > 200, "only {announced_in_all} rows were announced at all");
}

#[test]
fn a_full_disk_loses_what_it_says_is_lost_and_nothing_else() {
    if let Some(file) = child_file() {
        return speak(&file);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.sqlite3");
    let test = "a_full_disk_loses_what_it_says_is_lost_and_nothing_else";
    // No file of the child may grow beyond 3000 blocks of 512 bytes.
    let (mut announced, status, room) = hear(test, &file, "trap '' XFSZ; ulimit -f 3000;", None);
    assert!(status.success(), "{status}");
    let last = announced.pop().unwrap();
    assert!(last.contains("lost: 1"), "{last}");
    assert!(announced.len() > 20, "{} rows", announced.len());
    assert_all_there(&file, &room, &announced);
}
