//! The Qwen2 decoder (Qwen2.5 technical report, 2024): pre-norm blocks of grouped-query attention
//! with biased query, key and value projections, rotary positions and a gated feed-forward part.
//! Weights stay quantised, the embedding table included; what varies per request lives in the
//! [`KvCache`], so one decoder serves all requests.

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{Device, Result, Tensor};

use crate::arena::Arena;

use super::cache::{KvCache, KvSegment};
use super::gguf::{GgufFile, Metadata};
use super::kernel::Kernel;
use super::linear::Linear;
use super::math::{self, Rotary};
use super::workers::Workers;

/// The tensor of the vectors of tokens; the head's too where there is no `output.weight`.
const EMBEDDING: &str = "token_embd.weight";
/// No model has wider heads (Qwen2's have 64 or 128); the rotary tables grow with them.
const LARGEST_HEAD: usize = 1024;

/// Shapes and constants, as the GGUF's metadata gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Decoder blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Positions the rotary tables cover: the longest prompt with its answer.
    pub max_context: usize,
    rope_theta: f64,
    norm_epsilon: f32,
}

impl DecoderConfig {
    fn read(metadata: &Metadata<'_>, max_context: usize) -> Result<Self> {
        let architecture = metadata.text("general.architecture")?;
        if architecture != "qwen2" {
            candle_core::bail!("the model is of architecture {architecture}, expected qwen2");
        }
        let width = metadata.count("qwen2.embedding_length")?;
        let heads = metadata.count("qwen2.attention.head_count")?;
        let kv_heads = metadata.count("qwen2.attention.head_count_kv")?;
        if heads == 0 || kv_heads == 0 || heads % kv_heads != 0 || width % (2 * heads) != 0 {
            candle_core::bail!("{heads} heads over {kv_heads} do not divide a width of {width}");
        }
        if width == 0 || width / heads > LARGEST_HEAD {
            candle_core::bail!("{heads} heads of a width of {width} are no model's");
        }
        let layers = metadata.count("qwen2.block_count")?;
        if layers == 0 {
            candle_core::bail!("the model has no blocks");
        }
        Ok(Self {
            layers,
            width,
            heads,
            kv_heads,
            head_dim: width / heads,
            max_context: max_context.min(metadata.count("qwen2.context_length")?),
            rope_theta: f64::from(metadata.float("qwen2.rope.freq_base")?),
            norm_epsilon: metadata.float("qwen2.attention.layer_norm_rms_epsilon")?,
        })
    }
}

#[derive(Debug)]
struct Block {
    attention_norm: Vec<f32>,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    feed_norm: Vec<f32>,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Tokens of one request and the cache that they go on from.
#[derive(Debug)]
pub struct CachedSpan<'a> {
    /// At least one token.
    pub tokens: &'a [u32],
    /// What the request has read before.
    pub cache: &'a mut KvCache,
}

/// A loaded model.
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: Vec<f32>,
    head: Linear,
    rotary: Rotary,
    /// Multiplies tiled weights; `None` where all weights are candle's.
    workers: Option<Workers>,
}

/// Where the vectors of tokens come from.
#[derive(Debug)]
enum Embedding {
    Table(QTensor),
    /// From the rows of the head, whose weight is the same.
    Head,
}

