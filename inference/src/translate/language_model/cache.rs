//! Keys and values of positions already read, kept per request. The part that all requests of a
//! direction have in common (instruction and examples) is read once, frozen, and shared by
//! reference: a request holds nothing but its own positions.

use std::ops::Range;
use std::sync::Arc;

/// Keys and values of consecutive positions, all layers. Per layer `[position][kv head][head dim]`.
#[derive(Clone, Debug)]
pub struct KvSegment {
    layers: Vec<LayerKv>,
    positions: usize,
    width: usize,
}

#[derive(Clone, Debug)]
struct LayerKv {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvSegment {
    fn with_capacity(layers: usize, width: usize, positions: usize) -> Self {
        let empty = || Vec::with_capacity(positions * width);
        let layers =
            (0..layers).map(|_| LayerKv { keys: empty(), values: empty() }).collect::<Vec<_>>();
        Self { layers, positions: 0, width }
    }

    /// Positions held.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// Keys and values of one layer.
    pub(super) fn layer(&self, layer: usize) -> (&[f32], &[f32]) {
        (&self.layers[layer].keys, &self.layers[layer].values)
    }

    /// All keys and values as one list: of each layer the keys, then the values.
    pub(super) fn to_numbers(&self) -> Vec<f32> {
        let layers = self.layers.iter();
        layers.flat_map(|layer| [&layer.keys[..], &layer.values]).flatten().copied().collect()
    }

    /// The segment of such a list; `None` if it has another length.
    pub(super) fn from_numbers(
        layers: usize,
        width: usize,
        positions: usize,
        numbers: &[f32],
    ) -> Option<Self> {
        let floats = positions * width;
        if numbers.is_empty() || numbers.len() != 2 * layers * floats {
            return None;
        }
        let layer = |numbers: &[f32]| {
            let (keys, values) = numbers.split_at(floats);
            LayerKv { keys: keys.to_vec(), values: values.to_vec() }
        };
        let layers = numbers.chunks_exact(2 * floats).map(layer).collect();
        Some(Self { layers, positions, width })
    }

    fn truncate(&mut self, positions: usize) {
        self.positions = self.positions.min(positions);
        let floats = self.positions * self.width;
        for layer in &mut self.layers {
            layer.keys.truncate(floats);
            layer.values.truncate(floats);
        }
    }
}

/// What one request has read: a shared frozen prefix, then positions of its own.
#[derive(Clone, Debug)]
pub struct KvCache {
    prefix: Option<Arc<KvSegment>>,
    own: KvSegment,
}

impl KvCache {
    /// An empty cache with room for `positions` before it grows. `width` is the number of key
    /// floats per position and layer (heads × head size).
    pub fn new(layers: usize, width: usize, positions: usize) -> Self {
        Self { prefix: None, own: KvSegment::with_capacity(layers, width, positions) }
    }

    /// A cache that continues after `prefix`, with room for `positions` more. Costs no copy.
    pub fn after(prefix: Arc<KvSegment>, positions: usize) -> Self {
        let own = KvSegment::with_capacity(prefix.layers.len(), prefix.width, positions);
        Self { prefix: Some(prefix), own }
    }

    /// Forgets everything and continues after `prefix`; the room that it had stays reserved.
    pub(super) fn restart(&mut self, prefix: Option<Arc<KvSegment>>) {
        self.own.truncate(0);
        self.prefix = prefix;
    }

    /// Positions read so far, the prefix included.
    pub fn len(&self) -> usize {
        self.prefix_len() + self.own.positions
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn prefix_len(&self) -> usize {
        self.prefix.as_ref().map_or(0, |prefix| prefix.positions)
    }

    /// Forgets everything after the first `positions`; never reaches into the shared prefix.
    pub fn truncate(&mut self, positions: usize) {
        self.own.truncate(positions.saturating_sub(self.prefix_len()));
    }

    /// Freezes what was read, to be shared by later requests. A cache that itself continues a
    /// prefix is flattened by copying.
    pub fn freeze(self) -> Arc<KvSegment> {
        let Some(prefix) = self.prefix else { return Arc::new(self.own) };
        let mut whole = (*prefix).clone();
        whole.positions += self.own.positions;
        for (layer, own) in whole.layers.iter_mut().zip(&self.own.layers) {
            layer.keys.extend_from_slice(&own.keys);
            layer.values.extend_from_slice(&own.values);
        }
        Arc::new(whole)
    }

    /// Appends one layer's keys and values for new positions. The positions count only after
    /// [`advance`](Self::advance), when every layer has its share.
    pub(super) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        self.own.layers[layer].keys.extend_from_slice(keys);
        self.own.layers[layer].values.extend_from_slice(values);
    }

