//! Keys and values of all slots, in place.

use candle_core::{DType, Device, Result, Tensor};

use super::AutoregressiveConfig;

/// Keys and values of every layer and slot.
#[derive(Debug)]
pub(super) struct KvCache {
    /// Room of each layer, keys before values: `[2, slots, heads, places, head width]`.
    layers: Vec<Tensor>,
    slots: usize,
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
        let layer = |_| Tensor::zeros((2, slots, heads, places, width), kind, device);
        let layers = (0..config.layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, slots, heads, width, places })
    }

    /// Places that a slot has room for, the spare one included.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Writes a prompt's keys and values, `[2, heads, count, head width]`, at `place` of a slot, and
    /// gives those of the slot's first `place + count` places, `[1, heads, places, head width]`.
    pub(super) fn extend(
        &self,
        layer: usize,
        slot: usize,
        place: usize,
        new: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let held = place + new.dim(2)?;
        let extended = |part: usize| {
            let room = self.layers[layer].get(part)?.narrow(0, slot, 1)?;
            room.slice_set(&new.narrow(0, part, 1)?, 2, place)?;
            room.narrow(2, 0, held)
        };
        Ok((extended(0)?, extended(1)?))
    }

    /// Where a step writes, of the place of each slot, `[slots]`: as [`push`](Self::push) wants it.
    pub(super) fn rows(&self, places: &Tensor) -> Result<Tensor> {
        let shape = (2, self.slots, self.heads, self.width);
        let rows = places.reshape((1, self.slots, 1, 1))?.broadcast_as(shape)?.contiguous()?;
        rows.reshape((2 * self.slots * self.heads, 1, self.width))
    }

    /// Writes one place of every slot, keys and values `[2, slots, heads, head width]`, and gives
    /// those of the first `window` places of the first `slots`, `[slots, heads, window, head width]`.
    pub(super) fn push(
        &self,
        layer: usize,
        rows: &Tensor,
        new: &Tensor,
        (slots, window): (usize, usize),
    ) -> Result<(Tensor, Tensor)> {
        let all = &self.layers[layer];
        // Along the places, so that an accelerator writes all numbers at the same time: along the
        // dimension that is written one of its threads takes one after the other.
        all.reshape(((), self.places, self.width))?.scatter_set(
            rows,
            &new.reshape(rows.dims())?,
            1,
        )?;
        let pushed = |part: usize| all.get(part)?.narrow(0, 0, slots)?.narrow(2, 0, window);
        Ok((pushed(0)?, pushed(1)?))
    }
}
