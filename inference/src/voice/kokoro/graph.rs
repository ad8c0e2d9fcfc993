//! Takes the published int8 graph of Kokoro apart: everything up to the decoder becomes a smaller
//! ONNX model in f32 for the general runtime, the weights of decoder and vocoder come out as plain
//! arrays.
//!
//! The graph was exported by PyTorch and quantised by ONNX Runtime's tool, so its nodes carry the
//! module paths of the original; they are looked up by those. One operator that the runtime does
//! not know, `FusedMatMul`, is replaced by the standard ones it stands for. This is done at every
//! start (a second) rather than cached: a second file could only go stale.

use std::cell::Ref;
use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, TensorProto,
    ValueInfoProto,
};

use super::convolution::ConvWeights;
use super::decoder::{BlockWeights, Decoder};
use super::dequantise::{dequantise, scale_name};
use super::vocoder::{DILATIONS, ResidualWeights, StageWeights, VocoderWeights};
use super::wire;

/// Module path of the decoder.
const DECODER: &str = "/decoder/decoder";
/// Module path of the vocoder.
const VOCODER: &str = "/decoder/decoder/generator";
/// Input of the decoder, `[1, 514, frames / 2]`: the aligned text, pitch and loudness.
pub(super) const ALIGNED_OUTPUT: &str = "/decoder/decoder/Concat_output_0";
/// The aligned text as the decoder's later blocks see it, `[1, 64, frames / 2]`.
pub(super) const RESIDUAL_OUTPUT: &str = "/decoder/decoder/asr_res/asr_res.0/Conv_output_0";
/// Spectrum of the excitation, `[1, 22, 60 * frames + 1]`.
pub(super) const SOURCE_OUTPUT: &str = "/decoder/decoder/generator/Concat_3_output_0";

/// The file is not the graph that this engine knows.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// Not ONNX, or cut short.
    #[error("not a readable onnx file: fetch the model again")]
    Unreadable(#[source] rten_onnx::protobuf::ProtobufError),
    /// Ends in the middle of a field.
    #[error("the onnx file is cut short: fetch the model again")]
    Truncated,
    /// An element of the expected graph is absent.
    #[error("{0} is missing from the graph: this engine knows kokoro-v1.0.int8.onnx only")]
    Missing(String),
    /// An element is there but not as expected.
    #[error("{0} has an unexpected shape or type: this engine knows kokoro-v1.0.int8.onnx only")]
    Unexpected(String),
}

/// The parts.
pub(super) struct SplitModel {
    /// A complete ONNX file whose outputs are [`ALIGNED_OUTPUT`], [`RESIDUAL_OUTPUT`],
    /// [`SOURCE_OUTPUT`] and `styles`.
    pub(super) front: Vec<u8>,
    /// Names of the outputs with the styles of the decoder and then the vocoder,
    /// `[1, 2 * channels]` each, in the order in which their blocks are run.
    pub(super) styles: Vec<String>,
    pub(super) decoder: Decoder,
    pub(super) vocoder: VocoderWeights,
}

/// Takes an ONNX file apart. Runs on the current rayon pool.
pub(super) fn split(file: &[u8]) -> Result<SplitModel, GraphError> {
    if !wire::is_complete(file) {
        return Err(GraphError::Truncated);
    }
    let mut model = ModelProto::parse_buf(file).map_err(GraphError::Unreadable)?;
    let mut graph =
        model.graph.take().ok_or_else(|| GraphError::Missing("the graph".to_owned()))?;
    let vocoder = vocoder_weights(&graph)?;
    let decoder = decoder(&graph)?;
    let decoder_styles = decoder_paths().into_iter().flat_map(|path| {
        [1, 2].map(|normalisation| format!("{path}/norm{normalisation}/fc/Gemm_output_0"))
    });
    let paths = block_paths();
    let vocoder_styles = paths.iter().flat_map(|path| style_outputs(path));
    let styles: Vec<String> = decoder_styles.chain(vocoder_styles).collect();

    let mut outputs = [ALIGNED_OUTPUT, RESIDUAL_OUTPUT, SOURCE_OUTPUT].map(str::to_owned).to_vec();
    outputs.extend(styles.iter().cloned());
    prune(&mut graph, &outputs)?;
    dequantise(&mut graph)?;
    prune(&mut graph, &outputs)?;
    graph.node = graph.node.into_iter().flat_map(standardise).collect();
    graph.output = outputs
        .into_iter()
        .map(|name| ValueInfoProto { name: Some(name), ..ValueInfoProto::default() })
        .collect();
    graph.value_info.clear();
    model.graph = Some(graph);
    let front = model.write_buf().map_err(GraphError::Unreadable)?;
    if let Some(part) = vocoder.misfit() {
        return Err(GraphError::Unexpected(format!("the vocoder's {part}")));
    }
    Ok(SplitModel { front, styles, decoder, vocoder })
}