    /// Counts `positions` that all layers have appended.
    pub(super) fn advance(&mut self, positions: usize) {
        self.own.positions += positions;
    }

    /// Drops what a failed forward pass had appended to some of the layers only.
    pub(super) fn roll_back(&mut self) {
        self.own.truncate(self.own.positions);
    }

    /// One layer's keys and values in order: the prefix, then the request's own, each with the
    /// range of positions it covers.
    pub(super) fn parts(&self, layer: usize) -> impl Iterator<Item = KvPart<'_>> {
        let prefix = self.prefix.as_deref().map(|segment| segment.layer(layer));
        let own = self.own.layer(layer);
        let mut start = 0;
        prefix.into_iter().chain([own]).map(move |(keys, values)| {
            let positions = start..start + keys.len() / self.own.width;
            start = positions.end;
            KvPart { keys, values, positions }
        })
    }
}

/// A run of cached positions of one layer.
pub(super) struct KvPart<'a> {
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub positions: Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(positions: usize) -> KvCache {
        let mut cache = KvCache::new(2, 4, positions);
        for position in 0..positions {
            for layer in 0..2 {
                cache.append(layer, &[position as f32; 4], &[layer as f32; 4]);
            }
            cache.advance(1);
        }
        cache
    }

    #[test]
    fn a_continued_cache_sees_the_prefix_and_then_its_own_positions() {
        let mut cache = KvCache::after(filled(3).freeze(), 8);
        cache.append(0, &[9.0; 4], &[9.0; 4]);
        cache.append(1, &[9.0; 4], &[9.0; 4]);
        cache.advance(1);
        let ranges: Vec<_> = cache.parts(1).map(|part| part.positions).collect();
        assert_eq!(ranges, [0..3, 3..4]);
        assert_eq!(cache.len(), 4);
    }

    #[test]
    fn a_segment_becomes_a_list_of_numbers_and_back() {
        let segment = filled(3).freeze();
        let numbers = segment.to_numbers();
        assert_eq!(numbers.len(), 2 * 2 * 3 * 4);
        let back = KvSegment::from_numbers(2, 4, 3, &numbers).expect("it fits");
        assert_eq!(back.positions(), 3);
        assert!((0..2).all(|layer| back.layer(layer) == segment.layer(layer)));
        assert!(KvSegment::from_numbers(2, 4, 2, &numbers).is_none());
        assert!(KvSegment::from_numbers(2, 4, 0, &[]).is_none());
    }

    #[test]
    fn truncation_never_reaches_into_the_prefix() {
        let mut cache = KvCache::after(filled(3).freeze(), 8);
        cache.truncate(1);
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn truncation_forgets_the_last_positions() {
        let mut cache = filled(5);
        cache.truncate(2);
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.parts(0).map(|part| part.keys.len()).sum::<usize>(), 8);
    }

    #[test]
    fn a_half_written_step_is_rolled_back() {
        let mut cache = filled(2);
        cache.append(0, &[7.0; 4], &[7.0; 4]);
        cache.roll_back();
        assert_eq!(cache.parts(0).map(|part| part.keys.len()).sum::<usize>(), 8);
    }

    #[test]
    fn a_restarted_cache_keeps_its_room_and_nothing_else() {
        let mut cache = filled(5);
        let room = cache.own.layers[0].keys.capacity();
        cache.restart(Some(filled(3).freeze()));
        assert_eq!(cache.len(), 3);
        assert_eq!(cache.parts(1).map(|part| part.keys.len()).sum::<usize>(), 12);
        assert_eq!(cache.own.layers[0].keys.capacity(), room);
    }

    #[test]
    fn freezing_a_continued_cache_keeps_both_parts() {
        let mut cache = KvCache::after(filled(3).freeze(), 8);
        for layer in 0..2 {
            cache.append(layer, &[9.0; 4], &[9.0; 4]);
        }
        cache.advance(1);
        let frozen = KvCache::after(cache.freeze(), 1);
        assert_eq!(frozen.len(), 4);
    }
}
