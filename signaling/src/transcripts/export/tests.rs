use super::super::{Meeting, NewMeeting, NewTranslation, NewUtterance, Store, StoreConfig};
use super::*;
use crate::wire::{RoomKind, Transcript};

const STARTED_AT_MS: u64 = 1_769_850_300_000;

struct Kept {
    _folder: tempfile::TempDir,
    store: Store,
    meeting: Meeting,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig {
            retention_days: 0,
            ..StoreConfig::new(folder.path().join("t.sqlite3"))
        })
        .unwrap();
        let meeting = Meeting::new(NewMeeting {
            room: "lobby".to_owned(),
            kind: RoomKind::Conference,
            languages: vec!["en".to_owned(), "es".to_owned(), "fr".to_owned()],
            started_at_ms: STARTED_AT_MS,
        });
        Self { _folder: folder, store, meeting }
    }

    fn said(&self, number: u32, name: &str, language: &str, span_ms: (u64, u64), text: &str) {
        let said = NewUtterance {
            utterance: format!("utt-{number}"),
            speaker: name.to_lowercase(),
            speaker_name: name.to_owned(),
            language: language.to_owned(),
            text: text.to_owned(),
            started_at_ms: STARTED_AT_MS + span_ms.0,
            ended_at_ms: STARTED_AT_MS + span_ms.1,
        };
        self.store.keep_utterance(&self.meeting, said).unwrap();
    }

    fn became(&self, number: u32, language: &str, text: &str) {
        let became = NewTranslation {
            utterance: format!("utt-{number}"),
            language: language.to_owned(),
            text: text.to_owned(),
            translator: "apertium".to_owned(),
        };
        self.store.keep_translation(&self.meeting, became).unwrap();
    }

    fn export(&self, format: Format, language: Option<&str>) -> String {
        let reader = Reader::open(self.store.path()).unwrap();
        let meeting = reader.meeting("lobby", None).unwrap().unwrap();
        let mut export = Export::new(meeting, format, language.map(str::to_owned));
        let mut text = String::new();
        while let Some(piece) = export.next(&reader).unwrap() {
            text.push_str(&piece);
        }
        text
    }
}

/// Anna and Beto speak at once, and what Chloé says was translated into nothing.
fn a_meeting() -> Kept {
    let kept = Kept::new();
    kept.said(2, "Beto", "es", (4_000, 6_500), "Buenos días.");
    kept.said(
        1,
        "Anna <R&D>",
        "en",
        (1_200, 5_100),
        "Good morning to all of you, and welcome\nto the first --> meeting & more.",
    );
    kept.said(3, "Chloé", "fr", (3_725_004, 3_725_004), "Bonjour à tous.");
    kept.said(4, "Beto", "es", (3_726_000, 3_727_000), " ");
    kept.became(1, "es", "Buenos días a todos.");
    kept.became(2, "en", "Good morning.");
    kept.became(3, "es", " ");
    kept
}

#[test]
fn webvtt_has_voice_tags_escapes_and_overlapping_cues_in_order() {
    let expected = "\
WEBVTT - lobby, 2026-01-31 09:05 UTC

utt-1
00:00:01.200 --> 00:00:05.100
<v Anna &lt;R&amp;D&gt;>Good morning to all of you, and welcome to
the first --&gt; meeting &amp; more.

utt-2
00:00:04.000 --> 00:00:06.500
<v Beto>Buenos días.

utt-3
01:02:05.004 --> 01:02:05.005
<v Chloé>Bonjour à tous.
";
    assert_eq!(a_meeting().export(Format::Vtt, None), expected);
}

#[test]
fn subrip_numbers_its_cues_and_marks_what_is_not_translated() {
    let expected = "\
1
00:00:01,200 --> 00:00:05,100
Anna <R&D>: Buenos días a todos.

2
00:00:04,000 --> 00:00:06,500
Beto: Buenos días.

3
01:02:05,004 --> 01:02:05,005
Chloé: [fr] Bonjour à tous.
";
    assert_eq!(a_meeting().export(Format::Srt, Some("es")), expected);
}

