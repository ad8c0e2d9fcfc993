//! Whole runs against a small house that answers with tones after a while.
#![allow(clippy::unwrap_used)]

mod house;

use std::path::Path;
use std::time::Duration;

use house::{API_KEY, Behaviour, ToneHouse, serve, serve_delayed};
use loadtest::SAMPLE_RATE;
use loadtest::api::ApiError;
use loadtest::corpus::{Corpus, Sentence};
use loadtest::impairment::{Conditions, Loss};
use loadtest::report::{Figures, Level, Report};
use loadtest::run::{Progress, RunError, RunOptions, run};
use loadtest::schedule::{Cast, Load};
use loadtest::search::search;

/// Half a second of tone, and the quiet that ends the utterance.
fn corpus() -> Corpus {
    let step = std::f32::consts::TAU * 300.0 / SAMPLE_RATE as f32;
    let mut samples: Vec<f32> = (0..24_000).map(|n| 0.3 * (n as f32 * step).sin()).collect();
    samples.resize(28_800, 0.0);
    Corpus::of([Sentence::new(Path::new("tone.wav"), "en", "hello", &samples, None).unwrap()])
}

fn options(server: &str, sessions: &[usize], hold_s: u64) -> RunOptions {
    let load = Load {
        steps: sessions.to_vec(),
        hold: Duration::from_secs(hold_s),
        join_every: Duration::from_millis(100),
        think: (Duration::from_millis(900), Duration::from_millis(1400)),
        seed: 3,
    };
    let casts = vec![Cast::call("en", "es")];
    RunOptions {
        timeout: Duration::from_secs(4),
        objective: "missing<1%".parse().unwrap(),
        ..RunOptions::new(server, API_KEY, casts, load, corpus())
    }
}

async fn report(options: RunOptions) -> Report {
    run(options, |_: &Progress| {}, std::future::pending()).await.unwrap()
}

