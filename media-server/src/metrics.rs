//! The numbers of this server, in the text format that Prometheus reads (OpenMetrics 1.0).
//!
//! What happens is counted here where it happens ([`Metrics`]); what is, is asked when somebody
//! looks ([`Now`]). A new metric of the first kind is a field, a line in [`Metrics::default`] and
//! the call that feeds it. Names begin with `dragoman_`, times are in seconds.

mod engine;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use signaling::transcripts;
use signaling::wire::Trace;

use crate::engine::EngineStats;
use crate::media::Stats;
use crate::media::stats::DelaysSeen;

/// Media type of [`Metrics::render`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "dragoman";
/// Upper edges for the stages and the whole lag, in seconds: from a frame to the deadline.
const SECONDS: [f64; 15] =
    [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0];

/// Upper edges for shares.
const TENTHS: [f64; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

type Label = [(&'static str, &'static str); 1];

/// What is counted as it happens. Observing takes a short lock: not for media workers, whose
/// counters are [`Stats`].
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    stages: Family<Label, Histogram, fn() -> Histogram>,
    lag: Histogram,
    hidden: Histogram,
    utterances: Family<Label, Counter>,
    worked: Family<Label, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let stages = Family::<Label, _, _>::new_with_constructor(seconds as fn() -> Histogram);
        let lag = seconds();
        let hidden = Histogram::new(TENTHS);
        let utterances = Family::<Label, Counter>::default();
        let worked = Family::<Label, Counter>::default();
        registry.register(
            "stage_utterances",
            "Utterances that a stage worked through: recognised once, translated and spoken once for each language",
            worked.clone(),
        );
        registry.register(
            "stage_seconds",
            "Time of an utterance in each stage, for every listener who heard it",
            stages.clone(),
        );
        registry.register(
            "interpretation_lag_seconds",
            "From the last voiced sample in to the first translated packet out",
            lag.clone(),
        );
        registry.register(
            "hangover_hidden_ratio",
            "Share of the pause that ends an utterance in which it was recognised already",
            hidden.clone(),
        );
        registry.register(
            "utterances",
            "Utterances by what became of them; spoken once for each listener",
            utterances.clone(),
        );
        Self { registry, stages, lag, hidden, utterances, worked }
    }
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    /// The first packet of an utterance left for a listener.
    pub fn spoken(&self, trace: &Trace) {
        for (stage, ms) in trace.stages() {
            if let Some(ms) = ms {
                self.stages.get_or_create(&[("stage", stage)]).observe(ms / 1000.0);
            }
        }
        if let Some(ms) = trace.lag_ms {
            self.lag.observe(ms / 1000.0);
        }
        if let (Some(hidden), Some(endpoint)) = (trace.hidden_ms, trace.endpoint_ms)
            && endpoint > 0.0
        {
            self.hidden.observe(hidden / endpoint);
        }
        self.outcome("spoken");
    }

    /// A stage worked through an utterance.
    pub fn worked(&self, stage: &'static str) {
        self.worked.get_or_create(&[("stage", stage)]).inc();
    }

    /// What became of an utterance: a label of few values.
    pub fn outcome(&self, outcome: &'static str) {
        self.utterances.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Everything as text of type [`MEDIA_TYPE`].
    ///
    /// # Errors
    /// None is known: writing into a string does not fail.
    pub fn render(&self, now: Now) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(now));
        encode_registry(&mut text, &registry)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// What is at one moment.
#[derive(Debug)]
pub struct Now {
    /// What the media workers counted.
    pub media: Stats,
    /// What the HTTP face counted.
    pub face: Arc<signaling::Stats>,
    /// Rooms that are open.
    pub rooms: usize,
    /// Participants whose media flows.
    pub participants: usize,
    /// What became of the rows of transcripts.
    pub transcripts: transcripts::Stats,
    /// What the engine has done.
    pub engine: EngineStats,
}

