//! Turns the dynamically quantised operators of a graph into f32 ones with the same weights.
//!
//! The runtime's int8 products saturate in their 16-bit intermediate sums on x86 processors without
//! VNNI when the weights use all eight bits, as this model's do; the pitch and the timing that come
//! out are audibly wrong. In f32 the result is the same on every processor, closer to the original
//! model, and no slower where there is no VNNI.

use std::collections::{BTreeMap, HashMap};

use rten_onnx::onnx::{DataType, GraphProto, NodeProto, TensorProto};

use super::graph::{GraphError, Reader, operator, unexpected};

/// Replaces every `MatMulInteger`, `ConvInteger` and `DynamicQuantizeLSTM` of the graph together
/// with the operators that quantise its input and scale its output. What this leaves unused is for
/// the caller to prune.
pub(super) fn dequantise(graph: &mut GraphProto) -> Result<(), GraphError> {
    let mut tensors = BTreeMap::new();
    let mut replacements = HashMap::new();
    {
        let rewriter = Rewriter::new(graph);
        for node in &graph.node {
            let replacement = match node.op_type.as_deref() {
                Some("MatMulInteger" | "ConvInteger") => rewriter.product(node, &mut tensors)?,
                Some("DynamicQuantizeLSTM") => rewriter.lstm(node, &mut tensors)?,
                _ => continue,
            };
            let output = replacement.output.first().cloned().unwrap_or_default();
            replacements.insert(output, replacement);
        }
    }
    for node in &mut graph.node {
        if let Some(replacement) =
            node.output.first().and_then(|output| replacements.remove(output))
        {
            *node = replacement;
        }
    }
    graph.initializer.extend(tensors.into_values());
    Ok(())
}

struct Rewriter<'a> {
    reader: Reader<'a>,
    producers: HashMap<&'a str, &'a NodeProto>,
    consumers: HashMap<&'a str, &'a NodeProto>,
}

