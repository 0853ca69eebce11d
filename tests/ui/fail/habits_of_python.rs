use nnsight::prelude::*;

fn compare(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", {
        let h = model.layers[3].output;
        if h.mean_all() > 0.0 {
            model.layers[4].output = 0.0;
        }
        h
    })?;
    Ok(())
}

fn index(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", { model.layers[3].output[-1] })?;
    trace!(model, "x", { model.layers[3].output.at(Seq, 1..3) })?;
    trace!(model, "x", { model.layers[3].self_attn.k.head(1) })?;
    Ok(())
}

struct Study {
    model: Llama<SmolLm2_135M>,
}

impl Study {
    fn run(&self) -> nnsight::Result<()> {
        trace!(self.model, "x", { self.model.layers[3].output })?;
        Ok(())
    }
}

fn main() {}