async fn delayed(milliseconds: u64) -> (String, std::sync::Arc<ToneHouse>) {
    serve_delayed(Behaviour::Interpret, Duration::from_millis(milliseconds)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_counts_as_the_timeout_with_the_servers_reason() {
    let (server, house) = serve(Behaviour::Drop).await;
    let report = report(options(&server, &[1], 5)).await;
    assert!(report.total.sentences >= 2);
    assert_eq!(report.total.missing, report.total.sentences);
    assert!((report.total.lag.p50 - 4000.0).abs() <= 4.0, "{:?}", report.total.lag);
    let why = report.outcomes[0].missing.as_deref();
    assert_eq!(why, Some("dropped (overloaded: there is no room for it)"));
    assert!(!report.is_met());
    assert_eq!(house.rooms_open(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_capacity_is_the_last_level_that_holds_the_objective() {
    let (server, _house) = delayed(100).await;
    let mut options = options(&server, &[1, 2, 3], 6);
    options.find_capacity = true;
    options.objective = "lag_p50<3s,missing<1%".parse().unwrap();
    let held = report(options.clone()).await;
    assert_eq!(held.capacity, Some(3), "{:?}", held.verdicts);
    assert_eq!(held.levels.iter().map(|level| level.sessions).collect::<Vec<_>>(), [1, 2, 3]);
    options.objective = "lag_p50<50ms".parse().unwrap();
    let lost = report(options).await;
    assert_eq!(lost.capacity, Some(0));
    // The level that had begun meanwhile is no part of it.
    assert_eq!(lost.levels.len(), 1);
    assert!(lost.outcomes.iter().all(|outcome| outcome.level == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capacity_between_two_levels_is_found_by_halves() {
    let (server, house) = serve(Behaviour::DropBeyond(3)).await;
    let mut options = RunOptions { find_capacity: true, ..options(&server, &[1, 6], 4) };
    // What a level begins may end in the next.
    options.objective = "missing<60%".parse().unwrap();
    let report = search(options, |_: &Progress| {}, std::future::pending()).await.unwrap();
    let held = |level: &Level| (level.sessions, level.verdicts.iter().all(|verdict| verdict.met));
    let levels: Vec<_> = report.levels.iter().map(held).collect();
    assert_eq!(levels, [(1, true), (6, false), (3, true), (4, false)]);
    assert_eq!(report.capacity, Some(3));
    assert_eq!(house.rooms_open(), 0);
    // One report of all: every level has its sentences, joins and packets, one after the other.
    let sum = |count: fn(&Figures) -> u64| -> u64 {
        report.levels.iter().map(|level| count(&level.figures)).sum()
    };
    assert_eq!(report.total.sentences as u64, sum(|figures| figures.sentences as u64));
    assert_eq!((report.total.packets, report.total.join.count), (sum(|it| it.packets), 2 * 13));
    assert!(report.levels.is_sorted_by(|one, next| one.end_ms <= next.begin_ms));
    assert!(report.outcomes.iter().all(|outcome| {
        let Level { begin_ms, end_ms, .. } = report.levels[outcome.level];
        (begin_ms..end_ms).contains(&outcome.due_ms)
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conference_is_measured_for_every_listener() {
    let (server, house) = delayed(100).await;
    let mut options = options(&server, &[1], 6);
    options.casts = vec![Cast {
        kind: signaling::wire::RoomKind::Conference,
        speakers: vec!["en".to_owned()],
        listeners: vec!["es".to_owned(); 3],
    }];
    let report = report(options).await;
    assert!(report.total.sentences >= 6 && report.total.sentences % 3 == 0);
    assert_eq!(report.total.missing, 0, "{:?}", report.outcomes);
    assert_eq!(report.total.join.count, 4);
    assert_eq!(house.rooms_open(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_is_felt_in_the_lag_and_in_the_losses() {
    let (server, _house) = delayed(100).await;
    let mut bad = options(&server, &[2], 14);
    let loss = Loss::Random { share: 0.05 };
    let delay = Duration::from_millis(150);
    bad.network = Some(Conditions { loss, delay, ..Conditions::default() });
    let (bad, good) = futures::join!(report(bad), report(options(&server, &[2], 14)));
    let loss = bad.total.loss();
    assert!((0.02..0.09).contains(&loss), "{loss}");
    assert!(bad.total.concealed >= bad.total.lost);
    assert_eq!(good.total.lost, 0);
    // To the server and back.
    let difference = bad.total.lag.p50 - good.total.lag.p50;
    assert!((difference - 300.0).abs() <= 40.0, "{difference}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_ends_the_run_with_what_was_seen() {
    let (server, house) = delayed(100).await;
    let killer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(6)).await;
        house.kill().await;
    });
    let report = report(options(&server, &[2], 30)).await;
    killer.await.unwrap();
    assert!(report.took_s < 20.0, "{}", report.took_s);
    let why = report.cut_short.as_deref().unwrap();
    assert!(why.starts_with("every session failed"), "{why}");
    assert_eq!(report.errors.len(), 2);
    assert!(report.outcomes.iter().any(|outcome| outcome.missing.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_reports_what_it_saw() {
    let (server, house) = delayed(100).await;
    let stop = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        "enough".to_owned()
    };
    let mut seen = 0;
    let report = run(options(&server, &[1], 60), |_: &Progress| seen += 1, stop).await.unwrap();
    assert_eq!(report.cut_short.as_deref(), Some("enough"));
    assert_eq!(report.total.missing, 0, "{:?}", report.outcomes);
    assert!(!report.outcomes.is_empty() && seen >= 8);
    assert_eq!(house.rooms_open(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_listen_back_is_named_and_the_run_stands() {
    let (server, _house) = serve(Behaviour::Interpret).await;
    let mut seen = None;
    let options = RunOptions { listen_back: true, ..options(&server, &[1], 4) };
    let look = |progress: &Progress| seen = progress.listened.or(seen);
    let report = run(options, look, std::future::pending()).await.unwrap();
    let [failure] = report.errors.as_slice() else { panic!("{:?}", report.errors) };
    assert!(failure.what.starts_with("listening back: "), "{}", failure.what);
    assert!(report.outcomes.iter().all(|outcome| !outcome.heard.is_empty()));
    assert_eq!((report.total.listened, seen), (0, None));
    assert!(report.is_met() && report.cut_short.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_does_not_begin_without_a_server_a_key_or_something_to_say() {
    let begin = |options| run(options, |_: &Progress| {}, std::future::pending());
    let (server, _house) = delayed(0).await;
    let mut stranger = options(&server, &[1], 5);
    stranger.api_key = "f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0".to_owned();
    let refused = begin(stranger).await.unwrap_err();
    assert!(matches!(refused, RunError::Server(ApiError::Refused(_))), "{refused:?}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = begin(options(&format!("http://{free}"), &[1], 5)).await.unwrap_err();
    assert!(matches!(nobody, RunError::Server(ApiError::Unreachable { .. })), "{nobody:?}");
    let silent = begin(options(&server, &[1], 0)).await.unwrap_err();
    assert!(matches!(silent, RunError::Empty), "{silent:?}");
}
