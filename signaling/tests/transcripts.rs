//! Transcripts over HTTP: who may read and erase them, in which form, and how long they stay.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use common::{API_KEY, Face, Reply};
use http_body_util::BodyExt;
use rusqlite::Connection;
use signaling::ApiConfig;
use signaling::transcripts::{
    Meeting, NewMeeting, NewTranslation, NewUtterance, Reader, Stats, Store, StoreConfig,
    StoreError, erase,
};
use signaling::wire::{Grants, RoomKind, Transcript};
use tempfile::TempDir;
use tower::ServiceExt;

const DAY_MS: u64 = 24 * 3600 * 1000;

fn meeting(room: &str, started_at_ms: u64) -> Meeting {
    Meeting::new(NewMeeting {
        room: room.to_owned(),
        kind: RoomKind::Call,
        languages: Vec::new(),
        started_at_ms,
    })
}

fn say(store: &Store, meeting: &Meeting, utterance: &str, at_ms: u64, text: &str) {
    let said = NewUtterance {
        utterance: utterance.to_owned(),
        speaker: "ana".to_owned(),
        speaker_name: "Ana".to_owned(),
        language: "es".to_owned(),
        text: text.to_owned(),
        started_at_ms: at_ms,
        ended_at_ms: at_ms + 900,
    };
    store.keep_utterance(meeting, said).unwrap();
}

fn translate(store: &Store, meeting: &Meeting, utterance: &str, text: &str) {
    let became = NewTranslation {
        utterance: utterance.to_owned(),
        language: "en".to_owned(),
        text: text.to_owned(),
        translator: "apertium".to_owned(),
    };
    store.keep_translation(meeting, became).unwrap();
}

