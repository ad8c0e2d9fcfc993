//! What changes between a checkpoint of PyTorch and the tensors that the networks here load: weight
//! norm is folded into the weights (Salimans and Kingma, "Weight Normalization", 2016), the
//! projections of GPT-2, which are stored input first, are transposed, and what the networks do
//! without is dropped. Names stay those of the checkpoint.

use std::collections::{BTreeSet, HashMap};

use candle_core::{DType, Result, Tensor, bail};

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

/// How a tensor comes from those of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is one of them.
    Same,
    /// It is one of them, transposed.
    Transposed,
    /// It is one's direction with another one's magnitude.
    Folded {
        /// A length for each entry of the first dimension.
        magnitude: String,
        /// Of any length.
        direction: String,
    },
}

/// Where the two halves of a weight under weight norm are: PyTorch's older and newer names.
const HALVES: [(&str, &str); 2] = [
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
];

/// The tensors to make of a checkpoint with these `names`, by their own names.
///
/// # Errors
/// The name of a half of a weight whose other half is not there.
pub(super) fn plan(
    part: Part,
    names: &BTreeSet<&str>,
) -> std::result::Result<Vec<(String, Origin)>, String> {
    let mut plan = Vec::with_capacity(names.len());
    for &name in names.iter().filter(|name| !is_unused(part, name)) {
        let half = |(magnitude, direction): &(&str, &str)| {
            let stem = name.strip_suffix(direction).or_else(|| name.strip_suffix(magnitude))?;
            Some((stem.to_owned(), format!("{stem}{magnitude}"), format!("{stem}{direction}")))
        };
        let Some((stem, magnitude, direction)) = HALVES.iter().find_map(half) else {
            let is_turned = part == Part::Autoregressive && is_input_first(name);
            let origin = if is_turned { Origin::Transposed } else { Origin::Same };
            plan.push((name.to_owned(), origin));
            continue;
        };
        if ![&magnitude, &direction].into_iter().all(|half| names.contains(half.as_str())) {
            return Err(name.to_owned());
        }
        if name == direction {
            plan.push((format!("{stem}.weight"), Origin::Folded { magnitude, direction }));
        }
    }
    Ok(plan)
}

impl Origin {
    /// The tensor `name`, made of those that `get` gives by their names in the checkpoint. What is
    /// folded is in single precision, the rest in the precision that it has.
    pub(super) fn make(
        &self,
        name: &str,
        mut get: impl FnMut(&str) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match self {
            Self::Same => get(name)?.contiguous(),
            Self::Transposed => get(name)?.t()?.contiguous(),
            Self::Folded { magnitude, direction } => folded(&get(magnitude)?, &get(direction)?),
        }
    }
}

/// The tensors of a checkpoint as the networks load them.
///
/// # Errors
/// A weight has one half of its weight norm only, or a shape that cannot be.
pub fn convert(
    part: Part,
    mut tensors: HashMap<String, Tensor>,
) -> Result<HashMap<String, Tensor>> {
    let names = tensors.keys().map(String::as_str).collect();
    let plan = match plan(part, &names) {
        Ok(plan) => plan,
        Err(half) => bail!("{half} has no other half beside it"),
    };
    // None of them is asked for twice.
    let mut take = |name: &str| match tensors.remove(name) {
        Some(tensor) => Ok(tensor),
        None => bail!("there is no {name}"),
    };
    plan.into_iter()
        .map(|(name, origin)| {
            let made = origin.make(&name, &mut take)?;
            Ok((name, made))
        })
        .collect()
}

/// `magnitude * direction / |direction|`, a norm for each entry of the first dimension.
fn folded(magnitude: &Tensor, direction: &Tensor) -> Result<Tensor> {
    if direction.rank() == 0 {
        bail!("a weight without dimensions has no direction");
    }
    let (magnitude, direction) = (magnitude.to_dtype(DType::F32)?, direction.to_dtype(DType::F32)?);
    let rows = direction.dim(0)?;
    let norm = direction.reshape((rows, ()))?.sqr()?.sum_keepdim(1)?.sqrt()?;
    let scale = magnitude.reshape((rows, 1))?.div(&norm)?;
    let mut shape = vec![1; direction.rank()];
    shape[0] = rows;
    direction.broadcast_mul(&scale.reshape(shape)?)
}

/// Whether a published checkpoint or a fine-tuned one may hold this tensor though the networks do
/// without it: the one list of such names.
pub(super) fn is_unused(part: Part, name: &str) -> bool {
    let starts = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    match part {
        Part::Autoregressive => {
            // The causal mask that GPT-2 keeps in its state; a table of positions and words that the
            // model has of its own; and the same weights once more, as sampling in the reference
            // wraps them.
            let is_mask = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
            (is_mask && name.starts_with("gpt.h."))
                || starts(&["gpt.wte.", "gpt.wpe.", "inference_model.", "ds_engine."])
        }
        // What conditions on codes instead of their latents, and predicts mel directly for training.
        Part::Diffusion => starts(&["code_embedding.", "code_converter.", "mel_head."]),
        // The reference takes whatever else is in the file as not there: parts of a larger model.
        Part::Hifigan => !starts(&["conv_pre.", "cond_layer.", "ups.", "resblocks.", "conv_post."]),
        Part::Clvp | Part::Univnet | Part::RandomVoice => false,
    }
}

