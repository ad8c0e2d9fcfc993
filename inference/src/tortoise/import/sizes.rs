//! The sizes of each network, read off the shapes of its tensors, and the tensors that a network of
//! these sizes has: a checkpoint is what it should be when both agree.
//!
//! What shapes do not tell is as published: attention heads are 64 wide where no table of theirs is
//! stored, the dilations of UnivNet are powers of three, those of HiFi-GAN odd numbers, and a
//! transposed convolution is twice as wide as its step.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The shape of each tensor, by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// Width of a head of attention where nothing tells it.
const HEAD: usize = 64;
/// Layers of one kind, and other things that are counted: more is no network of this family.
const MOST: usize = 1_000;
/// Largest size of a dimension.
const LARGEST: usize = 1 << 24;

/// Why shapes are not those of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizesError {
    /// A tensor is not there.
    #[error("it has no {0}")]
    Missing(String),
    /// A tensor has a shape that does not fit the others.
    #[error("{name} has the shape {shape:?}, which does not fit the rest")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor is there that such a network has not, and that is not known as unused.
    #[error("it has {name}, and {others} more, that are no part of this network")]
    Unexpected {
        /// The first such tensor.
        name: String,
        /// How many there are beside it.
        others: usize,
    },
}

/// Sizes of the network that makes codes of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoregressiveSizes {
    /// Layers of GPT-2.
    pub layers: usize,
    /// Width of all that goes through it.
    pub width: usize,
    /// Heads of its attention, and of that over a voice.
    pub heads: usize,
    /// Text tokens with the one that starts a text.
    pub text_tokens: usize,
    /// Codes with the ones that start and stop speech.
    pub mel_codes: usize,
    /// Places of text tokens.
    pub text_positions: usize,
    /// Places of codes.
    pub mel_positions: usize,
    /// The token before every text.
    pub start_text_token: usize,
    /// The token after every text.
    pub stop_text_token: usize,
    /// The code before all speech.
    pub start_mel_code: usize,
    /// The code after all speech.
    pub stop_mel_code: usize,
    /// Bands of the mel spectrogram of a voice.
    pub mel_bands: usize,
    /// Layers of attention over a voice.
    pub voice_layers: usize,
}

/// Sizes of the network that makes a mel spectrogram of latents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionSizes {
    /// Width of all that goes through it.
    pub width: usize,
    /// Layers with attention.
    pub layers: usize,
    /// Layers without attention, after those.
    pub last_layers: usize,
    /// Layers that take in the time.
    pub time_layers: usize,
    /// Layers of attention over latents.
    pub latent_layers: usize,
    /// Layers of attention over a voice.
    pub voice_layers: usize,
    /// Heads of all attention.
    pub heads: usize,
    /// Width of a latent.
    pub latent_width: usize,
    /// Bands of the mel spectrogram.
    pub mel_bands: usize,
    /// Bands of what comes out: noise, and its variance.
    pub outputs: usize,
}

/// Sizes of the network that tells how well codes fit a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClvpSizes {
    /// Text tokens.
    pub text_tokens: usize,
    /// Codes.
    pub speech_codes: usize,
    /// Width of all that goes through the encoder of text.
    pub text_width: usize,
    /// Width of all that goes through the encoder of speech.
    pub speech_width: usize,
    /// Width of what both make.
    pub latent_width: usize,
    /// Layers of the encoder of text.
    pub text_layers: usize,
    /// Layers of the encoder of speech.
    pub speech_layers: usize,
    /// Heads of the encoder of text.
    pub text_heads: usize,
    /// Heads of the encoder of speech.
    pub speech_heads: usize,
    /// Width within a feed-forward layer for text.
    pub text_inner: usize,
    /// Width within a feed-forward layer for speech.
    pub speech_inner: usize,
    /// Angles of the rotary embedding.
    pub rotary_angles: usize,
}