#[test]
fn text_is_a_line_for_each_utterance() {
    let expected = "\
lobby, 2026-01-31 09:05 UTC

[00:00:01] Anna <R&D>: Good morning to all of you, and welcome to the first --> meeting & more.
[00:00:04] Beto: Good morning.
[01:02:05] Chloé: [fr] Bonjour à tous.
";
    assert_eq!(a_meeting().export(Format::Txt, Some("en")), expected);
}

#[test]
fn json_says_who_said_what_when_and_who_translated_it() {
    let text = a_meeting().export(Format::Json, Some("es"));
    let transcript: Transcript = serde_json::from_str(&text).unwrap();
    assert_eq!(transcript.language.as_deref(), Some("es"));
    assert_eq!(transcript.meeting.room, "lobby");
    assert_eq!(transcript.meeting.kind, RoomKind::Conference);
    assert_eq!(transcript.meeting.utterances, 4);
    let told: Vec<_> = transcript
        .lines
        .iter()
        .map(|line| (line.utterance.as_str(), line.language.as_str(), line.translator.as_deref()))
        .collect();
    let expected =
        [("utt-1", "es", Some("apertium")), ("utt-2", "es", None), ("utt-3", "fr", None)];
    assert_eq!(told, expected);
    assert_eq!(transcript.lines[0].spoken_language, "en");
    assert_eq!((transcript.lines[0].start_ms, transcript.lines[0].end_ms), (1_200, 5_100));
    assert_eq!(transcript.lines[0].speaker, "anna <r&d>");
}

#[test]
fn a_meeting_in_which_nobody_had_words_is_still_a_document() {
    let kept = Kept::new();
    kept.said(1, "Anna", "en", (0, 1), "");
    let transcript: Transcript = serde_json::from_str(&kept.export(Format::Json, None)).unwrap();
    assert!(transcript.lines.is_empty());
    assert_eq!(kept.export(Format::Srt, None), "");
    assert_eq!(kept.export(Format::Vtt, None), "WEBVTT - lobby, 2026-01-31 09:05 UTC\n");
}

#[test]
fn every_utterance_of_several_pages_comes_once_and_in_order() {
    let kept = Kept::new();
    let count = 2 * PAGE + 3;
    for number in (0..count).rev() {
        // Several begin at the same moment.
        let start_ms = u64::from(number / 7) * 100;
        kept.said(number, "Anna", "en", (start_ms, start_ms + 50), "One.");
    }
    let transcript: Transcript = serde_json::from_str(&kept.export(Format::Json, None)).unwrap();
    assert_eq!(transcript.lines.len(), count as usize);
    assert!(transcript.lines.is_sorted_by_key(|line| line.start_ms));
    let names: std::collections::BTreeSet<_> =
        transcript.lines.iter().map(|line| &line.utterance).collect();
    assert_eq!(names.len(), count as usize);
}

#[test]
fn languages_are_those_of_the_room_and_of_the_words() {
    let kept = Kept::new();
    kept.said(1, "Anna", "de", (0, 10), "Hallo.");
    kept.became(1, "it", "Ciao.");
    let reader = Reader::open(kept.store.path()).unwrap();
    let meeting = reader.meeting("lobby", None).unwrap().unwrap();
    let languages: Vec<_> = reader.languages(&meeting).unwrap().into_iter().collect();
    assert_eq!(languages, ["de", "en", "es", "fr", "it"]);
    assert_eq!(reader.language(&meeting, "es-MX").unwrap().unwrap(), "es");
    assert_eq!(reader.language(&meeting, "IT").unwrap().unwrap(), "it");
    let error = reader.language(&meeting, "pt").unwrap().unwrap_err().to_string();
    assert!(error.contains("de, en, es, fr, it"), "{error}");
}

#[test]
fn a_file_is_named_after_room_meeting_and_language() {
    let kept = Kept::new();
    kept.said(1, "Anna", "en", (0, 10), "Hello.");
    let reader = Reader::open(kept.store.path()).unwrap();
    let meeting = reader.meeting("lobby", None).unwrap().unwrap();
    let named = |language: Option<&str>| {
        Export::new(meeting.clone(), Format::Vtt, language.map(str::to_owned)).file_name()
    };
    assert_eq!(
        (named(None), named(Some("es"))),
        ("lobby-1.vtt".to_owned(), "lobby-1.es.vtt".to_owned())
    );
}
