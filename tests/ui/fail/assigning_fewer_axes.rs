use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, direction: &Tensor<SmolLm2_135M, (Hidden,)>) -> nnsight::Result<()> {
    trace!(model, "x", {
        model.layers[3].output = model.layers[2].output.at(Seq, -1);
        model.layers[4].output = direction;
        model.layers[5].output = nnsight::candle_core::Tensor::new(1f32, &Device::Cpu).unwrap();
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