/// Sizes of the network that makes sound of a mel spectrogram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnivnetSizes {
    /// Channels of the noise that it starts from.
    pub noise: usize,
    /// Channels of all that goes through it.
    pub channels: usize,
    /// Steps of the transposed convolutions.
    pub strides: Vec<usize>,
    /// Dilations of the convolutions in each block.
    pub dilations: Vec<usize>,
    /// Bands of the mel spectrogram.
    pub mel_bands: usize,
    /// Channels of the predictor of kernels.
    pub hidden: usize,
}

/// Sizes of the network that makes sound of latents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HifiganSizes {
    /// Width of a latent.
    pub latent_width: usize,
    /// Width of what is known of the voice.
    pub voice_width: usize,
    /// Channels before the first transposed convolution; each halves them.
    pub channels: usize,
    /// Steps of the transposed convolutions.
    pub strides: Vec<usize>,
    /// Their widths.
    pub stride_kernels: Vec<usize>,
    /// Widths of the convolutions of the residual blocks after each of them.
    pub kernels: Vec<usize>,
    /// Dilations of the convolutions in each residual block.
    pub dilations: Vec<usize>,
}

/// Sizes of a network that makes random voices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomVoiceSizes {
    /// Width of all that goes through it.
    pub width: usize,
    /// Layers, the last one included.
    pub layers: usize,
}

impl AutoregressiveSizes {
    /// Those of a network whose tensors, as they are after conversion, have these shapes.
    ///
    /// # Errors
    /// The shapes are not those of such a network.
    pub fn of(shapes: &Shapes) -> Result<Self, SizesError> {
        let found = Found(shapes);
        let [text_tokens, width] = found.shape("text_embedding.weight")?;
        let [mel_codes, _] = found.shape("mel_embedding.weight")?;
        let [text_positions, _] = found.shape("text_pos_embedding.emb.weight")?;
        let [mel_positions, _] = found.shape("mel_pos_embedding.emb.weight")?;
        let [_, mel_bands, _] = found.shape("conditioning_encoder.init.weight")?;
        if text_tokens < 2 {
            return Err(found.odd("text_embedding.weight"));
        }
        if mel_codes < 3 {
            return Err(found.odd("mel_embedding.weight"));
        }
        let sizes = Self {
            layers: found.count(|layer| format!("gpt.h.{layer}.ln_1.weight")),
            width,
            heads: (width / HEAD).max(1),
            text_tokens,
            mel_codes,
            text_positions,
            mel_positions,
            start_text_token: text_tokens - 1,
            stop_text_token: 0,
            start_mel_code: mel_codes - 2,
            stop_mel_code: mel_codes - 1,
            mel_bands,
            voice_layers: found
                .count(|layer| format!("conditioning_encoder.attn.{layer}.norm.weight")),
        };
        found.hold(&sizes.tensors()).map(|()| sizes)
    }

    /// The tensors of such a network.
    pub fn tensors(&self) -> Shapes {
        let width = self.width;
        let mut tensors = Tensors::default();
        tensors.table("text_embedding", self.text_tokens, width);
        tensors.table("mel_embedding", self.mel_codes, width);
        tensors.table("text_pos_embedding.emb", self.text_positions, width);
        tensors.table("mel_pos_embedding.emb", self.mel_positions, width);
        for layer in 0..self.layers {
            let name = |part: &str| format!("gpt.h.{layer}.{part}");
            tensors.norm(&name("ln_1"), width);
            tensors.linear(&name("attn.c_attn"), 3 * width, width);
            tensors.linear(&name("attn.c_proj"), width, width);
            tensors.norm(&name("ln_2"), width);
            tensors.linear(&name("mlp.c_fc"), 4 * width, width);
            tensors.linear(&name("mlp.c_proj"), width, 4 * width);
        }
        tensors.norm("gpt.ln_f", width);
        tensors.norm("final_norm", width);
        tensors.linear("text_head", self.text_tokens, width);
        tensors.linear("mel_head", self.mel_codes, width);
        tensors.convolution("conditioning_encoder.init", width, self.mel_bands, 1);
        for layer in 0..self.voice_layers {
            tensors.attention(&format!("conditioning_encoder.attn.{layer}"), width, None);
        }
        tensors.0
    }
}

