//! The decoder's weights and what it computes with them.

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::{LayerNorm, Module, VarBuilder, layer_norm, ops};

use super::cache::KvCache;
use super::projection::Projection;
use super::{AutoregressiveConfig, ConditioningEncoder};
use crate::device;

const EPSILON: f64 = 1e-5;

/// One block: attention, then two layers, each after a norm and added to what comes in.
#[derive(Debug)]
struct Block {
    attention_norm: LayerNorm,
    qkv: Projection,
    attended: Projection,
    hidden_norm: LayerNorm,
    widen: Projection,
    narrow: Projection,
}

impl Block {
    fn load(config: &AutoregressiveConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.width;
        let (attention, hidden) = (vb.pp("attn"), vb.pp("mlp"));
        // Queries, which lie first, have the factor of the scores.
        let scale = (width, (config.head_width() as f64).powf(-0.5));
        Ok(Self {
            attention_norm: layer_norm(width, EPSILON, vb.pp("ln_1"))?,
            qkv: Projection::load_scaled(width, 3 * width, scale, &attention.pp("c_attn"))?,
            attended: Projection::load(width, width, &attention.pp("c_proj"))?,
            hidden_norm: layer_norm(width, EPSILON, vb.pp("ln_2"))?,
            widen: Projection::load(width, 4 * width, &hidden.pp("c_fc"))?,
            narrow: Projection::load(4 * width, width, &hidden.pp("c_proj"))?,
        })
    }

    fn qkv(&self, x: &Tensor) -> Result<Tensor> {
        self.qkv.forward(&self.attention_norm.forward(x)?)
    }

    fn after_attention(&self, x: &Tensor, heard: &Tensor) -> Result<Tensor> {
        let x = (x + self.attended.forward(heard)?)?;
        // GPT-2's own approximation of GELU.
        let hidden = self.widen.forward(&self.hidden_norm.forward(&x)?)?.gelu()?;
        x + self.narrow.forward(&hidden)?
    }
}

/// The rows of a token and of its position in the table of embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) token: u32,
    pub(super) position: u32,
}

/// One place that each slot reads in a step of all slots.
pub(super) struct AllSlots<'a> {
    /// What each slot reads; those that read nothing, anything.
    pub(super) reads: &'a [Place],
    /// Where each slot writes.
    pub(super) places: &'a [usize],
    /// How many places each of the first slots, up to the last that reads, may look at.
    pub(super) visible: &'a [usize],
    /// Places that attention looks at: at least as many as any may.
    pub(super) window: usize,
}

/// The model.
#[derive(Debug)]
pub struct Autoregressive {
    config: AutoregressiveConfig,
    /// Of codes, ids of a text, and the positions of both, one after the other.
    embeddings: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    final_norm: LayerNorm,
    head: Projection,
    conditioning: ConditioningEncoder,
    kind: DType,
    device: Device,
}