/// Keeps the nodes and weights that `outputs` depend on.
fn prune(graph: &mut GraphProto, outputs: &[String]) -> Result<(), GraphError> {
    let producers: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.output.iter().map(move |output| (output.as_str(), index)))
        .collect();
    if let Some(absent) = outputs.iter().find(|output| !producers.contains_key(output.as_str())) {
        return Err(GraphError::Missing(absent.clone()));
    }
    let mut needed_nodes = HashSet::new();
    let mut needed_values: HashSet<String> = HashSet::new();
    let mut pending: Vec<String> = outputs.to_vec();
    while let Some(value) = pending.pop() {
        if !needed_values.insert(value.clone()) {
            continue;
        }
        if let Some(&index) = producers.get(value.as_str())
            && needed_nodes.insert(index)
        {
            pending
                .extend(graph.node[index].input.iter().filter(|input| !input.is_empty()).cloned());
        }
    }
    let mut index = 0;
    graph.node.retain(|_| {
        index += 1;
        needed_nodes.contains(&(index - 1))
    });
    graph
        .initializer
        .retain(|tensor| tensor.name.as_ref().is_some_and(|name| needed_values.contains(name)));
    Ok(())
}

/// Replaces an operator of ONNX Runtime's by standard ones where the runtime lacks it.
fn standardise(node: NodeProto) -> Vec<NodeProto> {
    if node.op_type.as_deref() != Some("FusedMatMul") {
        return vec![node];
    }
    let flag = |name: &str| {
        node.attribute
            .iter()
            .any(|attribute| attribute.name.as_deref() == Some(name) && attribute.i == Some(1))
    };
    let name = node.name.clone().unwrap_or_default();
    let mut nodes = Vec::new();
    let mut product = operator("MatMul", &name, node.input.clone(), node.output.clone());
    for (input, transposed) in [(0, flag("transA")), (1, flag("transB"))] {
        if transposed {
            let turned = format!("{name}_transposed_{input}");
            let mut transpose = operator(
                "Transpose",
                &turned,
                vec![product.input[input].clone()],
                vec![turned.clone()],
            );
            transpose.attribute.push(AttributeProto {
                name: Some("perm".to_owned()),
                r#type: Some(AttributeType::INTS),
                ints: vec![0, 2, 1],
                ..AttributeProto::default()
            });
            nodes.push(transpose);
            product.input[input] = turned;
        }
    }
    nodes.push(product);
    nodes
}

pub(super) fn operator(
    kind: &str,
    name: &str,
    input: Vec<String>,
    output: Vec<String>,
) -> NodeProto {
    NodeProto {
        op_type: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        input,
        output,
        ..NodeProto::default()
    }
}

/// Module paths of the residual blocks in the order they are run.
fn block_paths() -> Vec<String> {
    let stage = |stage: usize| {
        std::iter::once(format!("{VOCODER}/noise_res.{stage}"))
            .chain((0..3).map(move |branch| format!("{VOCODER}/resblocks.{}", 3 * stage + branch)))
    };
    (0..2).flat_map(stage).collect()
}

fn style_outputs(block: &str) -> Vec<String> {
    layers().map(|(half, layer)| format!("{block}/adain{half}.{layer}/fc/Gemm_output_0")).collect()
}

/// The six convolutions of a residual block as (half, layer), in the order they are applied.
fn layers() -> impl Iterator<Item = (usize, usize)> {
    (0..DILATIONS.len()).flat_map(|layer| [(1, layer), (2, layer)])
}

/// Module paths of the decoder's blocks in the order they are run.
fn decoder_paths() -> Vec<String> {
    let later = (0..4).map(|block| format!("{DECODER}/decode.{block}"));
    std::iter::once(format!("{DECODER}/encode")).chain(later).collect()
}

fn decoder(graph: &GraphProto) -> Result<Decoder, GraphError> {
    let reader = Reader::new(graph);
    let block = |path: String| {
        let doubling = format!("{path}/pool/ConvTranspose");
        let (shape, values, step) = reader.quantised_weights(&format!("{path}/conv1x1"))?;
        let outputs = shape.first().copied().unwrap_or_default();
        let bias = vec![0.0; outputs.min(values.len())];
        Ok(BlockWeights {
            first: reader.quantised_convolution(&format!("{path}/conv1"))?,
            second: reader.quantised_convolution(&format!("{path}/conv2"))?,
            shortcut: convolution(&path, &shape, values, bias, Some(step))?,
            doubling: if reader.nodes.contains_key(doubling.as_str()) {
                Some(reader.float_convolution(&doubling)?)
            } else {
                None
            },
        })
    };
    Decoder::new(decoder_paths().into_iter().map(block))?.ok_or_else(|| unexpected(DECODER))
}