impl DiffusionSizes {
    /// Those of a network whose tensors, as they are after conversion, have these shapes.
    ///
    /// # Errors
    /// The shapes are not those of such a network.
    pub fn of(shapes: &Shapes) -> Result<Self, SizesError> {
        let found = Found(shapes);
        let [width, mel_bands, _] = found.shape("inp_block.weight")?;
        let [outputs, _, _] = found.shape("out.2.weight")?;
        let [_, latent_width, _] = found.shape("latent_conditioner.0.weight")?;
        let [_, heads] = found
            .shape("latent_conditioner.1.relative_pos_embeddings.relative_attention_bias.weight")?;
        let layers = found.count(|layer| format!("layers.{layer}.attn.norm.weight"));
        let sizes = Self {
            width,
            layers,
            last_layers: found
                .count(|layer| format!("layers.{}.in_layers.0.weight", layers + layer)),
            time_layers: found.count(|layer| {
                format!("conditioning_timestep_integrator.{layer}.attn.norm.weight")
            }),
            latent_layers: found
                .count(|layer| format!("latent_conditioner.{}.norm.weight", layer + 1)),
            voice_layers: found
                .count(|layer| format!("contextual_embedder.{}.norm.weight", layer + 2)),
            heads,
            latent_width,
            mel_bands,
            outputs,
        };
        found.hold(&sizes.tensors()).map(|()| sizes)
    }

    /// The tensors of such a network.
    pub fn tensors(&self) -> Shapes {
        let (width, heads) = (self.width, Some(self.heads));
        let mut tensors = Tensors::default();
        tensors.convolution("inp_block", width, self.mel_bands, 3);
        tensors.linear("time_embed.0", width, width);
        tensors.linear("time_embed.2", width, width);
        tensors.norm("code_norm", width);
        tensors.convolution("latent_conditioner.0", width, self.latent_width, 3);
        for layer in 0..self.latent_layers {
            tensors.attention(&format!("latent_conditioner.{}", layer + 1), width, heads);
        }
        tensors.convolution("contextual_embedder.0", width, self.mel_bands, 3);
        tensors.convolution("contextual_embedder.1", 2 * width, width, 3);
        for layer in 0..self.voice_layers {
            tensors.attention(&format!("contextual_embedder.{}", layer + 2), 2 * width, heads);
        }
        tensors.add("unconditioned_embedding".to_owned(), [1, width, 1]);
        for layer in 0..self.time_layers {
            let name = format!("conditioning_timestep_integrator.{layer}");
            tensors.diffusion_layer(&name, width, self.heads);
        }
        tensors.convolution("integrating_conv", width, 2 * width, 1);
        for layer in 0..self.layers {
            tensors.diffusion_layer(&format!("layers.{layer}"), width, self.heads);
        }
        for layer in 0..self.last_layers {
            tensors.timed_block(&format!("layers.{}", self.layers + layer), width);
        }
        tensors.norm("out.0", width);
        tensors.convolution("out.2", self.outputs, width, 3);
        tensors.0
    }
}

impl ClvpSizes {
    /// Those of a network whose tensors, as they are after conversion, have these shapes.
    ///
    /// # Errors
    /// The shapes are not those of such a network.
    pub fn of(shapes: &Shapes) -> Result<Self, SizesError> {
        let found = Found(shapes);
        let [text_tokens, text_width] = found.shape("text_emb.weight")?;
        let [speech_codes, speech_width] = found.shape("speech_emb.weight")?;
        let [latent_width, _] = found.shape("to_text_latent.weight")?;
        let [rotary_angles] =
            found.shape("text_transformer.transformer.attn_layers.rotary_pos_emb.inv_freq")?;
        let encoder = |of: &str| {
            let layers = format!("{of}_transformer.transformer.attn_layers.layers");
            let count = found.count(|layer| format!("{layers}.{}.1.wrap.to_q.weight", 2 * layer));
            let name = format!("{layers}.0.1.wrap.to_q.weight");
            let [heads_width, _] = found.shape(&name)?;
            if heads_width % HEAD != 0 {
                return Err(found.odd(&name));
            }
            let [_, inner] = found.shape(&format!("{layers}.1.1.wrap.net.3.weight"))?;
            Ok((count, heads_width / HEAD, inner))
        };
        let (text_layers, text_heads, text_inner) = encoder("text")?;
        let (speech_layers, speech_heads, speech_inner) = encoder("speech")?;
        let sizes = Self {
            text_tokens,
            speech_codes,
            text_width,
            speech_width,
            latent_width,
            text_layers,
            speech_layers,
            text_heads,
            speech_heads,
            text_inner,
            speech_inner,
            rotary_angles,
        };
        found.hold(&sizes.tensors()).map(|()| sizes)
    }

