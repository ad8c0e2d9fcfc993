//! The model's dimensions and token lists, read from the weights' shapes and `config.json`.

use std::path::Path;

use serde::Deserialize;

use super::WhisperError;
use super::weights::Weights;

/// Sizes of the network. All are read from the weights, so they cannot disagree with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// Mel bands of the input: 80, or 128 from large-v3 on.
    pub mel_bands: usize,
    /// Encoder positions of 20 ms (1500).
    pub audio_positions: usize,
    /// Decoder positions (448).
    pub text_positions: usize,
    /// Width of every layer.
    pub width: usize,
    /// Width of the feed-forward layers.
    pub inner_width: usize,
    /// Attention heads of the encoder.
    pub encoder_heads: usize,
    /// Attention heads of the decoder.
    pub decoder_heads: usize,
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Layers of the decoder (fewer than the encoder's in distilled models).
    pub decoder_layers: usize,
    /// Token ids, padding included.
    pub vocabulary: usize,
}

/// What `config.json` (and `generation_config.json`) say, whichever converter wrote them.
#[derive(Debug, Default, Deserialize)]
pub struct ModelConfig {
    encoder_attention_heads: Option<usize>,
    decoder_attention_heads: Option<usize>,
    /// CTranslate2's name.
    suppress_ids: Option<Vec<i64>>,
    suppress_ids_begin: Option<Vec<i64>>,
    /// Hugging Face's name; `null` in new conversions, which keep it with the generation settings.
    suppress_tokens: Option<Vec<i64>>,
    begin_suppress_tokens: Option<Vec<i64>>,
}

/// More layers than any Whisper has (large has 32).
const MAX_LAYERS: usize = 256;

impl ModelConfig {
    /// Reads the configuration files of a model folder.
    ///
    /// # Errors
    /// [`WhisperError::Io`] without `config.json`, [`WhisperError::Malformed`] for no valid JSON.
    pub fn read(dir: &Path) -> Result<Self, WhisperError> {
        let mut config = read_json(&dir.join("config.json"))?;
        let generation = dir.join("generation_config.json");
        if generation.exists() {
            let generation = read_json(&generation)?;
            config.suppress_tokens = generation.suppress_tokens.or(config.suppress_tokens);
            config.begin_suppress_tokens =
                generation.begin_suppress_tokens.or(config.begin_suppress_tokens);
        }
        Ok(config)
    }

    /// Token ids that are never text: marks of music, speakers and the like.
    pub fn suppressed(&self) -> Vec<u32> {
        ids(self.suppress_ids.as_ref().or(self.suppress_tokens.as_ref()))
    }

    /// Token ids that must not begin a text: a blank, the end.
    pub fn suppressed_at_begin(&self) -> Vec<u32> {
        ids(self.suppress_ids_begin.as_ref().or(self.begin_suppress_tokens.as_ref()))
    }
}

fn ids(list: Option<&Vec<i64>>) -> Vec<u32> {
    list.into_iter().flatten().filter_map(|&id| u32::try_from(id).ok()).collect()
}

fn read_json(path: &Path) -> Result<ModelConfig, WhisperError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| WhisperError::Io { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|error| WhisperError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

impl Dimensions {
    /// Reads the dimensions off the weights' shapes.
    ///
    /// # Errors
    /// [`WhisperError::Malformed`] when the shapes are not those of a Whisper.
    pub fn of(weights: &mut Weights, config: &ModelConfig) -> Result<Self, WhisperError> {
        let [width, mel_bands, 3] = shape(weights, "encoder/conv1/weight")? else {
            return Err(weights.malformed("the first convolution does not span three frames"));
        };
        let [audio_positions, _] = shape(weights, "encoder/position_encodings/encodings")?;
        let [text_positions, _] = shape(weights, "decoder/position_encodings/encodings")?;
        let [vocabulary, _] = shape(weights, "decoder/embeddings/weight")?;
        let [inner_width, _] = shape(weights, "encoder/layer_0/ffn/linear_0/weight")?;
        let encoder_layers = count_layers(weights, "encoder");
        let decoder_layers = count_layers(weights, "decoder");
        let encoder_heads = heads(weights, "encoder", config.encoder_attention_heads)?;
        let decoder_heads = heads(weights, "decoder", config.decoder_attention_heads)?;
        for (side, heads) in [("encoder", encoder_heads), ("decoder", decoder_heads)] {
            if heads == 0 || !width.is_multiple_of(heads) {
                let reason = format!("{side} has {heads} heads for a width of {width}");
                return Err(weights.malformed(reason));
            }
        }
        let is_sane = mel_bands > 0 && audio_positions > 0 && text_positions >= 8 && vocabulary > 0;
        if !is_sane || decoder_layers == 0 || encoder_layers == 0 {
            return Err(weights.malformed("a dimension is zero"));
        }
        Ok(Self {
            mel_bands,
            audio_positions,
            text_positions,
            width,
            inner_width,
            encoder_heads,
            decoder_heads,
            encoder_layers,
            decoder_layers,
            vocabulary,
        })
    }
}

fn shape<const N: usize>(weights: &Weights, name: &str) -> Result<[usize; N], WhisperError> {
    let Some(shape) = weights.shape(name) else {
        return Err(weights.malformed(format!("there is no {name}")));
    };
    let rank = shape.len();
    shape
        .try_into()
        .map_err(|_| weights.malformed(format!("{name} has {rank} dimensions, expected {N}")))
}

fn count_layers(weights: &Weights, side: &str) -> usize {
    (0..MAX_LAYERS)
        .take_while(|layer| {
            weights.shape(&format!("{side}/layer_{layer}/ffn/linear_0/weight")).is_some()
        })
        .count()
}

/// CTranslate2 stores the count beside the weights, Hugging Face in `config.json`.
fn heads(
    weights: &mut Weights,
    side: &str,
    configured: Option<usize>,
) -> Result<usize, WhisperError> {
    let scalar = format!("{side}/num_heads");
    if weights.shape(&scalar).is_some() {
        let tensor = weights.read(&scalar)?;
        return Ok(tensor.values.first().map_or(0, |&heads| heads as usize));
    }
    configured.ok_or_else(|| weights.malformed(format!("nothing tells the heads of the {side}")))
}