impl Decoder {
    /// Reads the weights of a file, to be multiplied on `threads` threads.
    ///
    /// # Errors
    /// A tensor or a metadata key is missing, has another shape than the rest asks for, or lies
    /// outside the file; the architecture is not `qwen2`.
    pub(super) fn read(file: &GgufFile<'_>, max_context: usize, threads: usize) -> Result<Self> {
        let config = DecoderConfig::read(&Metadata(file.content()), max_context)?;
        let workers = match Kernel::detect() {
            Some(kernel) => Some(Workers::new(kernel, threads)?),
            None => None,
        };
        let arena = workers.as_ref().map(|_| Arena::default());
        let mut weights = Weights { file, arena };
        let kv_width = config.kv_heads * config.head_dim;
        let blocks = (0..config.layers)
            .map(|index| {
                let name = |part: &str| format!("blk.{index}.{part}");
                let width = config.width;
                let gate = weights.linear(&name("ffn_gate"), width, None, false)?;
                let inner = gate.outputs();
                Ok(Block {
                    attention_norm: weights.vector(&name("attn_norm.weight"), width)?,
                    query: weights.linear(&name("attn_q"), width, Some(width), true)?,
                    key: weights.linear(&name("attn_k"), width, Some(kv_width), true)?,
                    value: weights.linear(&name("attn_v"), width, Some(kv_width), true)?,
                    attention_output: weights.linear(
                        &name("attn_output"),
                        width,
                        Some(width),
                        false,
                    )?,
                    feed_norm: weights.vector(&name("ffn_norm.weight"), width)?,
                    up: weights.linear(&name("ffn_up"), width, Some(inner), false)?,
                    down: weights.linear(&name("ffn_down"), inner, Some(width), false)?,
                    gate,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let table = file.matrix(EMBEDDING)?;
        if table.columns != config.width {
            candle_core::bail!("embeddings of width {}, expected {}", table.columns, config.width);
        }
        let head = if file.holds("output.weight") {
            weights.linear("output", config.width, Some(table.rows), false)?
        } else {
            Linear::read(file, EMBEDDING, None, weights.arena.as_mut())?
        };
        let is_tied = !file.holds("output.weight") && head.tiles().is_some();
        let embedding =
            if is_tied { Embedding::Head } else { Embedding::Table(file.tensor(EMBEDDING)?) };
        let norm = weights.vector("output_norm.weight", config.width)?;
        let rotary = Rotary::new(config.head_dim, config.rope_theta, config.max_context);
        Ok(Self { config, embedding, blocks, norm, head, rotary, workers })
    }

    /// Shapes of the model.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// An empty cache with room for `positions`.
    pub fn new_cache(&self, positions: usize) -> KvCache {
        let kv_width = self.config.kv_heads * self.config.head_dim;
        KvCache::new(self.config.layers, kv_width, positions)
    }

    /// Reads `tokens` after what `cache` holds and returns the hidden state of each, normalised:
    /// `[token][width]`. The cache then holds them too; after an error it is as it was.
    ///
    /// # Errors
    /// More positions than [`DecoderConfig::max_context`], or a token outside the vocabulary.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Vec<f32>> {
        self.forward_batch(&mut [CachedSpan { tokens, cache }])
    }

    /// As [`forward`](Self::forward) for several requests at once: every weight is read once for all
    /// of them, and each attends to its own cache. Returns the hidden states of all tokens, one span
    /// after the other.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); all caches are then as they were.
    pub fn forward_batch(&self, spans: &mut [CachedSpan<'_>]) -> Result<Vec<f32>> {
        for span in spans.iter() {
            let start = span.cache.len();
            if span.tokens.is_empty() || start + span.tokens.len() > self.config.max_context {
                candle_core::bail!(
                    "{} tokens after {start} do not fit a context of {}",
                    span.tokens.len(),
                    self.config.max_context
                );
            }
        }
        let result = self.run_blocks(spans);
        for span in spans {
            match result {
                Ok(_) => span.cache.advance(span.tokens.len()),
                Err(_) => span.cache.roll_back(),
            }
        }
        result
    }

    /// The most likely next token after a hidden state (one row of [`forward`](Self::forward)).
    ///
    /// # Errors
    /// The logits hold no finite value: the weights are damaged.
    pub fn most_likely(&self, hidden: &[f32]) -> Result<u32> {
        match math::argmax(&self.logits(hidden)?) {
            Some(token) => Ok(token as u32),
            None => candle_core::bail!("the model's output is not finite"),
        }
    }

    /// Scores of all tokens after each of some hidden states, `[state][token]`.
    ///
    /// # Errors
    /// The hidden states have another width than the model.
    pub fn logits(&self, hidden: &[f32]) -> Result<Vec<f32>> {
        self.head.forward(self.workers.as_ref(), hidden)
    }

    fn run_blocks(&self, spans: &mut [CachedSpan<'_>]) -> Result<Vec<f32>> {
        let tokens: Vec<u32> = spans.iter().flat_map(|span| span.tokens).copied().collect();
        let mut residual = self.embed(&tokens)?;
        let epsilon = self.config.norm_epsilon;
        let workers = self.workers.as_ref();
        for (layer, block) in self.blocks.iter().enumerate() {
            let normed = math::rms_norm(&residual, &block.attention_norm, epsilon);
            let attended = self.attend(layer, block, &normed, spans)?;
            math::add(&mut residual, &block.attention_output.forward(workers, &attended)?);

            let normed = math::rms_norm(&residual, &block.feed_norm, epsilon);
            let [mut gate, up] = Linear::forward_all([&block.gate, &block.up], workers, &normed)?;
            math::silu_gate(&mut gate, &up);
            math::add(&mut residual, &block.down.forward(workers, &gate)?);
        }
        Ok(math::rms_norm(&residual, &self.norm, epsilon))
    }

    /// The vectors of tokens, `[token][width]`.
    fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let tiles = match &self.embedding {
            Embedding::Table(table) => {
                let ids = Tensor::new(tokens, &Device::Cpu)?;
                return table.embedding(&ids)?.flatten_all()?.to_vec1();
            }
            Embedding::Head => self.head.tiles(),
        };
        let Some(tiles) = tiles else { candle_core::bail!("the model has no embeddings") };
        let mut vectors = Vec::with_capacity(tokens.len() * self.config.width);
        for &token in tokens {
            if token as usize >= self.head.outputs() {
                candle_core::bail!("token {token} is not in the vocabulary");
            }
            tiles.append_row(token as usize, self.config.width, &mut vectors);
        }
        Ok(vectors)
    }

    /// Grouped-query attention of each span's rows over everything in its cache and themselves.
    fn attend(
        &self,
        layer: usize,
        block: &Block,
        normed: &[f32],
        spans: &mut [CachedSpan<'_>],
    ) -> Result<Vec<f32>> {
        let layers = [&block.query, &block.key, &block.value];
        let [mut queries, mut keys, values] =
            Linear::forward_all(layers, self.workers.as_ref(), normed)?;
        let (width, kv_width) = (self.config.width, block.key.outputs());
        let mut attended = vec![0f32; queries.len()];
        let mut scores = Vec::new();
        let mut first = 0;
        for CachedSpan { tokens, cache } in spans {
            let rows = first..first + tokens.len();
            first = rows.end;
            let start = cache.len();
            let keys = &mut keys[rows.start * kv_width..rows.end * kv_width];
            for (row, key) in keys.chunks_exact_mut(kv_width).enumerate() {
                self.rotary.rotate(key, start + row);
            }
            cache.append(layer, keys, &values[rows.start * kv_width..rows.end * kv_width]);

            let columns = rows.start * width..rows.end * width;
            let rows = queries[columns.clone()].chunks_exact_mut(width);
            for (row, (query, output)) in
                rows.zip(attended[columns].chunks_exact_mut(width)).enumerate()
            {
                self.rotary.rotate(query, start + row);
                self.attend_row(query, output, layer, start + row + 1, cache, &mut scores);
            }
        }
        Ok(attended)
    }

    /// Attention of one row, which sees the first `visible` positions.
    fn attend_row(
        &self,
        query: &[f32],
        output: &mut [f32],
        layer: usize,
        visible: usize,
        cache: &KvCache,
        scores: &mut Vec<f32>,
    ) {
        let kernel = self.workers.as_ref().map(Workers::kernel);
        let head_dim = self.config.head_dim;
        let kv_width = self.config.kv_heads * head_dim;
        let group = self.config.heads / self.config.kv_heads;
        let scale = (head_dim as f32).sqrt().recip();
        scores.resize(visible, 0.0);
        let heads = query.chunks_exact(head_dim).zip(output.chunks_exact_mut(head_dim));
        for (head, (query, output)) in heads.enumerate() {
            let offset = head / group * head_dim;
            for part in cache.parts(layer) {
                let scores = &mut scores[part.positions.start..part.positions.end.min(visible)];
                let keys = part.keys.get(offset..).unwrap_or_default();
                match kernel {
                    Some(kernel) => kernel.score(query, keys, kv_width, scale, scores),
                    None => math::score(query, keys, kv_width, scale, scores),
                }
            }
            math::softmax(scores);
            for part in cache.parts(layer) {
                let weights = &scores[part.positions.start..part.positions.end.min(visible)];
                let values = part.values.get(offset..).unwrap_or_default();
                match kernel {
                    Some(kernel) => kernel.add_weighted(output, weights, values, kv_width),
                    None => math::add_weighted(output, weights, values, kv_width),
                }
            }
        }
    }
}

/// Reads tensors of one file and checks their shapes.
struct Weights<'a> {
    file: &'a GgufFile<'a>,
    /// Memory for tiles, where there is something to multiply them with.
    arena: Option<Arena>,
}

impl Weights<'_> {
    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        let vector =
            self.file.tensor(name)?.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        if vector.len() != length {
            candle_core::bail!("{name} has {} values, expected {length}", vector.len());
        }
        Ok(vector)
    }

    fn linear(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: Option<usize>,
        biased: bool,
    ) -> Result<Linear> {
        let weight = format!("{name}.weight");
        let stored = self.file.matrix(&weight)?;
        let (rows, columns) = (stored.rows, stored.columns);
        if columns != inputs || outputs.is_some_and(|outputs| outputs != rows) {
            candle_core::bail!("{name} maps {columns} to {rows} values, expected {inputs} inputs");
        }
        let bias = if biased { Some(self.vector(&format!("{name}.bias"), rows)?) } else { None };
        Linear::read(self.file, &weight, bias, self.arena.as_mut())
    }
}

/// A prefix computed once, shared by all requests that begin with it.
pub type SharedPrefix = Arc<KvSegment>;
