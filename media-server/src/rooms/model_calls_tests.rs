//! How often the models work, counted where the engine reports, with the real models and a spoken
//! sentence. The media plane is there too, but nobody is connected to it: who comes and what they
//! say is told by hand.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::Language;
use inference::voice::SpeakRequest;
use signaling::house::{Caller, House as _};
use signaling::wire::{CreateRoom, Event, EventKind, RoomKind};
use tokio::sync::broadcast;

use super::Rooms;
use super::sink::ListenerSink;
use super::testing::{caller, house_on_loopback, interpreter, listener, speaker};
use crate::engine::{Models, ModelsConfig, ModelsInUse, TranslatorName, VoiceName};
use crate::listener::{Heard, Mark, SpeechSink as _};
use crate::media::PeerId;
use crate::resample::Resampler;

const PATIENCE: Duration = Duration::from_secs(120);

struct Meeting {
    rooms: Rooms,
    sink: ListenerSink,
    events: broadcast::Receiver<Event>,
    speech_16k: Vec<f32>,
    next: u64,
}

impl Meeting {
    fn open(channels: &[&str], options: CreateRoom) -> Self {
        let models = Arc::new(ModelsInUse::new(
            Models::load(&ModelsConfig {
                translators: vec![TranslatorName::LanguageModel],
                // Nothing here depends on how well or slowly it is translated.
                pairs: [("en-es".to_owned(), vec![TranslatorName::Apertium])].into(),
                voices: vec![VoiceName::EspeakNg],
                warm_up: Vec::new(),
                ..ModelsConfig::default()
            })
            .expect("the models are there: fetch them with `make models`"),
        ));
        let config = house_on_loopback();
        let rooms = Rooms::open(&models, &config).expect("the house opens");
        let events = rooms.all_events();
        let languages = channels.iter().map(|code| (*code).to_owned()).collect();
        rooms
            .create_room(CreateRoom {
                name: Some("r".to_owned()),
                kind: RoomKind::Conference,
                languages,
                ..options
            })
            .expect("these can be channels");
        let sink = ListenerSink(Arc::clone(&rooms.shared));
        Self { rooms, sink, events, speech_16k: spoken(&models.get()), next: 1_000 }
    }

    fn join(&mut self, caller: &Caller) -> PeerId {
        self.next += 1;
        let peer = PeerId(self.next);
        let session = self.next.to_string();
        self.rooms.shared.state.lock().reserve(caller, peer, session).expect("a place");
        self.rooms.shared.peer_connected(peer, Duration::ZERO);
        peer
    }

    /// Somebody says the sentence; waits until it is translated into so many languages, and spoken
    /// in so many.
    fn say(&mut self, peer: PeerId, translated: u64, spoken: u64) {
        let before = self.worked();
        self.says(peer);
        self.until([before[0] + 1, before[1] + translated, before[2] + spoken]);
    }

    fn says(&mut self, peer: PeerId) {
        let ended = Instant::now();
        let mark = |seconds_ago: f32| Mark {
            rtp_timestamp: 0,
            arrived: ended - Duration::from_secs_f32(seconds_ago),
        };
        assert!(self.sink.wanted(peer));
        let utterance = self.sink.started(peer);
        let samples_16k = self.speech_16k.clone();
        let (first_voiced, last_voiced) = (mark(2.5), mark(0.5));
        let heard = Heard { samples_16k, first_voiced, last_voiced, ended };
        self.sink.heard(peer, utterance, heard);
    }