fn vocoder_weights(graph: &GraphProto) -> Result<VocoderWeights, GraphError> {
    let reader = Reader::new(graph);
    let blocks: Vec<ResidualWeights> =
        block_paths().iter().map(|path| reader.residual(path)).collect::<Result<_, _>>()?;
    let mut blocks = blocks.into_iter();
    let mut stages = Vec::new();
    // The source convolution of the first stage shortens by the second stage's factor.
    for (stage, source_stride, source_padding) in [(0, 6, 3), (1, 1, 0)] {
        stages.push(StageWeights {
            upsample: reader.float_convolution(&format!("{VOCODER}/ups.{stage}/ConvTranspose"))?,
            source: reader.quantised_convolution(&format!("{VOCODER}/noise_convs.{stage}"))?,
            source_stride,
            source_padding,
            source_block: blocks
                .next()
                .ok_or_else(|| GraphError::Missing("a residual block".to_owned()))?,
            blocks: blocks.by_ref().take(3).collect(),
        });
    }
    let inverse_basis = reader.floats("decoder.decoder.generator.stft.istft.stft.inverse_basis")?.1;
    let last = reader.float_convolution(&format!("{VOCODER}/conv_post/Conv"))?;
    Ok(VocoderWeights { stages, last, inverse_basis })
}

/// The bytes of a tensor.
enum Bytes<'a> {
    Stored(Ref<'a, Vec<u8>>),
    Listed(Vec<u8>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Stored(bytes) => bytes,
            Self::Listed(bytes) => bytes,
        }
    }
}

/// Finds weights by module path.
pub(super) struct Reader<'a> {
    nodes: HashMap<&'a str, &'a NodeProto>,
    tensors: HashMap<&'a str, &'a TensorProto>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(graph: &'a GraphProto) -> Self {
        Self {
            nodes: graph
                .node
                .iter()
                .filter_map(|node| Some((node.name.as_deref()?, node)))
                .collect(),
            tensors: graph
                .initializer
                .iter()
                .filter_map(|tensor| Some((tensor.name.as_deref()?, tensor)))
                .collect(),
        }
    }

    fn residual(&self, block: &str) -> Result<ResidualWeights, GraphError> {
        let module = module_name(block);
        let mut weights = ResidualWeights { convolutions: Vec::new(), frequencies: Vec::new() };
        for (half, layer) in layers() {
            let convolution =
                self.quantised_convolution(&format!("{block}/convs{half}.{layer}"))?;
            let name = format!("{module}.alpha{half}.{layer}");
            let (_, frequencies) = self.floats(&name)?;
            let usable = frequencies.iter().all(|frequency| frequency.is_normal());
            if frequencies.len() != convolution.shape[0] || !usable {
                return Err(GraphError::Unexpected(name));
            }
            weights.convolutions.push(convolution);
            weights.frequencies.push(frequencies);
        }
        Ok(weights)
    }

    /// A convolution whose weights are unsigned bytes with one scale and zero point.
    fn quantised_convolution(&self, path: &str) -> Result<ConvWeights, GraphError> {
        let (dims, values, step) = self.quantised_weights(path)?;
        let (_, bias) = self.floats(&format!("{}.bias", module_name(path)))?;
        convolution(path, &dims, values, bias, Some(step))
    }

    /// Shape, values and scale of the weights of such a convolution.
    fn quantised_weights(&self, path: &str) -> Result<(Vec<usize>, Vec<f32>, f32), GraphError> {
        let [_, weight, _, zero_point] = self.inputs(&format!("{path}/Conv_quant"))?;
        let (dims, integers) = self.integers(weight)?;
        let zero_point =
            *self.integers(zero_point)?.1.first().ok_or_else(|| unexpected(zero_point))?;
        let (_, scale) = self.floats(&scale_name(weight)?)?;
        let scale = *scale.first().ok_or_else(|| unexpected(weight))?;
        let values =
            integers.iter().map(|integer| f32::from(integer - zero_point) * scale).collect();
        Ok((dims, values, scale))
    }

    fn float_convolution(&self, node: &str) -> Result<ConvWeights, GraphError> {
        let [_, weight, bias] = self.inputs(node)?;
        let (dims, values) = self.floats(weight)?;
        let (_, bias) = self.floats(bias)?;
        convolution(weight, &dims, values, bias, None)
    }

    fn inputs<const N: usize>(&self, node: &str) -> Result<[&'a str; N], GraphError> {
        let found = self.nodes.get(node).ok_or_else(|| GraphError::Missing(node.to_owned()))?;
        let inputs: Vec<&str> = found.input.iter().map(String::as_str).collect();
        inputs.try_into().map_err(|_| unexpected(node))
    }

    fn tensor(
        &self,
        name: &str,
        kind: DataType,
        width: usize,
    ) -> Result<(Vec<usize>, Bytes<'a>), GraphError> {
        let tensor = self.tensors.get(name).ok_or_else(|| GraphError::Missing(name.to_owned()))?;
        let dims: Option<Vec<usize>> =
            tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
        let dims = dims.ok_or_else(|| unexpected(name))?;
        let count = dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if tensor.data_type != Some(kind) {
            return Err(unexpected(name));
        }
        let raw = match &tensor.raw_data {
            Some(raw) => Bytes::Stored(raw.borrow()),
            // Small tensors may be stored as numbers instead of bytes.
            None if kind == DataType::FLOAT => Bytes::Listed(
                tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ),
            None => Bytes::Listed(tensor.int32_data.iter().map(|value| *value as u8).collect()),
        };
        if count.and_then(|count| count.checked_mul(width)) != Some(raw.len()) {
            return Err(unexpected(name));
        }
        Ok((dims, raw))
    }

    pub(super) fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), GraphError> {
        let (dims, raw) = self.tensor(name, DataType::FLOAT, size_of::<f32>())?;
        let (values, _) = raw.as_chunks();
        Ok((dims, values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }

    /// A tensor of signed or unsigned bytes.
    pub(super) fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i16>), GraphError> {
        let kind = self.tensors.get(name).and_then(|tensor| tensor.data_type);
        if kind == Some(DataType::INT8) {
            let (dims, raw) = self.tensor(name, DataType::INT8, 1)?;
            Ok((dims, raw.iter().map(|byte| i16::from(byte.cast_signed())).collect()))
        } else {
            let (dims, raw) = self.tensor(name, DataType::UINT8, 1)?;
            Ok((dims, raw.iter().map(|byte| i16::from(*byte)).collect()))
        }
    }
}