impl Autoregressive {
    /// Reads the tensors of a converted checkpoint. They are held, and most of the computing done, in
    /// the number format of `vb`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape, or the configuration contradicts itself.
    pub fn load(config: &AutoregressiveConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        config.check()?;
        let width = config.width;
        let table = |rows: usize, name: &str| vb.get((rows, width), name);
        let embeddings = Tensor::cat(
            &[
                table(config.mel_codes, "mel_embedding.weight")?,
                table(config.text_tokens, "text_embedding.weight")?,
                table(config.mel_positions, "mel_pos_embedding.emb.weight")?,
                table(config.text_positions, "text_pos_embedding.emb.weight")?,
            ],
            0,
        )?;
        let gpt = vb.pp("gpt");
        let block = |index| Block::load(config, &gpt.pp("h").pp(index));
        Ok(Self {
            embeddings,
            blocks: (0..config.layers).map(block).collect::<Result<_>>()?,
            norm: layer_norm(width, EPSILON, gpt.pp("ln_f"))?,
            final_norm: layer_norm(width, EPSILON, vb.pp("final_norm"))?,
            head: Projection::load(width, config.mel_codes, &vb.pp("mel_head"))?,
            // A voice is computed once: it keeps its precision.
            conditioning: ConditioningEncoder::load(
                config,
                &vb.pp("conditioning_encoder").to_dtype(DType::F32),
            )?,
            config: config.clone(),
            kind: vb.dtype(),
            device: vb.device().clone(),
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &AutoregressiveConfig {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Makes voices.
    pub fn conditioning(&self) -> &ConditioningEncoder {
        &self.conditioning
    }

    /// Room for `slots` streams.
    pub(super) fn new_cache(&self, slots: usize) -> Result<KvCache> {
        KvCache::new(&self.config, slots, self.kind, &self.device)
    }

    /// The latents of the codes of a whole stream, `[1, codes, width]` in single precision, for a voice
    /// of `[1, width]`: latent `n` is the state that code `n` is chosen in.
    ///
    /// # Errors
    /// The text or the codes are empty, too long, or not in the vocabulary.
    pub fn latents(&self, voice: &Tensor, text: &[u32], codes: &[u32]) -> Result<Tensor> {
        let Some((_, read)) = codes.split_last() else { bail!("there are no codes") };
        let cache = self.new_cache(1)?;
        let places = self.stream(text, read)?;
        let hidden = self.read(voice, &places, &cache, 0, 0)?;
        let codes = codes.len();
        hidden.narrow(0, hidden.dim(0)? - codes, codes)?.to_dtype(DType::F32)?.unsqueeze(0)
    }

    /// Scores of the code after each state, `[states, codes]` in single precision.
    ///
    /// # Errors
    /// The states have another width.
    pub fn scores(&self, states: &Tensor) -> Result<Tensor> {
        self.head.forward(&states.to_dtype(self.kind)?)?.to_dtype(DType::F32)
    }

    /// Everything that is read after the voice: the text with its start and stops, and codes with
    /// theirs.
    pub(super) fn stream(&self, text: &[u32], codes: &[u32]) -> Result<Vec<Place>> {
        let config = &self.config;
        if text.is_empty() || text.len() > config.longest_text() {
            bail!("{} ids of text: from 1 to {} are read", text.len(), config.longest_text());
        }
        if codes.len() > config.longest_codes() {
            bail!("{} codes: at most {} are read", codes.len(), config.longest_codes());
        }
        let start = [config.start_text];
        let stops = [config.stop_text; 2];
        let text = start.iter().chain(text).chain(&stops).enumerate();
        let mut places =
            text.map(|(index, id)| self.text_place(*id, index)).collect::<Result<Vec<_>>>()?;
        let codes = [config.start_mel].into_iter().chain(codes.iter().copied()).enumerate();
        for (index, code) in codes {
            places.push(self.mel_place(code, index)?);
        }
        Ok(places)
    }

    /// Of the start of the text (`index` 0), an id, or a stop.
    pub(super) fn text_place(&self, id: u32, index: usize) -> Result<Place> {
        let AutoregressiveConfig { text_tokens, mel_codes, mel_positions, .. } = self.config;
        if id as usize >= text_tokens || index >= self.config.text_positions {
            bail!("the id {id} at {index} lies outside of a vocabulary of {text_tokens}");
        }
        let position = (mel_codes + text_tokens + mel_positions + index) as u32;
        Ok(Place { token: mel_codes as u32 + id, position })
    }

    /// Of the start of the codes (`index` 0) or a code.
    pub(super) fn mel_place(&self, code: u32, index: usize) -> Result<Place> {
        let AutoregressiveConfig { text_tokens, mel_codes, mel_positions, .. } = self.config;
        if code as usize >= mel_codes || index >= mel_positions {
            bail!("the code {code} at {index} lies outside of {mel_codes} at {mel_positions}");
        }
        Ok(Place { token: code, position: (mel_codes + text_tokens + index) as u32 })
    }

    fn embed(&self, places: &[Place]) -> Result<Tensor> {
        let rows: Vec<u32> = rows_of(places).collect();
        let count = rows.len();
        self.embed_rows(&Tensor::from_vec(rows, count, &self.device)?)
    }

    /// Of the rows of all tokens and then of all positions.
    fn embed_rows(&self, rows: &Tensor) -> Result<Tensor> {
        let found = self.embeddings.index_select(rows, 0)?;
        let count = found.dim(0)? / 2;
        found.narrow(0, 0, count)? + found.narrow(0, count, count)?
    }

    /// `[rows, 3 * width]` as queries, keys and values, `[rows, 3, heads, head width]`.
    fn parts(&self, qkv: &Tensor) -> Result<Tensor> {
        qkv.reshape(((), 3, self.config.heads, self.config.head_width()))
    }

    /// Reads places of one slot that already holds `held` of them, the voice first where it holds
    /// none. The states after the places, `[places (+ 1), width]`, are what scores are made of.
    pub(super) fn read(
        &self,
        voice: &Tensor,
        places: &[Place],
        cache: &KvCache,
        slot: usize,
        held: usize,
    ) -> Result<Tensor> {
        let mut x = self.embed_after(voice, places, held)?;
        let count = x.dim(0)?;
        if held + count >= cache.places() {
            bail!("{} places are more than the model has", held + count);
        }
        let mask = self.causal_mask(held, count)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let qkv = self.parts(&block.qkv(&x)?)?.permute((1, 2, 0, 3))?.contiguous()?;
            let (keys, values) = cache.extend(layer, slot, held, &qkv.narrow(0, 1, 2)?)?;
            let scores = qkv.narrow(0, 0, 1)?.matmul(&keys.transpose(2, 3)?)?;
            let heard = softmax(&scores.broadcast_add(&mask)?)?.matmul(&values)?;
            let heard = heard.squeeze(0)?.transpose(0, 1)?.flatten_from(1)?;
            x = block.after_attention(&x, &heard)?;
        }
        self.normed(&x)
    }

    fn embed_after(&self, voice: &Tensor, places: &[Place], held: usize) -> Result<Tensor> {
        if held > 0 {
            return self.embed(places);
        }
        let voice = voice.to_dtype(self.kind)?;
        if places.is_empty() {
            return Ok(voice);
        }
        Tensor::cat(&[voice, self.embed(places)?], 0)
    }

    fn causal_mask(&self, held: usize, count: usize) -> Result<Tensor> {
        let all = held + count;
        let value =
            |query: usize, key: usize| if key > held + query { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> =
            (0..count).flat_map(|query| (0..all).map(move |key| value(query, key))).collect();
        Tensor::from_vec(mask, (1, 1, count, all), &self.device)?.to_dtype(self.kind)
    }

    /// One place of every slot in one pass. Returns the states of all slots, `[slots, width]`.
    pub(super) fn step(&self, slots: &AllSlots<'_>, cache: &KvCache) -> Result<Tensor> {
        let width = self.config.width;
        let (all, reading) = (slots.reads.len(), slots.visible.len());
        let places = slots.places.iter().map(|place| *place as u32);
        let rows: Vec<u32> = rows_of(slots.reads).chain(places).collect();
        let rows = Tensor::from_vec(rows, 3 * all, &self.device)?;
        let mask = self.window_mask(slots)?;
        let _kept = device::keeping_layouts(&self.device);
        let mut x = self.embed_rows(&rows.narrow(0, 0, 2 * all)?)?;
        let rows = cache.rows(&rows.narrow(0, 2 * all, all)?)?;
        // What slots hear that read nothing: nought.
        let heard_by_all = Tensor::zeros((all, width), self.kind, &self.device)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let qkv = self.parts(&block.qkv(&x)?)?.transpose(0, 1)?.contiguous()?;
            let new = qkv.narrow(0, 1, 2)?;
            let (keys, values) = cache.push(layer, &rows, &new, (reading, slots.window))?;
            let q = qkv.get(0)?.narrow(0, 0, reading)?.unsqueeze(2)?;
            let scores = q.matmul(&keys.transpose(2, 3)?)?;
            let mut heard = softmax(&(scores + &mask)?)?.matmul(&values)?.reshape(((), width))?;
            if reading < all {
                heard_by_all.slice_set(&heard, 0, 0)?;
                heard = heard_by_all.clone();
            }
            x = block.after_attention(&x, &heard)?;
        }
        self.normed(&x)
    }

    /// Of every head, so that nothing is broadcast in each layer: `[slots, heads, 1, window]`.
    fn window_mask(&self, slots: &AllSlots<'_>) -> Result<Tensor> {
        let value = |place: usize, visible: usize| {
            if place < visible { 0.0 } else { f32::NEG_INFINITY }
        };
        let (window, reading) = (slots.window, slots.visible.len());
        let row = |visible: &usize| {
            let visible = *visible;
            (0..window).map(move |place| value(place, visible))
        };
        let mask: Vec<f32> = slots.visible.iter().flat_map(row).collect();
        let mask = Tensor::from_vec(mask, (reading, 1, 1, window), &self.device)?;
        let mask = mask.to_dtype(self.kind)?;
        mask.broadcast_as((reading, self.config.heads, 1, window))?.contiguous()
    }

    /// Twice: GPT-2's own last norm, and that of the model around it.
    fn normed(&self, x: &Tensor) -> Result<Tensor> {
        self.final_norm.forward(&self.norm.forward(x)?)
    }
}

/// Of all tokens, then of all positions.
fn rows_of(places: &[Place]) -> impl Iterator<Item = u32> {
    let tokens = places.iter().map(|place| place.token);
    tokens.chain(places.iter().map(|place| place.position))
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    ops::softmax_last_dim(scores)
}
