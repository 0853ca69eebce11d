//! How rotary frequencies are stretched.

/// How the frequencies are stretched for contexts longer than the model was trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All by one factor.
    Linear {
        /// By how much.
        factor: f64,
    },
    /// The low ones by a factor, the high ones not, with a smooth passage (Llama 3.1).
    Llama3 {
        /// By how much.
        factor: f64,
        /// Below how many turns within the original context a frequency is low.
        low_freq_factor: f64,
        /// Above how many turns it is high.
        high_freq_factor: f64,
        /// The context that the model was first trained on.
        original_context: f64,
    },
    /// Each by a factor of its own, as GGUF files store it.
    Factors(Vec<f64>),
}

impl Scaling {
    /// The frequency of the pair of channels with this number.
    pub(crate) fn apply(&self, pair: usize, frequency: f64) -> f64 {
        match *self {
            Scaling::None => frequency,
            Scaling::Linear { factor } => frequency / factor,
            Scaling::Factors(ref factors) => frequency / factors.get(pair).copied().unwrap_or(1.0),
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let turns = original_context * frequency / (2.0 * std::f64::consts::PI);
                if turns < low_freq_factor {
                    frequency / factor
                } else if turns > high_freq_factor {
                    frequency
                } else {
                    let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}