impl Collector for Now {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let media = &self.media;
        let gauges = [
            ("rooms", "Rooms that are open", self.rooms as u64),
            ("participants", "Participants whose media flows", self.participants as u64),
            ("peers", "WebRTC connections, connected or connecting", media.peers),
            ("media_workers", "Media workers", media.workers),
            (
                "media_workers_real_time",
                "Media workers that the system runs in the real-time class",
                media.workers_real_time,
            ),
        ];
        for (name, help, value) in gauges {
            one(&mut to, name, help, &ConstGauge::new(value))?;
        }
        let counters = [
            ("datagrams_in", "Datagrams that came in, of any kind", media.datagrams_in),
            ("datagrams_garbage", "Datagrams that belonged to no peer", media.garbage),
            ("datagrams_unsent", "Datagrams that the system did not take", media.send_errors),
            ("packets_in", "RTP packets that came in", media.packets_in),
            ("packets_out", "RTP packets that went out", media.packets_out),
            (
                "media_forwarded",
                "RTP packets that went out as they had come in, not encoded again",
                media.forwarded,
            ),
            ("media_encodes", "Opus packets encoded, each for one listener or many", media.encodes),
            ("packets_lost", "RTP packets that never came, or too late", media.lost),
            ("packets_late", "RTP packets that came after their place had passed", media.late),
            ("packets_duplicate", "RTP packets that came twice", media.duplicates),
            ("packets_damaged", "RTP packets that were not Opus", media.damaged),
            (
                "packets_recovered",
                "RTP packets recovered from their successor's copy",
                media.fec_recovered,
            ),
            ("heard_dropped", "Frames that the recogniser was too slow for", media.heard_dropped),
            ("jitter_underruns", "Times that a sounding original ran dry", media.underruns),
            ("ticks_skipped", "Ticks of 20 ms left out by late workers", media.ticks_skipped),
            ("notices_dropped", "Notices of media workers that were lost", media.notices_dropped),
            ("peers_failed", "Peers whose state machine failed", media.peers_failed),
            (
                "transcript_rows_kept",
                "Transcripts and translations that were written to the file",
                self.transcripts.kept,
            ),
            (
                "transcript_rows_lost",
                "Transcripts and translations that the file should have and has not",
                self.transcripts.lost,
            ),
        ];
        let face = &self.face;
        let asked = [
            ("http_connections", "HTTP connections that came in", &face.connections),
            (
                "http_connections_dropped",
                "HTTP connections that asked nothing in time or failed",
                &face.connections_dropped,
            ),
            ("http_requests_limited", "Requests that a rate limit refused", &face.limited),
            (
                "event_streams_lagged",
                "Event streams whose client fell behind",
                &face.streams_lagged,
            ),
            ("webhooks_delivered", "Webhooks that a receiver took", &face.webhooks_delivered),
            ("webhooks_failed", "Attempts at a webhook that failed", &face.webhooks_failed),
            ("webhooks_lost", "Webhooks that were given up or dropped", &face.webhooks_lost),
        ];
        let asked = asked.map(|(name, help, count)| (name, help, count.get()));
        for (name, help, value) in counters.into_iter().chain(asked) {
            one(&mut to, name, help, &ConstCounter::new(value))?;
        }
        #[expect(clippy::cast_precision_loss, reason = "exact for six thousand years of samples")]
        let concealed = media.concealed as f64 / 48_000.0;
        let help = "Sound that was guessed in place of lost packets";
        one(&mut to, "concealed_seconds", help, &ConstCounter::new(concealed))?;

        let lateness = &media.tick_lateness;
        let help = "How late the ticks of 20 ms began";
        let within = Duration::from_micros(60)..=Duration::from_millis(200);
        delays(&mut to, "tick_lateness_seconds", help, lateness, within)?;
        let worst = lateness.max.as_secs_f64();
        let help = "How late the latest tick began";
        one(&mut to, "tick_lateness_max_seconds", help, &ConstGauge::new(worst))?;
        let help =
            "Delay that jitter buffers aim at, sampled once a second for every sounding peer";
        let within = Duration::from_millis(30)..=Duration::from_millis(400);
        delays(&mut to, "jitter_target_seconds", help, &media.jitter_targets, within)?;
        let help = "From a peer's offer to its media";
        let within = Duration::from_millis(10)..=Duration::from_secs(4);
        delays(&mut to, "connect_seconds", help, &media.connect_time, within)?;
        engine::encode(&mut to, &self.engine)
    }
}

