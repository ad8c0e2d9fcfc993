//! What changes between a checkpoint of PyTorch and the tensors that the networks here load: weight
//! norm is folded into the weights (Salimans and Kingma, "Weight Normalization", 2016), the
//! projections of GPT-2, which are stored input first, are transposed, and buffers are dropped. Names
//! stay those of the checkpoint.

use std::collections::HashMap;

use candle_core::{Result, Tensor, bail};

/// A network of Tortoise with a checkpoint of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Text and a voice to codes.
    Autoregressive,
    /// Latents of the codes and a voice to a mel spectrogram.
    Diffusion,
    /// How well codes fit a text.
    Clvp,
    /// A mel spectrogram to sound.
    Univnet,
    /// Latents of the codes to sound.
    Hifigan,
    /// A random voice for one of the two networks that have voices.
    RandomVoice,
}

/// The tensors of a checkpoint as the networks load them.
///
/// # Errors
/// A weight has one half of its weight norm only, or a shape that cannot be.
pub fn convert(part: Part, tensors: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let mut converted = HashMap::with_capacity(tensors.len());
    for (name, tensor) in &tensors {
        if is_buffer(name) || name.ends_with(".weight_g") {
            continue;
        }
        if let Some(stem) = name.strip_suffix(".weight_v") {
            let Some(magnitude) = tensors.get(&format!("{stem}.weight_g")) else {
                bail!("{name} has no magnitude beside it")
            };
            converted.insert(format!("{stem}.weight"), folded(magnitude, tensor)?);
        } else if part == Part::Autoregressive && is_input_first(name) {
            converted.insert(name.clone(), tensor.t()?.contiguous()?);
        } else {
            converted.insert(name.clone(), tensor.contiguous()?);
        }
    }
    Ok(converted)
}

/// `magnitude * direction / |direction|`, a norm for each entry of the first dimension.
fn folded(magnitude: &Tensor, direction: &Tensor) -> Result<Tensor> {
    let rows = direction.dim(0)?;
    let norm = direction.reshape((rows, ()))?.sqr()?.sum_keepdim(1)?.sqrt()?;
    let scale = magnitude.reshape((rows, 1))?.div(&norm)?;
    let mut shape = vec![1; direction.rank()];
    shape[0] = rows;
    direction.broadcast_mul(&scale.reshape(shape)?)
}

/// The causal mask that GPT-2 keeps in its state.
fn is_buffer(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

fn is_input_first(name: &str) -> bool {
    name.starts_with("gpt.h.")
        && [".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight"]
            .iter()
            .any(|end| name.ends_with(end))
}