fn is_input_first(name: &str) -> bool {
    name.starts_with("gpt.h.")
        && [".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight"]
            .iter()
            .any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(numbers: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap()
    }

    fn converted(part: Part, tensors: &[(&str, Tensor)]) -> Result<HashMap<String, Tensor>> {
        let tensors = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone()));
        convert(part, tensors.collect())
    }

    fn rows(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn weight_norm_is_folded_from_its_older_and_its_newer_names() {
        // Rows of length 5 and 13, to become of length 10 and 1.
        let direction = tensor(&[3., 4., 5., 12.], &[2, 1, 2]);
        let magnitude = tensor(&[10., 1.], &[2, 1, 1]);
        for (g, v) in HALVES {
            let (g, v) = (format!("conv_pre{g}"), format!("conv_pre{v}"));
            let tensors = [(g.as_str(), magnitude.clone()), (v.as_str(), direction.clone())];
            let made = converted(Part::Univnet, &tensors).unwrap();
            assert_eq!(made.len(), 1);
            assert_eq!(made["conv_pre.weight"].dims(), [2, 1, 2]);
            let expected = [6., 8., 5. / 13., 12. / 13.];
            for (number, expected) in rows(&made["conv_pre.weight"]).iter().zip(expected) {
                assert!((number - expected).abs() < 1e-6, "{number} for {expected}");
            }
        }
    }

    #[test]
    fn half_precision_is_folded_in_single_precision_and_kept_elsewhere() {
        let half = |tensor: Tensor| tensor.to_dtype(DType::F16).unwrap();
        let tensors = [
            ("a.weight_g", half(tensor(&[2.], &[1, 1, 1]))),
            ("a.weight_v", half(tensor(&[300., 400.], &[1, 1, 2]))),
            ("a.bias", half(tensor(&[0.5], &[1]))),
        ];
        let made = converted(Part::Univnet, &tensors).unwrap();
        assert_eq!(made["a.weight"].dtype(), DType::F32);
        for (number, expected) in rows(&made["a.weight"]).iter().zip([1.2, 1.6]) {
            assert!((number - expected).abs() < 1e-6, "{number} for {expected}");
        }
        assert_eq!(made["a.bias"].dtype(), DType::F16);
    }

    #[test]
    fn a_half_alone_is_an_error_that_names_it() {
        for name in ["a.weight_v", "a.weight_g", "a.parametrizations.weight.original1"] {
            let error = converted(Part::Univnet, &[(name, tensor(&[1.], &[1]))]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let odd = [("a.weight_g", tensor(&[1., 2.], &[2])), ("a.weight_v", tensor(&[1.], &[1]))];
        assert!(converted(Part::Univnet, &odd).is_err());
        let flat = [("a.weight_g", tensor(&[1.], &[])), ("a.weight_v", tensor(&[1.], &[]))];
        assert!(converted(Part::Univnet, &flat).is_err());
    }

    #[test]
    fn projections_of_gpt2_are_transposed_and_no_other_weight() {
        let weight = tensor(&[1., 2., 3., 4., 5., 6.], &[2, 3]);
        let tensors = [
            ("gpt.h.0.attn.c_attn.weight", weight.clone()),
            ("gpt.h.11.mlp.c_proj.weight", weight.clone()),
            ("mel_head.weight", weight.clone()),
            ("gpt.h.0.attn.c_attn.bias", tensor(&[7.], &[1])),
        ];
        let made = converted(Part::Autoregressive, &tensors).unwrap();
        let turned = [1., 4., 2., 5., 3., 6.];
        for name in ["gpt.h.0.attn.c_attn.weight", "gpt.h.11.mlp.c_proj.weight"] {
            assert_eq!(made[name].dims(), [3, 2]);
            assert_eq!(rows(&made[name]), turned);
        }
        assert_eq!(made["mel_head.weight"].dims(), [2, 3]);
        assert_eq!(rows(&made["gpt.h.0.attn.c_attn.bias"]), [7.]);
        let made = converted(Part::Clvp, &tensors).unwrap();
        assert_eq!(made["gpt.h.0.attn.c_attn.weight"].dims(), [2, 3]);
    }

    #[test]
    fn what_the_networks_do_without_is_dropped_by_part() {
        let one = tensor(&[1.], &[1]);
        let names = [
            "gpt.h.3.attn.bias",
            "gpt.h.3.attn.masked_bias",
            "gpt.wte.weight",
            "inference_model.lm_head.1.weight",
            "code_converter.0.norm.weight",
            "mel_head.weight",
            "speaker_encoder.weight",
        ];
        let tensors = names.map(|name| (name, one.clone()));
        let left = |part| {
            let made = converted(part, &tensors).unwrap();
            let mut names: Vec<_> = made.into_keys().collect();
            names.sort();
            names
        };
        let (code, mel) = ("code_converter.0.norm.weight", "mel_head.weight");
        assert_eq!(left(Part::Autoregressive), [code, mel, "speaker_encoder.weight"]);
        assert_eq!(left(Part::Diffusion).len(), names.len() - 2);
        assert_eq!(left(Part::Hifigan), [""; 0]);
        assert_eq!(left(Part::Clvp).len(), names.len());
    }
}