fn one(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn delays(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    seen: &DelaysSeen,
    within: std::ops::RangeInclusive<Duration>,
) -> fmt::Result {
    let mut encoder = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    let buckets = seen.buckets(within);
    let no_exemplars = None::<&std::collections::HashMap<usize, _>>;
    encoder.encode_histogram::<Label>(seen.sum.as_secs_f64(), seen.count(), &buckets, no_exemplars)
}

#[cfg(test)]
mod tests {
    use inference::batch::BatchStats;

    use super::*;
    use crate::engine::{StageStats, Tier};
    use crate::media::stats::Counters;

    #[test]
    fn what_was_counted_stands_in_the_text() {
        let metrics = Metrics::default();
        let trace = Trace {
            speech_ms: 2_000.0,
            endpoint_ms: Some(500.0),
            hidden_ms: Some(200.0),
            queue_ms: Some(1.0),
            transcribe_ms: Some(300.0),
            translate_ms: Some(400.0),
            speak_ms: Some(250.0),
            playout_ms: Some(10.0),
            lag_ms: Some(1_461.0),
            translate_total_ms: None,
            speak_total_ms: None,
        };
        metrics.spoken(&trace);
        metrics.outcome("no_speech");
        metrics.worked("translate");
        let counters = Counters::default();
        counters.datagrams_in.add(7);
        counters.encodes.add(1);
        counters.forwarded.add(100);
        counters.tick_lateness.record(Duration::from_millis(2));
        let media = Stats::of(&[&counters]);
        let transcripts = transcripts::Stats { kept: 2, lost: 1 };
        let engine = EngineStats {
            tier: Tier::CheaperVoice,
            pressure: 0.75,
            steps: vec![(Tier::CheaperVoice, 1)],
            stages: vec![StageStats { stage: "speak", waiting: 2, ..StageStats::default() }],
            batches: vec![(
                "translate",
                "language-model".to_owned(),
                BatchStats { sizes: vec![3, 2], tokens_chosen: 7, ..BatchStats::default() },
            )],
        };
        let face = Arc::default();
        let now = Now { media, face, rooms: 3, participants: 5, transcripts, engine };
        let text = metrics.render(now).expect("a string takes everything");
        for line in [
            "dragoman_stage_seconds_sum{stage=\"transcribe\"} 0.3",
            "dragoman_interpretation_lag_seconds_bucket{le=\"1.0\"} 0",
            "dragoman_interpretation_lag_seconds_bucket{le=\"1.5\"} 1",
            "dragoman_utterances_total{outcome=\"spoken\"} 1",
            "dragoman_utterances_total{outcome=\"no_speech\"} 1",
            "dragoman_stage_utterances_total{stage=\"translate\"} 1",
            "dragoman_datagrams_in_total 7",
            "dragoman_webhooks_lost_total 0",
            "dragoman_media_encodes_total 1",
            "dragoman_media_forwarded_total 100",
            "dragoman_hangover_hidden_ratio_sum 0.4",
            "dragoman_rooms 3",
            "dragoman_transcript_rows_kept_total 2",
            "dragoman_transcript_rows_lost_total 1",
            "dragoman_participants 5",
            "dragoman_tick_lateness_seconds_count 1",
            "dragoman_tick_lateness_seconds_bucket{le=\"+Inf\"} 1",
            "dragoman_tick_lateness_max_seconds 0.002",
            "dragoman_tier 2",
            "dragoman_pressure_ratio 0.75",
            "dragoman_tier_steps_total{tier=\"cheaper_voice\"} 1",
            "dragoman_stage_waiting{stage=\"speak\"} 2.0",
            "dragoman_batch_tokens_chosen_total{stage=\"translate\",model=\"language-model\"} 7.0",
            "dragoman_batch_size_sum{stage=\"translate\",model=\"language-model\"} 7.0",
            "dragoman_batch_size_count{stage=\"translate\",model=\"language-model\"} 5",
            "dragoman_batch_size_bucket{le=\"1.0\",stage=\"translate\",model=\"language-model\"} 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        assert!(
            names.clone().count() > 20 && names.into_iter().all(|n| n.starts_with("dragoman_"))
        );
    }
}
