//! Base and scaling of the rotary embedding.

use serde_json::Value;

use super::Scaling;
use super::file::{Config, number};
use crate::{Error, Result};

/// Bases that are taken for real.
const THETA: std::ops::RangeInclusive<f64> = 1.0..=1e15;
/// Factors by which a context is stretched.
const FACTOR: std::ops::RangeInclusive<f64> = 1.0..=1e6;

/// Base and scaling. Older configs have `rope_theta` at the top and the scaling in `rope_scaling`; newer ones have both in `rope_parameters`.
pub(crate) fn rope(config: &Config, head_dim: usize) -> Result<(f64, Scaling)> {
    let nested = ["rope_parameters", "rope_scaling"].map(|name| config.get(name).map(|parameters| (name, parameters)));
    let nested = nested.into_iter().flatten().collect::<Vec<_>>();
    if let [(one, a), (two, b)] = nested.as_slice()
        && a != b
    {
        return Err(Error::Config(format!("`{one}` is {a} and `{two}` is {b}; leave one of them out")));
    }
    let top = config.get("rope_theta").map(|theta| number("rope_theta", theta, THETA)).transpose()?;
    match nested.first() {
        None => Ok((top.unwrap_or(10_000.0), Scaling::None)),
        Some((name, parameters)) => embedding(config, (name, parameters), top, head_dim, false),
    }
}

/// Base and scaling of the layers that see all positions, and of those that see a window. Newer configs have an object for each in
/// `rope_parameters`; in older ones, what is said at the top is that of the former, and the latter have a base of their own.
pub(crate) fn ropes(config: &Config, head_dim: usize) -> Result<[(f64, Scaling); 2]> {
    let kinds = ["full_attention", "sliding_attention"];
    let parameters = config.get("rope_parameters");
    if let Some(of_kinds) = parameters.filter(|parameters| kinds.iter().any(|kind| parameters.get(kind).is_some())) {
        let theirs = |kind: &str| match of_kinds.get(kind) {
            Some(own) => embedding(config, (&format!("rope_parameters.{kind}"), own), None, head_dim, false),
            None => Err(Error::Config(format!("`rope_parameters` has no `{kind}`"))),
        };
        return Ok([theirs(kinds[0])?, theirs(kinds[1])?]);
    }
    let local = config.number("rope_local_base_freq", 10_000.0, THETA)?;
    let has_base = config.get("rope_theta").is_some() || parameters.is_some_and(|parameters| parameters.get("rope_theta").is_some());
    match has_base {
        true => Ok([rope(config, head_dim)?, (local, Scaling::None)]),
        false => Err(Error::Config("it has no `rope_theta`".into())),
    }
}

/// Base and scaling, and how many channels of a head are turned: a share of them (`partial_rotary_factor`, and `rotary_pct` in older configs).
pub(crate) fn partial_rope(config: &Config, head_dim: usize, usual: f64) -> Result<(f64, Scaling, usize)> {
    let share = |name: &str, value: &Value| number(name, value, 0.0..=1.0);
    let nested = config.get("rope_parameters");
    let share = match nested.and_then(|parameters| parameters.get("partial_rotary_factor")) {
        Some(value) => share("partial_rotary_factor", value)?,
        None => config.get("rotary_pct").map_or(Ok(usual), |value| share("rotary_pct", value))?,
    };
    let channels = (head_dim as f64 * share) as usize;
    if channels == 0 || !channels.is_multiple_of(2) {
        return Err(Error::Config(format!("{channels} of the {head_dim} channels of a head are turned, and should be an even number of them")));
    }
    let top = config.get("rotary_emb_base").map(|theta| number("rotary_emb_base", theta, THETA)).transpose()?;
    let (theta, scaling) = match nested.map(|nested| ("rope_parameters", nested)).or(config.get("rope_scaling").map(|old| ("rope_scaling", old))) {
        Some(named) => embedding(config, named, top, channels, true)?,
        None => (top.unwrap_or(10_000.0), Scaling::None),
    };
    Ok((theta, scaling, channels))
}

