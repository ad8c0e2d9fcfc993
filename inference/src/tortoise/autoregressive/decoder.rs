//! The decoder's weights and what it computes with them.

use candle_core::{D, DType, Device, Result, Tensor, bail};
use candle_nn::{LayerNorm, Module, VarBuilder, layer_norm, ops};

use super::cache::KvCache;
use super::projection::Projection;
use super::{AutoregressiveConfig, ConditioningEncoder};

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
    fn load(width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let (attention, hidden) = (vb.pp("attn"), vb.pp("mlp"));
        Ok(Self {
            attention_norm: layer_norm(width, EPSILON, vb.pp("ln_1"))?,
            qkv: Projection::load(width, 3 * width, &attention.pp("c_attn"))?,
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

/// Tokens of a stream in one numbering, codes first, and their positions likewise.
#[derive(Debug)]
struct Embeddings {
    tokens: Tensor,
    positions: Tensor,
}

/// Where a token and its position stand in [`Embeddings`].
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
    embeddings: Embeddings,
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
    pub fn load(config: &AutoregressiveConfig, vb: VarBuilder<'_>) -> Result<Self> {
        config.check()?;
        let width = config.width;
        let table = |rows: usize, name: &str| vb.get((rows, width), name);
        let tokens = Tensor::cat(
            &[
                table(config.mel_codes, "mel_embedding.weight")?,
                table(config.text_tokens, "text_embedding.weight")?,
            ],
            0,
        )?;
        let positions = Tensor::cat(
            &[
                table(config.mel_positions, "mel_pos_embedding.emb.weight")?,
                table(config.text_positions, "text_pos_embedding.emb.weight")?,
            ],
            0,
        )?;
        let gpt = vb.pp("gpt");
        let block = |index| Block::load(width, &gpt.pp("h").pp(index));
        Ok(Self {
            embeddings: Embeddings { tokens, positions },
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
        let position = (mel_positions + index) as u32;
        Ok(Place { token: mel_codes as u32 + id, position })
    }

    /// Of the start of the codes (`index` 0) or a code.
    pub(super) fn mel_place(&self, code: u32, index: usize) -> Result<Place> {
        let AutoregressiveConfig { mel_codes, mel_positions, .. } = self.config;
        if code as usize >= mel_codes || index >= mel_positions {
            bail!("the code {code} at {index} lies outside of {mel_codes} at {mel_positions}");
        }
        Ok(Place { token: code, position: index as u32 })
    }

    fn embed(&self, places: &[Place]) -> Result<Tensor> {
        let of = |table: &Tensor, numbers: Vec<u32>| {
            let count = numbers.len();
            table.index_select(&Tensor::from_vec(numbers, count, &self.device)?, 0)
        };
        let tokens = of(&self.embeddings.tokens, places.iter().map(|place| place.token).collect())?;
        let positions = places.iter().map(|place| place.position).collect();
        tokens + of(&self.embeddings.positions, positions)?
    }

    fn heads(&self, x: &Tensor, first: usize, rows: usize) -> Result<Tensor> {
        let AutoregressiveConfig { width, heads, .. } = self.config;
        let part = x.narrow(D::Minus1, first * width, width)?;
        part.reshape((rows, heads, self.config.head_width()))
    }

    fn scale(&self) -> f64 {
        (self.config.head_width() as f64).powf(-0.5)
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
            let qkv = block.qkv(&x)?;
            let part =
                |first| self.heads(&qkv, first, count)?.transpose(0, 1)?.contiguous()?.unsqueeze(0);
            let (keys, values) = cache.extend(layer, slot, held, &part(1)?, &part(2)?)?;
            let scores = (part(0)? * self.scale())?.matmul(&keys.transpose(2, 3)?)?;
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
        let AutoregressiveConfig { heads, width, .. } = self.config;
        let (all, reading) = (slots.reads.len(), slots.visible.len());
        let mut x = self.embed(slots.reads)?;
        let rows = cache.rows(slots.places, &self.device)?;
        let mask = self.window_mask(slots)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let qkv = block.qkv(&x)?;
            let part = |first| self.heads(&qkv, first, all);
            let flat = |first| part(first)?.flatten_to(1)?.contiguous();
            let (keys, values) =
                cache.push(layer, &rows, (&flat(1)?, &flat(2)?), (reading, slots.window))?;
            let q = (part(0)?.narrow(0, 0, reading)? * self.scale())?.unsqueeze(2)?;
            let scores = q.matmul(&keys.transpose(2, 3)?)?;
            let heard = softmax(&scores.broadcast_add(&mask)?)?.matmul(&values)?;
            let heard = heard.reshape((reading, heads * self.config.head_width()))?;
            let heard = heard.pad_with_zeros(0, 0, all - reading)?;
            debug_assert_eq!(heard.dims(), [all, width]);
            x = block.after_attention(&x, &heard)?;
        }
        self.normed(&x)
    }

    fn window_mask(&self, slots: &AllSlots<'_>) -> Result<Tensor> {
        let value = |place: usize, visible: usize| {
            if place < visible { 0.0 } else { f32::NEG_INFINITY }
        };
        let window = slots.window;
        let row = |visible: &usize| {
            let visible = *visible;
            (0..window).map(move |place| value(place, visible))
        };
        let mask: Vec<f32> = slots.visible.iter().flat_map(row).collect();
        let shape = (slots.visible.len(), 1, 1, window);
        Tensor::from_vec(mask, shape, &self.device)?.to_dtype(self.kind)
    }

    /// Twice: GPT-2's own last norm, and that of the model around it.
    fn normed(&self, x: &Tensor) -> Result<Tensor> {
        self.final_norm.forward(&self.norm.forward(x)?)
    }
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    ops::softmax_last_dim(scores)
}
