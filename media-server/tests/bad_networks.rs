//! Words on bad networks, in virtual time: recorded prompts as a browser sends them, through losses,
//! jitter, reordering and repetition from a seed, into the receiving side of a peer, the segmenter
//! and the recogniser.

#![allow(clippy::print_stderr, reason = "the rates are the result: one line for each network")]

mod bad_networks {
    pub mod corpus;
    pub mod sender;
}

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bad_networks::corpus::{self, Prompt};
use bad_networks::sender::{FRAME, packets};
use inference::vad::Vad;
use inference::whisper::{Precision, TranscribeOptions, Whisper};
use inference::{CancelToken, Language};
use loadtest::impairment::{Conditions, Link, Loss};
use loadtest::word_error::word_error_rate;
use media_server::media::frames::{HeardFrame, heard_ring};
use media_server::media::inbound::Inbound;
use media_server::media::stats::{Counters, Stats};
use media_server::segmenter::{Ear, Event, SegmenterConfig};
use media_server::transport::RtpIn;
use ringbuf::traits::Consumer as _;

const CLIPS: usize = 32;
/// Seed of the corpus and of every network.
const SEED: u64 = 2_025;
/// The worker looks at its socket at least this often in the test's time.
const STEP: Duration = Duration::from_millis(1);

/// A network, and how many points of word error rate it may cost.
struct Network {
    name: &'static str,
    conditions: Conditions,
    /// What the sender's encoder is told of the loss, percent.
    told_loss: i32,
    /// Most by which the word error rate may exceed that of the clean network.
    allowed: f64,
}

fn networks() -> Vec<Network> {
    let ms = Duration::from_millis;
    let clean = Conditions::default();
    let random = |share| Conditions { loss: Loss::Random { share }, ..clean };
    let bursts = |share| Conditions { loss: Loss::Bursts { share, mean_length: 2.0 }, ..clean };
    let unsteady = Conditions {
        jitter: ms(80),
        reordered: 0.02,
        held_back: ms(45),
        duplicated: 0.02,
        ..clean
    };
    let network =
        |name, told_loss, conditions, allowed| Network { name, conditions, told_loss, allowed };
    vec![
        network("no loss", 0, clean, 0.0),
        network("2 % lost at random", 2, random(0.02), 0.05),
        network("5 % lost at random", 5, random(0.05), 0.05),
        network("5 % lost in bursts", 5, bursts(0.05), 0.05),
        network("10 % lost at random", 10, random(0.1), 0.12),
        network("10 % lost in bursts", 10, bursts(0.1), 0.12),
        network("jitter to 80 ms, 2 % swapped, 2 % twice", 0, unsteady, 0.02),
        network(
            "the same with 5 % lost at random",
            5,
            Conditions { loss: Loss::Random { share: 0.05 }, ..unsteady },
            0.05,
        ),
    ]
}

struct House {
    vad: Vad,
    whisper: Whisper,
}

impl House {
    fn open() -> Self {
        let models = corpus::models();
        let folder = |name: &str| models.join(name);
        let missing = |path: &Path, error: String| -> ! {
            panic!("{error} ({}): run `dragoman models fetch`", path.display())
        };
        let (vad, whisper) = (folder("silero-vad"), folder("whisper-base"));
        Self {
            vad: Vad::load(&vad).unwrap_or_else(|error| missing(&vad, error.to_string())),
            whisper: Whisper::load(&whisper, &Precision::Int8.into())
                .unwrap_or_else(|error| missing(&whisper, error.to_string())),
        }
    }

