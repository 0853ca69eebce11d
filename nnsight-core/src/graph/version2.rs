//! How invokes were written in version 2 of graphs, when a graph was run on prompts of a language model and nothing else.

use serde::Deserialize;

use super::{Axis, Constant, Input, InputPart, Invoke, KindTag, Output, Rollout, Source};

/// An invoke as it is written: of this version, or of the one before.
#[derive(Deserialize)]
pub(super) struct Written {
    #[serde(default)]
    inputs: Vec<Input>,
    #[serde(default, rename = "prompts")]
    old_inputs: Vec<OldInput>,
    #[serde(default)]
    everything: bool,
    #[serde(default)]
    rollout: Option<Rollout>,
    #[serde(default, rename = "generation")]
    old_rollout: Option<serde_json::Value>,
    #[serde(default)]
    source: Option<Source>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OldInput {
    Text(String),
    #[serde(rename = "tokens")]
    Ids(Vec<u32>),
    Masked {
        #[serde(rename = "tokens")]
        ids: Vec<u32>,
        seen: Vec<bool>,
    },
    #[serde(rename = "embeddings")]
    Tensor(Constant),
    #[serde(rename = "chat")]
    Record(serde_json::Value),
}

impl From<OldInput> for Input {
    fn from(old: OldInput) -> Self {
        match old {
            OldInput::Text(text) => Input::new("text", InputPart::Text(text)),
            OldInput::Ids(ids) => Input::new("tokens", InputPart::Ids(ids)),
            OldInput::Masked { ids, seen } => Input::new("tokens", InputPart::Ids(ids)).with("seen", InputPart::Flags(seen)),
            OldInput::Tensor(constant) => Input::new("embeddings", InputPart::Tensor(constant)),
            OldInput::Record(record) => Input::new("chat", InputPart::Record(record)),
        }
    }
}

/// The number of steps of an old rollout that does not say how many.
const STEPS: u64 = 20;

impl From<Written> for Invoke {
    fn from(written: Written) -> Self {
        let Written { inputs, old_inputs, everything, rollout, old_rollout, source } = written;
        let old_rollout = old_rollout.map(|settings| Rollout {
            kind: "generation".into(),
            steps: settings["max_new_tokens"].as_u64().unwrap_or(STEPS) as usize,
            output: Output { kind: KindTag::Int, axes: vec![Axis::new("Batch", None), Axis::new("Seq", None)] },
            settings,
        });
        let inputs = inputs.into_iter().chain(old_inputs.into_iter().map(Input::from)).collect();
        Invoke { inputs, all_inputs: everything, rollout: rollout.or(old_rollout), source }
    }
}