    /// The tensors of such a network.
    pub fn tensors(&self) -> Shapes {
        let mut tensors = Tensors::default();
        tensors.table("text_emb", self.text_tokens, self.text_width);
        tensors.table("speech_emb", self.speech_codes, self.speech_width);
        tensors.table("to_text_latent", self.latent_width, self.text_width);
        tensors.table("to_speech_latent", self.latent_width, self.speech_width);
        tensors.add("temperature".to_owned(), []);
        let encoders = [
            ("text", self.text_layers, self.text_width, self.text_heads, self.text_inner),
            ("speech", self.speech_layers, self.speech_width, self.speech_heads, self.speech_inner),
        ];
        for (of, layers, width, heads, inner) in encoders {
            let all = format!("{of}_transformer.transformer");
            tensors.norm(&format!("{all}.norm"), width);
            let angles = format!("{all}.attn_layers.rotary_pos_emb.inv_freq");
            tensors.add(angles, [self.rotary_angles]);
            for layer in 0..layers {
                let attention = format!("{all}.attn_layers.layers.{}", 2 * layer);
                tensors.add(format!("{attention}.0.0.g"), [width]);
                for to in ["to_q", "to_k", "to_v"] {
                    tensors.table(&format!("{attention}.1.wrap.{to}"), HEAD * heads, width);
                }
                tensors.linear(&format!("{attention}.1.wrap.to_out"), width, HEAD * heads);
                let forward = format!("{all}.attn_layers.layers.{}", 2 * layer + 1);
                tensors.add(format!("{forward}.0.0.g"), [width]);
                tensors.linear(&format!("{forward}.1.wrap.net.0.proj"), 2 * inner, width);
                tensors.linear(&format!("{forward}.1.wrap.net.3"), width, inner);
            }
        }
        tensors.0
    }
}

impl UnivnetSizes {
    /// Those of a network whose tensors, as they are after conversion, have these shapes.
    ///
    /// # Errors
    /// The shapes are not those of such a network.
    pub fn of(shapes: &Shapes) -> Result<Self, SizesError> {
        let found = Found(shapes);
        let [channels, noise, _] = found.shape("conv_pre.weight")?;
        let [hidden, mel_bands, _] =
            found.shape("res_stack.0.kernel_predictor.input_conv.0.weight")?;
        let blocks = found.count(|block| format!("res_stack.{block}.convt_pre.1.weight"));
        let strides = (0..blocks)
            .map(|block| found.stride(&format!("res_stack.{block}.convt_pre.1.weight")))
            .collect::<Result<_, _>>()?;
        let layers = found.count(|layer| format!("res_stack.0.conv_blocks.{layer}.1.weight"));
        let dilations = (0..layers as u32)
            .map(|layer| 3usize.checked_pow(layer))
            .collect::<Option<_>>()
            .ok_or_else(|| found.odd("res_stack.0.conv_blocks.0.1.weight"))?;
        let sizes = Self { noise, channels, strides, dilations, mel_bands, hidden };
        found.hold(&sizes.tensors()).map(|()| sizes)
    }

