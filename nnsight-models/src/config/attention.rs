//! Which positions an attention sees.

use serde_json::Value;

use super::Config;
use crate::{Error, Result};

/// Refuses attention that does not see all that came before. A window as long as the context sees all of it.
pub(crate) fn full_attention(config: &Config, context: usize) -> Result<()> {
    let in_use = config.get("use_sliding_window").is_none() || config.flag("use_sliding_window", true)?;
    match config.optional(&["sliding_window"])? {
        Some(window) if in_use && window < context => {
            return Err(Error::refused("sliding_window", window, &format!("`null`, or at least the context of {context}")));
        }
        None if in_use && config.get("use_sliding_window").is_some() => {
            return Err(Error::Config("`use_sliding_window` is `true`, and there is no `sliding_window`".into()));
        }
        _ => {}
    }
    let Some(layers) = config.get("layer_types") else { return Ok(()) };
    match layers.as_array().map(|layers| layers.iter().find(|layer| layer.as_str() != Some("full_attention"))) {
        Some(None) => Ok(()),
        Some(Some(Value::String(other))) => Err(Error::refused("layer_types", other, "`full_attention` in every layer")),
        _ => Err(Error::refused("layer_types", layers, "a list of `full_attention`")),
    }
}

/// For each layer whether it sees a window only: as `layer_types` says, or as usual.
pub(crate) fn windowed_layers(config: &Config, layers: usize, usual: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let Some(types) = config.get("layer_types") else { return Ok((0..layers).map(usual).collect()) };
    let known = |layer: &Value| match layer.as_str() {
        Some("sliding_attention") => Some(true),
        Some("full_attention") => Some(false),
        _ => None,
    };
    let windowed = types.as_array().and_then(|types| types.iter().map(known).collect::<Option<Vec<_>>>());
    match windowed {
        Some(windowed) if windowed.len() == layers => Ok(windowed),
        _ => Err(Error::refused("layer_types", types, &format!("a list of `sliding_attention` and `full_attention` for {layers} layers"))),
    }
}
