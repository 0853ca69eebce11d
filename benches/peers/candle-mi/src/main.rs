//! The patching grids of `benches/run` in candle-mi: a line of JSON for each, with its time in milliseconds and its results.
//!
//! `candle-mi-peer FOLDER EXPERIMENTS.json`

use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_mi::transformer::GenericTransformer;
use candle_mi::{HookPoint, HookSpec, Intervention, MIBackend, TransformerConfig};
use candle_nn::VarBuilder;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let [_, folder, experiments] = &std::env::args().collect::<Vec<_>>()[..] else { return Err("two paths".into()) };
    let folder = Path::new(folder);
    let experiments: serde_json::Value = serde_json::from_slice(&std::fs::read(experiments)?)?;
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    // It knows the older spelling only.
    if let Some(theta) = config["rope_parameters"]["rope_theta"].as_f64() {
        config["rope_theta"] = theta.into();
    }
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu)?;
    let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let model = GenericTransformer::load(TransformerConfig::from_hf_config(&config)?, &Device::Cpu, DType::F32, weights)?;
    let tokens = |value: &serde_json::Value| -> Result<Vec<u32>> { Ok(serde_json::from_value(value.clone())?) };
    let [right, wrong] = tokens(&experiments["answers"])?[..] else { return Err("two answers".into()) };
    for name in ["far", "ioi"] {
        let (clean, corrupted) = (tokens(&experiments[name][0])?, tokens(&experiments[name][1])?);
        let start = Instant::now();
        let grid = grid(&model, &clean, &corrupted, (right, wrong))?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        println!("{}", serde_json::json!({ "name": format!("patch grid, {name}"), "ms": ms, "values": grid }));
    }
    Ok(())
}

/// As its own example of activation patching does it: a pass for every cell.
fn grid(model: &GenericTransformer, clean: &[u32], corrupted: &[u32], (right, wrong): (u32, u32)) -> Result<Vec<f32>> {
    let batch = |tokens: &[u32]| Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0);
    let mut hooks = HookSpec::new();
    (0..model.num_layers()).for_each(|layer| {
        hooks.capture(HookPoint::ResidPost(layer));
    });
    let cache = model.forward(&batch(clean)?, &hooks)?;
    let corrupted_batch = batch(corrupted)?;
    let mut grid = Vec::new();
    for layer in 0..model.num_layers() {
        let held = cache.require(&HookPoint::ResidPost(layer))?;
        for position in 0..corrupted.len() {
            let mut hooks = HookSpec::new();
            hooks.intervene(HookPoint::ResidPost(layer), Intervention::PatchAt { position, value: held.narrow(1, position, 1)? });
            let logits = model.forward(&corrupted_batch, &hooks)?.into_output().squeeze(0)?.get(corrupted.len() - 1)?;
            let at = |token: u32| logits.get(token as usize)?.to_scalar::<f32>();
            grid.push(at(right)? - at(wrong)?);
        }
    }
    Ok(grid)
}
