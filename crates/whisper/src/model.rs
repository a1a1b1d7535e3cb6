//! [`Model`]: the network. An encoder turns the spectrum of 30 seconds into positions, which a decoder
//! attends to while it writes tokens.

use candle_core::{D, DType, Device, IndexOp as _, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};
use candle_nn::{Linear, Module as _};

use crate::error::{LoadError, Stopped};
use crate::load::{POSITIONS, Sizes, Weights};

type Computed<T> = candle_core::Result<T>;

/// The small number in the divisor of a normalization.
const EPSILON: f32 = 1e-5;

/// A network.
pub(crate) struct Model {
    pub(crate) sizes: Sizes,
    encoder: Encoder,
    decoder: Decoder,
}

struct Encoder {
    conv1: (Tensor, Tensor),
    conv2: (Tensor, Tensor),
    positions: Tensor,
    layers: Vec<EncoderLayer>,
    norm: Norm,
}

struct EncoderLayer {
    attention: Attention,
    attention_norm: Norm,
    feed_forward: FeedForward,
    norm: Norm,
}

struct Decoder {
    embeddings: Tensor,
    positions: Tensor,
    layers: Vec<DecoderLayer>,
    norm: Norm,
}

struct DecoderLayer {
    attention: Attention,
    attention_norm: Norm,
    to_sound: Attention,
    to_sound_norm: Norm,
    feed_forward: FeedForward,
    norm: Norm,
}

/// The decoder's memory of one window: keys and values of each layer.
#[derive(Clone)]
pub(crate) struct State {
    layers: Vec<LayerState>,
    /// The number of tokens so far.
    length: usize,
}

#[derive(Clone)]
struct LayerState {
    /// Of the tokens so far, with the shape heads × tokens × width of a head.
    of_tokens: Option<(Tensor, Tensor)>,
    /// Of the sound: heads × width of a head × positions, and heads × positions × width of a head.
    of_sound: (Tensor, Tensor),
}

/// What a decoder returns for some tokens.
pub(crate) struct Decoded {
    /// A row for each token.
    hidden: Tensor,
    /// How much each token attends to each position, for the heads that were asked for.
    pub(crate) attention: Vec<Tensor>,
}

impl Model {
    pub(crate) fn new(sizes: Sizes, weights: &mut Weights) -> Result<Self, LoadError> {
        let Sizes {
            vocabulary,
            bands,
            width,
            context,
            ..
        } = sizes;
        let mut take = |name: &str, shape: &[usize]| weights.take(&format!("model.{name}"), shape);
        let conv1 = (
            take("encoder.conv1.weight", &[width, bands, 3])?,
            take("encoder.conv1.bias", &[width])?,
        );
        let conv2 = (
            take("encoder.conv2.weight", &[width, width, 3])?,
            take("encoder.conv2.bias", &[width])?,
        );
        let of_encoder = take("encoder.embed_positions.weight", &[POSITIONS, width])?;
        let embeddings = take("decoder.embed_tokens.weight", &[vocabulary, width])?;
        let of_decoder = take("decoder.embed_positions.weight", &[context, width])?;
        let layers = (0..sizes.encoder_layers).map(|at| EncoderLayer::new(at, sizes, weights));
        let layers = layers.collect::<Result<_, _>>()?;
        let encoder = Encoder {
            conv1,
            conv2,
            positions: of_encoder,
            layers,
            norm: Norm::new("model.encoder.layer_norm", width, weights)?,
        };
        let layers = (0..sizes.decoder_layers).map(|at| DecoderLayer::new(at, sizes, weights));
        let layers = layers.collect::<Result<_, _>>()?;
        let decoder = Decoder {
            embeddings,
            positions: of_decoder,
            layers,
            norm: Norm::new("model.decoder.layer_norm", width, weights)?,
        };
        Ok(Self {
            sizes,
            encoder,
            decoder,
        })
    }