fn convolution(
    name: &str,
    dims: &[usize],
    values: Vec<f32>,
    bias: Vec<f32>,
    step: Option<f32>,
) -> Result<ConvWeights, GraphError> {
    let shape: [usize; 3] = dims.try_into().map_err(|_| unexpected(name))?;
    if shape.contains(&0) || ![shape[0], shape[1]].contains(&bias.len()) {
        return Err(unexpected(name));
    }
    Ok(ConvWeights { values, shape, bias, step })
}

pub(super) fn unexpected(name: &str) -> GraphError {
    GraphError::Unexpected(name.to_owned())
}

/// `/decoder/conv` of a node is `decoder.conv` of a weight.
fn module_name(path: &str) -> String {
    path.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fused(attributes: &[&str]) -> NodeProto {
        let mut node = operator(
            "FusedMatMul",
            "product",
            vec!["left".to_owned(), "right".to_owned()],
            vec!["out".to_owned()],
        );
        node.domain = Some("com.microsoft".to_owned());
        node.attribute = attributes
            .iter()
            .map(|name| AttributeProto {
                name: Some((*name).to_owned()),
                i: Some(1),
                ..AttributeProto::default()
            })
            .collect();
        node
    }

    #[test]
    fn a_fused_product_becomes_a_transpose_and_a_product() {
        let nodes = standardise(fused(&["transA"]));
        let kinds: Vec<&str> = nodes.iter().filter_map(|node| node.op_type.as_deref()).collect();
        assert_eq!(kinds, ["Transpose", "MatMul"]);
        assert_eq!(nodes[0].input, ["left"]);
        assert_eq!(nodes[1].input, [nodes[0].output[0].clone(), "right".to_owned()]);
        assert_eq!(nodes[1].output, ["out"]);
        assert_eq!(standardise(fused(&[])).len(), 1);
    }

    #[test]
    fn pruning_keeps_what_an_output_needs() {
        let chain = |from: &str, to: &str| {
            operator("Relu", to, vec![from.to_owned(), String::new()], vec![to.to_owned()])
        };
        let mut graph = GraphProto {
            node: vec![chain("weight", "a"), chain("a", "b"), chain("other", "c")],
            initializer: ["weight", "other"]
                .map(|name| TensorProto { name: Some(name.to_owned()), ..TensorProto::default() })
                .to_vec(),
            ..GraphProto::default()
        };
        prune(&mut graph, &["b".to_owned()]).expect("b is there");
        assert_eq!(graph.node.len(), 2);
        assert_eq!(graph.initializer.len(), 1);
        assert!(prune(&mut graph, &["c".to_owned()]).is_err());
    }

    #[test]
    fn a_file_that_is_no_onnx_is_refused() {
        assert!(matches!(split(b"\xff\xff\xff\xff garbage"), Err(GraphError::Truncated)));
        assert!(split(b"\x3a\x03\xff\xff\xff").is_err());
        assert!(matches!(split(b""), Err(GraphError::Missing(_))));
    }
}