    fn until(&self, goal: [u64; 3]) {
        let since = Instant::now();
        while self.worked() != goal {
            assert!(since.elapsed() < PATIENCE, "{:?} of {goal:?}", self.worked());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Recognitions, translations, syntheses.
    fn worked(&self) -> [u64; 3] {
        let text = self.rooms.render_metrics(&Arc::default()).expect("metrics");
        ["transcribe", "translate", "speak"].map(|stage| {
            let name = format!("dragoman_stage_utterances_total{{stage=\"{stage}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.map_or(0, |count| count.parse().expect("a number"))
        })
    }

    fn transcripts(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.events.try_recv().ok())
            .filter_map(|event| match event.kind {
                EventKind::UtteranceTranscript { language, .. } => Some(language),
                _ => None,
            })
            .collect()
    }
}

/// A sentence in English, 16 kHz.
fn spoken(models: &Models) -> Vec<f32> {
    let request = SpeakRequest {
        speed: 0.9,
        ..SpeakRequest::new("The meeting begins at ten o'clock in the morning.", Language::EN)
    };
    let (mut samples, mut rate) = (Vec::new(), 0);
    models
        .voices
        .speak(&request, &mut |chunk| {
            rate = chunk.sample_rate_hz;
            samples.extend_from_slice(chunk.samples);
            ControlFlow::Continue(())
        })
        .expect("the voice speaks");
    let mut resampled = vec![0.0; 4_800];
    let mut resampler = Resampler::new(rate, 16_000).expect("a usual rate");
    resampler.process(&samples, &mut resampled);
    resampler.flush(&mut resampled);
    resampled
}

#[test]
fn a_sentence_is_recognised_once_translated_once_a_language_and_spoken_once_a_channel() {
    let mut meeting = Meeting::open(&["en", "es", "fr"], CreateRoom::default());
    let anna = meeting.join(&speaker("anna", "en"));
    assert!(!meeting.sink.wanted(anna), "nobody listens: nothing is recognised");
    for (identity, channel) in
        [("a", "es"), ("b", "es"), ("c", "es"), ("d", "fr"), ("e", "floor"), ("f", "floor")]
    {
        meeting.join(&listener(identity, channel));
    }
    meeting.say(anna, 2, 2);
    assert_eq!(meeting.worked(), [1, 2, 2]);

    let french = meeting.rooms.shared.state.lock().room("r").expect("there").members[4].peer;
    meeting.rooms.shared.remove_peer(french, "left");
    meeting.say(anna, 1, 1);
    assert_eq!(meeting.worked(), [2, 3, 3], "nobody listens to fr any more");

    // An interpreter has Spanish: their words are recognised, and the machine has nothing to do.
    assert_eq!(meeting.transcripts(), ["en", "en"]);
    let ines = meeting.join(&interpreter("ines", "es"));
    meeting.say(ines, 0, 0);
    assert_eq!(meeting.worked(), [3, 3, 3]);
    assert_eq!(meeting.transcripts(), ["es"]);
    assert!(!meeting.sink.wanted(anna));
    let ben = meeting.join(&caller("ben", "en"));
    assert!(meeting.sink.wanted(anna), "to know when she speaks");
    let utterance = meeting.sink.started(ben);
    meeting.sink.discarded(ben, utterance);
    assert_eq!(meeting.worked(), [3, 3, 3]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(meeting.worked(), [3, 3, 3], "nothing follows late");
}

#[test]
fn a_recorded_channel_costs_a_translation_and_no_voice_until_somebody_listens() {
    let options = CreateRoom { record: vec!["es".to_owned()], ..CreateRoom::default() };
    let mut meeting = Meeting::open(&["en", "es"], options);
    let anna = meeting.join(&speaker("anna", "en"));
    meeting.say(anna, 1, 0);
    meeting.join(&listener("a", "es"));
    meeting.say(anna, 1, 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(meeting.worked(), [2, 2, 1], "nothing follows late");
}

#[test]
fn what_a_human_interprets_into_a_channel_is_interpreted_on_into_one_that_takes_relay_from_it() {
    let relay = [("es".to_owned(), "en".to_owned())].into();
    let options = CreateRoom { relay, ..CreateRoom::default() };
    let mut meeting = Meeting::open(&["en", "es"], options);
    meeting.join(&listener("a", "es"));
    let ines = meeting.join(&interpreter("ines", "en"));
    meeting.say(ines, 1, 1);
    let jun = meeting.join(&speaker("jun", "ja"));
    assert!(!meeting.sink.wanted(jun), "Spanish comes from her English");
}

#[test]
fn what_was_said_to_its_end_is_interpreted_although_its_speaker_has_left() {
    let mut meeting = Meeting::open(&["en", "es"], CreateRoom::default());
    let anna = meeting.join(&speaker("anna", "en"));
    meeting.join(&listener("a", "es"));
    meeting.says(anna);
    meeting.rooms.shared.remove_peer(anna, "left");
    meeting.until([1, 1, 1]);
}