    /// What is understood of decoded speech.
    fn understand(&self, frames: &[HeardFrame]) -> String {
        let mut ear =
            Ear::new(&self.vad, SegmenterConfig::default()).expect("the defaults are valid");
        let mut segments = Vec::new();
        let mut note = |event| {
            if let Event::Ended { segment, .. } = event {
                segments.push(segment);
            }
        };
        for frame in frames {
            ear.hear(frame.rtp_time / 3, &frame.samples, &mut note);
        }
        ear.finish(&mut note);
        let options =
            TranscribeOptions { language: Some(Language::EN), ..TranscribeOptions::default() };
        let texts: Vec<String> = segments
            .iter()
            .map(|segment| {
                let cancel = CancelToken::new();
                self.whisper.transcribe(&segment.samples_16k, &options, &cancel)
            })
            .map(|transcript| transcript.expect("recognised").text)
            .collect();
        texts.join(" ")
    }
}

/// Sends a prompt through a network to a peer's receiving side; gives what its recogniser is fed.
fn receive(prompt: &Prompt, network: &Network, seed: u64, counters: &Counters) -> Vec<HeardFrame> {
    let (writer, mut reader) = heard_ring(2_000);
    let mut inbound = Inbound::new(writer).expect("an inbound side can be made");
    let mut link = Link::new(network.conditions, seed);
    let start = Instant::now();
    let packets = packets(&prompt.samples_48k, network.told_loss);
    let end = start
        + FRAME * u32::try_from(packets.len()).expect("a prompt lasts seconds")
        + Duration::from_millis(500);
    let mut packets = packets.into_iter().peekable();
    // Our ticks and the sender's do not fall together.
    let mut tick = start + Duration::from_millis(7);
    let mut now = start;
    while now < end {
        while let Some((_, packet)) = packets.next_if(|(at, _)| start + *at <= now) {
            link.send(now, packet);
        }
        while let Some((arrived, packet)) = link.receive(now) {
            inbound.packet(RtpIn { arrived, ..packet }, counters);
        }
        if now >= tick {
            inbound.tick(now, counters);
            tick += FRAME;
        }
        now += STEP;
    }
    std::iter::from_fn(|| reader.try_pop()).collect()
}

/// Word error rate over the corpus; sentences count by their words.
fn word_errors(house: &House, corpus: &[Prompt], network: &Network) -> (f64, Stats) {
    let counters = Counters::default();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = 0.0;
        while let Some((index, prompt)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            corpus.get(index).map(|prompt| (index, prompt))
        } {
            let frames = receive(prompt, network, SEED + index as u64, &counters);
            let text = house.understand(&frames);
            let rate = word_error_rate(&prompt.text, &text);
            if std::env::var_os("SHOW").is_some() && rate > 0.0 {
                eprintln!("  {}: said {:?}, understood {text:?}", prompt.name, prompt.text);
            }
            wrong += rate * prompt.words() as f64;
        }
        wrong
    };
    let wrong: f64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no worker panics")).sum()
    });
    let words: usize = corpus.iter().map(Prompt::words).sum();
    (wrong / words as f64, Stats::of(&[&counters]))
}

#[test]
fn words_survive_losses_jitter_and_reordering() {
    let house = House::open();
    let corpus = corpus::draw(CLIPS, SEED);
    let words: usize = corpus.iter().map(Prompt::words).sum();
    eprintln!("word error rate over {CLIPS} prompts, {words} words");
    let mut clean = None;
    let mut broken = Vec::new();
    for network in networks() {
        let (rate, stats) = word_errors(&house, &corpus, &network);
        let more = rate - *clean.get_or_insert(rate);
        eprintln!(
            "{:<40} {:5.1} % ({:+.1} points, {:.0} allowed); {} packets, {} lost, {} late, \
             {} twice, {} recovered, {} ms concealed",
            network.name,
            rate * 100.0,
            more * 100.0,
            network.allowed * 100.0,
            stats.packets_in,
            stats.lost,
            stats.late,
            stats.duplicates,
            stats.fec_recovered,
            stats.concealed / 48,
        );
        if more > network.allowed {
            broken.push(network.name);
        }
    }
    assert!(clean < Some(0.15), "the clean network itself is not understood");
    assert!(broken.is_empty(), "too many words are lost on: {broken:?}");
}
