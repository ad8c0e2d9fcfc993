//! Keys and values of all slots, in place.

use candle_core::{DType, Device, Result, Tensor};

use super::AutoregressiveConfig;

/// Room of one layer: `[slots, heads, places, head width]` for keys, and for values.
#[derive(Debug)]
struct Layer {
    keys: Tensor,
    values: Tensor,
}

/// Keys and values of every layer and slot.
#[derive(Debug)]
pub(super) struct KvCache {
    layers: Vec<Layer>,
    heads: usize,
    width: usize,
    /// Places of a slot; one more than can be held, for slots that write although nobody reads them.
    places: usize,
}

impl KvCache {
    pub(super) fn new(
        config: &AutoregressiveConfig,
        slots: usize,
        kind: DType,
        device: &Device,
    ) -> Result<Self> {
        // In steps of the widths that attention looks at.
        let places = (config.places() + 1).next_multiple_of(super::slots::WINDOW);
        let (heads, width) = (config.heads, config.head_width());
        let layer = |_| {
            let room = || Tensor::zeros((slots, heads, places, width), kind, device);
            Ok(Layer { keys: room()?, values: room()? })
        };
        let layers = (0..config.layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, heads, width, places })
    }

    /// Places that a slot has room for, the spare one included.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Writes a prompt's keys and values, `[1, heads, count, head width]`, at `place` of a slot, and
    /// gives those of the slot's first `place + count` places.
    pub(super) fn extend(
        &self,
        layer: usize,
        slot: usize,
        place: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let held = place + keys.dim(2)?;
        let Layer { keys: all_keys, values: all_values } = &self.layers[layer];
        let of_slot = |all: &Tensor, new: &Tensor| {
            let room = all.narrow(0, slot, 1)?;
            room.slice_set(&new.contiguous()?, 2, place)?;
            room.narrow(2, 0, held)
        };
        Ok((of_slot(all_keys, keys)?, of_slot(all_values, values)?))
    }

    /// Where a row for each slot is written: `[slots * heads, head width]`, row numbers of a layer
    /// whose slots, heads and places are one dimension.
    pub(super) fn rows(&self, places: &[usize], device: &Device) -> Result<Tensor> {
        let row = |slot: usize, head: usize| (slot * self.heads + head) * self.places;
        let rows: Vec<u32> = (0..places.len() * self.heads)
            .map(|index| (index / self.heads, index % self.heads))
            .map(|(slot, head)| (row(slot, head) + places[slot]) as u32)
            .collect();
        let count = rows.len();
        Tensor::from_vec(rows, (count, 1), device)?.broadcast_as((count, self.width))?.contiguous()
    }

    /// Writes one place of every slot, keys and values `[slots * heads, head width]`, and gives those
    /// of the first `window` places of the first `slots`.
    pub(super) fn push(
        &self,
        layer: usize,
        rows: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        (slots, window): (usize, usize),
    ) -> Result<(Tensor, Tensor)> {
        let Layer { keys: all_keys, values: all_values } = &self.layers[layer];
        let pushed = |all: &Tensor, new: &Tensor| {
            all.reshape(((), self.width))?.scatter_set(rows, new, 0)?;
            all.narrow(0, 0, slots)?.narrow(2, 0, window)
        };
        Ok((pushed(all_keys, keys)?, pushed(all_values, values)?))
    }
}