    /// The tensors of such a network.
    pub fn tensors(&self) -> Shapes {
        let Self { channels, hidden, .. } = *self;
        let layers = self.dilations.len();
        let mut tensors = Tensors::default();
        tensors.convolution("conv_pre", channels, self.noise, 7);
        tensors.convolution("conv_post.1", 1, channels, 7);
        for (block, stride) in self.strides.iter().enumerate() {
            let name = |part: &str| format!("res_stack.{block}.{part}");
            tensors.convolution(&name("convt_pre.1"), channels, channels, 2 * stride);
            for layer in 0..layers {
                tensors.convolution(
                    &name(&format!("conv_blocks.{layer}.1")),
                    channels,
                    channels,
                    3,
                );
            }
            let name = |part: &str| format!("res_stack.{block}.kernel_predictor.{part}");
            tensors.convolution(&name("input_conv.0"), hidden, self.mel_bands, 5);
            for layer in 0..3 {
                for part in [1, 3] {
                    let name = name(&format!("residual_convs.{layer}.{part}"));
                    tensors.convolution(&name, hidden, hidden, 3);
                }
            }
            let kernels = layers * channels * 2 * channels * 3;
            tensors.convolution(&name("kernel_conv"), kernels, hidden, 3);
            tensors.convolution(&name("bias_conv"), layers * 2 * channels, hidden, 3);
        }
        tensors.0
    }
}

impl HifiganSizes {
    /// Those of a network whose tensors, as they are after conversion, have these shapes.
    ///
    /// # Errors
    /// The shapes are not those of such a network.
    pub fn of(shapes: &Shapes) -> Result<Self, SizesError> {
        let found = Found(shapes);
        let [channels, latent_width, _] = found.shape("conv_pre.weight")?;
        let [_, voice_width, _] = found.shape("cond_layer.weight")?;
        let ups = found.count(|up| format!("ups.{up}.weight"));
        let name = |up| format!("ups.{up}.weight");
        let strides = (0..ups).map(|up| found.stride(&name(up))).collect::<Result<_, _>>()?;
        let stride_kernels = (0..ups)
            .map(|up| found.shape(&name(up)).map(|[_, _, kernel]| kernel))
            .collect::<Result<_, _>>()?;
        let blocks = found.count(|block| format!("resblocks.{block}.convs1.0.weight"));
        if ups == 0 || ups > 32 || blocks % ups != 0 {
            return Err(found.odd("ups.0.weight"));
        }
        let kernels = (0..blocks / ups)
            .map(|block| {
                let name = format!("resblocks.{block}.convs1.0.weight");
                found.shape(&name).map(|[_, _, kernel]| kernel)
            })
            .collect::<Result<_, _>>()?;
        let layers = found.count(|layer| format!("resblocks.0.convs1.{layer}.weight"));
        let dilations = (0..layers).map(|layer| 2 * layer + 1).collect();
        let sizes = Self {
            latent_width,
            voice_width,
            channels,
            strides,
            stride_kernels,
            kernels,
            dilations,
        };
        found.hold(&sizes.tensors()).map(|()| sizes)
    }

    /// The tensors of such a network.
    pub fn tensors(&self) -> Shapes {
        let mut tensors = Tensors::default();
        tensors.convolution("conv_pre", self.channels, self.latent_width, 7);
        tensors.convolution("cond_layer", self.channels, self.voice_width, 1);
        let mut channels = self.channels;
        for (up, kernel) in self.stride_kernels.iter().enumerate() {
            let half = channels / 2;
            // Transposed: inputs come first, and the bias has one number for each output.
            tensors.add(format!("ups.{up}.weight"), [channels, half, *kernel]);
            tensors.add(format!("ups.{up}.bias"), [half]);
            channels = half;
            for (block, kernel) in self.kernels.iter().enumerate() {
                let block = up * self.kernels.len() + block;
                for layer in 0..self.dilations.len() {
                    for part in ["convs1", "convs2"] {
                        let name = format!("resblocks.{block}.{part}.{layer}");
                        tensors.convolution(&name, channels, channels, *kernel);
                    }
                }
            }
        }
        tensors.convolution("conv_post", 1, channels, 7);
        tensors.0
    }
}

impl RandomVoiceSizes {
    /// Those of a network whose tensors, as they are after conversion, have these shapes.
    ///
    /// # Errors
    /// The shapes are not those of such a network.
    pub fn of(shapes: &Shapes) -> Result<Self, SizesError> {
        let found = Found(shapes);
        let [width, _] = found.shape("layers.0.weight")?;
        let layers = found.count(|layer| format!("layers.{layer}.weight"));
        let sizes = Self { width, layers };
        found.hold(&sizes.tensors()).map(|()| sizes)
    }

