//! The translator that asks a LibreTranslate server: against our own interface, over real translators,
//! and against servers that fail in every way they can.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inference::Language;
use inference::store::Store;
use inference::translate::apertium::{self, Apertium, ApertiumConfig};
use inference::translate::libretranslate::{self, LibreTranslate, LibreTranslateConfig, NoAddress};
use inference::translate::{
    Ladder, LadderConfig, TranslateError, TranslateRequest, Translation, Translator,
};
use inference::vad::Vad;
use inference::voice::{Espeak, Voice, VoiceSet};
use inference::whisper::{Precision, Whisper};
use media_server::engine::{Models, ModelsInUse};
use media_server::segmenter::SegmenterConfig;
use media_server::studio::{House, StudioConfig};
use signaling::libretranslate::{FaceKey, LibreTranslateFace, serve};
use tokio::runtime::Runtime;

const EN: Language = Language::EN;
const ES: Language = Language::ES;
const TIMEOUT_MS: u64 = 300;

fn apertium() -> Arc<dyn Translator> {
    Arc::new(Apertium::discover(&ApertiumConfig::default()).expect("install apertium-eng-spa"))
}

fn ladder(translators: &[Arc<dyn Translator>]) -> Ladder {
    let order = vec![libretranslate::NAME.to_owned(), apertium::NAME.to_owned()];
    Ladder::new(&LadderConfig { order, ..LadderConfig::default() }, translators).unwrap()
}

fn request(text: &str) -> TranslateRequest {
    TranslateRequest::new(text, EN, ES)
}

fn translate(translator: &dyn Translator, text: &str) -> Result<Translation, TranslateError> {
    let mut released = String::new();
    let outcome = translator.translate(&request(text), &mut |piece| released.push_str(piece));
    if let Ok(translation) = &outcome {
        assert_eq!(released.trim(), translation.text);
    }
    outcome
}

fn client(url: &str, api_key: Option<&str>) -> LibreTranslate {
    LibreTranslate::new(&LibreTranslateConfig {
        url: Some(url.to_owned()),
        api_key: api_key.map(str::to_owned),
        timeout_ms: TIMEOUT_MS,
    })
    .unwrap()
}

/// Our interface over Apertium, on a port of its own.
struct Face {
    url: String,
    _runtime: Runtime,
}

impl Face {
    fn serve(config: LibreTranslateFace) -> Self {
        let store = Store::open_default().expect("a place for the models");
        let get = |name| store.require(name).expect("the weights: run `make models`");
        let models = Models {
            recogniser_name: "whisper-base".to_owned(),
            vad: Vad::load(&get("silero-vad")).unwrap(),
            recogniser: Arc::new(
                Whisper::load(&get("whisper-base"), &Precision::Int8.into()).unwrap(),
            ),
            translator: ladder(&[apertium()]),
            voices: VoiceSet::new(vec![Arc::new(Espeak::new().unwrap()) as Arc<dyn Voice>]),
        };
        let (studio, segmenter) = (StudioConfig::default(), SegmenterConfig::default());
        let models = Arc::new(ModelsInUse::new(models));
        let house = House::open(models, &studio, &segmenter).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(serve(listener, Arc::new(house), config, std::future::pending()));
        Self { url, _runtime: runtime }
    }
}

/// A patient client: the machine may be busy, and these tests are not about time.
fn patient(url: &str, api_key: Option<&str>) -> LibreTranslate {
    LibreTranslate::new(&LibreTranslateConfig {
        url: Some(url.to_owned()),
        api_key: api_key.map(str::to_owned),
        timeout_ms: 20_000,
    })
    .unwrap()
}

#[test]
fn it_translates_through_our_own_interface_alone_and_in_batches() {
    let key = FaceKey { key: "right".to_owned(), req_limit: None, char_limit: None };
    let config =
        LibreTranslateFace { keys: vec![key], require_key: true, ..LibreTranslateFace::default() };
    let face = Face::serve(config);
    let translator = patient(&format!("{}/", face.url), Some("right"));
    assert!(translator.supports(EN, ES) && translator.supports(ES, EN));
    assert!(!translator.supports(EN, EN) && !translator.supports(EN, "zh".parse().unwrap()));

    let direct = apertium();
    let sentences = ["Good morning.", "The house is big.", "Where is the house?", "I am tired."];
    let expected: Vec<String> =
        sentences.iter().map(|text| translate(&*direct, text).unwrap().text).collect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            for (text, expected) in sentences.iter().zip(&expected) {
                let translator = &translator;
                scope.spawn(move || {
                    let translation = translate(translator, text).unwrap();
                    assert_eq!(
                        (&translation.text, translation.translator.as_str()),
                        (expected, "libretranslate")
                    );
                });
            }
        }
    });

    let stranger = patient(&face.url, Some("wrong"));
    let error = translate(&stranger, "Yes.").unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "it answered 403: Invalid API key");
    let order = [Arc::new(stranger) as Arc<dyn Translator>, direct];
    assert_eq!(translate(&ladder(&order), "Yes.").unwrap().translator, apertium::NAME);
}