/// A face with a store, and one meeting in the room `lobby`.
struct House {
    face: Face,
    store: Arc<Store>,
    lobby: Meeting,
    folder: TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config =
            StoreConfig { retention_days: 0, ..StoreConfig::new(folder.path().join("t.sqlite3")) };
        let store = Arc::new(Store::open(&config).unwrap());
        let config = ApiConfig::new(API_KEY, None, false).unwrap();
        let face = Face::with_config(config.with_transcripts(Some(Arc::clone(&store))));
        let lobby = meeting("lobby", 1_000);
        say(&store, &lobby, "utt-1", 1_500, "Buenos días.");
        translate(&store, &lobby, "utt-1", "Good morning.");
        Self { face, store, lobby, folder }
    }

    async fn ask(&self, method: &str, path: &str, bearer: &str, accept: Option<&str>) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/v1/rooms/{path}"))
            .header("authorization", format!("Bearer {bearer}"));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        self.face.send(request.body(Body::empty()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, API_KEY, None).await
    }

    fn token(&self, room: &str, grants: Grants) -> String {
        self.face.token(room, "bea", grants).token
    }

    fn bytes_on_disk(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn each_format_has_its_type_and_a_file_name() {
    let house = House::new();
    for (query, accept, media_type, name, word) in [
        ("", None, "application/json", "lobby-1.json", "Buenos"),
        ("", Some("text/vtt"), "text/vtt; charset=utf-8", "lobby-1.vtt", "<v Ana>Buenos"),
        (
            "?format=srt",
            Some("text/vtt"),
            "application/x-subrip; charset=utf-8",
            "lobby-1.srt",
            "Ana: Buenos",
        ),
        (
            "?format=txt&language=en",
            None,
            "text/plain; charset=utf-8",
            "lobby-1.en.txt",
            "[00:00:00] Ana: Good morning.",
        ),
        (
            "?format=vtt&language=en-GB&meeting=1",
            None,
            "text/vtt; charset=utf-8",
            "lobby-1.en.vtt",
            "Good",
        ),
    ] {
        let reply = house.ask("GET", &format!("lobby/transcript{query}"), API_KEY, accept).await;
        assert_eq!(reply.status, StatusCode::OK, "{query}: {}", reply.text());
        assert_eq!(reply.header("content-type"), media_type);
        let disposition = format!("attachment; filename=\"{name}\"");
        assert_eq!(reply.header("content-disposition"), disposition);
        assert_eq!(reply.header("cache-control"), "no-store");
        assert!(reply.text().contains(word), "{}", reply.text());
    }
}

#[tokio::test]
async fn what_cannot_be_given_is_a_problem_of_its_own() {
    let house = House::new();
    for (path, accept, status, kind) in [
        ("silent/transcript", None, 404, "no-transcript"),
        ("lobby/transcript?meeting=2", None, 404, "no-transcript"),
        ("lobby/transcript?meeting=first", None, 404, "no-transcript"),
        ("other/transcript?meeting=1", None, 404, "no-transcript"),
        ("lobby/transcript?format=docx", None, 406, "not-acceptable"),
        ("lobby/transcript", Some("image/png"), 406, "not-acceptable"),
        ("lobby/transcript?language=fr", None, 422, "invalid-field"),
        ("lobby/transcript?language=not%20a%20tag", None, 422, "invalid-field"),
    ] {
        let reply = house.ask("GET", path, API_KEY, accept).await;
        let problem = reply.problem();
        assert_eq!((problem.status, problem.kind), (status, format!("/problems/{kind}")), "{path}");
    }
}

#[tokio::test]
async fn the_rooms_listeners_may_read_and_its_moderators_erase() {
    let house = House::new();
    let listener = house.token("lobby", Grants::default());
    let deaf = house.token("lobby", Grants { listen: false, ..Grants::default() });
    let stranger = house.token("other", Grants { moderate: true, ..Grants::default() });
    for path in ["lobby/transcript", "lobby/meetings"] {
        for (bearer, status) in [(&listener, 200), (&deaf, 403), (&stranger, 403)] {
            let reply = house.ask("GET", path, bearer, None).await;
            assert_eq!(reply.status.as_u16(), status, "{path}");
        }
        assert_eq!(house.ask("GET", path, "wrong", None).await.status, StatusCode::UNAUTHORIZED);
    }
    for bearer in [&listener, &stranger] {
        let reply = house.ask("DELETE", "lobby/transcript", bearer, None).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
    }
    let moderator = house.token("lobby", Grants { moderate: true, ..Grants::default() });
    let reply = house.ask("DELETE", "lobby/transcript", &moderator, None).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    assert_eq!(house.get("lobby/transcript").await.problem().kind, "/problems/no-transcript");
    let again = house.ask("DELETE", "lobby/transcript", API_KEY, None).await;
    assert_eq!(again.problem().kind, "/problems/no-transcript");
}

#[tokio::test]
async fn a_name_that_is_used_again_has_another_meeting() {
    let house = House::new();
    house.store.end_meeting(&house.lobby, 5_000);
    let second = meeting("lobby", 10_000);
    // Another process would count its utterances from 1 again, too.
    say(&house.store, &second, "utt-1", 10_100, "Otra vez.");
    let latest: Transcript = house.get("lobby/transcript").await.json();
    assert_eq!((latest.meeting.id, latest.lines.len()), (2, 1));
    assert_eq!((latest.lines[0].start_ms, latest.lines[0].end_ms), (100, 1_000));
    let first: Transcript = house.get("lobby/transcript?meeting=1").await.json();
    assert_eq!(first.lines[0].text, "Buenos días.");
    let meetings: Vec<signaling::wire::Meeting> = house.get("lobby/meetings").await.json();
    let told: Vec<_> = meetings
        .iter()
        .map(|meeting| (meeting.id, meeting.ended_at_ms, meeting.utterances))
        .collect();
    assert_eq!(told, [(2, None, 1), (1, Some(5_000), 1)]);

    let reader = Reader::open(house.store.path()).unwrap();
    let at = |ms| reader.meeting_at("lobby", ms).unwrap().map(|meeting| meeting.id);
    assert_eq!([at(999), at(5_000), at(5_001), at(10_000)], [None, Some(1), None, Some(2)]);
    assert!(reader.has_transcript(2).unwrap() && !reader.has_transcript(3).unwrap());

    let reply = house.ask("DELETE", "lobby/transcript?meeting=1", API_KEY, None).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    let meetings: Vec<signaling::wire::Meeting> = house.get("lobby/meetings").await.json();
    assert_eq!(meetings.len(), 1);
}

#[tokio::test]
async fn a_server_that_keeps_nothing_has_nothing() {
    let face = Face::new();
    let get = |path: &str| {
        Request::get(path).header("authorization", format!("Bearer {API_KEY}")).body(Body::empty())
    };
    let reply = face.send(get("/v1/rooms/lobby/transcript").unwrap()).await;
    assert_eq!(reply.problem().kind, "/problems/no-transcript");
    let reply = face.send(get("/v1/rooms/lobby/meetings").unwrap()).await;
    assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "[]"));
}

