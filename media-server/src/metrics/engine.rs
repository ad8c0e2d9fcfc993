//! The engine's numbers: its tier, its stages, and the batches of its models.

use std::fmt;

use inference::batch::BatchStats;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::one;
use crate::engine::{EngineStats, StageStats};

/// A metric: its name, what it says, and its value.
type Reading<S> = (&'static str, &'static str, fn(&S) -> f64);

type BatchLabels = [(&'static str, String); 2];

pub(super) fn encode(to: &mut DescriptorEncoder<'_>, engine: &EngineStats) -> fmt::Result {
    let help = "What the engine leaves out: 0 nothing, 1 speculation, 2 the better voice, 3 the better translator, 4 speech";
    one(to, "tier", help, &ConstGauge::new(u64::from(engine.tier.depth())))?;
    let help = "Age of the oldest utterance that nobody has heard, as a share of its deadline";
    one(to, "pressure_ratio", help, &ConstGauge::new(engine.pressure))?;
    let steps = engine.steps.iter();
    let steps = steps.map(|(tier, count)| ([("tier", tier.label())], ConstCounter::new(*count)));
    family(to, "tier_steps", "Times that a tier was entered", steps)?;
    stages(to, &engine.stages)?;
    batches(to, engine)
}

fn stages(to: &mut DescriptorEncoder<'_>, stages: &[StageStats]) -> fmt::Result {
    let each = |value: fn(&StageStats) -> f64| {
        stages.iter().map(move |stats| ([("stage", stats.stage)], value(stats)))
    };
    let gauges: [Reading<StageStats>; 2] = [
        ("stage_waiting", "Requests that wait for a stage", |stats| stats.waiting as f64),
        ("stage_longest_wait_seconds", "How long the oldest of them has waited", |stats| {
            stats.longest_wait.as_secs_f64()
        }),
    ];
    for (name, help, value) in gauges {
        family(to, name, help, each(value).map(|(label, value)| (label, ConstGauge::new(value))))?;
    }
    let counters: [Reading<StageStats>; 5] = [
        ("stage_requests", "Requests that a stage began", |stats| stats.begun as f64),
        ("stage_waited_seconds", "How long they had waited", |stats| stats.waited.as_secs_f64()),
        ("stage_worked_seconds", "How long they took", |stats| stats.took.as_secs_f64()),
        ("stage_sound_seconds", "Sound that they were about, heard or made", |stats| {
            stats.sound.as_secs_f64()
        }),
        ("stage_panics", "Attempts at a request that panicked", |stats| stats.panics as f64),
    ];
    for (name, help, value) in counters {
        let counted = each(value).map(|(label, value)| (label, ConstCounter::new(value)));
        family(to, name, help, counted)?;
    }
    Ok(())
}

fn batches(to: &mut DescriptorEncoder<'_>, engine: &EngineStats) -> fmt::Result {
    if engine.batches.is_empty() {
        return Ok(());
    }
    let labels = |stage: &str, model: &str| -> BatchLabels {
        [("stage", stage.to_owned()), ("model", model.to_owned())]
    };
    let batches = &engine.batches;
    let gauges: [Reading<BatchStats>; 2] = [
        ("batch_waiting", "Requests that wait for a slot", |stats| stats.waiting as f64),
        ("batch_active", "Slots that are taken", |stats| stats.active as f64),
    ];
    for (name, help, value) in gauges {
        let each = batches
            .iter()
            .map(|(stage, model, stats)| (labels(stage, model), ConstGauge::new(value(stats))));
        family(to, name, help, each)?;
    }
    let counters: [Reading<BatchStats>; 8] = [
        ("batch_requests", "Requests that entered a slot", |stats| stats.entered as f64),
        ("batch_waited_seconds", "How long they had waited for it", |stats| {
            stats.waited.as_secs_f64()
        }),
        ("batch_tokens_read", "Tokens read, prompts included", |stats| stats.tokens_read as f64),
        ("batch_tokens_chosen", "Tokens chosen", |stats| stats.tokens_chosen as f64),
        ("batch_tokens_drafted", "Tokens drafted and read", |stats| stats.tokens_drafted as f64),
        ("batch_drafts_chosen", "Drafted tokens that were chosen", |stats| {
            stats.drafts_chosen as f64
        }),
        ("batch_computed_seconds", "Time spent in steps", |stats| stats.computed.as_secs_f64()),
        ("batch_restarts", "Times that the decoder was lost and made anew", |stats| {
            stats.restarts as f64
        }),
    ];
    for (name, help, value) in counters {
        let each = batches
            .iter()
            .map(|(stage, model, stats)| (labels(stage, model), ConstCounter::new(value(stats))));
        family(to, name, help, each)?;
    }
    let help = "Slots that took part in a step";
    let mut encoder = to.encode_descriptor("batch_size", help, None, MetricType::Histogram)?;
    for (stage, model, stats) in batches {
        let sizes = (1u32..).zip(&stats.sizes);
        let slots: f64 = sizes.clone().map(|(size, count)| f64::from(size) * *count as f64).sum();
        let buckets: Vec<(f64, u64)> =
            sizes.map(|(size, count)| (f64::from(size), *count)).chain([(f64::MAX, 0)]).collect();
        let no_exemplars = None::<&std::collections::HashMap<usize, _>>;
        let labels = labels(stage, model);
        encoder.encode_family(&labels)?.encode_histogram::<super::Label>(
            slots,
            stats.steps(),
            &buckets,
            no_exemplars,
        )?;
    }
    Ok(())
}

/// One metric with a value for each set of labels; nothing without any.
fn family<L: prometheus_client::encoding::EncodeLabelSet, M: EncodeMetric>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (L, M)>,
) -> fmt::Result {
    let mut values = values.peekable();
    let Some((_, first)) = values.peek() else { return Ok(()) };
    let mut encoder = to.encode_descriptor(name, help, None, first.metric_type())?;
    for (labels, value) in values {
        value.encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}