    /// The tensors of such a network.
    pub fn tensors(&self) -> Shapes {
        let mut tensors = Tensors::default();
        for layer in 0..self.layers {
            tensors.linear(&format!("layers.{layer}"), self.width, self.width);
        }
        tensors.0
    }
}

/// The shapes of a checkpoint.
struct Found<'a>(&'a Shapes);

impl Found<'_> {
    fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N], SizesError> {
        let shape = self.0.get(name).ok_or_else(|| SizesError::Missing(name.to_owned()))?;
        match <[usize; N]>::try_from(shape.as_slice()) {
            Ok(shape) if shape.iter().all(|size| (1..=LARGEST).contains(size)) => Ok(shape),
            _ => Err(self.odd(name)),
        }
    }

    /// Half of the width of a transposed convolution.
    fn stride(&self, name: &str) -> Result<usize, SizesError> {
        match self.shape(name)? {
            [_, _, kernel] if kernel % 2 == 0 => Ok(kernel / 2),
            _ => Err(self.odd(name)),
        }
    }

    /// For how many numbers from 0 on there is a tensor.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..MOST).take_while(|number| self.0.contains_key(&name(*number))).count()
    }

    fn odd(&self, name: &str) -> SizesError {
        let shape = self.0.get(name).cloned().unwrap_or_default();
        SizesError::Shape { name: name.to_owned(), shape }
    }

    /// There is what there should be, and nothing else.
    fn hold(&self, expected: &Shapes) -> Result<(), SizesError> {
        for (name, shape) in expected {
            match self.0.get(name) {
                None => return Err(SizesError::Missing(name.clone())),
                Some(found) if found != shape => return Err(self.odd(name)),
                Some(_) => {}
            }
        }
        let mut others = self.0.keys().filter(|name| !expected.contains_key(*name));
        match others.next() {
            None => Ok(()),
            Some(name) => {
                Err(SizesError::Unexpected { name: name.clone(), others: others.count() })
            }
        }
    }
}

/// The tensors of a network, as they are listed.
#[derive(Default)]
struct Tensors(Shapes);

impl Tensors {
    fn add<const N: usize>(&mut self, name: String, shape: [usize; N]) {
        self.0.insert(name, shape.to_vec());
    }

    fn table(&mut self, name: &str, rows: usize, width: usize) {
        self.add(format!("{name}.weight"), [rows, width]);
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.table(name, outputs, inputs);
        self.add(format!("{name}.bias"), [outputs]);
    }

    fn convolution(&mut self, name: &str, outputs: usize, inputs: usize, kernel: usize) {
        self.add(format!("{name}.weight"), [outputs, inputs, kernel]);
        self.add(format!("{name}.bias"), [outputs]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), [width]);
        self.add(format!("{name}.bias"), [width]);
    }

    /// With as many heads where scores depend on distances.
    fn attention(&mut self, name: &str, width: usize, heads: Option<usize>) {
        self.norm(&format!("{name}.norm"), width);
        self.convolution(&format!("{name}.qkv"), 3 * width, width, 1);
        self.convolution(&format!("{name}.proj_out"), width, width, 1);
        if let Some(heads) = heads {
            let distances = format!("{name}.relative_pos_embeddings.relative_attention_bias");
            self.table(&distances, 32, heads);
        }
    }

    fn timed_block(&mut self, name: &str, width: usize) {
        self.norm(&format!("{name}.in_layers.0"), width);
        self.convolution(&format!("{name}.in_layers.2"), width, width, 1);
        self.linear(&format!("{name}.emb_layers.1"), 2 * width, width);
        self.norm(&format!("{name}.out_layers.0"), width);
        self.convolution(&format!("{name}.out_layers.3"), width, width, 3);
    }

    fn diffusion_layer(&mut self, name: &str, width: usize, heads: usize) {
        self.timed_block(&format!("{name}.resblk"), width);
        self.attention(&format!("{name}.attn"), width, Some(heads));
    }
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