#[test]
fn without_an_address_there_is_no_translator() {
    assert_eq!(LibreTranslate::new(&LibreTranslateConfig::default()).err(), Some(NoAddress));
}

/// How a server fails, once it was asked for its languages.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Silent,
    HangsUp,
    Refuses,
    Garbage,
    OtherJson,
    TooFew,
    NotFound,
    Endless,
}

/// A server that lists English and Spanish, and fails at everything else.
struct BrokenServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BrokenServer {
    fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ends) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let (count, ends) = (&count, &ends);
                    scope.spawn(move || answer(stream.unwrap(), fault, count, ends));
                }
            });
        });
        Self { address, asked, stop, thread: Some(thread) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for BrokenServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        self.thread.take().map(JoinHandle::join);
    }
}

fn answer(mut stream: TcpStream, fault: Fault, asked: &AtomicUsize, ends: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    let mut reply = |status: &str, body: &str| {
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
    };
    if head.starts_with("GET /languages") {
        reply("200 OK", r#"[{"code":"en","targets":["en","es"]},{"code":"xx","targets":["en"]}]"#);
        return;
    }
    asked.fetch_add(1, Ordering::Relaxed);
    match fault {
        Fault::HangsUp => {}
        Fault::Refuses => reply("500 Internal Server Error", r#"{"error":"out of order"}"#),
        Fault::Garbage => reply("200 OK", "<html>this is no JSON"),
        Fault::OtherJson => reply("200 OK", r#"{"translatedText": 7}"#),
        Fault::TooFew => reply("200 OK", r#"{"translatedText": []}"#),
        Fault::NotFound => reply("404 Not Found", "<!doctype html>"),
        Fault::Silent => {
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Fault::Endless => {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
            let block = [b' '; 1 << 16];
            while !ends.load(Ordering::Relaxed) && stream.write_all(&block).is_ok() {}
        }
    }
}

#[test]
fn a_server_that_fails_is_passed_over_and_then_left_alone() {
    for fault in [
        Fault::HangsUp,
        Fault::Refuses,
        Fault::Garbage,
        Fault::OtherJson,
        Fault::TooFew,
        Fault::NotFound,
        Fault::Silent,
        Fault::Endless,
    ] {
        let server = BrokenServer::start(fault);
        let broken = Arc::new(client(&format!("http://{}", server.address), None));
        assert!(broken.supports(EN, ES), "{fault:?}");
        let ladder = ladder(&[Arc::clone(&broken) as Arc<dyn Translator>, apertium()]);
        for _ in 0..3 {
            let began = Instant::now();
            let translation = translate(&ladder, "Good morning.").unwrap();
            assert_eq!(translation.translator, apertium::NAME, "{fault:?}");
            // Twice the timeout at most, and what a busy machine takes for the rest.
            assert!(began.elapsed() < Duration::from_millis(2 * TIMEOUT_MS + 5_000), "{fault:?}");
        }
        let asked = server.asked();
        assert!((3..=4).contains(&asked), "{fault:?}: asked {asked} times");
        for _ in 0..5 {
            assert!(matches!(translate(&*broken, "Yes."), Err(TranslateError::Failed { .. })));
        }
        assert_eq!(server.asked(), asked, "{fault:?}: the breaker is open");
    }
}

#[test]
fn a_server_that_is_not_there_supports_nothing_and_holds_nobody_up() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let absent = client(&format!("http://{closed}"), None);
    assert!(!absent.supports(EN, ES));
    let ladder = ladder(&[Arc::new(absent), apertium()]);
    assert_eq!(translate(&ladder, "Good morning.").unwrap().translator, apertium::NAME);
}

#[test]
fn who_is_cancelled_does_not_wait_for_the_server() {
    let server = BrokenServer::start(Fault::Silent);
    let translator = LibreTranslate::new(&LibreTranslateConfig {
        url: Some(format!("http://{}", server.address)),
        api_key: None,
        timeout_ms: 30_000,
    })
    .unwrap();
    let request = request("Good morning.");
    let cancel = request.cancel.clone();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| translator.translate(&request, &mut |_| {}));
        while server.asked() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        cancel.cancel();
        assert!(matches!(waiting.join().unwrap(), Err(TranslateError::Cancelled)));
    });
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