#[tokio::test]
async fn a_long_transcript_leaves_in_small_pieces_as_fast_as_it_is_taken() {
    let house = House::new();
    let rows = 100_000;
    Connection::open(house.store.path())
        .unwrap()
        .execute_batch(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i <= {rows})
             INSERT INTO utterances (meeting, utterance, speaker, speaker_name, language, text,
                                     started_at_ms, ended_at_ms)
             SELECT 1, 'utt-' || i, 'ana', 'Ana', 'es', 'Esto es la frase número ' || i || '.',
                    2000 + i * 1000, 2900 + i * 1000 FROM n"
        ))
        .unwrap();
    let request = || {
        Request::get("/v1/rooms/lobby/transcript?format=json")
            .header("authorization", format!("Bearer {API_KEY}"))
            .body(Body::empty())
            .unwrap()
    };
    let mut body = house.face.router.clone().oneshot(request()).await.unwrap().into_body();
    let (mut largest, mut whole) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        largest = largest.max(data.len());
        whole.extend_from_slice(&data);
    }
    let transcript: Transcript = serde_json::from_slice(&whole).unwrap();
    assert_eq!(transcript.lines.len(), rows + 1);
    println!("{} bytes in pieces of at most {largest}", whole.len());
    assert!(largest < 64 * 1024, "a piece of {largest} bytes");

    // Nothing was read ahead for one who stopped reading: what is erased meanwhile does not come.
    let mut body = house.face.router.clone().oneshot(request()).await.unwrap().into_body();
    let mut taken = 0;
    for _ in 0..3 {
        taken += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    let path = house.store.path().to_owned();
    let erased = tokio::task::spawn_blocking(move || erase(&path, "lobby", None)).await.unwrap();
    assert_eq!(erased.unwrap().utterances, rows + 1);
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(taken + rest.len() < whole.len() / 100, "{} bytes came after the erasing", rest.len());
}

#[test]
fn what_is_erased_is_not_to_be_found_in_the_file() {
    let house = House::new();
    let secret = "el secreto de la abuela";
    say(&house.store, &house.lobby, "utt-2", 2_000, secret);
    translate(&house.store, &house.lobby, "utt-2", "the grandmother's secret");
    assert!(holds(&house.bytes_on_disk(), secret));
    erase(house.store.path(), "lobby", None).unwrap();
    let left = house.bytes_on_disk();
    for gone in [secret, "the grandmother's secret", "Buenos", "lobby"] {
        assert!(!holds(&left, gone), "{gone:?} is still there");
    }
}

#[test]
fn a_meeting_that_goes_on_is_kept_again_after_it_was_erased() {
    let house = House::new();
    say(&house.store, &house.lobby, "utt-2", 2_000, "Lo de antes.");
    erase(house.store.path(), "lobby", None).unwrap();
    // Its translation comes after it is gone: it does not bring it back.
    translate(&house.store, &house.lobby, "utt-2", "What was before.");
    say(&house.store, &house.lobby, "utt-3", 3_000, "Lo de ahora.");
    house.store.end_meeting(&house.lobby, 4_000);
    let reader = Reader::open(house.store.path()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let found = reader.meeting("lobby", None).unwrap().unwrap();
        assert_eq!((found.id, found.utterances), (1, 1));
        if found.ended_at_ms == Some(4_000) {
            break;
        }
        assert!(Instant::now() < deadline, "its end was not written");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(house.store.stats(), Stats { kept: 5, lost: 0 });
}

#[test]
fn a_room_in_which_nobody_spoke_leaves_no_trace() {
    let house = House::new();
    let silent = meeting("a-quiet-place", 1_000);
    house.store.end_meeting(&silent, 2_000);
    say(&house.store, &house.lobby, "utt-2", 2_000, "Después.");
    assert_eq!(silent.id(), None);
    assert!(!holds(&house.bytes_on_disk(), "a-quiet-place"));
}

#[test]
fn meetings_of_a_dead_process_end_at_their_last_utterance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.sqlite3");
    let config = StoreConfig { retention_days: 0, ..StoreConfig::new(&path) };
    let store = Store::open(&config).unwrap();
    say(&store, &meeting("lobby", 1_000), "utt-1", 2_000, "Hola.");
    // As a killed process leaves it.
    let copy = folder.path().join("copy.sqlite3");
    for suffix in ["", "-wal"] {
        let name = |path: &std::path::Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(&path), name(&copy)).unwrap();
    }
    let _store = Store::open(&StoreConfig { path: copy.clone(), ..config }).unwrap();
    let meetings = Reader::open(&copy).unwrap().meetings(None).unwrap();
    assert_eq!(meetings[0].ended_at_ms, Some(2_900));
}