impl<'a> Rewriter<'a> {
    fn new(graph: &'a GraphProto) -> Self {
        let outputs = graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)));
        let inputs = graph
            .node
            .iter()
            .flat_map(|node| node.input.iter().map(move |name| (name.as_str(), node)));
        Self {
            reader: Reader::new(graph),
            producers: outputs.collect(),
            consumers: inputs.collect(),
        }
    }

    /// A product of integers: quantised input and weight, then perhaps a bias, a cast, and the
    /// product of the scales.
    fn product(
        &self,
        node: &NodeProto,
        tensors: &mut BTreeMap<String, TensorProto>,
    ) -> Result<NodeProto, GraphError> {
        let name = node.name.clone().unwrap_or_default();
        let [input, weight, _, zero_point] = node.input.as_slice() else {
            return Err(unexpected(&name));
        };
        let source = self.before(input, "DynamicQuantizeLinear")?.input.first().cloned();
        let mut bias = None;
        let mut last = self.after(node)?;
        if last.op_type.as_deref() == Some("Add") {
            bias = Some(self.bias(last)?);
            last = self.after(last)?;
        }
        if last.op_type.as_deref() == Some("Cast") {
            last = self.after(last)?;
        }
        if last.op_type.as_deref() != Some("Mul") {
            return Err(unexpected(&name));
        }

        let dequantised = format!("{weight}.f32");
        if !tensors.contains_key(&dequantised) {
            let (dims, values) = self.weights(weight, zero_point)?;
            tensors.insert(dequantised.clone(), float_tensor(&dequantised, &dims, &values));
        }
        let kind = if node.op_type.as_deref() == Some("ConvInteger") { "Conv" } else { "MatMul" };
        let mut inputs = vec![source.ok_or_else(|| unexpected(&name))?, dequantised];
        inputs.extend(bias);
        let mut replacement = operator(kind, &name, inputs, last.output.clone());
        replacement.attribute.clone_from(&node.attribute);
        Ok(replacement)
    }

    /// Weights with one scale and zero point, or one a column.
    fn weights(
        &self,
        weight: &str,
        zero_point: &str,
    ) -> Result<(Vec<usize>, Vec<f32>), GraphError> {
        let (dims, integers) = self.reader.integers(weight)?;
        let (_, zero_points) = self.reader.integers(zero_point)?;
        let (_, scales) = self.reader.floats(&scale_name(weight)?)?;
        let columns = dims.last().copied().unwrap_or(1);
        let fits = |len: usize| len == 1 || len == columns;
        if columns == 0 || !fits(zero_points.len()) || !fits(scales.len()) {
            return Err(unexpected(weight));
        }
        let column_zero = |column: usize| zero_points[column % zero_points.len()];
        let column_scale = |column: usize| scales[column % scales.len()];
        let columns: Vec<(i16, f32)> =
            (0..columns).map(|column| (column_zero(column), column_scale(column))).collect();
        let mut values = vec![0.0; integers.len()];
        let rows = integers.chunks_exact(columns.len().max(1));
        for (row, values) in rows.zip(values.chunks_exact_mut(columns.len().max(1))) {
            for ((value, integer), (zero, scale)) in values.iter_mut().zip(row).zip(&columns) {
                *value = f32::from(integer - zero) * scale;
            }
        }
        Ok((dims, values))
    }

    /// The float behind a quantised bias: divided by the scales, rounded, cast and reshaped.
    fn bias(&self, add: &NodeProto) -> Result<String, GraphError> {
        let name = add.name.clone().unwrap_or_default();
        let is_reshape = |input: &&String| {
            self.producers
                .get(input.as_str())
                .is_some_and(|node| node.op_type.as_deref() == Some("Reshape"))
        };
        let mut value = add.input.iter().find(is_reshape).ok_or_else(|| unexpected(&name))?;
        for kind in ["Reshape", "Cast", "Floor", "Div"] {
            value = self.before(value, kind)?.input.first().ok_or_else(|| unexpected(&name))?;
        }
        Ok(value.clone())
    }

    fn lstm(
        &self,
        node: &NodeProto,
        tensors: &mut BTreeMap<String, TensorProto>,
    ) -> Result<NodeProto, GraphError> {
        let name = node.name.clone().unwrap_or_default();
        let mut inputs: Vec<String> = node.input.iter().take(7).cloned().collect();
        for (weight, scale, zero_point) in [(1, 8, 9), (2, 10, 11)] {
            let [Some(weight_name), Some(scale), Some(zero_point)] =
                [weight, scale, zero_point].map(|index: usize| node.input.get(index))
            else {
                return Err(unexpected(&name));
            };
            let (dims, integers) = self.reader.integers(weight_name)?;
            let (_, scales) = self.reader.floats(scale)?;
            let (_, zero_points) = self.reader.integers(zero_point)?;
            let [directions, inputs_len, gates] =
                *<&[usize; 3]>::try_from(dims.as_slice()).map_err(|_| unexpected(weight_name))?;
            if scales.len() != directions || zero_points.len() != directions {
                return Err(unexpected(weight_name));
            }
            // The standard operator stores a row for each gate, the quantised one a column.
            let mut values = vec![0.0f32; integers.len()];
            let matrix = inputs_len.saturating_mul(gates).max(1);
            for (direction, (values, integers)) in
                values.chunks_exact_mut(matrix).zip(integers.chunks_exact(matrix)).enumerate()
            {
                let (zero, scale) = (zero_points[direction], scales[direction]);
                for (row, integers) in integers.chunks_exact(gates).enumerate() {
                    let targets = values[row..].iter_mut().step_by(inputs_len);
                    for (value, integer) in targets.zip(integers) {
                        *value = f32::from(integer - zero) * scale;
                    }
                }
            }
            let dequantised = format!("{weight_name}.f32");
            tensors.insert(
                dequantised.clone(),
                float_tensor(&dequantised, &[directions, gates, inputs_len], &values),
            );
            inputs[weight] = dequantised;
        }
        let mut replacement = operator("LSTM", &name, inputs, node.output.clone());
        replacement.attribute.clone_from(&node.attribute);
        Ok(replacement)
    }

    /// The node that makes `value`, which must be of the given kind.
    fn before(&self, value: &str, kind: &str) -> Result<&'a NodeProto, GraphError> {
        let node = self.producers.get(value).copied();
        node.filter(|node| node.op_type.as_deref() == Some(kind)).ok_or_else(|| unexpected(value))
    }

    /// A node that uses the first output of `node`; in the chains looked at there is only one.
    fn after(&self, node: &NodeProto) -> Result<&'a NodeProto, GraphError> {
        let output = node.output.first().map(String::as_str).unwrap_or_default();
        self.consumers.get(output).copied().ok_or_else(|| unexpected(output))
    }
}

/// The quantising tool names the parts of a weight by their suffix.
pub(super) fn scale_name(weight: &str) -> Result<String, GraphError> {
    let stem = weight.strip_suffix("quantized").ok_or_else(|| unexpected(weight))?;
    Ok(format!("{stem}scale"))
}

fn float_tensor(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    let mut bytes = vec![0; size_of_val(values)];
    let (targets, _) = bytes.as_chunks_mut();
    for (target, value) in targets.iter_mut().zip(values) {
        *target = value.to_le_bytes();
    }
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.iter().map(|dim| *dim as i64).collect(),
        data_type: Some(DataType::FLOAT),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}