/// Base and scaling as the object `name` says them. `top` is the base that is said beside it.
fn embedding(config: &Config, (name, parameters): (&str, &Value), top: Option<f64>, head_dim: usize, may_be_partial: bool) -> Result<(f64, Scaling)> {
    let Value::Object(parameters) = parameters else {
        return Err(Error::Config(format!("`{name}` is {parameters}, and should be an object")));
    };
    let get = |name: &str| parameters.get(name).filter(|value| !value.is_null());
    let inner = get("rope_theta").map(|theta| number("rope_theta", theta, THETA)).transpose()?;
    if let (Some(top), Some(inner)) = (top, inner)
        && top != inner
    {
        return Err(Error::Config(format!("`rope_theta` is {top}, and {inner} in `{name}`; leave one of them out")));
    }
    let theta = inner.or(top).unwrap_or(10_000.0);

    let required = |name: &str, bounds| match get(name) {
        Some(value) => number(name, value, bounds),
        None => Err(Error::Config(format!("its rotary scaling has no `{name}`"))),
    };
    let kind = kind(parameters.get("rope_type"), parameters.get("type"))?;
    let (scaling, known): (_, &[&str]) = match kind {
        "default" => (Scaling::None, &[]),
        "linear" => (Scaling::Linear { factor: required("factor", FACTOR)? }, &["factor", "original_max_position_embeddings"]),
        "llama3" => {
            let factor = required("factor", FACTOR)?;
            let (low, high) = (required("low_freq_factor", 1e-6..=1e6)?, required("high_freq_factor", 1e-6..=1e6)?);
            if low >= high {
                return Err(Error::Config(format!("`low_freq_factor` is {low}, and should be less than `high_freq_factor`, which is {high}")));
            }
            let original_context = required("original_max_position_embeddings", 1.0..=1e9)?;
            let scaling = Scaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_context };
            (scaling, &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"])
        }
        // What a GGUF file stores in place of Llama 3's scaling.
        "factors" => (Scaling::Factors(factors(get("factors"), head_dim / 2)?), &["factors"]),
        other => return Err(Error::refused("rope_type", other, "`default`, `linear` and `llama3`")),
    };
    let known_always = ["rope_type", "type", "rope_theta"];
    for (key, value) in parameters {
        // The whole head is turned, and by no other length than one, whatever the scaling.
        let is_neutral = matches!(key.as_str(), "partial_rotary_factor" | "attention_factor") && value.as_f64() == Some(1.0)
            || may_be_partial && key == "partial_rotary_factor";
        if !value.is_null() && !is_neutral && !known.contains(&key.as_str()) && !known_always.contains(&key.as_str()) && !config.ignores(key) {
            return Err(Error::Config(format!("`{name}` has `{key}`, which a rotary embedding of the type `{kind}` here does not know")));
        }
    }
    Ok((theta, scaling))
}

/// The type of the scaling, under its two names.
fn kind<'a>(new: Option<&'a Value>, old: Option<&'a Value>) -> Result<&'a str> {
    let text = |value: Option<&'a Value>| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(kind)) => Ok(Some(kind.as_str())),
        Some(other) => Err(Error::Config(format!("`rope_type` is {other}, and should be a text"))),
    };
    match (text(new)?, text(old)?) {
        (Some(new), Some(old)) if new != old => Err(Error::Config(format!("`rope_type` is `{new}` and `type` is `{old}`; leave one of them out"))),
        (new, old) => Ok(new.or(old).unwrap_or("default")),
    }
}

fn factors(value: Option<&Value>, pairs: usize) -> Result<Vec<f64>> {
    let list = value.and_then(Value::as_array).ok_or_else(|| Error::Config("its rotary scaling has no `factors`".into()))?;
    if list.len() != pairs {
        return Err(Error::Config(format!("its rotary scaling has {} factors for {pairs} pairs of channels", list.len())));
    }
    list.iter().map(|factor| number("factors", factor, 1e-6..=1e6)).collect()
}