    /// Encodes the spectrum of 30 seconds: bands × 3,000 frames. `goes_on` is asked between layers.
    pub(crate) fn encode(
        &self,
        spectrum: &Tensor,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<State, Stopped> {
        let encoder = &self.encoder;
        let x = convolved(&spectrum.unsqueeze(0)?, &encoder.conv1, 1)?;
        let x = convolved(&x, &encoder.conv2, 2)?;
        let x = x.squeeze(0)?.t()?.contiguous()?;
        let mut x = (x + &encoder.positions)?;
        for layer in &encoder.layers {
            if !goes_on() {
                return Err(Stopped::Left);
            }
            x = layer.forward(&x)?;
        }
        let sound = encoder.norm.forward(&x)?;
        let mut layers = Vec::new();
        for layer in &self.decoder.layers {
            if !goes_on() {
                return Err(Stopped::Left);
            }
            let (keys, values) = layer.to_sound.keys_and_values(&sound)?;
            layers.push(LayerState {
                of_tokens: None,
                of_sound: (keys.transpose(1, 2)?.contiguous()?, values),
            });
        }
        Ok(State { layers, length: 0 })
    }

    /// Adds tokens to a window. `heads` are the layers and heads whose attention is returned.
    pub(crate) fn decode(
        &self,
        tokens: &[u32],
        state: &mut State,
        heads: &[(usize, usize)],
    ) -> Computed<Decoded> {
        let decoder = &self.decoder;
        let count = tokens.len();
        let x = decoder
            .embeddings
            .index_select(&Tensor::new(tokens, &Device::Cpu)?, 0)?;
        let mut x = (x + decoder.positions.narrow(0, state.length, count)?)?;
        let mask = (count > 1).then(|| mask(count, state.length)).transpose()?;
        let mut attention = Vec::new();
        for (at, (layer, of_layer)) in decoder.layers.iter().zip(&mut state.layers).enumerate() {
            let wanted = heads
                .iter()
                .filter(|(layer, _)| *layer == at)
                .map(|(_, head)| *head);
            x = layer.forward(&x, of_layer, mask.as_ref(), wanted, &mut attention)?;
        }
        state.length += count;
        Ok(Decoded {
            hidden: decoder.norm.forward(&x)?,
            attention,
        })
    }

    /// Returns the logits after the token at this place.
    pub(crate) fn logits(&self, decoded: &Decoded, at: usize) -> Computed<Vec<f32>> {
        let row = decoded.hidden.narrow(0, at, 1)?;
        row.matmul(&self.decoder.embeddings.t()?)?
            .squeeze(0)?
            .to_vec1()
    }
}

impl EncoderLayer {
    fn new(at: usize, sizes: Sizes, weights: &mut Weights) -> Result<Self, LoadError> {
        let name = |part: &str| format!("model.encoder.layers.{at}.{part}");
        let Sizes { width, heads, .. } = sizes;
        Ok(Self {
            attention: Attention::new(&name("self_attn"), width, heads, weights)?,
            attention_norm: Norm::new(&name("self_attn_layer_norm"), width, weights)?,
            feed_forward: FeedForward::new(&name(""), width, weights)?,
            norm: Norm::new(&name("final_layer_norm"), width, weights)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        let attention = &self.attention;
        let normal = self.attention_norm.forward(x)?;
        let (queries, keys) = (attention.queries(&normal)?, attention.key.forward(&normal)?);
        let values = attention.value.forward(&normal)?;
        let mut heads = Vec::new();
        // One head after the other: the scores of all would be much memory at once.
        for head in 0..attention.heads {
            let of = |all: &Tensor| all.narrow(1, head * attention.of_head, attention.of_head);
            let scores = of(&queries)?.matmul(&of(&keys)?.t()?)?;
            heads.push(softmax_last_dim(&scores)?.matmul(&of(&values)?)?);
        }
        let x = (x + attention.out.forward(&Tensor::cat(&heads, 1)?)?)?;
        let fed = self.feed_forward.forward(&self.norm.forward(&x)?)?;
        x + fed
    }
}

impl DecoderLayer {
    fn new(at: usize, sizes: Sizes, weights: &mut Weights) -> Result<Self, LoadError> {
        let name = |part: &str| format!("model.decoder.layers.{at}.{part}");
        let (width, heads) = (sizes.width, sizes.decoder_heads);
        Ok(Self {
            attention: Attention::new(&name("self_attn"), width, heads, weights)?,
            attention_norm: Norm::new(&name("self_attn_layer_norm"), width, weights)?,
            to_sound: Attention::new(&name("encoder_attn"), width, heads, weights)?,
            to_sound_norm: Norm::new(&name("encoder_attn_layer_norm"), width, weights)?,
            feed_forward: FeedForward::new(&name(""), width, weights)?,
            norm: Norm::new(&name("final_layer_norm"), width, weights)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        state: &mut LayerState,
        mask: Option<&Tensor>,
        wanted: impl Iterator<Item = usize>,
        attention: &mut Vec<Tensor>,
    ) -> Computed<Tensor> {
        let normal = self.attention_norm.forward(x)?;
        let (mut keys, mut values) = self.attention.keys_and_values(&normal)?;
        if let Some((earlier_keys, earlier_values)) = &state.of_tokens {
            keys = Tensor::cat(&[earlier_keys, &keys], 1)?;
            values = Tensor::cat(&[earlier_values, &values], 1)?;
        }
        let queries = self.attention.divided(&self.attention.queries(&normal)?)?;
        let mut scores = queries.matmul(&keys.t()?)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let heard = softmax_last_dim(&scores)?.matmul(&values)?;
        state.of_tokens = Some((keys, values));
        let x = (x + self.attention.joined(&heard)?)?;

        let normal = self.to_sound_norm.forward(&x)?;
        let queries = self.to_sound.divided(&self.to_sound.queries(&normal)?)?;
        let (keys, values) = &state.of_sound;
        let weights = softmax_last_dim(&queries.matmul(keys)?)?;
        for head in wanted {
            attention.push(weights.i(head)?);
        }
        let x = (x + self.to_sound.joined(&weights.matmul(values)?)?)?;
        let fed = self.feed_forward.forward(&self.norm.forward(&x)?)?;
        x + fed
    }
}

/// An attention with several heads.
struct Attention {
    heads: usize,
    of_head: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl Attention {
    fn new(
        name: &str,
        width: usize,
        heads: usize,
        weights: &mut Weights,
    ) -> Result<Self, LoadError> {
        let mut of_part =
            |part: &str| linear(&format!("{name}.{part}_proj"), width, width, weights);
        Ok(Self {
            heads,
            of_head: width / heads,
            query: of_part("q")?,
            key: of_part("k")?,
            value: of_part("v")?,
            out: of_part("out")?,
        })
    }

    /// Returns the queries, scaled.
    fn queries(&self, x: &Tensor) -> Computed<Tensor> {
        #[expect(clippy::cast_precision_loss, reason = "the width of a head is small")]
        let scale = (self.of_head as f64).powf(-0.5);
        self.query.forward(x)? * scale
    }

    fn keys_and_values(&self, x: &Tensor) -> Computed<(Tensor, Tensor)> {
        Ok((
            self.divided(&self.key.forward(x)?)?,
            self.divided(&self.value.forward(x)?)?,
        ))
    }

    /// Divides rows into heads: heads × rows × width of a head.
    fn divided(&self, x: &Tensor) -> Computed<Tensor> {
        let rows = x.dim(0)?;
        let x = x.reshape((rows, self.heads, self.of_head))?;
        x.transpose(0, 1)?.contiguous()
    }

    /// Joins the heads again.
    fn joined(&self, heads: &Tensor) -> Computed<Tensor> {
        let rows = heads.dim(1)?;
        let joined = heads.transpose(0, 1)?.contiguous()?;
        self.out
            .forward(&joined.reshape((rows, self.heads * self.of_head))?)
    }
}

struct FeedForward {
    wide: Linear,
    narrow: Linear,
}

impl FeedForward {
    /// `layer` ends with a point.
    fn new(layer: &str, width: usize, weights: &mut Weights) -> Result<Self, LoadError> {
        Ok(Self {
            wide: linear(&format!("{layer}fc1"), width, 4 * width, weights)?,
            narrow: linear(&format!("{layer}fc2"), 4 * width, width, weights)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        self.narrow.forward(&self.wide.forward(x)?.gelu_erf()?)
    }
}

/// Reads a linear layer. Those of keys have no bias.
fn linear(
    name: &str,
    inputs: usize,
    outputs: usize,
    weights: &mut Weights,
) -> Result<Linear, LoadError> {
    let weight = weights.take(&format!("{name}.weight"), &[outputs, inputs])?;
    let bias = weights.take_if_any(&format!("{name}.bias"), &[outputs])?;
    Ok(Linear::new(weight, bias))
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn new(name: &str, width: usize, weights: &mut Weights) -> Result<Self, LoadError> {
        Ok(Self {
            weight: weights.take(&format!("{name}.weight"), &[width])?,
            bias: weights.take(&format!("{name}.bias"), &[width])?,
        })
    }

    fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        layer_norm(&x.contiguous()?, &self.weight, &self.bias, EPSILON)
    }
}

/// A convolution over three frames, and its activation.
fn convolved(x: &Tensor, (weight, bias): &(Tensor, Tensor), stride: usize) -> Computed<Tensor> {
    let x = x.conv1d(weight, 1, stride, 1, 1)?;
    x.broadcast_add(&bias.reshape((1, bias.dim(D::Minus1)?, 1))?)?
        .gelu_erf()
}

/// Keeps each of `count` tokens from attending to later ones. Earlier ones are `past`.
fn mask(count: usize, past: usize) -> Computed<Tensor> {
    let row = |at: usize| {
        (0..past + count).map(move |other| {
            if other > past + at {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
    };
    let mask: Vec<f32> = (0..count).flat_map(row).collect();
    Tensor::from_vec(mask, (count, past + count), &Device::Cpu)?.to_dtype(DType::F32)
}