#[test]
fn what_is_older_than_the_retention_goes_at_the_start_and_every_day() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.sqlite3");
    let now = Arc::new(AtomicU64::new(100 * DAY_MS));
    let clock = Arc::clone(&now);
    let config = StoreConfig {
        retention_days: 30,
        clock: Arc::new(move || clock.load(Ordering::Relaxed)),
        ..StoreConfig::new(&path)
    };
    let utterances = |path: &std::path::Path| -> Vec<(String, u64)> {
        let meetings = Reader::open(path).unwrap().meetings(None).unwrap();
        meetings.into_iter().map(|meeting| (meeting.room, meeting.utterances)).collect()
    };
    let until = |expected: &[(&str, u64)]| {
        let deadline = Instant::now() + Duration::from_secs(10);
        let expected: Vec<_> =
            expected.iter().map(|(room, count)| ((*room).to_owned(), *count)).collect();
        while utterances(&path) != expected {
            assert!(Instant::now() < deadline, "{:?} instead of {expected:?}", utterances(&path));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    {
        let store = Store::open(&StoreConfig { retention_days: 0, ..config.clone() }).unwrap();
        let old = meeting("old", 60 * DAY_MS);
        for number in 0..1_200 {
            say(&store, &old, &format!("utt-{number}"), 60 * DAY_MS + number, "Hace tiempo.");
        }
        // A room that is never closed loses its oldest words alone.
        let long = meeting("long", 60 * DAY_MS);
        say(&store, &long, "utt-2000", 69 * DAY_MS, "Viejo.");
        say(&store, &long, "utt-2001", 71 * DAY_MS, "Nuevo.");
    }
    let store = Store::open(&config).unwrap();
    until(&[("long", 1)]);

    // Later the same day: not yet.
    let fresh = meeting("fresh", 100 * DAY_MS);
    say(&store, &fresh, "utt-1", 100 * DAY_MS, "Uno.");
    now.fetch_add(DAY_MS / 2, Ordering::Relaxed);
    say(&store, &fresh, "utt-2", 100 * DAY_MS + 1, "Dos.");
    until(&[("fresh", 2), ("long", 1)]);
    // The clock is looked at whenever something is written.
    now.fetch_add(DAY_MS, Ordering::Relaxed);
    say(&store, &fresh, "utt-3", 101 * DAY_MS, "Tres.");
    until(&[("fresh", 3)]);
}

#[test]
fn a_file_that_cannot_be_written_loses_rows_and_says_so_and_the_next_ones_are_kept() {
    let house = House::new();
    let said = |utterance: &str| NewUtterance {
        utterance: utterance.to_owned(),
        speaker: "ana".to_owned(),
        speaker_name: "Ana".to_owned(),
        language: "es".to_owned(),
        text: "¿Hola?".to_owned(),
        started_at_ms: 3_000,
        ended_at_ms: 4_000,
    };
    let other = Connection::open(house.store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let error = house.store.keep_utterance(&house.lobby, said("utt-8")).unwrap_err();
    assert!(matches!(error, StoreError::Sqlite(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "the call waited {:?}", began.elapsed());
    assert_eq!(house.store.stats(), Stats { kept: 2, lost: 1 });
    other.execute_batch("ROLLBACK").unwrap();
    house.store.keep_utterance(&house.lobby, said("utt-9")).unwrap();
    assert_eq!(house.store.stats(), Stats { kept: 3, lost: 1 });
}
